"""A thin client of Consul's HTTP API.

Promises: every call ends (total deadline), an answer is an answer (status 200, JSON of the expected shape) or a
``ConsulError`` that says whose fault it is; the token is read from its file for every call, so it can be rotated, and is
never in an error or log. Does not retry: watches loop by themselves.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from yarl import URL

from promring.config.kinds import Sections
from promring.consul.access import Access, ConsulSection
from promring.consul.answers import Agent, AgentIdentity, Key, KeyEntry, Located, Read, Session
from promring.consul.instances import Check, HealthEntry, Instances, Node, Service, decode_instances
from promring.consul.rights import Right, key_write, service_write
from promring.model import ConfigError, ConsulError
from promring.runtime import secretfile
from promring.runtime.http_client import BODY_BYTES_MAX, HttpError, Response, parse_base, request
from promring.runtime.threads import computed
from promring.runtime.with_session import WithSession

T = TypeVar("T")

DEFAULT_ADDRESS = "127.0.0.1:8500"
DEADLINE_S = 10.0
WAIT_S = 30.0
NO_CHECK = b"does not have associated TTL", b"Unknown check"  # a status 500 of 1.8, without ACLs and with them
LOCK_DEADLINE_S = 2.0
DECODE_BESIDE_BYTES = 64 * 1024

SESSION_WRITE = "session (of the agent's node) write"

__all__ = ["Access", "AgentIdentity", "Check", "Client", "HealthEntry", "Instances", "Node", "Service"]


@dataclass
class Client(WithSession):
    """One connection pool to one Consul agent. Use as an async context manager."""

    access: Access
    url: URL = field(init=False)
    _unix: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        url, self._unix = parse_base(self.access.address or DEFAULT_ADDRESS, tls=self.access.tls is not None)
        self.url = url.with_scheme("https") if self.access.tls is not None and self._unix is None else url
        super().__init__(connections_max=190, unix_socket=self._unix)

    async def instances(self, service: str, *, index: int | None = None, wait_s: float = WAIT_S) -> Instances:
        """All instances of ``service``, whatever their state. With ``index`` it blocks until that has changed.

        A blocking read returning proves nothing changed: compare. Raises ``ConsulError``.
        """
        params = {} if index is None else {"index": str(index), "wait": f"{wait_s:g}s"}
        deadline = DEADLINE_S if index is None else answer_within(wait_s)
        needs = f'service "{service}" read'
        response = await self._call("GET", f"/v1/health/service/{service}", params, deadline_s=deadline, needs=needs)
        read = self._read(response)
        work = partial(decode_instances, response.body)
        try:
            entries, broken = await computed(work, beside=len(response.body) > DECODE_BESIDE_BYTES)
        except ValueError as error:
            raise ConsulError(f"{self.where}: malformed answer: {error}: {response.text(80)!r}") from error
        return Instances(entries, broken, read.filtered, read.index)

    async def read(
        self,
        path: str,
        query: Sequence[tuple[str, str]],
        *,
        index: int | None = None,
        wait_s: float = WAIT_S,
        bytes_max: int = BODY_BYTES_MAX,
        needs: str = "",
    ) -> Read:
        """An endpoint that can be waited at, in any datacenter. With ``index`` it blocks until that has changed. Raises
        ``ConsulError``.
        """
        waiting = [] if index is None else [("index", str(index)), ("wait", f"{wait_s:g}s")]
        deadline = DEADLINE_S if index is None else answer_within(wait_s)
        response = await self._call(
            "GET", path, [*query, *waiting], deadline_s=deadline, local=True, needs=needs, bytes_max=bytes_max
        )
        return self._read(response)

    def _read(self, response: Response) -> Read:
        try:
            index = int(response.headers.get("x-consul-index", ""))
        except ValueError:
            raise ConsulError(f"{self.where}: an answer without X-Consul-Index: not Consul?") from None
        said = response.headers.get("x-consul-results-filtered-by-acls")
        return Read(response.body, index, None if said is None else said == "true")

    async def agent(self) -> AgentIdentity:
        """Where the agent is that we ask. Raises ``ConsulError``: with status 403 the token lacks ``agent`` read."""
        needs = "agent (of the agent's node) read"
        config = self._decode(await self._call("GET", "/v1/agent/self", local=True, needs=needs), Agent).config
        return AgentIdentity(config.node_name, config.datacenter.lower())

    async def own_datacenter(self) -> str:
        """The datacenter in which the agent registers. Raises ``ConsulError``; empty: the token may not read it."""
        try:
            return (await self.agent()).datacenter
        except ConsulError as error:
            if error.status != 403:
                raise
        response = await self._call("GET", "/v1/catalog/nodes", local=True, needs='node_prefix "" read')
        return next((node.datacenter.lower() for node in self._decode(response, list[Located])), "")

    async def services(self) -> Collection[str]:
        """The names in the catalogue; the servers' own is always there, unless the token may not read it."""
        response = await self._call("GET", "/v1/catalog/services")
        return self._decode(response, dict[str, list[str]]).keys()

    async def key(self, name: str, *, index: int | None = None, wait_s: float = WAIT_S) -> Key:
        """One key. With ``index`` it blocks until the key has changed; without, the servers agree on the answer."""
        params = {"consistent": "1"} if index is None else {"index": str(index), "wait": f"{wait_s:g}s"}
        deadline = LOCK_DEADLINE_S if index is None else wait_s * 17 / 16 + LOCK_DEADLINE_S
        response = await self._call(
            "GET", f"/v1/kv/{name}", params, deadline_s=deadline, fine=(200, 404), local=True, needs=key_write(name)
        )
        try:
            new_index = max(1, int(response.headers.get("x-consul-index", "1")))
        except ValueError:
            raise ConsulError(f"{self.where}: X-Consul-Index is not a number") from None
        if response.status == 404:
            return Key(index=new_index)
        (entry,) = self._decode(response, list[KeyEntry])[:1] or [KeyEntry()]
        try:
            value = base64.b64decode(entry.value or "", validate=True)
        except ValueError:
            raise ConsulError(f"{self.where}: malformed answer: the value of {name} is not base64") from None
        return Key(value, entry.session, entry.modify_index, new_index)

    async def acquire(self, name: str, key: Key, session: str, value: bytes) -> str:
        """Lock the key for the session and put ``value`` in it, if nobody has touched it since it was ``key``, in one.

        Why not, or an empty text. It is told apart from no answer, after which nobody knows.
        """
        there = {"Verb": "check-index", "Key": name, "Index": key.modify_index}
        unchanged = there if key.modify_index else {"Verb": "check-not-exists", "Key": name}
        lock = {"Verb": "lock", "Key": name, "Value": base64.b64encode(value).decode(), "Session": session}
        response = await self._transaction(name, unchanged, lock)
        return "" if response.status == 200 else response.text()

    async def change(self, name: str, session: str, value: bytes) -> bool:
        """Put ``value`` into the key as the one who has it locked (``?acquire=`` alone would take a free one). False: nobody
        has, or another. A missing right is a 409 as well, with nothing but words to tell it by.
        """
        locked = {"Verb": "check-session", "Key": name, "Session": session}
        put = {"Verb": "lock", "Key": name, "Value": base64.b64encode(value).decode(), "Session": session}
        response = await self._transaction(name, locked, put)
        if b"ermission denied" in response.body:
            raise ConsulError(f"{self.where}: {response.text()}; the token must have: {key_write(name)}", 403)
        return response.status == 200

    async def _transaction(self, name: str, *operations: Mapping[str, object]) -> Response:
        body = [{"KV": operation} for operation in operations]
        return await self._call(
            "PUT", "/v1/txn", body=body, deadline_s=LOCK_DEADLINE_S, fine=(200, 409), local=True, needs=key_write(name)
        )

    async def release(self, name: str, session: str, value: bytes) -> bool:
        response = await self._call(
            "PUT",
            f"/v1/kv/{name}",
            {"release": session},
            data=value,
            deadline_s=LOCK_DEADLINE_S,
            local=True,
            needs=key_write(name),
        )
        return response.body.strip() == b"true"

    async def create_session(self, name: str, service_id: str, lock_delay_s: float, ttl_s: float) -> str:
        """A session that ends with the check of the service, with its node, or unrenewed after ``ttl_s`` to twice that."""
        # Both checks must be in the catalogue.
        ends = {"NodeChecks": ["serfHealth"], "ServiceChecks": [{"ID": f"service:{service_id}"}]}
        body = {"Name": name, "TTL": f"{ttl_s:g}s", "LockDelay": f"{lock_delay_s:g}s", "Behavior": "release", **ends}
        response = await self._call(
            "PUT", "/v1/session/create", body=body, deadline_s=LOCK_DEADLINE_S, local=True, needs=SESSION_WRITE
        )
        return self._decode(response, Session).id

    async def renew_session(self, session: str) -> bool:
        return (await self._of_session("renew", session, fine=(200, 404))).status == 200

    async def destroy_session(self, session: str) -> None:
        await self._of_session("destroy", session)

    async def _of_session(self, what: str, session: str, fine: tuple[int, ...] = (200,)) -> Response:
        path = f"/v1/session/{what}/{session}"
        return await self._call("PUT", path, deadline_s=LOCK_DEADLINE_S, fine=fine, local=True, needs=SESSION_WRITE)

    async def check_passes(self, service_id: str, service: str = "") -> bool:
        """A sign of life for the TTL check of a service. False: the agent does not know it."""
        path = f"/v1/agent/check/pass/service:{service_id}"
        response = await self._call(
            "PUT", path, deadline_s=LOCK_DEADLINE_S, fine=(200, 404, 500), local=True, needs=service_write(service)
        )
        if response.status == 500 and not any(words in response.body for words in NO_CHECK):
            raise ConsulError(f"{self.where}: status 500: {response.text()}")
        return response.status == 200

    async def deregister(self, service_id: str, service: str = "") -> None:
        """An id that the agent does not know is fine: 404 since 1.10, 500 before."""
        path, fine = f"/v1/agent/service/deregister/{service_id}", (200, 404, 500)
        await self._call("PUT", path, deadline_s=LOCK_DEADLINE_S, fine=fine, local=True, needs=service_write(service))

    async def register(self, definition: dict[str, Any], *, deadline_s: float = DEADLINE_S) -> None:
        """Register a service instance with the agent. Same id again: replaced."""
        needs = service_write(definition["Name"])
        await self._call("PUT", "/v1/agent/service/register", body=definition, deadline_s=deadline_s, needs=needs)

    async def lacking(self, rights: Sequence[Right]) -> list[Right] | None:
        """Which of these the token does not have; None: this Consul does not tell. Raises ``ConsulError``."""
        fine = (200, 400, 401, 404, 405)
        response = await self._call(
            "POST", "/v1/internal/acl/authorize", data=msgspec.json.encode(rights), fine=fine, local=True
        )
        if response.status == 401:  # it has no ACL system
            return []
        return [one for one in self._decode(response, list[Right]) if not one.allow] if response.status == 200 else None

    @property
    def where(self) -> str:
        """Consul's address, for people."""
        return f"Consul at {self._unix or self.url.authority}"

    async def _call(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        *,
        body: object = None,
        data: bytes | None = None,
        deadline_s: float = DEADLINE_S,
        fine: tuple[int, ...] = (200,),
        local: bool = False,
        needs: str = "",
        bytes_max: int = BODY_BYTES_MAX,
    ) -> Response:
        """``local``: of the agent's own datacenter, whatever the configured one is; ``needs``: the ACL rule for it."""
        dc = [("dc", self.access.datacenter)] if self.access.datacenter and method == "GET" and not local else []
        query = [*(params.items() if isinstance(params, Mapping) else params), *dc]
        url = self.url.with_path(self.access.path_prefix + path)  # not the query: Consul's errors shall repeat it
        try:
            response = await request(
                self.session,
                method,
                url,
                timeout_s=deadline_s,
                headers=await self._credentials(),
                params=query,
                json=body,
                data=data,
                tls=self.access.tls,
                body_bytes_max=bytes_max,
                proxy=self.access.http.proxy_for(url) if self.access.http else None,
            )
        except HttpError as error:
            raise ConsulError(f"{self.where}: {error}") from error
        if response.status == 403:
            rule = f"the token must be known and have: {needs}" if needs else "check the token and its policy"
            why = f"permission denied (403): {response.text()}; {rule}"
            raise ConsulError(f"{self.where}: {why}", 403)
        if response.status not in fine:
            raise ConsulError(f"{self.where}: {response.refusal()}", response.status)
        return response

    async def _credentials(self) -> dict[str, str]:
        """Files are read for each call, so they can be rotated."""
        access = self.access
        headers: dict[str, str] = {}
        token = await _secret(access.token_file, empty=access.token) if access.token_file else access.token
        password = access.password
        if access.username is not None and access.password_file is not None:
            password = await _secret(access.password_file)
        if access.http is not None:
            try:
                headers |= await access.http.headers()
            except secretfile.SecretError as error:
                raise ConsulError(f"cannot read {error}") from error
        if token:
            headers["X-Consul-Token"] = token
        if access.username is not None:
            pair = f"{access.username}:{password or ''}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        return headers

    def _decode(self, response: Response, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(response.body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConsulError(f"{self.where}: malformed answer: {error}: {response.text(80)!r}") from error


def answer_within(wait_s: float) -> float:
    """So long a blocking read takes at most: the servers add up to a sixteenth, and a way."""
    return wait_s * 17 / 16 + 5


@contextlib.asynccontextmanager
async def connected(sections: Sections) -> AsyncIterator[Client]:
    """A client as the section ``consul`` says. Raises ``ConfigError`` when there can be none: a TLS file, a variable."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(Client(sections.get(ConsulSection).access()))
        except (OSError, ValueError) as error:
            raise ConfigError([f"consul: {' '.join(str(error).split())}"]) from error
        yield client


async def _secret(path: Path, *, empty: str | None = None) -> str:
    """The text of a file. ``empty``: what is used when there is none in it. Raises ``ConsulError``."""
    try:
        text = await secretfile.read_line(path)
    except secretfile.EmptySecretError as error:
        if empty is None:
            raise ConsulError(f"cannot read {error}") from error
        return empty
    except secretfile.SecretError as error:
        raise ConsulError(f"cannot read {error}") from error
    if not text.isascii():
        raise ConsulError(f"{path}: is not plain text")
    return text
