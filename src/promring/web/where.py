"""Where is a target? Found by what a person sees of it: its address, the ``instance`` or another label, the URL that
Prometheus shows, or a part of one of these. When nothing is found, the nearest addresses are named.

Promises: a look ends after ``LOOK_S`` and says when it did not see everything; it runs beside the event loop, as one of the
API's searches. An exact address is found by the pool's bytes at once, anything else by one pass over its targets.
"""

from __future__ import annotations

import difflib
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import SplitResult, parse_qsl, urlsplit

import numpy as np
from aiohttp import web

from promring.core.fragment import Target, fragments, listed_part, target
from promring.fleet.fleet import Service
from promring.model import Placement, TargetPool
from promring.runtime.near import meant
from promring.runtime.text import clean
from promring.web.answers.targets import Place, Unready, Where
from promring.web.controller import Controller
from promring.web.envelope import ApiError, number, success
from promring.web.gate import Gate
from promring.web.views.targets import ANSWER_BYTES_MOST, places, rows_at

LOOK_S = 2.0
ASKED_MOST = 1000
"""Characters of a question."""
LIMIT, LIMIT_MOST = 20, 100
EXACT_MOST = 1000
NEAR_MOST, NEAR_AMONG, NEAR_LEAST = 5, 2000, 4
"""So many near names, from so many addresses, for a question of at least so many characters."""
ROWS_AT_ONCE = 4096
PARAMETERS_MOST = 20
_DEFAULT_PORTS = (":80", ":443")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Found:
    """``rows`` of a pool. ``match``: ``address``, ``url``, ``label`` or ``part``; ``total``: how many there are, of those
    that were looked at when ``truncated``.
    """

    match: str
    rows: list[int] = field(default_factory=list)
    total: int = 0
    truncated: bool = False


class WhereEndpoint:
    def __init__(self, controller: Controller, searches: Gate) -> None:
        self._controller = controller
        self._searches = searches

    async def everywhere(self, request: web.Request) -> web.Response:
        """``?target=`` what, ``?service=`` there only, ``?limit=`` so many targets."""
        services, only = self._controller.services, request.query.get("service")
        if only is not None and only not in services:
            raise ApiError(404, "not_found", f"no service {only!r}; there is {', '.join(services)}{meant(only, services)}")
        chosen = [s for s in services.values() if only in (None, s.name)]
        return success(await self.look(chosen, _asked(request), _limit(request)))

    async def of_service(self, request: web.Request) -> web.Response:
        """``?target=``: the targets of one service. 404, with the nearest addresses, when there is none."""
        service = self._controller.services.get(request.match_info["service"])
        if service is None:
            raise ApiError(404, "not_found", f"no service {request.match_info['service']!r}")
        if service.placement is None:
            raise ApiError(503, "unavailable", service.unready() or "no plan yet")
        asked = _asked(request)
        answer = await self.look([service], asked, _limit(request))
        if not answer.targets:
            if answer.truncated:
                text = f"{asked!r} was not found, and not everything was looked at: the search ended after {LOOK_S:g} s"
                raise ApiError(503, "unavailable", text)
            near = f"; near it: {', '.join(answer.near)}" if answer.near else ""
            raise ApiError(404, "not_found", f"no target {asked!r} in {service.name}{near}")
        return success(answer.targets)

    async def look(self, services: Iterable[Service], asked: str, limit: int) -> Where:
        """What is called so in ``services``: the targets, how many, and near names when there is none. Parts count only
        where nothing is called so exactly.
        """
        planned = [(s, p) for s in services if (p := s.placement) is not None]
        unready = [Unready(s.name, s.unready() or "no plan yet") for s in services if not s.placement]
        return await self._searches.run(lambda: _look(planned, unready, asked, limit))


def _look(planned: Sequence[tuple[Service, Placement]], unready: list[Unready], asked: str, limit: int) -> Where:
    """In a thread."""
    until = time.monotonic() + LOOK_S
    found = [(s, p, find(p.pool, asked, until)) for s, p in planned]
    if any(f.rows and f.match != "part" for _, _, f in found):
        found = [(s, p, f) for s, p, f in found if f.match != "part"]
    shown: list[Place] = []
    size = 0
    for service, placement, one in found:
        rows: list[int] = []
        for row in one.rows[: max(0, limit - len(shown))]:
            size += len(placement.pool.fragment(row))
            if size <= ANSWER_BYTES_MOST:
                rows.append(row)
        shown += places(service, placement, rows, one.match)
    total = sum(f.total for _, _, f in found)
    close = [] if total else near([p.pool for _, p in planned], asked, until + LOOK_S)
    truncated = any(f.truncated for _, _, f in found)
    return Where(shown, total, truncated, close, unready)


def find(pool: TargetPool, asked: str, until: float) -> Found:
    """The targets that are called so. ``until``: the monotonic time at which the look ends."""
    if rows := rows_at(pool, asked):
        return Found("address", rows, len(rows))
    if rows := _labelled(pool, asked):
        return Found("label", rows[:EXACT_MOST], len(rows))
    url = _url(asked)
    values = [value for _, value in _parameters(url)] if url else []
    for address in [*_without_port(asked), *(_addresses(url) if url else ()), *values]:
        rows = rows_at(pool, address)
        rows = [row for row in rows if url is None or _is_scraped_at(target(pool, row), url, address)]
        if rows:
            return Found("url" if url else "address", rows, len(rows))
    return _scan(pool, asked, url, until)


