"""Kubernetes' API: where it is and how to be let in (``access``), a thin client, and the lock."""
