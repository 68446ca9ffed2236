"""Asks a running controller. With the standard library's HTTP client, which loads in a tenth of aiohttp's time.

Promises: an answer or a message, within ``TIMEOUT_S`` and ``BODY_BYTES_MAX``; what the controller says against a request is
shown in its own words; passwords of the URL are never shown. Redirects are not followed, proxies not used.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

import click
import msgspec

from promring.cli.output import clean
from promring.runtime.redact import hide, secrets_of_headers
from promring.runtime.regular import read_once

TIMEOUT_S = 10.0
BODY_BYTES_MAX = 64 * 1024 * 1024
TEXT_MOST = 200
TOKEN_BYTES_MAX = 64 * 1024
_PLACED = re.compile(r"[^\n]+:\d+: ")
_REFUSED = re.compile(r"(?:[^\n]+\n)+nothing is changed; [^\n]+")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def controller_options(command: Callable[P, R]) -> Callable[P, R]:
    """``--url`` and ``--token-file``, given to the command as ``controller``."""
    token_path = click.Path(path_type=Path, exists=True, dir_okay=False)
    token = click.option(
        "--token-file",
        type=token_path,
        expose_value=False,
        callback=lambda ctx, _, value: ctx.meta.__setitem__("promring.token_file", value),
        is_eager=True,
        help="The bearer token: the same content as the controller's --web.token-file. Writes need it.",
    )
    url = click.option(
        "--url",
        "controller",
        default="http://127.0.0.1:9600",
        show_default=True,
        callback=lambda ctx, _, value: controller_at(value, ctx.meta.get("promring.token_file")),
        help="The controller.",
    )
    return token(url(command))


class UnansweredError(click.ClickException):
    """There is no answer, from anybody. ``maybe_done``: somebody was asked to change something, and may have done it."""

    def __init__(self, message: str, *, maybe_done: bool = False) -> None:
        hint = "; it may have been done: see promring status before you ask again" if maybe_done else ""
        super().__init__(f"{message}{hint}")
        self.maybe_done = maybe_done


class Envelope(msgspec.Struct):
    """Around any answer. An empty ``status``: it is none of promring's."""

    status: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    error: str = ""


@dataclass(frozen=True, slots=True)
class Answered(Generic[T]):
    """``data`` as this version reads it, ``whole`` with what it does not know."""

    data: T
    whole: object

    def plain(self) -> object:
        """All that the controller wrote, for programs."""
        return self.whole


