"""What an unknown key of the configuration may have been meant to be."""

from __future__ import annotations

from collections.abc import Iterator

from promring.config.document import KeyPath
from promring.config.values import Model
from promring.runtime.near import meant


def meant_by(path: KeyPath, document: object) -> str:
    """``; did you mean …?`` for the unknown key at the end of ``path``, or nothing. Among the keys of every section that has
    the other keys beside it, as far as they are known anywhere.
    """
    beside = document
    for part in path[:-1]:
        try:
            beside = beside[part]  # type: ignore[index]
        except (LookupError, TypeError):
            return ""
    every = list(_keys(Model))
    anywhere = frozenset[str]().union(*every)
    others = {key for key in beside if key in anywhere and key != path[-1]} if isinstance(beside, dict) else set()
    possible = frozenset[str]().union(*(keys for keys in every if others <= keys))
    return meant(str(path[-1]), sorted(possible - others))


def _keys(model: type[Model]) -> Iterator[frozenset[str]]:
    """Of every section and kind."""
    for one in model.__subclasses__():
        yield frozenset(field.alias or name for name, field in one.model_fields.items())
        yield from _keys(one)
