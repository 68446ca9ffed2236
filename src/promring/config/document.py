"""A YAML document as plain values, with the line of each key path; read within bounds.

One pass over the parser's events, so that nothing is built before it is counted. Refused: aliases, explicit tags, several
documents, nesting deeper than ``DEPTH_MAX``, more than ``NODES_MAX`` values, a text longer than ``TEXT_MAX``, and characters
that no path, URL or name can have (NUL, lone surrogates). The parser is libyaml's where PyYAML has it: ten times as fast,
and each event gives the interpreter back, so a thread that reads does not hold the event loop.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from promring.runtime.redact import shown
from promring.runtime.text import printable

DEPTH_MAX = 32
NODES_MAX = 100_000
TEXT_MAX = 64 * 1024
KEY_SHOWN_MAX = 100
NULL = "tag:yaml.org,2002:null"
KeyPath = tuple[str | int, ...]
_Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BRACES = re.compile(r"[:\s,\[]\{(fleet|service|scraper|host|port)\}|\$\{\w+\}")
_CAUSE_CHARACTERS_MAX = 1024 * 1024
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


class YamlProblem(Exception):
    """``line`` from 1, ``what`` for people, ``path`` of the key path where that is known."""

    def __init__(self, line: int, what: str, path: KeyPath = ()) -> None:
        super().__init__(what)
        self.line, self.what, self.path = line, what, path


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML document as plain values, with the line of each key path. ``duplicates``: keys that were there already, which
    are left out of ``value``: line, key path, what.
    """

    value: Any
    lines: dict[KeyPath, int]
    duplicates: list[tuple[int, KeyPath, str]] = field(default_factory=list)

    def as_written(self, path: KeyPath) -> KeyPath:
        """``path`` as it stands in the file: without a place in a list where the file has a mapping."""
        written: KeyPath = ()
        at = self.value
        for part in path:
            if isinstance(at, dict) and isinstance(part, int):
                continue
            written = (*written, part)
            try:
                at = at[part]
            except (LookupError, TypeError):
                at = None
        return written

    def line(self, path: KeyPath) -> int:
        """Line of the nearest key path that stands in the file, from 1."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def show(path: KeyPath) -> str:
    """``('shard_services', 0, 'name')`` → ``shard_services[0].name``. A key that nobody could read is cut and escaped."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{printable(_key(p)[:KEY_SHOWN_MAX]) or repr('')}" for p in path)
    return text.removeprefix(".") or "(document)"


def _key(text: str) -> str:
    """A URL may have become a key by a colon too many."""
    return shown(text) if "@" in text or "?" in text else text


def read_yaml(text: bytes | str, is_text: Callable[[KeyPath], bool] = lambda _: False) -> Document:
    """Raises ``YamlProblem``. An empty document is an empty mapping. ``is_text``: whether a value is a text as it stands,
    also without quotes: a number, ``true``; nothing at all is an empty one.
    """
    try:
        if isinstance(text, bytes) and not text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text.decode()  # libyaml names a character that may be the one behind
        return _Builder(yaml.parse(text, Loader=_Parser), is_text).document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise YamlProblem(line, f"{error.problem or error.context}{cause(text, line)}") from error
    except yaml.reader.ReaderError as error:
        raise YamlProblem(_line_at(text, error.position), unreadable(error)) from error
    except UnicodeDecodeError as error:
        byte = f"the byte 0x{error.object[error.start]:02X} is no UTF-8"
        raise YamlProblem(_line_at(text, error.start), f"{byte}: save the file as UTF-8") from error
    except (yaml.YAMLError, UnicodeError, ValueError, OverflowError) as error:
        raise YamlProblem(1, " ".join(str(error).split())) from error


def cause(text: bytes | str, line: int) -> str:
    """What is mostly wrong with a line that YAML cannot read; repeats nothing of it."""
    if len(text) > _CAUSE_CHARACTERS_MAX:
        return ""
    lines = (text.decode("utf-8", "replace") if isinstance(text, bytes) else text).splitlines()
    wrong = lines[line - 1] if line <= len(lines) else ""
    if "\t" in wrong[: len(wrong) - len(wrong.lstrip())]:
        return "; the line begins with a tab, and YAML is indented with spaces"
    if _BRACES.search(wrong):
        return "; a text with { or } needs quotes around it"
    return ""