@dataclass(frozen=True, slots=True)
class Controller:
    """Where a controller is, and what it shall be told of who asks. ``url`` has no credentials."""

    url: str
    authorization: str
    has_token: bool

    def get(
        self, path: str, type_: type[T], query: Sequence[tuple[str, str]] = (), *, timeout_s: float = TIMEOUT_S
    ) -> Answered[T]:
        """The ``data`` of an API answer; anything else ends the command with a message."""
        return self._ask("GET", f"{path}?{asked_for(query)}" if query else path, type_, timeout_s=timeout_s)

    def post(
        self, path: str, type_: type[T], body: bytes = b"", *, timeout_s: float = TIMEOUT_S, changes: bool = True
    ) -> Answered[T]:
        """``changes``: what is asked for is more than an answer."""
        return self._ask("POST", path, type_, body, timeout_s=timeout_s, changes=changes)

    def _ask(
        self, method: str, path: str, type_: type[T], sent: bytes = b"", *, timeout_s: float, changes: bool = False
    ) -> Answered[T]:
        status, body, location = self._exchange(method, path, sent, timeout_s, changes=changes)
        envelope = _envelope(body)
        if envelope.status == "success" and bytes(envelope.data):
            return self._read(bytes(envelope.data), type_)
        if envelope.status == "error":
            hint = "" if status != 401 or self.has_token else " (--token-file names the file that has it)"
            raise click.ClickException(f"{self.url}: {self._hide(_in_lines(envelope.error))}{hint}")
        text = " ".join(body[: TEXT_MOST * 4].decode("utf-8", "replace").split())[:TEXT_MOST]
        said = f"status {status}, {self._hide(text)!r}"
        if status == 401:
            raise click.ClickException(f"{self.url}: {said} (a user and a password: --url http://USER:PASSWORD@HOST:PORT)")
        if location:
            said = f"status {status}, which leads to {self._hide(_bare(clean(location)))[:TEXT_MOST]} and is not followed"
        if changes and status >= 500:  # a proxy that waited no longer
            raise UnansweredError(f"{self.url}: not a promring controller: {said}", maybe_done=True)
        raise click.ClickException(f"{self.url}: not a promring controller: {said}")

    def _read(self, raw: bytes, type_: type[T]) -> Answered[T]:
        """Fields that this version does not know are left out of ``data``; one that it needs ends the command."""
        try:
            return Answered(msgspec.json.decode(raw, type=type_), msgspec.json.decode(raw))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise click.ClickException(f"{self.url}: an answer of another version of promring? ({clean(error)})") from error

    def _hide(self, text: str) -> str:
        """An answer's words without what they repeat of the request's secret."""
        return hide(text, secrets_of_headers({"Authorization": self.authorization})) if self.authorization else text

    def _exchange(self, method: str, path: str, sent: bytes, timeout_s: float, *, changes: bool) -> tuple[int, bytes, str]:
        """Status, body and ``Location``. In a thread of its own, as a socket's time-out is for each read."""
        done: list[tuple[int, bytes, str] | Exception] = []
        reached = threading.Event()

        def work() -> None:
            try:
                done.append(self._request(method, path, sent, timeout_s, reached))
            except (OSError, http.client.HTTPException, ValueError) as error:
                done.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(timeout_s)
        found = done[0] if done else TimeoutError()
        if isinstance(found, Exception):
            text = f"no promring answers at {self.url}: {_why(found, timeout_s)} (--url says where it is)"
            raise UnansweredError(text, maybe_done=changes and reached.is_set()) from found
        return found

    def _request(
        self, method: str, path: str, sent: bytes, timeout_s: float, reached: threading.Event
    ) -> tuple[int, bytes, str]:
        where = urlsplit(self.url)
        kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
        connection = kind(where.hostname or "", where.port, timeout=timeout_s)
        headers = {"User-Agent": "promring", "Accept": "application/json"}
        if self.authorization:
            headers["Authorization"] = self.authorization
        try:
            connection.connect()
            reached.set()
            connection.request(method, where.path + path, body=sent or None, headers=headers)
            response = connection.getresponse()
            body = response.read(BODY_BYTES_MAX + 1)
        finally:
            connection.close()
        if len(body) > BODY_BYTES_MAX:
            raise ValueError(f"an answer larger than {BODY_BYTES_MAX} bytes")
        return response.status, body, response.getheader("Location", "")


def _envelope(body: bytes) -> Envelope:
    try:
        return msgspec.json.decode(body, type=Envelope)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Envelope()


def _in_lines(error: str) -> str:
    """The errors of a configuration, and of a reload that is refused, a line each; anything else is one line."""
    several = _PLACED.match(error) or _REFUSED.fullmatch(error)
    return "\n  ".join(map(clean, error.split("\n"))) if several else clean(error)


def segment(text: str) -> str:
    """``text`` as one segment of a path; bytes of the command line that are no UTF-8 as they are. Raises ``BadParameter``
    for what would be another path: nothing, and the two names of folders.
    """
    if text in ("", ".", ".."):
        raise click.BadParameter(f"{text!r} is no name")
    return quote(text, safe="", errors="surrogateescape")


def asked_for(query: Sequence[tuple[str, str]]) -> str:
    """As the part of a URL behind its ``?``, bytes likewise."""
    return urlencode(query, errors="surrogateescape")


def controller_at(url: str, token_file: Path | None) -> Controller:
    """Raises ``BadParameter``."""
    full = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(full)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise click.BadParameter(f"{_bare(full)!r} is not http(s)://host:port") from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise click.BadParameter(f"{_bare(full)!r} is not http(s)://host:port")
    name = f"[{host}]" if ":" in host else host
    bare = f"{parts.scheme}://{name}{f':{port}' if port else ''}{parts.path.rstrip('/')}"
    if token_file is not None:
        return Controller(bare, f"Bearer {_token(token_file)}", True)
    if parts.username is None:
        return Controller(bare, "", False)
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Controller(bare, f"Basic {base64.b64encode(pair.encode()).decode()}", False)


def _bare(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _token(file: Path) -> str:
    try:
        token = read_once(file, TOKEN_BYTES_MAX).decode().strip()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not text"
        raise click.BadParameter(f"{file}: {why}", param_hint="'--token-file'") from error
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        why = "is empty" if not token else "is not a token on one line"
        raise click.BadParameter(f"{file}: {why}", param_hint="'--token-file'")
    return token


def _why(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no whole answer within {timeout_s:g} s"
    if isinstance(error, UnicodeError):
        return "that is not the name of a host"
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror) and error.errno > 0:
        return os.strerror(error.errno) if error.strerror is None else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
