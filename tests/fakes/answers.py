"""Whole answers made of the parts that a test is about: what is missing is neutral (0, an empty text, null, false)."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from promring.web.operations import OPERATIONS

T = TypeVar("T")


def whole(kind: object, part: Any) -> Any:
    """``part``, of plain values, as an answer of the type ``kind``. What is of another type, or more, is left as it is."""
    return _whole(inspect.type_info(kind), part)


def answer_of(method: str, path: str, part: Any) -> Any:
    """The same for what the API answers at ``path``."""
    for one in OPERATIONS:
        pattern = re.sub(r"\{\w+\}", "[^/]+", re.escape(one.path).replace(r"\{", "{").replace(r"\}", "}"))
        if one.answer is not None and one.method == method and re.fullmatch(pattern, path):
            return whole(one.answer, part)
    return part


def _whole(kind: inspect.Type, part: Any) -> Any:
    if isinstance(kind, inspect.Metadata):
        return _whole(kind.type, part)
    if isinstance(kind, inspect.UnionType):
        inner = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
        return part if part is None or len(inner) > 1 else _whole(inner[0], part)
    if isinstance(kind, inspect.ListType) and isinstance(part, list):
        return [_whole(kind.item_type, one) for one in part]
    if isinstance(kind, inspect.StructType) and isinstance(part, dict):
        known = {one.encode_name: one.type for one in kind.fields}
        neutral = {name: _neutral(of) for name, of in known.items() if name not in part}
        return neutral | {name: _whole(known[name], value) if name in known else value for name, value in part.items()}
    return part


def _neutral(kind: inspect.Type) -> Any:
    if isinstance(kind, inspect.Metadata):
        return _neutral(kind.type)
    if isinstance(kind, inspect.UnionType):
        return None
    if isinstance(kind, inspect.StructType):
        return _whole(kind, {})
    values = {inspect.StrType: "", inspect.IntType: 0, inspect.FloatType: 0.0, inspect.BoolType: False}
    found = next((value for type_, value in values.items() if isinstance(kind, type_)), None)
    return [] if isinstance(kind, inspect.ListType) else {} if isinstance(kind, inspect.DictType) else found


def convert(kind: type[T], part: Any) -> T:
    """``part`` as the type itself."""
    return msgspec.convert(whole(kind, part), kind)
