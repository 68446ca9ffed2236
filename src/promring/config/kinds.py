"""Kinds: what a single key of the configuration chooses, such as ``probe`` under ``scrapers``.

A kind is one file with its settings, its adapter and how the one is built from the other. Its settings are a ``Kind``; the
table of its package (``KINDS`` in ``discovery/kinds.py`` and so on) has one row for it. ``OneOf`` reads the mapping with
that single key and gives the settings of the kind that is chosen, so the rest of the program asks the settings and never
which kind they are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

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


def table(*kinds: type[K]) -> Mapping[str, type[K]]:
    """The settings of kinds by their keys."""
    return {kind.kind: kind for kind in kinds}


class OneOf:
    """For ``Annotated``: a mapping with exactly one key, that of a kind in ``kinds``, becomes the settings of that kind.
    Keys in ``planned`` belong to the contract and are refused as not built yet; ``hint`` says of another key what to do
    instead.
    """

    def __init__(
        self,
        kinds: Mapping[str, type[Kind]],
        planned: tuple[str, ...] = (),
        hint: Callable[[str], str] = lambda _: "",
    ) -> None:
        self.kinds, self._planned, self._hint = kinds, planned, hint

    def __get_pydantic_core_schema__(self, _: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        fields = {name: handler.generate_schema(kind) for name, kind in self.kinds.items()}
        fields |= dict.fromkeys(self._planned, core_schema.no_info_plain_validator_function(_refuse))
        mapping = core_schema.typed_dict_schema(
            {name: core_schema.typed_dict_field(schema, required=False) for name, schema in fields.items()},
            extra_behavior="forbid",
        )
        return core_schema.no_info_wrap_validator_function(self._chosen, mapping)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """For editors: exactly one key; nothing after it stands for the defaults."""
        made = handler(schema)
        shown = {name: made["properties"][name] for name in self.kinds}
        properties = {name: {"anyOf": [kind, {"type": "null"}]} for name, kind in shown.items()}
        return made | {"properties": properties, "minProperties": 1, "maxProperties": 1}

    def _chosen(self, value: object, read: core_schema.ValidatorFunctionWrapHandler) -> Kind:
        if isinstance(value, tuple(self.kinds.values())):
            return value  # type: ignore[return-value]  # a kind of this table
        names = ", ".join([*self.kinds, *self._planned])
        if not isinstance(value, dict):
            raise ValueError(f"must be a mapping with one of: {names}")
        if len(value) != 1:
            raise ValueError(f"must have exactly one of: {names}; it has {', '.join(map(str, value)) or 'none'}")
        if said := self._hint(str(next(iter(value)))):
            raise ValueError(said)
        found: dict[str, Any] = read({name: {} if settings is None else settings for name, settings in value.items()})
        chosen: Kind = next(iter(found.values()))
        return chosen


def _refuse(_: object) -> None:
    raise ValueError("not built yet in this version of promring")
