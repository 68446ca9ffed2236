"""Counts the requests that were answered, by the path of the route and the status."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import Counter

from promring.web.envelope import Handler
from promring.web.paths import Paths

NO_ROUTE = "none"


def counted(requests: Counter, paths: Paths) -> Middleware:
    """A middleware. ``requests`` has the labels ``handler``, a path such as ``/sd/{service}/{scraper}``, and ``code``."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        code = 499  # the client has gone
        try:
            response = await handler(request)
            code = response.status
            return response
        except web.HTTPException as error:
            code = error.status
            raise
        except Exception:
            code = 500
            raise
        finally:
            resource = request.match_info.route.resource
            path = paths.inner(resource.canonical) if resource is not None else NO_ROUTE
            requests.labels(path, str(code)).inc()

    return count
