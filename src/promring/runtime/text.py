"""Texts from outside, made fit for where they are shown.

``clean`` is for JSON, metrics and the page: it escapes lone surrogates, which no output can encode and which names of files
and decoded queries may hold. ``printable`` is for terminals, the log and messages: it escapes control characters, too.
"""

from __future__ import annotations

from collections.abc import Sequence


def clean(text: str) -> str:
    """The text in which each lone surrogate is written as its escape. Any ``str`` in, always valid UTF-8 out."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def clean_all(data: object) -> object:
    """``clean`` for every text in plain values: the keys and values of dicts, lists and tuples."""
    if isinstance(data, str):
        return clean(data)
    if isinstance(data, dict):
        return {clean_all(key): clean_all(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [clean_all(value) for value in data]
    return data


def printable(text: str, *, lines: bool = False) -> str:
    r"""``text`` with every control, format and other invisible character written as ``\xNN`` or ``\uNNNN``.

    That includes ESC and BEL, which a terminal obeys, and the marks that turn the direction of a line. ``lines``: newlines
    stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c == "\n") else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def counted(number: int | None, noun: str, verb: str = "") -> str:
    """``1 target``, ``2 targets``; None: ``no targets``. With a regular ``verb``: ``1 target comes``, ``2 targets come``."""
    one = number == 1
    return f"{'no' if number is None else number} {noun}{'' if one else 's'}" + (f" {verb}{'s' * one}" if verb else "")


def few(texts: Sequence[str], most: int, between: str = ", ") -> str:
    """The first of them, with commas, and how many more there are. After a ``between`` of ``; `` that is a part, too."""
    more = len(texts) - most
    return between.join(texts[:most]) + (f"{between if between == '; ' else ' '}and {more} more" if more > 0 else "")
