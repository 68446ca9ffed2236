"""What a message says apart from its numbers, so that trouble that lasts is not news each time a number in it changes.

Most reasons come from outside and hold what differs at each try: seconds, a time, the port of a connection, the address of
one of several servers, the id of a request or session. ``wording`` puts ``#`` in their place. Names stay, with the digits in
them (``node7``, ``a1.json``), and so do the numbers that say what kind of failure it is (``status 403``, ``Errno 111``).
"""

from __future__ import annotations

import re

_NUMBERS = re.compile(
    r"(?P<kind>\b(?:status|code|errno)\b[ :=]{0,2}\d++)"
    r"|\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?+(?:\.\d++)?+(?:Z|[+-]\d\d:?\d\d)?+"  # a time
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b0x[0-9a-f]++\b|\b(?=[a-f]*+\d)[0-9a-f]{8,}+\b"  # an id
    r"|(?<![\w-])(?>(?:\d++(?:[.,:]\d++)*+(?:[kMG]i?B|ns|µs|us|ms|s|m|h|d)?+)++)(?!\w|[.-][^\W\d])",
    re.IGNORECASE,
)


def wording(text: str) -> str:
    """``text`` with ``#`` for what differs from one try to the next."""
    return _NUMBERS.sub(lambda found: found["kind"] or "#", text)
