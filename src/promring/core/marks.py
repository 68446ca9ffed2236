"""Flags of the rows of a pool, of one scraper after another. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Marks:
    """One flag for each row of a pool, of one scraper after another: set, looked at, taken back. So the cost of a scraper is
    what it has and shall have, however large the pool is.
    """

    def __init__(self, size: int) -> None:
        self._flags = np.zeros(size, dtype=bool)
        self._rows = np.empty(0, dtype=np.intp)

    def put(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """Flags of just these rows, until the next call."""
        self._flags[self._rows] = False
        self._rows = rows
        self._flags[rows] = True
        return self._flags
