"""One question to one controller, and what may stand between: a balancer, a proxy, its passwords and its time-outs.

Promises: bounded in time and size; credentials are read from their files for each question; a long poll that something
between cuts is no failure of the controller: the next ones wait for less, until longer ones get through again.

A controller that is frozen says nothing, as one that has nothing new. Where there are others, it is asked beside a long poll
whether it lives (``/-/healthy``); one that does not answer is a failure, and the next one is asked.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from promring.agent import WAIT_S
from promring.agent.meanwhile import unless
from promring.delivery.askers import header_of
from promring.delivery.bundle import DECLINED, HAVE, OUTRANKED, OUTRANKED_MOST, UNTAKEN
from promring.model import Generation
from promring.runtime import secretfile
from promring.runtime.duration import format_duration
from promring.runtime.http_client import HttpError, NotAskedError, Response, TlsFiles, new_session, request

SLICE_BYTES_MAX = 512 * 1024 * 1024
"""Of one slice, and of one answer."""
ANSWER_S = 10.0
"""So long the head of an answer may take, and each megabyte of it."""
ALIVE_EVERY_S, ALIVE_S = 10.0, 5.0
"""So often a controller is asked beside a long poll whether it lives, and so long that answer may take."""
CUT_LEAST_S = 1.0
"""What ends earlier was not cut for being long."""
LONGER_AFTER = 10
_CUT = frozenset({408, 499, 502, 504, 520, 522, 524})
"""What proxies answer for a controller that takes long; sooner, it is a failure."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """``controllers``: base URLs, the first is asked first. ``folder``: for the files. ``reload_url``: POSTed after each
    answer of which something was written.
    """

    controllers: Sequence[str]
    scraper: str
    folder: Path
    reload_url: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    tls: TlsFiles = field(default_factory=TlsFiles)
    wait_s: float = WAIT_S
    username: str | None = None
    password_file: Path | None = None


class NoSliceError(Exception):
    """This controller gave no slices to take; the text says why."""


@dataclass(frozen=True, slots=True)
class Named:
    """What an agent says of itself, by marks (``delivery.bundle``): what it has, and what it does not want now.
    ``outranked``: by file, the generation that it has and because of which it refused what it was offered last.
    ``untaken``: why what was offered last was not taken.
    """

    have: Sequence[str] = ()
    declined: Sequence[str] = ()
    outranked: Mapping[str, Generation] = field(default_factory=dict)
    untaken: str = ""

    @property
    def headers(self) -> dict[str, str]:
        newest = sorted(self.outranked.items(), key=lambda one: one[1], reverse=True)[:OUTRANKED_MOST]
        marks = {HAVE: "".join(self.have), DECLINED: "".join(self.declined)}
        said = {**marks, OUTRANKED: ", ".join(f"{has};{file}" for file, has in newest), UNTAKEN: header_of(self.untaken)}
        return {name: text for name, text in said.items() if text}


class CutError(Exception):
    """The long poll was cut by something between, after so many seconds (``args[0]``)."""


class Patience:
    """How long polls at one controller wait: ``most_s``, unless something between cuts them."""

    def __init__(self, most_s: float) -> None:
        self._most_s, self.wait_s, self._good = most_s, most_s, 0

    def was_cut(self, after_s: float) -> None:
        self.wait_s, self._good = max(min(CUT_LEAST_S, self._most_s), min(after_s, self.wait_s) / 2), 0

    def was_not(self) -> None:
        """Try twice as long after a while: what cut it may be gone, or was a restart."""
        self._good += 1
        if self._good >= LONGER_AFTER:
            self.wait_s, self._good = min(self._most_s, 2 * self.wait_s), 0


class Asker:
    """For one agent. Made by ``asker``."""

    def __init__(self, settings: AgentSettings, stack: AsyncExitStack) -> None:
        self._settings, self._stack = settings, stack
        self._path = f"/sd/{quote(settings.scraper, safe=':')}"
        self._kept, self._fresh = new_session(), new_session(keep_alive=False)
        self._patience = {controller: Patience(settings.wait_s) for controller in settings.controllers}

    def wait_s(self, controller: str) -> float:
        return self._patience[controller].wait_s

    async def open(self) -> None:
        for session in (self._kept, self._fresh):
            await self._stack.enter_async_context(session)

    async def ask(self, controller: str, named: Named, *, wait_s: float, fresh: bool) -> Response:
        """An answer of slices (200). ``wait_s``: 0, or the most that it waits for something that is not ``named``.
        ``fresh``: on a new connection, for a balancer may lead it to another controller.

        Raises ``NoSliceError`` and ``CutError``.
        """
        patience = self._patience[controller]
        headers = {"Accept-Encoding": "gzip", **await self._credentials(), **named.headers}
        began, head = time.monotonic(), asyncio.Event()
        asked = request(
            self._fresh if fresh else self._kept,
            "GET",
            f"{controller}{self._path}{f'?wait={format_duration(wait_s)}' if wait_s else ''}",
            timeout_s=wait_s + ANSWER_S,
            body_s=ANSWER_S,
            headers=headers,
            tls=self._settings.tls,
            body_bytes_max=SLICE_BYTES_MAX,
            on_head=head.set,
        )
        try:
            answer = await (self._while_alive(controller, asked, head) if len(self._settings.controllers) > 1 else asked)
        except HttpError as error:
            self._cut(patience, wait_s, time.monotonic() - began)
            raise NoSliceError(str(error)) from error
        if answer.status in _CUT:
            self._cut(patience, wait_s, time.monotonic() - began)
        if answer.status != 200:
            raise NoSliceError(_said_by(answer))
        if wait_s >= patience.wait_s:
            patience.was_not()
        return answer

    async def _while_alive(self, controller: str, asked: Coroutine[Any, Any, Response], head: asyncio.Event) -> Response:
        """Raises ``NoSliceError`` when the controller does not answer at all meanwhile. ``head``: set when it begins to."""
        answer = await unless(asked, partial(self._is_silent, controller, head), ALIVE_EVERY_S)
        if answer is None:
            raise NoSliceError(
                f"nothing new, and no answer within twice {ALIVE_S:g} s whether it lives: it hangs or is frozen"
            )
        return answer

    async def _is_silent(self, controller: str, head: asyncio.Event) -> bool:
        """Whether it takes too long to say that it lives, twice: a balancer may have led one question to another controller
        that is frozen. Whatever it says, or who refuses, is not silent, nor is trouble of our own. A list that is on its way
        may leave no room for other answers.
        """
        for session in (self._kept, self._fresh):
            if head.is_set():
                return False
            began = time.monotonic()
            try:
                await request(session, "GET", f"{controller}/-/healthy", timeout_s=ALIVE_S, tls=self._settings.tls)
            except NotAskedError:
                return False
            except HttpError:
                if time.monotonic() - began >= ALIVE_S:
                    continue
            return False
        return not head.is_set()

    def _cut(self, patience: Patience, wait_s: float, took_s: float) -> None:
        """Raises ``CutError`` when it was a long poll that something ended before its time, not at once."""
        if CUT_LEAST_S <= took_s < wait_s:
            patience.was_cut(took_s)
            raise CutError(took_s)

    async def _credentials(self) -> dict[str, str]:
        settings = self._settings
        try:
            if settings.token_file is not None:
                return {"Authorization": f"Bearer {await secretfile.read_line(settings.token_file)}"}
            if settings.username is not None and settings.password_file is not None:
                pair = f"{settings.username}:{await secretfile.read_line(settings.password_file)}"
                return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        except secretfile.SecretError as error:
            raise NoSliceError(str(error)) from error
        return {}


@asynccontextmanager
async def asker(settings: AgentSettings) -> AsyncIterator[Asker]:
    async with AsyncExitStack() as stack:
        made = Asker(settings, stack)
        await made.open()
        yield made


def is_page(answer: Response) -> bool:
    return "html" in answer.headers.get("content-type", "").lower()


def _said_by(answer: Response) -> str:
    """What an answer says that has no slices. Proxies answer whole pages."""
    if is_page(answer):
        return f"status {answer.status}, with an HTML page: a proxy's, not promring's"
    to = f" to {answer.headers['location'][:200]}" if "location" in answer.headers else ""
    return f"status {answer.status}{to}: {answer.text()}"
