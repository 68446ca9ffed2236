"""One slice over an ssh connection to the receiver on the other host.

The login shell is given ``exec sh -s`` and nothing else, which csh and fish understand as well as sh does. The receiver
(``receiver_sh``) comes on stdin with its arguments. It is one compound command, so a shell that reads ahead has read it
whole before it runs. The bytes of the slice follow when the receiver asks for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from promring.delivery import How, Leads, always
from promring.delivery.receiver import Envelope, RefusedError
from promring.delivery.receiver_sh import Answer, TroubleError, parse_answer, to_stdin, was_written
from promring.model import Generation, PromringError

if TYPE_CHECKING:
    import asyncssh

ANSWER_BYTES_MAX = 16384
TEXT_MAX = 300
SFTP_S = 2.0

COMMAND = "exec sh -s"


class FarError(PromringError):
    """One slice was not taken; the connection is as good as before. ``have``: the newer generation that is there."""

    def __init__(self, why: str, have: Generation | None = None) -> None:
        super().__init__(why)
        self.have = have


class HostError(PromringError):
    """A host cannot be had at the moment."""


class NoShellError(FarError):
    """The shell ended before the receiver had said a word."""


class BrokenError(HostError):
    """The connection ended: another one may do."""


class CrowdedError(BrokenError):
    """The host opens no channel: it may allow fewer at a moment than there are."""


@dataclass(frozen=True, slots=True)
class Work:
    """One slice for one path. ``own``: how many of the last folders may not be symlinks; ``remark`` is called with what
    the receiver remarks (``receiver_sh.REMEDIES``); ``leads`` is asked before the bytes are sent.
    """

    path: str
    offer: Envelope
    own: int = 1
    remark: Callable[[str], None] = lambda _: None
    leads: Leads = always


async def push(connection: asyncssh.SSHClientConnection, work: Work, patience_s: float) -> How:
    """Make the path hold the slice: ``written``, ``same`` when it was there, ``withheld`` when we do not lead any more.
    The bytes travel only where they are not there.

    Raises ``FarError`` when it was refused, ``BrokenError`` when the connection ends. The caller has a time-out.
    """
    import asyncssh

    process = None
    try:
        process = await connection.create_process(COMMAND, encoding=None, stderr=asyncssh.STDOUT)
        answers = Answers(process, work.remark)
        _send(process, to_stdin(work.path, work.offer, patience_s, work.own))
        answer = await answers.next()
        if answer.word == "need":
            if not work.leads():
                return "withheld"
            _send(process, work.offer.body)
            with contextlib.suppress(OSError):
                process.stdin.write_eof()
            answer = await answers.next()
    except NoShellError as error:
        more = "; sftp works there, but promring needs a shell" if await _takes_sftp(connection) else ""
        raise FarError(f"{error}{more}") from None
    except asyncssh.ChannelOpenError as error:
        kind = BrokenError if connection.is_closed() else CrowdedError
        raise kind(f"connection lost: {reason(error)}") from error
    except (asyncssh.Error, OSError) as error:
        raise BrokenError(f"connection lost: {reason(error)}") from error
    finally:
        if process is not None:
            process.channel.abort()
    try:
        return "written" if was_written(answer, work.offer.generation, PurePosixPath(work.path)) else "same"
    except RefusedError as error:
        raise FarError(str(error), error.have) from None
    except TroubleError as error:
        raise FarError(str(error)) from None


def _send(process: asyncssh.SSHClientProcess[bytes], content: bytes) -> None:
    with contextlib.suppress(OSError):  # it ended already: its answer says why
        process.stdin.write(content)


async def _takes_sftp(connection: asyncssh.SSHClientConnection) -> bool:
    """Whether a host that does not run a shell for us has sftp instead."""
    import asyncssh

    try:
        async with asyncio.timeout(SFTP_S):
            (await connection.start_sftp_client()).exit()
    except (asyncssh.Error, OSError, TimeoutError):
        return False
    return True


class Answers:
    """The lines of the receiver, among whatever a login shell prints."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], remark: Callable[[str], None]) -> None:
        self._process, self._remark = process, remark
        self._unread = b""
        self._size_bytes = 0
        self._other = ""
        self._heard = False

    async def next(self) -> Answer:
        """Raises ``FarError`` when there is none, asyncssh's errors when the connection ends."""
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                text = one_line(line.decode(errors="replace"))
                answer = parse_answer(text)
                if answer is None:
                    self._other = text or self._other
                    continue
                self._heard = True
                if answer.word != "remark":
                    return answer
                self._remark(answer.text)
                continue
            read = await self._process.stdout.read(4096)
            if not read:
                raise await self._ended()
            self._size_bytes += len(read)
            if self._size_bytes > ANSWER_BYTES_MAX:
                raise FarError(f"it says more than {ANSWER_BYTES_MAX} bytes: {self._other}")
            self._unread += read

    async def _ended(self) -> PromringError:
        await self._process.wait_closed()
        status = self._process.exit_status
        if status is None:
            return BrokenError("the receiver ended in the middle")
        last = one_line(self._unread.decode(errors="replace")) or self._other
        kind = FarError if self._heard else NoShellError
        return kind(f"the shell there ended with status {status}: {last}".removesuffix(": "))


def reason(error: Exception) -> str:
    """Why, without what changes from try to try."""
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return one_line(str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error or type(error).__name__))


def one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()[:TEXT_MAX]
