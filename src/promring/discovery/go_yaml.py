"""Where go-yaml, which Prometheus uses, reads other texts than libyaml, which promring uses.

Inside ``[]`` and ``{}`` a colon just before a comma or bracket is a part of a plain text for go-yaml (``[10.0.0.1:]``, as a
template without its port writes) and an error for libyaml. A byte order mark in the middle is text for go-yaml and nothing
for libyaml. ``StandIns`` puts characters that the text does not have in their places, and takes them out of what was read.

A comma or bracket just after a tag is a part of the tag for go-yaml; a semicolon is one for both. In double quotes go-yaml
takes ``\\'`` and refuses ``\\/``; libyaml has it the other way round.

go-yaml resolves a number or a time that is tagged as one, and refuses what does not fit: ``fits``.
"""

from __future__ import annotations

import datetime
import math
import re

from yaml import Event, MarkedYAMLError

NULLS = frozenset(("", "~", "null", "Null", "NULL"))
NULLS_DECODED = frozenset(("Null", "NULL"))
_BOM = "\ufeff"
_BOMS_FIRST = 2
"""The reader takes one at the beginning, the scanner another."""
_LINE_NOT_INDENTED = re.compile(r"(?:\r\n|[\n\x85\u2028\u2029]|\r(?!\n))(?! |\Z)")
_COLON_OF_TEXT = re.compile(r":[,\[\]{}]")
_COLONS = re.compile(r"[*&!][^\s,\[\]{}]*|(?<=\w)(?P<colon>:)(?=[,\[\]{}])")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED_QUOTE = re.compile(r"(?<!\\)((?:\\\\)*)\\'")
_TAG_AND_MORE = re.compile(r"(?:&[^\s,\[\]{}]+\s+)?!(?:<[^>\s]*>|(?!<)[^\s,\[\]{}]*)([,\[\]])")
_TAG_PARTS = (",", "[", "]")
_OF_PLAIN_TEXT = "while scanning a plain scalar"
_OF_TAGS = ("while scanning a tag", "while parsing a tag")
_REPAIRS_MAX = 100
_PRIVATE = range(0xE000, 0xF8FF)

_INT = re.compile(r"([-+]?)(0[bB]([01]+)|0[xX]([0-9a-fA-F]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BOOL = re.compile(r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF")
_CLOCK = r"\d\d?:\d\d?:\d\d?([.,]\d+)?"
_TIME = re.compile(rf"(\d{{4}})-(\d\d?)-(\d\d?)([Tt]({_CLOCK})(Z|[-+]\d\d:\d\d)| ({_CLOCK}))?")


class TagNotEnded(Exception):
    """The text was repaired, and is to be parsed once more."""


