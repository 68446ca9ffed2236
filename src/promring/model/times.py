"""The two times that no clock shows."""

from __future__ import annotations

import math

NEVER_ENDS = math.inf
"""A time that never comes: when something ends that has no end, or when something was that is not yet."""
LONG_AGO = -math.inf
"""A time before all others: when something was that never was, or always."""
