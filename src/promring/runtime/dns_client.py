"""Asks the name servers of the system for the records of a name.

``resolv.conf`` is read each time; its servers are asked in order, each for ``SERVER_S`` over UDP with EDNS, and again over
TCP when the answer is truncated. Promises: NOERROR and NXDOMAIN are answers; when no server gives one of them, that is
``NoAnswerError``, which says what each server said.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from promring.runtime import regular
from promring.runtime.dns_names import Resolving, names_to_try, parse_resolv_conf, query
from promring.runtime.dns_wire import over_tcp, over_udp
from promring.runtime.threads import BusyError, Single, computed

if TYPE_CHECKING:
    import dns.message  # which takes long to load, and few configurations need it

RESOLV_CONF = Path("/etc/resolv.conf")
RESOLV_CONF_BYTES_MAX = 64 * 1024
READ_S = 1.0
PORT = 53
SERVER_S = 2.0
PARSE_BESIDE_BYTES = 2048


class NoAnswerError(Exception):
    """A server gave none that counts; the text says why."""


class NameClient:
    """``resolv_conf`` and ``server_port``: of the system, unless somebody tries this with a name server of their own."""

    def __init__(self, resolv_conf: Path = RESOLV_CONF, server_port: int = PORT) -> None:
        self._resolv_conf, self._server_port = resolv_conf, server_port
        self._reading = Single()
        self.why_none = f"{resolv_conf}: cannot be read, or has no nameserver"
        """What it means that ``resolving`` has no servers."""

    async def resolving(self) -> Resolving:
        """Without servers when the file cannot be read."""
        try:
            text = await self._reading.run(lambda: regular.read(self._resolv_conf, RESOLV_CONF_BYTES_MAX), READ_S)
        except (OSError, TimeoutError, BusyError):
            return Resolving()
        return parse_resolv_conf(text.decode("utf-8", "replace"))

    async def search(self, name: str, type_: str, conf: Resolving) -> dns.message.Message | None:
        """The first answer NOERROR; None when every full name does not exist. Raises ``NoAnswerError``."""
        import dns.rcode

        why = ""
        for full in names_to_try(name, conf):
            try:
                answer = await self._from_any_server(full, type_, conf)
            except NoAnswerError as error:
                why = why or str(error)
                continue
            if answer.rcode() == dns.rcode.NOERROR:
                return answer
        if why:
            raise NoAnswerError(why)
        return None

    async def _from_any_server(self, name: str, type_: str, conf: Resolving) -> dns.message.Message:
        """Raises ``NoAnswerError``."""
        import dns.rcode

        whys = []
        for server in conf.servers:
            try:
                answer = await self._ask(name, type_, server)
            except NoAnswerError as error:
                whys.append(f"{server}: {error}")
                continue
            if answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                return answer
            whys.append(f"{server}: {dns.rcode.to_text(answer.rcode())}")
        raise NoAnswerError(f"{name} {type_}: {'; '.join(whys)}")

    async def _ask(self, name: str, type_: str, server: str) -> dns.message.Message:
        """Raises ``NoAnswerError``."""
        import dns.exception
        import dns.flags

        try:
            wanted = query(name, type_, edns=True)
            answer = await parsed(wanted, await over_udp(wanted.to_wire(), server, self._server_port, SERVER_S))
            if answer.flags & dns.flags.TC:
                wanted = query(name, type_, edns=False)
                answer = await parsed(wanted, await over_tcp(wanted.to_wire(), server, self._server_port, SERVER_S))
        except TimeoutError:
            raise NoAnswerError(f"no answer within {SERVER_S:g} s") from None
        except (OSError, EOFError) as error:
            why = error.strerror if isinstance(error, OSError) else ""
            raise NoAnswerError(why or str(error) or type(error).__name__) from None
        except (dns.exception.DNSException, ValueError) as error:
            raise NoAnswerError(f"malformed answer: {' '.join(str(error).split())[:200]}") from None
        if answer.flags & dns.flags.TC:
            raise NoAnswerError("truncated over TCP, too")
        return answer


async def parsed(question: dns.message.Message, data: bytes) -> dns.message.Message:
    """Raises ``DNSException``, ValueError."""
    import dns.message

    def work() -> dns.message.Message:
        return dns.message.from_wire(data)

    answer = await computed(work, beside=len(data) > PARSE_BESIDE_BYTES)
    if not question.is_response(answer):
        raise ValueError("an answer to another question")
    return answer
