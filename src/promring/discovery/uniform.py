"""A shorter way from a piece of a JSON list to its targets, where each group has one target and labels of known names.

msgspec makes records of such groups, with a field for each label in order of name: it checks what ``groups.checked`` checks
group by group, and writes the records as fragments without sorting. What is not so (a name that no group had before, null,
several targets, a control character in an address) goes the general way, to the same pool.

A type of record is made for each set of names. A process makes ``SHAPES_MOST`` and keeps them: a type that is thrown away is
freed by a full collection only, and a list may have other names each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Annotated, Protocol, cast

import msgspec

from promring.core.fragment import ID_LABEL, redirects, suffix_of
from promring.core.pool import Wholes
from promring.discovery.json_list import Group, groups_at_once
from promring.discovery.limits import ADDRESS_MAX, LABEL_NAME_MAX, LABEL_VALUE_MAX

SHAPES_MOST = 200
NAMES_MOST = 100
LEARNT_MOST = 5
"""Sets of names that are tried for one list."""
LEAST_BYTES = 64 * 1024
"""Of a piece for which a type is worth making."""

_Address = Annotated[str, msgspec.Meta(min_length=1, max_length=ADDRESS_MAX)]
_Value = Annotated[str, msgspec.Meta(max_length=LABEL_VALUE_MAX)]


class _Record(Protocol):
    targets: tuple[str]
    labels: msgspec.Struct


@dataclass(frozen=True, slots=True)
class Uniform:
    """The targets of a piece. ``names``: of all labels that one of them may have."""

    piece: bytes
    names: tuple[str, ...]
    wholes: Wholes

    def __len__(self) -> int:
        return len(self.wholes.fragments)

    def groups(self) -> Sequence[Group]:
        """The same as they are listed."""
        return groups_at_once(self.piece) or ()


class _Shape:
    """Groups of one target and labels of these names."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        fields = {f"label{i}": name for i, name in enumerate(names)}
        make = partial(msgspec.defstruct, forbid_unknown_fields=True, frozen=True, gc=False)
        labels = make("Labels", [(field, _Value, "") for field in fields], rename=fields, omit_defaults=True)
        record = make("Record", [("targets", tuple[_Address]), ("labels", labels, msgspec.field(default_factory=labels))])
        self._decoder = msgspec.json.Decoder(list[record])  # type: ignore[valid-type]  # made here
        self._redirecting = [(name, attrgetter(f"labels.{field}")) for field, name in fields.items() if redirects(name)]

    def read(self, piece: bytes) -> Uniform | None:
        try:
            records = cast("list[_Record]", self._decoder.decode(piece))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        addresses = [record.targets[0] for record in records]
        if not "".join(addresses).isprintable():
            return None
        identities = identities_of(addresses, records, self._redirecting)
        return Uniform(piece, self.names, Wholes(cast("list[msgspec.Struct]", records), identities))


def identities_of(
    addresses: Sequence[str], records: Sequence[object], redirecting: Sequence[tuple[str, Callable[[object], str]]]
) -> Sequence[str]:
    """Of targets with these addresses. ``redirecting``: labels, and what reads the value of each from a record."""
    if not redirecting:
        return addresses
    columns = [[(name, value) for value in map(value_of, records)] for name, value_of in redirecting]
    known: dict[tuple[tuple[str, str], ...], str] = {}
    found = []
    for address, pairs in zip(addresses, zip(*columns, strict=True), strict=True):
        suffix = known.get(pairs)
        if suffix is None:
            suffix = known[pairs] = suffix_of(pair for pair in pairs if pair[1])
        found.append(address + suffix)
    return found


_shapes: dict[tuple[str, ...], _Shape] = {}


def _shape_of(names: Iterable[str]) -> _Shape | None:
    wanted = tuple(sorted(names))
    shape = _shapes.get(wanted)
    if shape is None and len(_shapes) < SHAPES_MOST and len(wanted) <= NAMES_MOST and all(map(may_be_a_field, wanted)):
        shape = _shapes[wanted] = _Shape(wanted)
    return shape


def may_be_a_field(name: str) -> bool:
    """What needs no look at each group, and msgspec takes for the name of a field."""
    plain = name.isprintable() and not {'"', "\\"} & set(name)
    return plain and 0 < len(name) <= LABEL_NAME_MAX and name not in ("__address__", ID_LABEL)


class UniformPieces:
    """Takes the pieces of one list, one after the other."""

    def __init__(self, least_bytes: int = LEAST_BYTES) -> None:
        self._least_bytes = least_bytes
        self._names: set[str] = set()
        self._shape: _Shape | None = None
        self._learnt = 0

    def take(self, piece: bytes) -> Sequence[Group | Uniform] | None:
        """What a piece has; None where a group of it has to be read by itself, or it is malformed."""
        if self._shape is not None and (found := self._shape.read(piece)):
            return [found]
        groups = groups_at_once(piece)
        if groups and len(piece) >= self._least_bytes and self._learn(groups):
            found = self._shape.read(piece) if self._shape else None
            return [found] if found else groups
        return groups

    def _learn(self, groups: Sequence[Group]) -> bool:
        """Whether there is another shape now."""
        names = self._names.union(*(group.labels or () for group in groups))
        new = self._shape is None or names != self._names
        if not new or self._learnt >= LEARNT_MOST or any(len(group.targets or ()) != 1 for group in groups):
            return False
        self._learnt += 1
        self._names, self._shape = names, _shape_of(names)
        return True
