"""What the performance claims rest on. ``python -m bench [NAME...]``; every number is measured beside a yardstick."""
