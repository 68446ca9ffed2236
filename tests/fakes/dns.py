"""A name server for tests, over UDP and TCP, that can misbehave name by name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

UDP_BYTES_MAX = 4096


class NameServer:
    """Use as an async context manager. ``zone``: for ``name. TYPE`` the records; a name without records of the type asked
    for is NODATA, an unknown one NXDOMAIN. ``trouble``: for a full name ``SERVFAIL``, ``REFUSED``, ``silent``, ``garbage``,
    ``cut`` (over TCP), ``other question``, ``lies`` (over UDP an answer with another number before each right one).
    """

    def __init__(self, zone: Mapping[str, list[str]], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.zone = dict(zone)
        self.trouble: dict[str, str] = {}
        self.host, self.port = host, port
        self.asked: list[str] = []
        """``name. TYPE`` of each question, with ``/tcp`` where it came so."""
        self._made: dict[tuple[object, ...], bytes] = {}
        """Answers without their number."""

    async def __aenter__(self) -> NameServer:
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._connected, self.host, self.port)
        self.port = self._tcp.sockets[0].getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(self.host, self.port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    def answers(self, data: bytes, *, tcp: bool) -> list[bytes]:
        """The datagrams to answer one with."""
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{name} {kind}{'/tcp' if tcp else ''}")
        trouble = self.trouble.get(name, "")
        response = dns.message.make_response(query)
        if trouble == "silent":
            return []
        if trouble == "garbage":
            return [data[:2] + b"\x80" + b"\xff" * 200]
        if trouble in ("SERVFAIL", "REFUSED"):
            response.set_rcode(dns.rcode.from_text(trouble))
            return [response.to_wire()]
        if trouble == "other question":
            return [dns.message.make_response(dns.message.make_query("other.test.", "A", id=query.id)).to_wire()]
        wire = self._honest(query, data, name, kind, tcp=tcp)
        lie = bytes([wire[0] ^ 0xFF]) + wire[1:]
        return (
            [lie, wire] if trouble == "lies" and not tcp else [wire[: len(wire) // 2] if trouble == "cut" and tcp else wire]
        )

    def _honest(self, query: dns.message.Message, data: bytes, name: str, kind: str, *, tcp: bool) -> bytes:
        """Made once for each question, for a long answer takes a tenth of a second, and some ask each second."""
        known = [key for key in self.zone if key.lower().startswith(f"{name.lower()} ")]
        asked = (data[2:], tcp, *((key, *self.zone[key]) for key in known))
        if asked not in self._made:
            response = dns.message.make_response(query)
            self._fill(response, name, kind, known)
            wire = response.to_wire(max_size=65535)
            if not tcp and len(wire) > UDP_BYTES_MAX:
                response = dns.message.make_response(query)
                response.flags |= dns.flags.TC
                wire = response.to_wire()
            self._made[asked] = wire[2:]
        return data[:2] + self._made[asked]

    def _fill(self, response: dns.message.Message, name: str, kind: str, known: list[str]) -> None:
        if not known:
            response.set_rcode(dns.rcode.NXDOMAIN)
        for key in known:
            if (its := key.partition(" ")[2]) in (kind, "CNAME") and self.zone[key]:
                response.answer.append(dns.rrset.from_text(name, 5, "IN", its, *self.zone[key]))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            length = int.from_bytes(await reader.readexactly(2), "big")
            for answer in self.answers(await reader.readexactly(length), tcp=True):
                writer.write(
                    (len(answer) * 2 if "cut" in self.trouble.values() else len(answer)).to_bytes(2, "big") + answer
                )
                await writer.drain()
        writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        for answer in self._server.answers(data, tcp=False):
            self._transport.sendto(answer, source)
