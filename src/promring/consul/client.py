"""A thin client of Consul's HTTP API.

Promises: every call ends (total deadline), an answer is an answer (status 200, JSON of the expected shape) or a
``ConsulError`` that says whose fault it is; the token is read from its file for every call, so it can be rotated, and is
never in an error or log. Does not retry: watches loop by themselves.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from yarl import URL

from promring import secretfile
from promring.httpclient import HttpError, Response, TlsFiles, new_session, parse_base, request
from promring.model import ConsulError

T = TypeVar("T")

DEADLINE_S = 10.0
WAIT_S = 55.0
LOCK_DEADLINE_S = 2.0


class Node(msgspec.Struct, frozen=True, rename={"node": "Node", "address": "Address", "meta": "Meta"}):
    node: str
    address: str
    meta: dict[str, str] | None = None


class Service(msgspec.Struct, frozen=True, rename="pascal"):
    id: str = msgspec.field(name="ID")
    service: str
    address: str
    port: int
    meta: dict[str, str] | None = None


class Check(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="CheckID", default="")
    status: str = msgspec.field(name="Status", default="")


class HealthEntry(msgspec.Struct, frozen=True, rename="pascal"):
    """One instance of a service with its node, of what ``/v1/health/service`` gives."""

    node: Node
    service: Service
    checks: list[Check] | None = None

    @property
    def node_is_dead(self) -> bool:
        """The agent that checks the instance is gone, so nobody checks it any more."""
        return any(check.id == "serfHealth" and check.status == "critical" for check in self.checks or ())

    @property
    def host(self) -> str:
        """The instance's address; the node's where the instance has none."""
        return self.service.address or self.node.address

    @property
    def metadata(self) -> dict[str, str]:
        """The node's, and over it the instance's."""
        return {**(self.node.meta or {}), **(self.service.meta or {})}


class _KeyEntry(msgspec.Struct, frozen=True, rename="pascal"):
    value: str | None = None
    session: str = ""
    lock_index: int = 0
    modify_index: int = 0


class _Session(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="ID")


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the store. ``session``: who has it locked, empty: nobody; ``lock_index``: how often it was locked;
    ``modify_index``: of its last change, 0 when there is no such key; ``index``: to wait for the next change with.
    """

    value: bytes = b""
    session: str = ""
    lock_index: int = 0
    modify_index: int = 0
    index: int = 1


@dataclass(frozen=True, slots=True)
class Access:
    """Where Consul is and how to be let in. ``address`` as in the configuration; None: CONSUL_HTTP_ADDR, or local."""

    address: str | None = None
    token_file: Path | None = None
    username: str | None = None
    password_file: Path | None = None
    tls: TlsFiles | None = None
    datacenter: str | None = None


