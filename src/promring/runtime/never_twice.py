"""Keeps aiohttp from sending a request again by itself, which it does when a kept connection turns out to be closed."""

from __future__ import annotations

import aiohttp

from promring.runtime.http_errors import closed_error, is_distrust


class Dropped(aiohttp.ClientError):
    """A kept connection was closed by the other side."""


async def never_twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A middleware: what aiohttp would try again becomes an error that it does not."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise  # never connected, so nothing was sent, and aiohttp does not retry it
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        alert = error.__cause__ if is_distrust(error.__cause__) else None
        raise Dropped(closed_error(alert or error)) from alert
