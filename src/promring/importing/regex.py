r"""Whether a regular expression of Prometheus (RE2) matches the name of a label, asked of Python's engine.

The two read some things in other ways, such as ``[[:alpha:]]``, ``\z``, and ``\d`` outside ASCII. Where Python's engine
cannot say it, the answer is unknown, and the caller must be right either way.
"""

from __future__ import annotations

import re

_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "digit": "0-9",
    "lower": "a-z",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_CLASS = re.compile(rf"\[:({'|'.join(_CLASSES)}):\]")
_OTHER_CLASS = re.compile(r"\[:\^?[a-z]+:\]")
_ALWAYS_FIRST = re.compile(r"\^?(\w*)(?=$|[^\w*?{])|\^?(\w*)\w", re.ASCII)
"""What each match begins with, of a regular expression without alternatives."""


def matches(regex: str, name: str) -> bool | None:
    """Of the whole name. None: unknown."""
    python = _CLASS.sub(lambda found: _CLASSES[found[1]], regex).replace(r"\z", r"\Z")
    if _OTHER_CLASS.search(python) is None:
        try:
            return re.fullmatch(python, name, re.ASCII) is not None
        except (re.error, OverflowError, RecursionError):
            pass
    first = _ALWAYS_FIRST.match(regex)
    begins = (first[1] or first[2] or "") if first is not None and "|" not in regex else ""
    return None if name.startswith(begins) else False