@dataclass(slots=True)
class Client:
    """One connection pool to one Consul agent. Use as an async context manager."""

    access: Access
    url: URL = field(init=False)
    _unix: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        text = self.access.address or os.environ.get("CONSUL_HTTP_ADDR") or "127.0.0.1:8500"
        self.url, self._unix = parse_base(text, tls=self.access.tls is not None)

    async def __aenter__(self) -> Client:
        self._session = new_session(connections_max=190, unix_socket=self._unix)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    _session: Any = field(init=False, default=None, repr=False)

    async def health(
        self, service: str, *, passing: bool = True, index: int | None = None, wait_s: float = WAIT_S
    ) -> tuple[list[HealthEntry], int]:
        """Instances of ``service`` and the index of this answer. With ``index`` it blocks until that has changed.

        A blocking read returning proves nothing changed: compare. Raises ``ConsulError``.
        """
        params: dict[str, str] = {"passing": "1"} if passing else {}
        deadline = DEADLINE_S
        if index is not None:
            params |= {"index": str(index), "wait": f"{wait_s:g}s"}
            deadline = wait_s * 17 / 16 + 5  # the server adds up to wait/16
        response = await self._call("GET", f"/v1/health/service/{service}", params, deadline_s=deadline)
        try:
            new_index = int(response.headers.get("x-consul-index", ""))
        except ValueError:
            raise ConsulError(f"{self._where}: an answer without X-Consul-Index: not Consul?") from None
        return self._decode(response, list[HealthEntry]), new_index

    async def sees_services(self) -> bool:
        """Whether the catalogue shows any service: the servers' own is always there, unless the token may not read it."""
        response = await self._call("GET", "/v1/catalog/services")
        return bool(self._decode(response, dict[str, list[str]]))

    async def key(self, name: str, *, index: int | None = None, wait_s: float = WAIT_S) -> Key:
        """One key. With ``index`` it blocks until the key has changed; without, the servers agree on the answer."""
        params = {"consistent": "1"} if index is None else {"index": str(index), "wait": f"{wait_s:g}s"}
        deadline = LOCK_DEADLINE_S if index is None else wait_s * 17 / 16 + LOCK_DEADLINE_S
        response = await self._call("GET", f"/v1/kv/{name}", params, deadline_s=deadline, fine=(200, 404), local=True)
        try:
            new_index = max(1, int(response.headers.get("x-consul-index", "1")))
        except ValueError:
            raise ConsulError(f"{self._where}: X-Consul-Index is not a number") from None
        if response.status == 404:
            return Key(index=new_index)
        (entry,) = self._decode(response, list[_KeyEntry])[:1] or [_KeyEntry()]
        try:
            value = base64.b64decode(entry.value or "", validate=True)
        except ValueError:
            raise ConsulError(f"{self._where}: malformed answer: the value of {name} is not base64") from None
        return Key(value, entry.session, entry.lock_index, entry.modify_index, new_index)

    async def acquire(self, name: str, key: Key, session: str, value: bytes) -> str:
        """Lock the key for the session and put ``value`` in it, if nobody has touched it since it was ``key``, in one.

        Why not, or an empty text. It is told apart from no answer, after which nobody knows.
        """
        there = {"Verb": "check-index", "Key": name, "Index": key.modify_index}
        unchanged = there if key.modify_index else {"Verb": "check-not-exists", "Key": name}
        lock = {"Verb": "lock", "Key": name, "Value": base64.b64encode(value).decode(), "Session": session}
        body = [{"KV": unchanged}, {"KV": lock}]
        response = await self._call("PUT", "/v1/txn", body=body, deadline_s=LOCK_DEADLINE_S, fine=(200, 409), local=True)
        return "" if response.status == 200 else response.text()

    async def change(self, name: str, session: str, value: bytes) -> bool:
        """Put ``value`` into the key as the one who has it locked. False: that is another by now."""
        return await self._locking("acquire", name, session, value)

    async def release(self, name: str, session: str, value: bytes) -> bool:
        return await self._locking("release", name, session, value)

    async def _locking(self, verb: str, name: str, session: str, value: bytes) -> bool:
        response = await self._call(
            "PUT", f"/v1/kv/{name}", {verb: session}, data=value, deadline_s=LOCK_DEADLINE_S, local=True
        )
        return response.body.strip() == b"true"

    async def create_session(self, name: str, service_id: str, lock_delay_s: float) -> str:
        """A session that ends when the service's check fails, or its node does. The check must be in the catalogue."""
        body = {
            "Name": name,
            "LockDelay": f"{lock_delay_s:g}s",
            "Behavior": "release",
            "NodeChecks": ["serfHealth"],
            "ServiceChecks": [{"ID": f"service:{service_id}"}],
        }
        response = await self._call("PUT", "/v1/session/create", body=body, deadline_s=LOCK_DEADLINE_S, local=True)
        return self._decode(response, _Session).id

    async def destroy_session(self, session: str) -> None:
        await self._call("PUT", f"/v1/session/destroy/{session}", deadline_s=LOCK_DEADLINE_S, local=True)

    async def check_passes(self, service_id: str) -> bool:
        """A sign of life for the TTL check of a service. False: the agent does not know it."""
        path = f"/v1/agent/check/pass/service:{service_id}"
        response = await self._call("PUT", path, deadline_s=LOCK_DEADLINE_S, fine=(200, 404, 500), local=True)
        if response.status == 500 and b"TTL" not in response.body:  # 1.8: "does not have associated TTL"
            raise ConsulError(f"{self._where}: status 500: {response.text()}")
        return response.status == 200

    async def deregister(self, service_id: str) -> None:
        await self._call("PUT", f"/v1/agent/service/deregister/{service_id}", deadline_s=LOCK_DEADLINE_S, local=True)

    async def register(self, definition: dict[str, Any], *, deadline_s: float = DEADLINE_S) -> None:
        """Register a service instance with the agent. Same id again: replaced."""
        await self._call("PUT", "/v1/agent/service/register", body=definition, deadline_s=deadline_s)

    @property
    def _where(self) -> str:
        return f"Consul at {self._unix or self.url.authority}"

    async def _call(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None = None,
        *,
        body: object = None,
        data: bytes | None = None,
        deadline_s: float = DEADLINE_S,
        fine: tuple[int, ...] = (200,),
        local: bool = False,
    ) -> Response:
        """``local``: of the agent's own datacenter, whatever the configured one is."""
        params = dict(params or {})
        if self.access.datacenter and method == "GET" and not local:
            params["dc"] = self.access.datacenter
        try:
            response = await request(
                self._session,
                method,
                self.url.with_path(path),
                timeout_s=deadline_s,
                headers=await self._credentials(),
                params=params,
                json=body,
                data=data,
                tls=self.access.tls,
            )
        except HttpError as error:
            raise ConsulError(f"{self._where}: {error}") from error
        if response.status == 403:
            why = f"permission denied (403): {response.text()}; check the token and its policy"
            raise ConsulError(f"{self._where}: {why}", 403)
        if response.status not in fine:
            raise ConsulError(f"{self._where}: status {response.status}: {response.text()}", response.status)
        return response

    async def _credentials(self) -> dict[str, str]:
        access = self.access
        try:
            if access.token_file is not None:
                return {"X-Consul-Token": await secretfile.read_line(access.token_file)}
            if access.username is not None and access.password_file is not None:
                pair = f"{access.username}:{await secretfile.read_line(access.password_file)}"
                return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
        except secretfile.SecretError as error:
            raise ConsulError(f"cannot read {error}") from error
        token = os.environ.get("CONSUL_HTTP_TOKEN")
        return {"X-Consul-Token": token} if token else {}

    def _decode(self, response: Response, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(response.body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConsulError(f"{self._where}: malformed answer: {error}: {response.text(80)!r}") from error
