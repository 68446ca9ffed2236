"""etcd by its JSON gateway: where it is (``access``), a thin client, and the lock."""
