"""A shorter way from entries of an engine's answer to targets, as ``uniform`` has one for lists: many entries of one scrape
pool, which have labels of known names, are decoded at once to records made for them.

A record has a field for each label, in order of name. What the job says is left out by its field: the only value that it
takes is the default, which is not written. An entry that has another value, or a name that is not known, makes msgspec
refuse; then all are decoded one by one, to the same pool, and names and values are learnt from those.

A type is made for each set of names and values. A process makes ``SHAPES_MOST`` and keeps them, as in ``uniform``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Literal, Protocol, cast, get_args

import msgspec

from promring.core.fragment import Whole, redirects
from promring.core.pool import Wholes
from promring.discovery.engine_config import Job
from promring.discovery.json_list import Group
from promring.discovery.label_names import Names
from promring.discovery.limits import ADDRESS_MAX, LABEL_VALUE_MAX
from promring.discovery.uniform import NAMES_MOST, identities_of, may_be_a_field

SHAPES_MOST = 200
LEARNT_MOST = 5
"""Shapes that are tried for one scrape pool."""
LEAST = 50
"""Entries for which a type is worth making."""
ADDRESS, JOB = "__address__", "job"

_Address = Annotated[str, msgspec.Meta(min_length=1, max_length=ADDRESS_MAX)]
_Value = Annotated[str, msgspec.Meta(max_length=LABEL_VALUE_MAX)]


class _Entry(Protocol):
    discovered_labels: msgspec.Struct


class _Shape:
    """Entries with labels of these ``names``, which have those of ``own`` with these values only."""

    def __init__(self, names: Iterable[str], own: Mapping[str, str]) -> None:
        self._fields = {name: f"label{i}" for i, name in enumerate(sorted({*names, ADDRESS}))}
        labels = msgspec.defstruct(
            "Labels",
            [(field, *_type_of(name, own)) for name, field in self._fields.items()],
            rename={field: name for name, field in self._fields.items()},
            omit_defaults=True,
            forbid_unknown_fields=True,
            gc=False,
        )
        entry = msgspec.defstruct("Entry", [("discovered_labels", labels)], rename="camel", gc=False)
        self._decode = msgspec.json.Decoder(entry).decode
        self._redirecting = [(n, attrgetter(f)) for n, f in self._fields.items() if redirects(n) and n not in own]

    def read(self, entries: Sequence[msgspec.Raw], strip: Mapping[str, str], names: Collection[str]) -> Wholes | None:
        """``strip``: values of labels that are left out; ``names``: of labels that may be left."""
        try:
            found = cast("list[_Entry]", list(map(self._decode, entries)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        records = [entry.discovered_labels for entry in found]
        field = self._fields[ADDRESS]
        addresses: list[str] = list(map(attrgetter(field), records))
        if not all(addresses) or not "".join(addresses).isprintable():
            return None
        for record in records:
            setattr(record, field, "")
        if not all(self._stripped(records, name, value) or name in names for name, value in strip.items()):
            return None
        wholes = [Whole((address,), record) for address, record in zip(addresses, records, strict=True)]
        return Wholes(wholes, identities_of(addresses, records, self._redirecting))

    def _stripped(self, records: Sequence[msgspec.Struct], name: str, value: str) -> bool:
        """Whether no record has another value in this label."""
        field = self._fields[name]
        for record in records:
            if getattr(record, field) == value:
                setattr(record, field, "")
        return not any(map(attrgetter(field), records))


def _type_of(name: str, own: Mapping[str, str]) -> tuple[object, str]:
    """The type of a label's field, and the value of it that is not written, which is found by its identity."""
    if name in own:
        literal = Literal[own[name]]  # type: ignore[valid-type]  # known here
        return literal, get_args(literal)[0]
    return _Address if name == ADDRESS else _Value, ""


_shapes: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], _Shape] = {}


def _shape_of(names: Collection[str], own: Mapping[str, str]) -> _Shape | None:
    key = tuple(sorted(names)), tuple(sorted(own.items()))
    shape = _shapes.get(key)
    if shape is None and len(_shapes) < SHAPES_MOST and len(names) <= NAMES_MOST and all(map(may_be_a_field, names)):
        shape = _shapes[key] = _Shape(names, own)
    return shape


class EntryRecords:
    """Reads the entries of one scrape pool from answer to answer. ``job``: whose they are; ``least``: as ``LEAST``."""

    def __init__(self, job: Job, least: int = LEAST) -> None:
        self._least = least
        self._strip = {name: value for name, value in job.own if value}
        self._names: frozenset[str] = frozenset()
        """Of labels that targets were seen to have beside what the job says."""
        self._shape: _Shape | None = None
        self._learnt = 0

    def read(self, entries: Sequence[msgspec.Raw], rules: Names) -> Wholes | None:
        """None where they have to be looked at one by one."""
        if self._shape is None or not rules.look(self._names).enough:
            return None
        varying = {name: value for name, value in self._strip.items() if name in self._varying}
        return self._shape.read(entries, varying, self._names)

    def learn(self, groups: Sequence[Group]) -> None:
        """These were decoded one by one, and what only the job says was taken out, and the address."""
        names = self._names.union(*(group.labels or () for group in groups))
        if len(groups) < self._least or self._learnt >= LEARNT_MOST or (names == self._names and self._shape is not None):
            return
        self._learnt += 1
        self._names = names
        own = {name: value for name, value in self._strip.items() if name not in self._varying}
        self._shape = _shape_of(names | self._strip.keys(), own)

    @property
    def _varying(self) -> Collection[str]:
        """Labels that the job says, and a target may say otherwise; ``job``, or each job would have a type of its own."""
        return self._names | {JOB}
