"""A thin client of etcd's JSON gateway (``/v3/…``), for the members of one cluster.

Promises: every call ends (``call_s`` a member, each member once); an answer is an answer of the expected shape, or an
``EtcdError`` that says whose fault it is. A member that does not answer, or cannot do it now, is asked last from then on,
and the next one is asked at once.

A call that was asked of two members may be carried out twice. All of them bear that: transactions compare first, a lease
too many ends by itself.

Int64 are texts in this JSON, and what is 0, false or empty is left out of it. What went wrong is decided by gRPC's ``code``:
HTTP's status differs between versions.
"""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import TypeVar

import msgspec

from promring.config.kinds import Sections
from promring.election.store import CALL_LEAST_S
from promring.etcd.access import Access, EtcdSection
from promring.model import ConfigError, EtcdError
from promring.runtime import secretfile
from promring.runtime.http_client import HttpError, Response, request
from promring.runtime.redact import hide
from promring.runtime.with_session import WithSession

REFUSED_S = 30.0
"""A password that was refused is not tried again for so long: each try costs the server 80 ms."""
BODY_BYTES_MAX = 4 * 1024 * 1024

INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNAUTHENTICATED = 3, 5, 7, 16
"""Of gRPC. etcd says 3 for "no user name", "wrong password" and "the users have changed since that token was made"."""
EVERYWHERE = frozenset({INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNAUTHENTICATED})
"""What one member answers so, every member does."""

T = TypeVar("T")


class _Failure(msgspec.Struct, frozen=True):
    code: int = 0
    message: str = ""


class _Failed(msgspec.Struct, frozen=True):
    """``error``: of a streaming call all of it; of another a text, in some versions."""

    error: _Failure | str | None = None
    code: int = 0
    message: str = ""


class _Token(msgspec.Struct, frozen=True):
    token: str = ""


class Client(WithSession):
    """Use as an async context manager. ``call_s``: seconds that a member may take to answer."""

    def __init__(self, access: Access, call_s: float = CALL_LEAST_S) -> None:
        super().__init__(connections_max=20)
        self._access, self._call_s = access, call_s
        self._endpoints = list(access.endpoints)
        """In the order in which they are asked: those that failed are last."""
        self._tokens: dict[str, str] = {}
        self._refused: tuple[float, EtcdError] | None = None

    async def call(self, path: str, body: Mapping[str, object], shape: type[T]) -> T:
        """Ask the members in turn until one answers. Raises ``EtcdError``."""
        failures: list[EtcdError] = []
        for endpoint in list(self._endpoints):
            try:
                return await self._authenticated(endpoint, path, body, shape)
            except EtcdError as error:
                if error.code in EVERYWHERE:
                    raise
                self.ask_last(endpoint)
                failures.append(error)
        raise EtcdError("; ".join(map(str, failures)), failures[-1].status, failures[-1].code)

    def ask_last(self, endpoint: str | None = None) -> None:
        """Ask this member, or the one that answered last, after all others from now on."""
        chosen = endpoint or self._endpoints[0]
        self._endpoints.remove(chosen)
        self._endpoints.append(chosen)

    async def _authenticated(self, endpoint: str, path: str, body: Mapping[str, object], shape: type[T]) -> T:
        """With the token that we have, or else once more with a new one. Tokens are sent without ``Bearer``."""
        try:
            return await self._asked(endpoint, path, body, shape)
        except EtcdError as error:
            if self._access.username is None or error.code not in (INVALID_ARGUMENT, UNAUTHENTICATED):
                raise
        self._tokens[endpoint] = await self._authenticate(endpoint)
        return await self._asked(endpoint, path, body, shape)

    async def _authenticate(self, endpoint: str) -> str:
        """Raises ``EtcdError``; for a while the same one again, without asking."""
        if self._refused is not None and time.monotonic() < self._refused[0]:
            raise self._refused[1]
        assert self._access.password_file is not None  # the settings have both or none
        try:
            password = await secretfile.read_line(self._access.password_file)
        except secretfile.SecretError as error:
            raise EtcdError(f"cannot read {error}") from error
        self._tokens.pop(endpoint, None)
        body = {"name": self._access.username, "password": password}
        try:
            token = (await self._asked(endpoint, "auth/authenticate", body, _Token)).token
        except EtcdError as failed:
            said = EtcdError(hide(str(failed), (password,)), failed.status, failed.code)
            if said.code in EVERYWHERE:
                self._refused = time.monotonic() + REFUSED_S, said
            raise said from None  # what failed may repeat the password
        self._refused = None
        return token

    async def _asked(self, endpoint: str, path: str, body: Mapping[str, object], shape: type[T]) -> T:
        where, token = f"etcd at {endpoint}", self._tokens.get(endpoint)
        try:
            response = await request(
                self.session,
                "POST",
                f"{endpoint}/v3/{path}",
                timeout_s=self._call_s,
                headers={"Authorization": token} if token else None,
                json=body,
                tls=self._access.tls if endpoint.startswith("https:") else None,
                body_bytes_max=BODY_BYTES_MAX,
            )
        except HttpError as error:
            raise EtcdError(f"{where}: {error}") from error
        if response.status != 200:
            failure = _failure(response)
            said = response.clean(failure.message) or response.text()
            raise EtcdError(f"{where}: {said} (status {response.status})", response.status, failure.code)
        return decoded(response, shape, where)


def _failure(response: Response) -> _Failure:
    """What went wrong, whichever version says it; code 0 when it is no answer of etcd's."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = msgspec.json.decode(response.body, type=_Failed, strict=False)
        wrapped = found.error if isinstance(found.error, _Failure) else None
        return wrapped or _Failure(found.code, found.message)
    return _Failure()


def decoded(response: Response, shape: type[T], where: str) -> T:
    """What an answer says. Raises ``EtcdError``."""
    try:
        return msgspec.json.decode(response.body, type=shape, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EtcdError(f"{where}: malformed answer: {error}: {response.text(80)!r}", response.status) from error


def encoded(content: str | bytes) -> str:
    """As keys and values are written in this JSON."""
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode()


@contextlib.asynccontextmanager
async def connected(sections: Sections, call_s: float) -> AsyncIterator[Client]:
    """A client as the section ``etcd`` says. Raises ``ConfigError`` when there can be none: a TLS file."""
    access = sections.get(EtcdSection).access()
    if access.tls is not None and any(one.startswith("https:") for one in access.endpoints):
        try:
            await secretfile.tls_context(access.tls)
        except secretfile.SecretError as error:
            raise ConfigError([f"etcd: {error}"]) from error
    async with Client(access, call_s) as client:
        yield client