def unreadable(error: yaml.reader.ReaderError) -> str:
    """What is not text. libyaml gives the number of the character, or -1 and a reason."""
    if isinstance(error.character, int) and error.character >= 0:
        hint = "" if error.character else "; save the file as UTF-8"
        return f"the character U+{error.character:04X} is not allowed{hint}"
    return f"no text: {error.reason}; save the file as UTF-8"


def _line_at(text: bytes | str, position: int) -> int:
    """``position``: in bytes."""
    written = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return written.count(b"\n", 0, position) + 1


class _Builder:
    def __init__(self, events: Iterator[yaml.Event], is_text: Callable[[KeyPath], bool]) -> None:
        self._events, self._is_text = events, is_text
        self._scalars = yaml.SafeLoader("")  # only to resolve and construct scalars
        self._nodes = 0
        self._lines: dict[KeyPath, int] = {}
        self._duplicates: list[tuple[int, KeyPath, str]] = []

    def document(self) -> Document:
        value = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise YamlProblem(_line(event), "there must be one document only")
            elif isinstance(event, yaml.NodeEvent):
                value = self._value(event, (), 1)
        return Document({} if value is None else value, self._lines, self._duplicates)

    def _value(self, event: yaml.Event, path: KeyPath, depth: int) -> Any:
        line = self._counted(event, path)
        self._lines.setdefault(path, line)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if depth > DEPTH_MAX:
            raise YamlProblem(line, f"nested deeper than {DEPTH_MAX}")
        if isinstance(event, yaml.SequenceStartEvent):
            return [self._value(child, (*path, i), depth + 1) for i, child in enumerate(self._until(yaml.SequenceEndEvent))]
        return self._mapping(path, depth)

    def _mapping(self, path: KeyPath, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for event in self._until(yaml.MappingEndEvent):
            line = self._counted(event, path)
            if not isinstance(event, yaml.ScalarEvent):
                raise YamlProblem(line, "a key must be a plain text", path)
            key = _text(event, path)
            there = key in result
            if there:
                self._duplicates.append((line, (*path, key), f"duplicate key, first on line {self._lines[(*path, key)]}"))
            else:
                self._lines[(*path, key)] = line
            value = self._value(next(self._events), (*path, key), depth + 1)
            if not there:
                result[key] = value
        return result

    def _until(self, end: type[yaml.Event]) -> Iterator[yaml.Event]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event

    def _counted(self, event: yaml.Event, path: KeyPath) -> int:
        """The line of one more value, or key."""
        self._nodes += 1
        line = _line(event)
        if self._nodes > NODES_MAX:
            raise YamlProblem(line, f"more than {NODES_MAX} keys and values")
        if isinstance(event, yaml.AliasEvent):
            raise YamlProblem(line, "an alias (*) is not allowed; a text that begins with * must be in quotes", path)
        if getattr(event, "tag", None) is not None:
            raise YamlProblem(line, "a tag (!) is not allowed; a text that begins with ! must be in quotes", path)
        return line

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> Any:
        text = _text(event, path)
        tag = self._scalars.resolve(yaml.ScalarNode, text, event.implicit)  # type: ignore[no-untyped-call]
        if self._is_text(path):
            return "" if tag == NULL else text
        node = yaml.ScalarNode(tag, text)
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            what = f"is no {tag.rpartition(':')[2]} that can be read; in quotes it is a text"
            raise YamlProblem(_line(event), what, path) from error


def _text(event: yaml.ScalarEvent, path: KeyPath) -> str:
    text: str = event.value
    if len(text) > TEXT_MAX:
        raise YamlProblem(_line(event), f"a text of more than {TEXT_MAX} characters", path)
    if found := _NO_TEXT.search(text):
        raise YamlProblem(_line(event), f"the character U+{ord(found[0]):04X} is not allowed", path)
    return text


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
