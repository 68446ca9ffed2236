"""The clock of intervals, where a class takes it as a parameter."""

from __future__ import annotations

import time


def monotonic() -> float:
    """Seconds. ``time.monotonic`` is looked up at each call: as the default of a parameter it would be the function that was
    there when the module was loaded, and tests replace it later.
    """
    return time.monotonic()
