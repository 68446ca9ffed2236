r"""Whether a regular expression of Prometheus (RE2) matches the name of a label, and what it makes of a text, asked of
Python's engine.

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
_REFERENCE = re.compile(r"\$(?:(\w+)|\{(\w+)\}|(\$))", re.ASCII)
_ALWAYS_FIRST = re.compile(r"\^?(\w*)(?=$|[^\w*?{])|\^?(\w*)\w", re.ASCII)
"""What each match begins with, of a regular expression without alternatives."""


def matches(regex: str, name: str) -> bool | None:
    """Of the whole name. None: unknown."""
    python = _compiled(regex)
    if python is not None:
        return python.fullmatch(name) is not None
    first = _ALWAYS_FIRST.match(regex)
    begins = (first[1] or first[2] or "") if first is not None and "|" not in regex else ""
    return None if name.startswith(begins) else False


def is_readable(regex: str) -> bool:
    """Whether Python's engine can tell what it matches."""
    return _compiled(regex) is not None


def replaced(regex: str, text: str, template: str) -> str | None:
    """What relabelling makes of ``text`` with ``template``, such as ``$1:80``. None: nothing, or unknown."""
    python = _compiled(regex)
    found = python.fullmatch(text) if python is not None else None
    if found is None:
        return None

    def group(reference: re.Match[str]) -> str:
        if reference[3]:
            return "$"
        name = reference[1] or reference[2]
        try:
            return found[int(name) if name.isdigit() else name] or ""
        except (IndexError, ValueError):
            return ""

    return _REFERENCE.sub(group, template)


def _compiled(regex: str) -> re.Pattern[str] | None:
    """None where Python's engine does not read it as RE2 does."""
    python = _CLASS.sub(lambda found: _CLASSES[found[1]], regex).replace(r"\z", r"\Z")
    if _OTHER_CLASS.search(python) is None:
        try:
            return re.compile(python, re.ASCII)
        except (re.error, OverflowError, RecursionError):
            pass
    return None
