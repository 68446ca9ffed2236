"""One server that answers as a source of targets, a scraper, an engine, a store of loads, Consul, Kubernetes and a proxy do:
for configurations that name them all. In threads of its own, so that commands can be called in the test's.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fakes.kubernetes_pods import a_pod

STARTED = "2026-01-01T00:00:00Z"
_YAML = "scrape_configs: [{job_name: node, scheme: http, metrics_path: /metrics, scrape_interval: 1m, scrape_timeout: 10s}]"
_FOUND = {
    "discoveredLabels": {"__address__": "t:3", "__scheme__": "http", "__metrics_path__": "/metrics", "job": "node"},
    "scrapePool": "node",
    "health": "up",
}
_INSTANCE = {
    "Node": {"Node": "n", "Address": "127.0.0.1", "Datacenter": "dc1"},
    "Service": {"ID": "node-1", "Service": "node", "Address": "127.0.0.1", "Port": 4},
    "Checks": [{"CheckID": "service:node-1", "Status": "passing"}],
}
_SCRAPER = {
    "Node": {"Node": "n", "Address": "127.0.0.1", "Datacenter": "dc1"},
    "Service": {"ID": "scrape-1", "Service": "scrape", "Address": "127.0.0.1", "Port": 9},
    "Checks": [{"CheckID": "service:scrape-1", "Status": "passing"}],
}
_CATALOGUE = {"Node": "n", "Address": "127.0.0.1", "ServiceName": "node", "ServiceAddress": "127.0.0.1", "ServicePort": 4}


def _ok(data: object) -> dict[str, object]:
    return {"status": "success", "data": data}


ANSWERS: dict[str, Any] = {
    "/targets": [{"targets": ["t:1", "t:5"]}],
    "/api/v1/targets": _ok({"activeTargets": [_FOUND], "droppedTargets": []}),
    "/api/v1/status/config": _ok({"yaml": _YAML}),
    "/api/v1/status/runtimeinfo": _ok({"startTime": STARTED, "lastConfigTime": STARTED}),
    "/api/v1/query": _ok({"resultType": "vector", "result": []}),
    "/v1/catalog/services": {"node": [], "scrape": []},
    "/v1/catalog/service/node": [_CATALOGUE],
    "/v1/health/service/node": [_INSTANCE],
    "/v1/health/service/scrape": [_SCRAPER],
    "/v1/agent/self": {"Config": {"Datacenter": "dc1", "NodeName": "n"}},
    "/v3/auth/authenticate": {"token": "t"},
    "/api/v1/namespaces/mon/pods": {"metadata": {"resourceVersion": "1"}, "items": [a_pod("one", "127.0.0.1")]},
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = re.sub("^http://[^/]*", "", self.path).partition("?")[0].replace("//", "/")
        found = ANSWERS.get(path, {} if path.startswith(("/-/", "/v1/", "/v3/")) else None)
        body = json.dumps(found).encode()
        self.send_response(200 if found is not None else 404)
        for name, value in (
            ("Content-Type", "application/json"),
            ("X-Consul-Index", "7"),
            ("Content-Length", str(len(body))),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def server_of_all() -> Iterator[str]:
    """``host:port`` of it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
