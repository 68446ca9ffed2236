"""The JSON envelope of the API, as Prometheus has it, and the errors that become it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from aiohttp import HttpVersion11, hdrs, web

from promring.runtime.text import clean_all
from promring.web.answers.base import Answer, Failure, Success

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
DIGITS_MOST = 18
_SHOWN_MOST = 200
_encoder = msgspec.json.Encoder(order="deterministic")


def encode(data: object) -> bytes:
    """As JSON, whatever texts are in it."""
    try:
        return _encoder.encode(data)
    except UnicodeEncodeError:
        return _encoder.encode(clean_all(msgspec.to_builtins(data)))


def success(data: Answer | Sequence[Answer]) -> web.Response:
    return web.Response(body=encode(Success("success", data)), content_type="application/json")


def failure(status: int, kind: str, text: str) -> web.Response:
    body = encode(Failure("error", kind, text))
    return web.Response(status=status, body=body, content_type="application/json")


def number(request: web.Request, name: str, default: int) -> int:
    """A parameter of the query that counts something."""
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > DIGITS_MOST:
        raise ApiError(400, "bad_data", f"{name}: {text[:20]!r} is not a whole number of at most {DIGITS_MOST} digits")
    return int(text)


class ApiError(Exception):
    """Ends a request with an error in the envelope."""

    def __init__(
        self, status: int, kind: str, text: str, headers: Mapping[str, str] | None = None, *, retry_after_s: int = 0
    ) -> None:
        super().__init__(text)
        self.status, self.kind = status, kind
        self.headers = dict(headers or {}) | ({"Retry-After": str(retry_after_s)} if retry_after_s else {})


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error of the API in one form; nothing of the inside is shown."""
    try:
        return await handler(request)
    except ApiError as error:
        response = failure(error.status, error.kind, str(error))
        response.headers.update(error.headers)
        return response
    except web.HTTPException as error:
        kind = {404: "not_found", 405: "bad_method"}.get(error.status, "bad_request")
        response = failure(error.status, kind, _not_there(request) if error.status == 404 else error.reason)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


def _not_there(request: web.Request) -> str:
    """Of a path that is none: what may be wrong with it."""
    plain = re.sub("/{2,}", "/", request.path).rstrip("/") or "/"
    hint = "" if plain == request.path else f"; without a slash too many it is {plain[:_SHOWN_MOST]!r}"
    return f"there is nothing at {request.path[:_SHOWN_MOST]!r}{hint}"


async def expected(request: web.Request) -> web.Response | None:
    """``Expect: 100-continue`` is answered; another expectation gets 417 (RFC 9110, 10.1.1)."""
    if request.headers[hdrs.EXPECT].lower() != "100-continue":
        return failure(417, "bad_request", "no expectation but 100-continue is known")
    if request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun
    return None
