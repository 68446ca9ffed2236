"""Targets that note every scrape: when, of which target, by which scraper, and whether it was answered.

One small HTTP server in this process listens on many addresses. The scraper says who it is with ``?scraper=`` in the query
(``params`` of its scrape job), or as the user of ``basic_auth``, which is no label of the target. A pair of scraper and
target can be refused, so that one target is up for one scraper and down for another.

Promises: a hit is noted at the moment its request is complete. Does not promise: room for more than ``HITS_KEPT`` hits a
target; what is older is forgotten.
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

HITS_KEPT = 20_000
REQUEST_BYTES_MAX = 64 * 1024
_USER = re.compile(rb"\r\nauthorization: basic ([A-Za-z0-9+/=]+)", re.IGNORECASE)
_BODY = b"# TYPE demo_metric gauge\ndemo_metric 1\ndemo_other 2\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


class Hit(NamedTuple):
    """One scrape. ``at``: monotonic seconds; ``good``: it was answered."""

    at: float
    scraper: str
    good: bool


class Exporter:
    """Listens on ``host:port`` of each address. Use as an async context manager.

    ``refused`` holds pairs (scraper, address); an empty text stands for every scraper, or every address.
    """

    def __init__(self, addresses: Iterable[str]) -> None:
        self.hits: dict[str, deque[Hit]] = {address: deque(maxlen=HITS_KEPT) for address in addresses}
        self.refused: set[tuple[str, str]] = set()
        self.delay_s: dict[tuple[str, str], float] = {}
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> Exporter:
        loop = asyncio.get_running_loop()
        for address in self.hits:
            host, _, port = address.rpartition(":")
            self._servers.append(await loop.create_server(lambda: _Connection(self), host, int(port)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()

    def scraped(self, address: str, scraper: str) -> float | None:
        """Note the hit; seconds until it is to be answered, None when it is refused."""
        pairs = ((scraper, address), (scraper, ""), ("", address), ("", ""))
        good = not any(pair in self.refused for pair in pairs)
        self.hits[address].append(Hit(time.monotonic(), scraper, good))
        return max(self.delay_s.get(pair, 0.0) for pair in pairs) if good else None


class _Connection(asyncio.Protocol):
    """One scraper's connection, kept open between scrapes."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._seen = b""
        self._last = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # create_server makes no other
        self._transport = transport
        host, port = transport.get_extra_info("sockname")[:2]
        self._address = f"{host}:{port}"

    def data_received(self, data: bytes) -> None:
        self._seen += data
        while b"\r\n\r\n" in self._seen:
            head, _, self._seen = self._seen.partition(b"\r\n\r\n")
            self._scrape(head)
        if len(self._seen) > REQUEST_BYTES_MAX:
            self._transport.abort()

    def _scrape(self, head: bytes) -> None:
        self._last = b"connection: close" in head.lower()
        wait_s = self._exporter.scraped(self._address, _scraper(head))
        if wait_s is None:
            self._transport.abort()
        elif wait_s:
            asyncio.get_running_loop().call_later(wait_s, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)
            if self._last:
                self._transport.close()


def _scraper(head: bytes) -> str:
    """Who asks, by the query of the request line, else by its name in basic authentication."""
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split()
    named = parse_qs(urlsplit(words[1]).query).get("scraper", []) if len(words) > 1 else []
    user = _USER.search(head)
    return named[0] if named else base64.b64decode(user[1]).decode().partition(":")[0] if user else ""
