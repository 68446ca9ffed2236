"""A thin client of Kubernetes' API.

Promises: every call ends (total deadline); an answer is JSON with a status that the caller expects, or a
``KubernetesError`` that says whose fault it is. 403 is passed on with the verb and the resource that it names. Token and
certificates are read for each request, so that they can be rotated. Does not retry; an error says how long the server asks
to wait before.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from promring.config.kinds import Sections
from promring.kubernetes.access import Access, KubernetesSection
from promring.model import KubernetesError
from promring.runtime import secretfile
from promring.runtime.http_client import HttpError, Response, request
from promring.runtime.threads import in_thread
from promring.runtime.with_session import WithSession

BODY_BYTES_MAX = 16 * 1024 * 1024

T = TypeVar("T")


class _Status(msgspec.Struct, frozen=True):
    message: str = ""


class Client(WithSession):
    """Use as an async context manager."""

    def __init__(self, access: Access) -> None:
        super().__init__(connections_max=20)
        self.access = access

    async def call(
        self,
        method: str,
        path: str,
        shape: type[T],
        *,
        deadline_s: float,
        params: Mapping[str, str] | None = None,
        body: object = None,
        fine: tuple[int, ...] = (200,),
    ) -> tuple[int, T | None]:
        """Status and answer. ``fine``: statuses that are no error; of those from 400 on there is no answer to read."""
        response = await self._ask(
            method, path, deadline_s=deadline_s, params=params, body=body, body_bytes_max=BODY_BYTES_MAX
        )
        if response.status not in fine:
            raise self._refused(response)
        if response.status >= 400:
            return response.status, None
        return response.status, answered(response, shape, self._where)

    async def stream(
        self,
        path: str,
        consume: Callable[[bytes], Awaitable[None]],
        *,
        deadline_s: float,
        params: Mapping[str, str],
        body_bytes_max: int,
    ) -> None:
        """An answer that is read as it comes, piece by piece, until the server ends it."""
        response = await self._ask(
            "GET", path, deadline_s=deadline_s, params=params, body_bytes_max=body_bytes_max, consume=consume
        )
        if response.status != 200:
            raise self._refused(response)

    @property
    def _where(self) -> str:
        return f"Kubernetes at {self.access.url}"

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        deadline_s: float,
        params: Mapping[str, str] | None,
        body_bytes_max: int,
        body: object = None,
        consume: Callable[[bytes], Awaitable[None]] | None = None,
    ) -> Response:
        try:
            return await request(
                self.session,
                method,
                f"{self.access.url}{path}",
                timeout_s=deadline_s,
                headers=await self._credentials(),
                params=dict(params or {}),
                json=body,
                tls=self.access.tls if self.access.url.startswith("https:") else None,
                body_bytes_max=body_bytes_max,
                consume=consume,
            )
        except HttpError as error:
            raise KubernetesError(f"{self._where}: {error}") from error

    def _refused(self, response: Response) -> KubernetesError:
        """Retry-After in seconds is passed on; a date in it is not."""
        after = response.headers.get("retry-after", "")
        seconds = float(after) if after.isdecimal() and len(after) < 6 else 0.0
        return KubernetesError(f"{self._where}: {_why(response)} (status {response.status})", response.status, seconds)

    async def _credentials(self) -> dict[str, str]:
        token = self.access.token
        if self.access.token_file is not None:
            try:
                token = await secretfile.read_line(self.access.token_file)
            except secretfile.SecretError as error:
                raise KubernetesError(f"cannot read {error}") from error
        return {"Authorization": f"Bearer {token}"} if token else {}


def answered(response: Response, shape: type[T], where: str) -> T:
    """What an answer says. Raises ``KubernetesError``."""
    try:
        return msgspec.json.decode(response.body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KubernetesError(f"{where}: malformed answer: {error}: {response.text(80)!r}", response.status) from error


def _why(response: Response) -> str:
    """A Status object's message, or the text of an answer that is none, as 429 has it."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if message := msgspec.json.decode(response.body, type=_Status).message:
            return response.clean(" ".join(message.split()))[:500]
    return response.text()


@contextlib.asynccontextmanager
async def connected(sections: Sections) -> AsyncIterator[Client]:
    """A client as the section ``kubernetes`` says. Raises ``ConfigError`` when there can be none."""
    access = await in_thread(sections.get(KubernetesSection).access)
    with contextlib.ExitStack() as stack:
        if access.inline:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="promring-")))
            access = await in_thread(lambda: access.files_of(folder))
        async with Client(access) as client:
            yield client
