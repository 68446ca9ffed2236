"""What an ssh delivery runs on the far side, and how it is talked to.

One POSIX sh script does what ``envelope.install`` does here: it takes the bytes on stdin under a name that no file_sd glob
matches, checks length and SHA-256 of what it wrote, refuses a generation older than that in ``.NAME.promring``, and renames.

The login shell is given ``exec sh -s`` and nothing else, which csh and fish understand as well as sh does. The script
comes on stdin with its arguments; it is one compound command, so a shell that reads ahead has read it whole before it runs.
The bytes of the slice follow when the script asks for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from promring.delivery import Leads, always
from promring.delivery.envelope import note_of, parse_generation, refusal
from promring.model import Generation, PromringError, Slice

if TYPE_CHECKING:
    import asyncssh

ANSWER_BYTES_MAX = 16384
TEXT_MAX = 300
SFTP_S = 2.0

COMMAND = "exec sh -s"
# $1 path, $2 length, $3 sha256, $4 epoch, $5 n, $6 a random word, $7 seconds that the bytes may take, $8 how many of the
# last folders may not be symlinks (1 unless given). It says "need" when it wants the bytes on stdin; its last line is
# "written", "same", "refused EPOCH.N" or "error TEXT"; "remark WHAT" may come before; all after "promring ". What it opens
# is looked at before: no FIFO is waited for. Numbers with more than 15 digits are no controller's (model.EPOCH_MOST).
# "mv" would move into a folder that a symlink names, so such a link is removed first. Before the bytes are here it holds no
# lock: a frozen sender stops nobody.
FAR_SIDE = r"""
{
set -u; umask 022; LC_ALL=C; export LC_ALL
path=$1 length=$2 sha256=$3 epoch=$4 n=$5 word=$6 patience=$7 own=${8:-1}
folder=${path%/*}/ name=${path##*/}
note=$folder.$name.promring lock=$folder.$name.promring-lock
new=$folder.$name.$word.promring-tmp new_note=$folder.$name.$word.note.promring-tmp
trap 'rm -f -- "$new" "$new_note"' EXIT
trap 'exit 1' HUP INT TERM PIPE
say() { printf 'promring %s\n' "$*"; }
die() { say error "$(printf %s "$*" | tr '\001-\037\177' ' ' | cut -c 1-300)"; exit 1; }
is_number() { case $1 in '' | *[!0-9]*) return 1 ;; esac; [ ${#1} -le 15 ]; }
no_link() {
  at=${folder%/} links=$own
  while [ "$links" -gt 0 ] && [ -n "$at" ]; do
    [ ! -L "$at" ] || die "$at is a symlink, which is not followed: configure $(cd -- "$at" 2>/dev/null && pwd -P)"
    at=${at%/*} links=$((links - 1))
  done
}
plain() { { [ ! -e "$1" ] && [ ! -L "$1" ]; } || { [ -f "$1" ] && [ ! -L "$1" ]; } || die "$1 is not a regular file"; }
size() { wc -c <"$1" | tr -d ' '; }
digest() { $hash <"$1" | cut -c 1-64; }
has() { command -v "$1" >/dev/null 2>&1; }
find_tools() {
  for tool in cat cut dd mkdir mv rm sync tr wc; do has $tool || die "there is no $tool in $PATH"; done
  for hash in sha256sum 'shasum -a 256' 'openssl dgst -sha256 -r' 'sha256 -q'; do has "${hash%% *}" && return; done
  die "there is no sha256sum, shasum, openssl or sha256 in $PATH: no slice can be checked"
}
is_whole() { [ "$(size "$1")" = "$length" ] && [ "$(digest "$1")" = "$sha256" ]; }
holds() { [ -f "$path" ] && [ ! -L "$path" ] && is_whole "$path"; }
read_note() {
  have='' have_sha256='' more=''
  plain "$note"
  [ -e "$note" ] || return 1
  problem=$({ : <"$note"; } 2>&1) || die "$problem"
  line=$(dd bs=4096 count=1 <"$note" 2>/dev/null) || die "$note cannot be read"
  read -r have have_sha256 more <<END
$line
END
  case $have in
    *.*) [ -n "$have_sha256" ] && [ -z "$more" ] && is_number "${have%%.*}" && is_number "${have#*.}" && return 0 ;;
  esac
  [ -n "$remarked" ] || say remark note_ignored
  remarked=yes
  return 1
}
fence() {
  known=no
  read_note || return 0
  have_epoch=${have%%.*} have_n=${have#*.}
  [ "$have_epoch" -lt "$epoch" ] && return 0
  [ "$have_epoch" -gt "$epoch" ] && { say refused "$have"; exit 1; }
  [ "$have_n" -lt "$n" ] && return 0
  [ "$have_n" -gt "$n" ] && { say refused "$have"; exit 1; }
  [ "$have_sha256" = "$sha256" ] || die "has another slice of generation $have"
  known=yes
}
receive() {
  problem=$(mkdir -p -- "$folder" 2>&1) || die "$problem"
  no_link
  find "$folder" -maxdepth 1 -name ".$name.*.promring-tmp" -mmin +1 -exec rm -f -- {} + 2>/dev/null
  set -- cat
  timeout 1 true 2>/dev/null && set -- timeout "$patience" cat
  say need
  problem=$({ set -C; "$@" >"$new"; } 2>&1) || die "${problem:-the bytes did not come in time}"
  is_whole "$new" || die "$(size "$new") bytes came that are not the $length of SHA-256 $sha256"
  problem=$(sync -- "$new" 2>&1) || die "$problem"
}
put_in_place() {
  fence
  if [ $known = no ]; then
    problem=$({ set -C; printf '%s\n' "$epoch.$n $sha256" >"$new_note"; } 2>&1) || die "$problem"
    [ "$(cat -- "$new_note")" = "$epoch.$n $sha256" ] || die "the note could not be written"
    problem=$({ sync -- "$new_note" && mv -f -- "$new_note" "$note"; } 2>&1) || die "$problem"
  fi
  [ -e "$new" ] || { say same; return; }
  [ -L "$path" ] && [ -d "$path" ] && rm -f -- "$path"
  [ -d "$path" ] && die "it is a folder"
  problem=$(mv -f -- "$new" "$path" 2>&1) || die "$problem"
  problem=$(sync -- "$folder" 2>&1) || die "$problem"
  say written
}
remarked=''
find_tools
is_number "$epoch" && is_number "$n" || die "generation $epoch.$n is higher than any controller's"
no_link
[ -d "$path" ] && [ ! -L "$path" ] && die "it is a folder"
[ -L "$path" ] || plain "$path"
[ -z "$(find "${folder%/}/." -prune -perm -0002 ! -perm -1000 2>/dev/null)" ] || say remark folder_writable_by_all
fence
if holds; then [ $known = no ] || { say same; exit 0; }; else receive; fi
has flock || { put_in_place; exit; }
plain "$lock"
problem=$({ umask 077; : >>"$lock"; } 2>&1) || die "$problem"
(
  tries=0
  until flock -n 9; do
    tries=$((tries + 1))
    [ $tries -le 20 ] || die "another writer holds on to it"
    sleep 0.1 2>/dev/null || sleep 1
  done
  put_in_place
) 9<"$lock"
exit
}
"""


class FarError(PromringError):
    """One slice was not taken; the connection is as good as before."""


class HostError(PromringError):
    """A host cannot be had at the moment."""


class NoShellError(FarError):
    """It ended before our script had said a word."""


class BrokenError(HostError):
    """The connection ended: another one may do."""


class CrowdedError(BrokenError):
    """The host opens no channel: it may allow fewer at a moment than there are."""


def script(path: str, slice_: Slice, patience_s: float, own: int = 1) -> str:
    """What the far sh is given on stdin. ``own``: how many of the last folders may not be symlinks."""
    generation, word = slice_.generation, secrets.token_hex(8)
    arguments = (path, len(slice_.body), slice_.sha256, generation.epoch, generation.n, word, math.ceil(patience_s) + 5, own)
    return f"set -- {shlex.join(map(str, arguments))}{FAR_SIDE}"


@dataclass(frozen=True, slots=True)
class Work:
    """One slice for one far path. ``own``: how many of the last folders may not be symlinks; ``remark`` is called with what
    the far side finds odd: ``note_ignored``, ``folder_writable_by_all``; ``leads`` is asked before the bytes are sent.
    """

    path: str
    slice: Slice
    own: int = 1
    remark: Callable[[str], None] = lambda _: None
    leads: Leads = always


async def push(connection: asyncssh.SSHClientConnection, work: Work, patience_s: float) -> str:
    """Make the far path hold the slice: ``written``, ``same`` when it was there, ``withheld`` when we do not lead any more.
    The bytes travel only where they are not there.

    Raises ``FarError`` when it was refused, ``BrokenError`` when the connection ends. The caller has a time-out.
    """
    import asyncssh

    process = None
    try:
        process = await connection.create_process(COMMAND, encoding=None, stderr=asyncssh.STDOUT)
        answers = Answers(process, work.remark)
        _send(process, script(work.path, work.slice, patience_s, work.own).encode("utf-8", "surrogateescape"))
        answer = await answers.next()
        if answer == "need":
            if not work.leads():
                return "withheld"
            _send(process, work.slice.body)
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
    return "written" if was_written(answer, work.slice.generation, work.path) else "same"


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


def was_written(answer: str, generation: Generation, path: str) -> bool:
    """Raises ``FarError`` when it says that it was not done."""
    if answer in ("written", "same"):
        return answer == "written"
    kind, _, rest = answer.partition(" ")
    if kind == "refused":
        try:
            have = parse_generation(rest)
        except ValueError as error:
            raise FarError(f"an answer that is none: {error}") from None
        raise FarError(refusal(have, generation, note_of(PurePosixPath(path))))
    raise FarError(rest if kind == "error" and rest else f"an answer that is none: {answer!r}")


class Answers:
    """The lines that the script says, among whatever a login shell prints."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], remark: Callable[[str], None]) -> None:
        self._process, self._remark = process, remark
        self._unread = b""
        self._size_bytes = 0
        self._other = ""
        self._heard = False

    async def next(self) -> str:
        """Raises ``FarError`` when there is none, asyncssh's errors when the connection ends."""
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                text = one_line(line.decode(errors="replace"))
                if text.startswith("promring remark "):
                    self._heard = True
                    self._remark(text.removeprefix("promring remark "))
                elif text.startswith("promring "):
                    self._heard = True
                    return text.removeprefix("promring ")
                self._other = text or self._other
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
            return BrokenError("the far side ended in the middle")
        last = one_line(self._unread.decode(errors="replace")) or self._other
        kind = FarError if self._heard else NoShellError
        return kind(f"the far shell ended with status {status}: {last}".removesuffix(": "))


def reason(error: Exception) -> str:
    """Why, without what changes from try to try."""
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return one_line(str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error or type(error).__name__))


def one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()[:TEXT_MAX]
