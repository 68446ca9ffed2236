"""Kinds: what a single key of the configuration chooses, such as ``probe`` under ``scrapers``.

A kind is one file with its settings, its adapter and how the one is built from the other. Its settings are a ``Kind``; the
table of its package (``KINDS`` in ``discovery/kinds.py`` and so on) has one row for it. ``OneOf`` reads the mapping with
that single key and gives the settings of the kind that is chosen, so the rest of the program asks the settings and never
which kind they are. The file of a kind is loaded when its key is first looked up: a command that reads a configuration loads
the kinds that it names, and no others.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter, ValidationError, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from promring.config.document import KeyPath
from promring.config.values import Model

Problem = tuple[KeyPath, str]
"""Where in the configuration, and what is wrong there. A kind gives paths that start at its own key."""


class Section(Model):
    """A top-level section that kinds need, such as ``consul``. ``key``: its name."""

    key: ClassVar[str]
    missing: ClassVar[str]
    """What a kind that needs it lacks, for people."""

    @classmethod
    def is_described_elsewhere(cls) -> bool:
        """Whether the environment says all that is needed, so that the section may be absent."""
        return False

    def relations(self, *, used: bool) -> Iterator[Problem]:
        """What is impossible between its values; ``used``: by a kind, so that the environment counts, too."""
        yield from ()


class Kind(Model):
    """The settings of a kind. ``kind``: its key; ``section``: the top-level section that it may need."""

    kind: ClassVar[str]
    section: ClassVar[type[Section] | None] = None

    @property
    def needs(self) -> type[Section] | None:
        """The top-level section that must be described, with these settings."""
        return self.section

    def relations(self) -> Iterator[Problem]:
        """What is impossible between its own values."""
        yield from ()


K = TypeVar("K", bound=Kind)
S = TypeVar("S", bound=Section)
T = TypeVar("T")


UNKNOWN_KIND = "unknown_kind"
"""The type of the error that says of a key that no kind has it, and which there are."""


class Sections:
    """The top-level sections of a configuration. One that is absent has its defaults, and what the environment says."""

    def __init__(self, given: Iterable[Section | None] = ()) -> None:
        self._given = [section for section in given if section is not None]

    def get(self, wanted: type[S]) -> S:
        return next((section for section in self._given if isinstance(section, wanted)), wanted())

    def __iter__(self) -> Iterator[Section]:
        """Those that are described."""
        return iter(self._given)


class Shared:
    """What kinds have in common, such as connections: one thing of a type for each key, made for who asks for it first."""

    def __init__(self) -> None:
        self._made: dict[tuple[type, Hashable], object] = {}

    def one(self, kind: type[T], key: Hashable, make: Callable[[], T]) -> T:
        known = self._made.get((kind, key))
        if not isinstance(known, kind):
            known = self._made[(kind, key)] = make()
        return known


class Table(Mapping[str, type[K]], Generic[K]):
    """The settings of kinds by their keys. ``rows``: key to ``module:class``, which is imported when it is looked up.
    ``base``: what each of them is. A row that is wrong raises ``TypeError`` then; ``tests/unit/test_kinds.py`` looks up all.
    """

    def __init__(self, base: Callable[..., K], rows: Mapping[str, str]) -> None:
        assert isinstance(base, type)  # mypy takes an abstract class for a callable only
        self.base: type[K] = base
        self.rows = rows
        self._loaded: dict[str, type[K]] = {}

    def __getitem__(self, key: str) -> type[K]:
        if key not in self._loaded:
            module, _, name = self.rows[key].partition(":")
            kind: object = getattr(importlib.import_module(module), name)
            if not isinstance(kind, type) or not issubclass(kind, self.base) or kind.kind != key:
                raise TypeError(f"{self.rows[key]} is no {self.base.__name__} of the kind {key!r}")
            self._loaded[key] = kind
        return self._loaded[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class OneOf:
    """For ``Annotated``: a mapping with exactly one key, that of a kind in ``kinds``, becomes the settings of that kind.
    ``hint`` says of another key what to do instead. How a kind is validated is built when its key is first met.
    """

    def __init__(self, kinds: Table[Any], hint: Callable[[str], str] = lambda _: "") -> None:
        self.kinds, self._hint = kinds, hint
        self._readers: dict[str, TypeAdapter[dict[str, Kind]]] = {}

    def __get_pydantic_core_schema__(self, _: object, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._chosen)

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """For editors: exactly one key; nothing after it stands for the defaults."""
        schemas = {name: TypeAdapter(kind).core_schema for name, kind in self.kinds.items()}
        fields = {name: core_schema.typed_dict_field(one, required=False) for name, one in schemas.items()}
        made = handler(core_schema.typed_dict_schema(fields, extra_behavior="forbid"))
        shown = {name: made["properties"][name] for name in self.kinds}
        properties = {name: {"anyOf": [kind, {"type": "null"}]} for name, kind in shown.items()}
        return made | {"properties": properties, "minProperties": 1, "maxProperties": 1}

    def _chosen(self, value: object, info: ValidationInfo) -> Kind:
        """An error within the kind raises ``ValidationError``, whose paths pydantic puts below the one of this value."""
        base: type[Kind] = self.kinds.base
        if isinstance(value, base):
            return value
        names = ", ".join(self.kinds)
        if not isinstance(value, dict):
            raise ValueError(f"must be a mapping with one of: {names}")
        if len(value) != 1:
            raise ValueError(f"must have exactly one of: {names}; it has {', '.join(map(str, value)) or 'none'}")
        name, settings = next(iter(value.items()))
        if said := self._hint(str(name)):
            raise ValueError(said)
        given = {name: {} if settings is None else settings}
        if name not in self.kinds:
            there = PydanticCustomError(UNKNOWN_KIND, "there is {names}", {"names": names})
            unknown = InitErrorDetails(type=there, loc=(str(name),), input=settings)
            raise ValidationError.from_exception_data("kind", [unknown])
        if name not in self._readers:
            self._readers[name] = TypeAdapter(dict[str, self.kinds[name]])  # type: ignore[name-defined]
        return self._readers[name].validate_python(given, context=info.context)[name]
