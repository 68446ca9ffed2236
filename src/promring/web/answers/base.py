"""What every answer is, the envelope around it, and how its fields are described."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Answer(msgspec.Struct, frozen=True):
    """A part of an answer. Times are seconds since 1970 unless their name ends in ``_s``, which is a span in seconds."""


def doc(text: str) -> msgspec.Meta:
    """What a field means, in which unit, and when it is null."""
    return msgspec.Meta(description=text)


def word(text: str, *words: str) -> msgspec.Meta:
    """A field with one of these words. A reader takes other words too: a newer controller may have more."""
    return msgspec.Meta(description=text, extra_json_schema={"enum": list(words)})


def word_or_null(text: str, *words: str) -> msgspec.Meta:
    """As ``word``, or null."""
    return msgspec.Meta(description=text, extra_json_schema={"enum": [*words, None]})


class Success(msgspec.Struct, Generic[T], frozen=True):
    """The envelope of Prometheus' API. ``status`` is ``success``."""

    status: str
    data: T


class Failure(msgspec.Struct, frozen=True, rename={"kind": "errorType", "text": "error"}):
    """The envelope of an error. ``status`` is ``error``; ``kind`` a fixed word, ``text`` a sentence."""

    status: str
    kind: str
    text: str