class StandIns:
    """For one text, in which ``[10.0.0.1:]`` is repaired as its parser finds it. Raises ValueError for one of which go-yaml
    skips characters.
    """

    def __init__(self, text: bytes) -> None:
        self._text: str | None = None
        self._bytes = text = _in_utf8(text)
        self._repairs = 0
        self._colon = self._bom = self._backslash = ""
        if _BOM.encode() in text[1:] and (decoded := self._decoded()) is not None:
            first = len(decoded[:_BOMS_FIRST]) - len(decoded[:_BOMS_FIRST].lstrip(_BOM))
            if first == _BOMS_FIRST and _LINE_NOT_INDENTED.search(decoded):
                raise ValueError("it begins with two byte order marks, so go-yaml skips the first character of each line")
            self._bom = self._unused(decoded)
            self._set(decoded[:first] + decoded[first:].replace(_BOM, self._bom))

    @property
    def text(self) -> bytes:
        """To be parsed."""
        return self._bytes

    def repair(self, error: MarkedYAMLError) -> bool:
        """Whether ``text`` is another one now, which go-yaml reads as the one that ``error`` is about."""
        decoded, mark = self._decoded(), error.problem_mark
        if decoded is None or mark is None or self._repairs == _REPAIRS_MAX:
            return False
        at = self._at(mark.index)
        if error.context in _OF_TAGS and decoded[at : at + 1] in _TAG_PARTS:
            self._put_semicolon(at)
            return True
        self._repairs += 1
        if error.problem == "found unknown escape character" and decoded[at : at + 2] == "\\'":
            self._backslash = self._unused(decoded)
            self._set(_ESCAPED_QUOTE.sub(rf"\g<1>{self._backslash}'", decoded))
            return True
        if error.context != _OF_PLAIN_TEXT or not _COLON_OF_TEXT.fullmatch(decoded[at : at + 2]):
            return False
        if not self._colon:
            self._colon = self._unused(decoded)
            decoded = _COLONS.sub(lambda found: self._colon if found["colon"] else found[0], decoded)
        self._set(decoded[:at] + self._colon + decoded[at + 1 :])
        return True

    def escapes_slash(self, event: Event) -> bool:
        r"""Whether the text in double quotes that ``event`` found has ``\/``, which go-yaml refuses."""
        if b"\\/" not in self._bytes:
            return False
        return any(found[1] == "/" for found in _ESCAPE.finditer(self._written(event)))

    def end_tag(self, event: Event) -> None:
        """``event`` is a node with a tag. Raises ``TagNotEnded`` where go-yaml reads more of it."""
        decoded, mark = self._decoded(), event.start_mark
        if decoded is None or mark is None or self._repairs == _REPAIRS_MAX:
            return
        found = _TAG_AND_MORE.match(decoded, self._at(mark.index))
        if found is not None:
            self._put_semicolon(found.start(1))
            raise TagNotEnded

    def restored(self, text: str, style: str | None) -> str:
        """A scalar as it was before; as go-yaml reads it in double quotes."""
        if self._colon:
            text = text.replace(self._colon, ":")
        if self._backslash:
            text = text.replace(self._backslash, "" if style == '"' else "\\")
        return text.replace(self._bom, _BOM) if self._bom else text

    def _decoded(self) -> str | None:
        if self._text is None:
            try:
                self._text = self._bytes.decode()
            except UnicodeDecodeError:
                return None
        return self._text

    def _at(self, index: int) -> int:
        """Of a mark, in the decoded text: libyaml does not count a byte order mark."""
        return index + (self._decoded() or "").startswith(_BOM)

    def _written(self, event: Event) -> str:
        decoded, start, end = self._decoded(), event.start_mark, event.end_mark
        return decoded[self._at(start.index) : self._at(end.index)] if decoded is not None and start and end else ""

    def _put_semicolon(self, at: int) -> None:
        self._repairs += 1
        text = self._decoded() or ""
        self._set(text[:at] + ";" + text[at + 1 :])

    def _set(self, text: str) -> None:
        self._text, self._bytes = text, text.encode()

    def _unused(self, text: str) -> str:
        """A character that the text neither has nor writes as an escape."""
        lower = text.lower()
        return next(chr(n) for n in _PRIVATE if chr(n) not in text and f"{n:x}" not in lower and chr(n) != self._bom)


def _in_utf8(text: bytes) -> bytes:
    """A text in UTF-16 as the same one in UTF-8, its mark too; one that is broken stays, and its parser refuses it."""
    encoding = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(text[:2])
    try:
        return text.decode(encoding).encode() if encoding else text
    except UnicodeDecodeError:
        return text


def fits(kind: str, text: str) -> bool:
    """Whether ``text`` may have the tag ``!!kind``, one of ``int``, ``float``, ``bool``, ``null`` and ``timestamp``."""
    match kind:
        case "int":
            return _int(text) is not None
        case "float":
            return _is_float(text) if (value := _int(text)) is None else value < 2**63
        case "bool":
            return _BOOL.fullmatch(text) is not None
        case "null":
            return text in NULLS
        case "timestamp":
            return _is_time(text)
    return True


def _int(text: str) -> int | None:
    """The number; None where go-yaml does not read one."""
    found = _INT.fullmatch(text.replace("_", "")) if text[:1] != "_" and len(text) < 1000 else None
    if found is None:
        return None
    sign, _, binary, hexadecimal, octal, decimal = found.groups()
    digits, base = next((d, b) for d, b in ((binary, 2), (hexadecimal, 16), (octal, 8), (decimal, 10)) if d is not None)
    value = int(digits, base)
    if value >= (2**64 if not sign else 2**63 + (sign == "-")):
        return None
    return -value if sign == "-" else value


def _is_float(text: str) -> bool:
    if _NO_NUMBER.fullmatch(text):
        return True
    digits = text.replace("_", "") if text[:1] not in ("_", ".") else text
    return _FLOAT.fullmatch(digits) is not None and math.isfinite(float(digits))


def _is_time(text: str) -> bool:
    found = _TIME.fullmatch(text)
    if found is None:
        return False
    clock = re.split(r"[:.,]", found[5] or found[7] or "0:0:0")
    try:
        datetime.date(int(found[1]) or 4, int(found[2]), int(found[3]))  # year 0 was a leap year
        datetime.time(int(clock[0]), int(clock[1]), int(clock[2]))
    except ValueError:
        return False
    return True
