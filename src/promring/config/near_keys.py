"""What an unknown key of the configuration may have been meant to be."""

from __future__ import annotations

from collections.abc import Iterator

from promring.config.document import KeyPath
from promring.config.kinds import Kind
from promring.config.settings import ShardService
from promring.config.values import Model
from promring.delivery import kinds as delivery
from promring.discovery import kinds as discovery
from promring.discovery.pasted_keys import ON_SCRAPERS, PASTED, hint
from promring.election import kinds as election
from promring.loads import kinds as loads
from promring.membership import kinds as membership
from promring.runtime.near import meant

_OF_PROMETHEUS = "scrape_configs"
_MERGE = "<<"
_DEPTH_OF_SERVICE = 3
"""Of the path of one of its keys."""


def meant_by(path: KeyPath, document: object) -> str:
    """``; did you mean …?`` for the unknown key at the end of ``path``, or nothing. Among the keys of every section that has
    the other keys beside it, as far as they are known anywhere, in any case.
    """
    if path == (_OF_PROMETHEUS,):
        return "; this is a configuration of Prometheus, which `promring import` turns into one of promring"
    if _is_of_services(path):
        return "; it is a key of a shard service, not of a fleet"
    if path[-1] == _MERGE:
        return "; merge keys are not read: write the keys out"
    if path[0] == "shard_services" and len(path) == _DEPTH_OF_SERVICE:
        if path[-1] in ON_SCRAPERS:
            return "; it stays in the job on the scrapers"
        if path[-1] in PASTED:
            return f"; it stands under targets: [{{{path[-1]}: ...}}]"
        if instead := hint(str(path[-1])):
            return f"; {instead}"
    beside = document
    for part in path[:-1]:
        try:
            beside = beside[part]  # type: ignore[index]
        except (LookupError, TypeError):
            return ""
    for table in (delivery.KINDS, discovery.KINDS, election.KINDS, loads.KINDS, membership.KINDS):
        list(table.values())  # loads them: what nobody has loaded has no subclass
    every = [*_keys(Model), *(frozenset(_names(chosen)) for chosen in Kind.__subclasses__())]
    anywhere = frozenset[str]().union(*every)
    others = {key for key in beside if key in anywhere and key != path[-1]} if isinstance(beside, dict) else set()
    possible = frozenset[str]().union(*(keys for keys in every if others <= keys))
    return meant(str(path[-1]).lower(), sorted(possible - others - {path[-1]}))


def _is_of_services(path: KeyPath) -> bool:
    """Whether this unknown key of a fleet is one in a shard service."""
    known: object = ShardService if path[0] == "fleets" else None
    for part in path[2:]:
        field = known.model_fields.get(str(part)) if isinstance(known, type) and issubclass(known, Model) else None
        if field is None:
            return False
        known = field.annotation
    return len(path) > 2


def _names(kind: type[Kind]) -> Iterator[str]:
    """Of the kinds that can stand in one place."""
    for one in kind.__subclasses__():
        if "kind" in vars(one):
            yield one.kind
        yield from _names(one)


def _keys(model: type[Model]) -> Iterator[frozenset[str]]:
    """Of every section and kind."""
    for one in model.__subclasses__():
        yield frozenset(field.alias or name for name, field in one.model_fields.items())
        yield from _keys(one)
