"""A monotonic clock that a test sets ahead."""

from __future__ import annotations


class Clock:
    """``time.monotonic`` is so many seconds ``ahead`` in a test with the fixture ``clock`` of ``tests/unit/conftest.py``."""

    ahead = 0.0
