"""The answer of a Prometheus query: an instant vector, decoded entry by entry.

Promises: memory beside the answer is one series; at most ``SERIES_MAX`` series, each at most ``SERIES_BYTES_MAX`` long; an
answer beyond a bound, or of another form, is refused whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from promring.loads import LoadError
from promring.runtime.http_client import Response, credentials_refused
from promring.runtime.json_entries import Entries, ListError

SERIES_MAX = 1_000_000
SERIES_BYTES_MAX = 256 * 1024
HEAD_BYTES_MAX = 64 * 1024
SAID_MAX = 200
PATH = "/api/v1/query"
_WARNINGS = re.compile(r'"warnings"[ \t\r\n]*:[ \t\r\n]*(?=\[)')
"""Not found in a label: there its quotes have backslashes before them."""
_RESULT = re.compile(rb'"result"[ \t\r\n]*:[ \t\r\n]*\[')


class Sample(NamedTuple):
    """One series of the answer. ``value`` may be anything that Prometheus writes, NaN, too."""

    labels: dict[str, str]
    value: float


class _Series(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Error(msgspec.Struct):
    error: str = ""


_series = msgspec.json.Decoder(_Series).decode
_error = msgspec.json.Decoder(_Error).decode


def check(answer: Response) -> bytes:
    """The body of a good answer. Raises ``LoadError``."""
    if refused := credentials_refused(answer.status):
        raise LoadError(f"{PATH}: {refused}")
    if answer.status != 200:
        raise LoadError(f"{PATH} answered {answer.status}: {_said(answer)}")
    return answer.body


def _said(answer: Response) -> str:
    """What Prometheus says is wrong; else the beginning of whatever it answered."""
    try:
        said = _error(answer.body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = ""
    return answer.clean(" ".join(said.split())[:SAID_MAX]) if said else answer.text(SAID_MAX)


def samples(body: bytes) -> Iterator[Sample]:
    """Each series. Blocks for a long answer. Raises ``LoadError``, also late: what came before is void then."""
    head = body[:HEAD_BYTES_MAX]
    found = _RESULT.search(head)
    if found is None or b'"success"' not in head[: found.start()] or b'"vector"' not in head[: found.start()]:
        raise LoadError(f"{PATH}: not the answer of a query with an instant vector")
    entries = Entries(body, found.end() - 1, entry_bytes_max=SERIES_BYTES_MAX, entries_max=SERIES_MAX)
    try:
        for entry in entries:
            one = _series(entry)
            yield Sample(one.metric, _number(one.value[1]))
    except (ListError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LoadError(f"{PATH}: {' '.join(str(error)[:SAID_MAX].split())}") from error


def warning(answer: Response) -> str:
    """What the server itself says of its answer, such as that a part of it could not be had; empty: nothing."""
    end = answer.body[-HEAD_BYTES_MAX:].decode(errors="replace")
    found = _WARNINGS.search(end)
    if found is None:
        return ""
    try:
        said, _ = json.JSONDecoder().raw_decode(end, found.end())
    except (ValueError, RecursionError):
        return ""
    text = "; ".join(one for one in said if isinstance(one, str))
    return answer.clean(" ".join(text.split()))[:SAID_MAX]


def _number(text: str) -> float:
    """NaN for what is no number."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
