"""From a YAML file to ``Settings``. Every error names file, line and key path; all errors come at once.

Refused, beyond what the settings say of single values and ``document`` of the YAML: impossible ``relations``, and ``files``
that cannot be read. Whether everything can be built is asked in ``trial.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from promring.config.certificates import texts_told
from promring.config.document import Document, KeyPath, YamlProblem, read_yaml, show
from promring.config.files import file_problems, shared_name_problems, why_unreadable
from promring.config.kinds import UNKNOWN_KIND, Problem
from promring.config.near_keys import meant_by
from promring.config.relations import relations, sound_part
from promring.config.settings import NO_FLEET, Settings
from promring.discovery.kinds import is_text
from promring.model import ConfigError
from promring.runtime import regular
from promring.runtime.certificates import Place, Validity
from promring.runtime.near import meant
from promring.runtime.redact import hide, secrets_in
from promring.runtime.text import printable

FILE_BYTES_MAX = 4 * 1024 * 1024
PROBLEMS_MAX = 100


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration, where in its file each key stands, and how long the certificates in it are valid."""

    settings: Settings
    name: str
    document: Document
    certificates: Mapping[Place, Validity]

    def lines(self, problems: Iterable[Problem]) -> list[str]:
        """``FILE:LINE: key.path: what``, each once, in order of the lines."""
        return _lines(self.name, _placed(self.document, problems))


def load(path: str | Path) -> Settings:
    """Read and check a configuration file. Raises ``ConfigError`` with one line an error: ``FILE:LINE: key.path: what``."""
    return load_with_lines(path).settings


def load_with_lines(path: str | Path, *, pipes: bool = True, place: Path | None = None) -> Loaded:
    """As ``load``. ``pipes`` False: a pipe, which may never say anything, is refused. ``place``: where the file is to stand;
    relative paths start in the folder of that.
    """
    return _loads(_read(path, pipes=pipes), str(path), (place or Path(path)).absolute().parent)


def read_document(path: Path) -> Document:
    """A regular YAML file with the line of each key, for other files than the main one. Raises ``ConfigError``."""
    document = _document(_read(path, pipes=False), str(path))
    if document.duplicates:
        raise ConfigError(_lines(str(path), document.duplicates))
    return document


def _read(path: str | Path, *, pipes: bool = True) -> bytes:
    try:
        if not pipes:
            regular.check(Path(path))
        with open(path, "rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise ConfigError([f"{path}:1: {why_unreadable(error)}"]) from error
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError([f"{path}:1: larger than {FILE_BYTES_MAX} bytes"])
    return text


def _document(text: bytes | str, name: str, is_text: Callable[[KeyPath], bool] = lambda _: False) -> Document:
    try:
        return read_yaml(text, is_text)
    except YamlProblem as error:
        where = f" {show(error.path)}:" if error.path else ""
        raise ConfigError([f"{name}:{error.line}:{where} {error.what}"]) from None


def loads(text: bytes | str, *, name: str = "<text>", base: Path | None = None) -> Settings:
    """As ``load``, from text. Relative paths in it are relative to ``base``."""
    return _loads(text, name, base or Path.cwd()).settings


def loads_with_lines(text: bytes | str, *, name: str, base: Path) -> Loaded:
    """As ``load_with_lines``, from text. Relative paths in it are relative to ``base``."""
    return _loads(text, name, base)


def _loads(text: bytes | str, name: str, base: Path) -> Loaded:
    document = _document(text, name, is_text)
    problems: list[Problem] = []
    settings = None
    try:
        settings = Settings.model_validate(document.value, context={"base": base})
    except ValidationError as error:
        for e in error.errors(include_url=False):
            if e["type"] == NO_FLEET and e["input"]["fleet"] in _fleets_named(document.value):
                continue  # what is wrong with that fleet is said where it stands
            if e["loc"][2:] in (("fleet",), ("job",)) and e["loc"] not in document.lines:
                continue  # its name stands for it, and that is said there
            at = (*e["loc"], "fleet") if e["type"] == NO_FLEET else e["loc"]
            path, what = from_pydantic(at, e["msg"], e["type"], e["input"])
            path = document.as_written(path)
            if e["type"] == "extra_forbidden":
                what += meant_by(path, document.value)
            elif e["type"] == UNKNOWN_KIND:
                what += meant(str(path[-1]).lower(), e["ctx"]["names"].split(", ")) or f"; {e['msg']}"
            elif e["type"] == NO_FLEET:
                what += meant(
                    str(e["input"]["fleet"]), [one for one in _fleets_named(document.value) if isinstance(one, str)]
                )
            problems.append((path, what))
    problems += relations(settings or sound_part(document.value, base))
    problems += [*file_problems(settings), *shared_name_problems(settings)] if settings else []
    found = _placed(document, problems) + document.duplicates
    if found or settings is None:
        raise ConfigError(_lines(name, found))
    return Loaded(settings, name, document, texts_told(name, settings))


def _placed(document: Document, problems: Iterable[Problem]) -> list[tuple[int, KeyPath, str]]:
    """Each with its line, and the key path as it stands in the file."""
    written = ((document.as_written(path), what) for path, what in problems)
    return [(document.line(path), path, what) for path, what in written]


def _lines(name: str, found: Iterable[tuple[int, KeyPath, str]]) -> list[str]:
    """At most ``PROBLEMS_MAX``: a file of nonsense has one for each of its values."""
    said = [f"{name}:{line}: {show(path)}: {printable(what)}" for line, path, what in sorted(found, key=lambda f: f[0])]
    lines = list(dict.fromkeys(said))
    more = len(lines) - PROBLEMS_MAX
    return lines if more <= 0 else [*lines[:PROBLEMS_MAX], f"{name}: and {more} more"]


def _fleets_named(value: object) -> list[object]:
    """The names of the fleets, whether they are valid or not."""
    listed = value.get("fleets") if isinstance(value, dict) else None
    return [one.get("name") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


_WANTED = {
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "list_type": "must be a list",
    "string_type": "must be a text",
}


def from_pydantic(loc: tuple[int | str, ...], message: str, kind: str, value: object) -> Problem:
    """One of pydantic's errors in our words, without what the ``value`` has of credentials."""
    plain = {"extra_forbidden": "unknown key", UNKNOWN_KIND: "unknown key", "missing": "is required"}
    what = plain.get(kind, message.removeprefix("Value error, "))
    if kind in _WANTED:
        what = _WANTED[kind] if value is not None else f"{_WANTED[kind]}, and has no value"
        if kind == "string_type" and not isinstance(value, list | dict | None):
            what += "; in quotes where YAML reads something else"
    if kind in ("float_type", "int_type") and isinstance(value, str) and re.fullmatch(r"\d{1,3}(\.\d+)?%", value):
        what += f": {value} is {float(value[:-1]) / 100:g}"
    what = hide(what, secrets_in(value))
    return tuple(loc), what[:1].lower() + what[1:]
