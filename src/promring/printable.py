"""Texts from outside, made safe for a terminal."""

from __future__ import annotations


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