def _labelled(pool: TargetPool, asked: str) -> list[int]:
    """Rows of the targets with this label, where ``asked`` is ``label=value``: at most ``EXACT_MOST`` + 1 of them.
    The ``instance`` that no list sets is the address.
    """
    name, sign, value = asked.partition("=")
    value = value.strip().strip('"')
    if not sign or not _LABEL.fullmatch(name := name.strip()):
        return []
    needle, rows = b'"%b":"%b"' % (name.encode(), _escaped(value)), list[int]()
    at = pool.blob.find(needle)
    while at >= 0 and len(rows) <= EXACT_MOST:
        row = int(np.searchsorted(pool.bounds, at, side="right")) - 1
        if target(pool, row).labels.get(name) == value:  # the text may stand in the value of another label
            rows.append(row)
        at = pool.blob.find(needle, int(pool.bounds[row + 1]))
    return rows or (rows_at(pool, value) if name == "instance" else [])


def _scan(pool: TargetPool, asked: str, url: SplitResult | None, until: float) -> Found:
    """One pass: values of labels that are ``asked``, or one of the parameters of ``url``; else whatever contains it."""
    values = [value for _, value in _parameters(url)] if url else []
    needles = list(dict.fromkeys(_escaped(text) for text in (asked, *values) if text))
    exact: list[int] = []
    parts: list[int] = []
    total, truncated = 0, False
    for hits in _hits(pool, needles, until):
        if hits is None or len(exact) == EXACT_MOST:
            truncated = True
            break
        for row, fragment in hits:
            quoted = any(b'"' + needle + b'"' in fragment for needle in needles)
            if quoted and len(exact) < EXACT_MOST and _is_called(target(pool, row), asked, url):
                exact.append(row)
            elif needles[0] in fragment:
                total += 1
                if len(parts) < LIMIT_MOST:
                    parts.append(row)
    if exact:
        return Found("label", exact, len(exact), truncated)
    return Found("part", parts, total, truncated)


def near(pools: Sequence[TargetPool], asked: str, until: float) -> list[str]:
    """The addresses that look most like ``asked``: among those that have a half of it, as one with a typing error has, first
    those that have more of it.
    """
    half = len(asked) // 2
    if len(asked) < NEAR_LEAST:
        return []
    pieces = [_escaped(asked[at : at + max(half, NEAR_LEAST - 1)]) for at in (0, half // 2, half)]
    more: dict[str, None] = {}
    less: dict[str, None] = {}
    for among, hits in ((pool, hits) for pool in pools for hits in _hits(pool, pieces, until)):
        if len(more) == NEAR_AMONG:
            break
        for row, fragment in hits or ():
            found = more if sum(piece in fragment for piece in pieces) > 1 else less
            if len(found) < NEAR_AMONG:
                found[target(among, row).address[:ASKED_MOST]] = None
    return difflib.get_close_matches(asked[:200], [*more, *less][:NEAR_AMONG], NEAR_MOST, 0.6)


def _hits(pool: TargetPool, needles: Sequence[bytes], until: float) -> Iterator[list[tuple[int, bytes]] | None]:
    """Rows and fragments that have one of ``needles``, some thousand rows at a time; at the end None when time was up."""
    rows = enumerate(map(listed_part, fragments(pool)))
    first, others = needles[0], needles[1:]
    while batch := list(islice(rows, ROWS_AT_ONCE)):
        if time.monotonic() > until:
            yield None
            return
        if others:
            yield [(row, f) for row, f in batch if first in f or any(other in f for other in others)]
        else:
            yield [(row, f) for row, f in batch if first in f]


def _is_called(one: Target, asked: str, url: SplitResult | None) -> bool:
    if asked in one.labels.values():
        return True
    return url is not None and _agrees(one, url) and any(value in one.labels.values() for _, value in _parameters(url))


def _is_scraped_at(one: Target, url: SplitResult, address: str) -> bool:
    """Whether Prometheus may show ``url`` for the target. Relabelling may have made a parameter of the address."""
    return _agrees(one, url, as_it_is=address in _addresses(url))


def _agrees(one: Target, url: SplitResult, *, as_it_is: bool = False) -> bool:
    """Whether no label of the target says something else than the URL does. ``as_it_is``: scheme and path count, too."""
    said = {f"__param_{name}": value for name, value in reversed(_parameters(url))}
    if as_it_is:
        said |= {"__scheme__": url.scheme, "__metrics_path__": url.path or "/metrics"}
    return all(said[name] == value for name, value in one.labels.items() if name in said)


def _url(asked: str) -> SplitResult | None:
    """``asked`` as a URL of a scrape, or as ``host:port/path``; None when it is none."""
    try:
        url = urlsplit(asked if "://" in asked else f"http://{asked}" if "/" in asked else "")
        _parameters(url)
    except ValueError:
        return None
    return url if url.scheme in ("http", "https") and url.netloc else None


def _parameters(url: SplitResult) -> list[tuple[str, str]]:
    return parse_qsl(url.query, max_num_fields=PARAMETERS_MOST)


def _addresses(url: SplitResult) -> list[str]:
    """What an address is called whose URL is this: Prometheus adds the port of the scheme."""
    port = ":443" if url.scheme == "https" else ":80"
    return [url.netloc, url.netloc + port, *_without_port(url.netloc)]


def _without_port(address: str) -> list[str]:
    """The ``instance`` of an address without a port has one on older servers."""
    return [address.removesuffix(port) for port in _DEFAULT_PORTS if address.endswith(port)]


def _escaped(text: str) -> bytes:
    """As it stands in a fragment."""
    return json.dumps(clean(text), ensure_ascii=False)[1:-1].encode()


def _asked(request: web.Request) -> str:
    asked = request.query.get("target", "").strip()[:ASKED_MOST]
    if not asked:
        raise ApiError(400, "bad_data", "target: an address, a label's value, a scrape URL, or a part of one")
    return asked


def _limit(request: web.Request) -> int:
    return min(number(request, "limit", LIMIT), LIMIT_MOST)
