"""Did you mean? Names that look like one that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

NEAR_MOST, AMONG_MOST, LENGTH_MOST = 3, 2000, 200
LIKE = 0.65


def meant(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` with the nearest of ``known``, the first ``AMONG_MOST`` of them; else an empty text."""
    import difflib  # only who has made a mistake waits for it

    found = difflib.get_close_matches(name[:LENGTH_MOST], list(islice(dict.fromkeys(known), AMONG_MOST)), NEAR_MOST, LIKE)
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""
