"""One target as it is written in a list: its JSON fragment, and what it says. Pure.

The fragments of a pool lie in one blob (``core/pool``); a slice is made of them as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from promring.model import SEPARATOR, TargetPool

LEGACY_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
"""Label names that Prometheus takes since 1."""

ROWS_AT_ONCE = 1000
"""So many targets of a pool are decoded at a time, since all at once take many times the memory of the pool."""
REDIRECTING = ("__scheme__", "__metrics_path__")
ID_LABEL = "__promring_id__"
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_MAYBE_NOT_YAML = re.compile(rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]|\xef\xbb\xbf|\xef\xbf[\xbe\xbf]")
_NUL = "\0"
SEAL = b'"%s":"' % ID_LABEL.encode()
SEALED_BYTES = len(SEAL) + 16 + len(b'"}}')
"""The id is the last label of a fragment, and has this length."""
_encoder = msgspec.json.Encoder(order="deterministic")


class Target(msgspec.Struct, frozen=True):
    """A fragment of a pool, decoded."""

    targets: tuple[str]
    labels: dict[str, str] = {}

    @property
    def address(self) -> str:
        return self.targets[0]

    def identity(self) -> str:
        """The address, then ``\\0name\\0value`` for each label that redirects the scrape, in order of name."""
        return self.address + suffix_of(self.labels.items())


_decode: Callable[[bytes], Target] = msgspec.json.Decoder(Target).decode


def decode(fragment: bytes) -> Target:
    """A fragment as a ``Target``, without the label that holds its id."""
    one = _decode(fragment)
    one.labels.pop(ID_LABEL, None)
    return one


def listed_part(fragment: bytes) -> bytes:
    """A fragment without its end, which holds the id: what may be searched for texts."""
    return fragment[:-SEALED_BYTES]


def id_of(label: str) -> int | None:
    """The id that a label ``ID_LABEL`` holds; None for what is none."""
    try:
        return int(label, 16) if len(label) == 16 else None
    except ValueError:
        return None


def target(pool: TargetPool, row: int) -> Target:
    return decode(pool.fragment(row))


def identities(pool: TargetPool) -> list[str]:
    """Of every row: long for a long pool."""
    return [decode(fragment).identity() for fragment in fragments(pool)]


def fragments(pool: TargetPool) -> Iterator[bytes]:
    ends = pool.bounds.tolist()
    return (pool.blob[start : end - len(SEPARATOR)] for start, end in pairwise(ends))


def redirects(name: str) -> bool:
    """Whether a label of this name says where or what to scrape, beside the address."""
    return name in REDIRECTING or name.startswith("__param_")


def suffix_of(labels: Iterable[tuple[str, str]]) -> str:
    """Of the labels that redirect the scrape, in order of name; mostly the empty text. A NUL in one is doubled: it
    separates.
    """
    pairs = sorted((n, v) for n, v in labels if redirects(n))
    return "".join(f"\0{part.replace(_NUL, _NUL * 2)}" for pair in pairs for part in pair)


class Whole(msgspec.Struct, frozen=True, gc=False):
    """A fragment that is made: one address, and its labels in any order, as JSON, or as fields in order of name."""

    targets: Sequence[str]
    labels: Mapping[str, str] | msgspec.Raw | msgspec.Struct


def encode(value: Mapping[str, str]) -> bytes:
    """As JSON that a YAML reader (vmagent) takes for the same text: what YAML does not allow, or folds, is escaped. Labels
    are in order of name.
    """
    return _for_yaml(_encoder.encode(value))


def encode_lines(values: Sequence[msgspec.Struct]) -> bytes:
    """As ``encode``, one value a line: a line break within a text is escaped."""
    return _for_yaml(_encoder.encode_lines(values))


def _for_yaml(encoded: bytes) -> bytes:
    if encoded.isascii():
        if b"\x7f" not in encoded:
            return encoded
    elif not _MAYBE_NOT_YAML.search(encoded):
        return encoded
    return _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", encoded.decode()).encode()


# --- names of labels -------------------------------------------------------------------------------------------------


class _Labels(msgspec.Struct):
    labels: dict[str, str] = {}


def newer_name(body: bytes) -> str:
    """A label name of a slice that Prometheus 2 refuses, and the whole slice with it; empty: there is none."""
    groups = msgspec.json.decode(body, type=list[_Labels])
    return next((name for one in groups for name in one.labels if not LEGACY_NAME.fullmatch(name)), "")


def newer_name_in(pool: TargetPool) -> str:
    """The same of all targets of a pool. Blocks."""
    for first in range(0, len(pool), ROWS_AT_ONCE):
        begin, end = pool.bounds[first], pool.bounds[min(first + ROWS_AT_ONCE, len(pool))]
        if name := newer_name(b"[" + pool.blob[begin : end - len(SEPARATOR)] + b"]"):
            return name
    return ""
