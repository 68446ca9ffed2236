"""Answers made of what runs: from the live objects to the types of ``web.answers``."""
