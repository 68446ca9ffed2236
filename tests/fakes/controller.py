"""What listens where a controller should be, and answers each path as it is told: for the commands that ask one."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from promring.web.answers.fleets import Fleet, Service
from promring.web.answers.status import Status
from tests.fakes.answers import answer_of
from tests.fakes.answers import whole as filled


class FakeController:
    """Use as a context manager. ``answers``: status and body of a path without its query, or what makes the body; else 404
    of no controller. What a body of plain values lacks of its type is neutral; bytes are sent as they are, and those of a
    redirect say where it leads, too.
    """

    def __init__(self, answers: dict[str, tuple[int, Any]] | None = None) -> None:
        self.answers = answers or {}
        self.asked: list[tuple[str, str, str]] = []
        """Method, path with query, the Authorization header."""

    def __enter__(self) -> FakeController:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
                path = self.path.partition("?")[0]
                status, body = fake.answers.get(path, (404, b"404 page not found"))
                body = body() if callable(body) else body
                raw = body if isinstance(body, bytes) else success(answer_of(self.command, path, body))
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                if status in (301, 302) and raw:
                    self.send_header("Location", raw.decode())
                self.end_headers()
                self.wfile.write(raw)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def success(data: object) -> bytes:
    return json.dumps({"status": "success", "data": data}).encode()


def error(kind: str, text: str) -> bytes:
    """The body of an answer that says no."""
    return json.dumps({"status": "error", "errorType": kind, "error": text}).encode()


def status(**changed: Any) -> dict[str, Any]:
    """The data of ``/api/v1/status``, of one service with a fleet of its own, which has two scrapers."""
    service = one_service(**changed)
    return whole([one_fleet(service)], [service])


def whole(fleets: list[dict[str, Any]], services: list[dict[str, Any]]) -> dict[str, Any]:
    """The data of ``/api/v1/status``, of these."""
    part = {
        "version": "0.1.0",
        "started_at": 1.0,
        "ready": True,
        "unready": [],
        "leader": True,
        "controllers": {
            "lock": False,
            "leader": None,
            "epoch": None,
            "lacking": None,
            "locked_out_by": None,
            "took_over_at": None,
        },
        "config": {"last_reload_successful": True, "last_reload_success_at": 1.0, "problems": []},
        "fleets": fleets,
        "services": services,
    }
    return dict(filled(Status, part))


def one_fleet(*services: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A fleet of these services, with the scrapers and the state of the first."""
    first = services[0]
    kept = ("generation", "held", "handing_over", "summary", "withheld", "membership", "scrapers")
    part = {key: first[key] for key in kept} | {
        "name": first["fleet"],
        "description": "",
        "services": [one["name"] for one in services],
        "targets": 4,
        "load": 4,
        "limit": 6,
        "sources": [],
        **changed,
    }
    return dict(filled(Fleet, part))


def one_service(**changed: Any) -> dict[str, Any]:
    known = {"state": "known", "reason": "", "last_success_at": 1.0, "last_answer_at": 1.0, "stale": False}
    scraper = {"state": "up", "reason": "", "targets": 2, "generation": "1.2", "standing": "in", "drained": False}
    scraper |= {"last_state": None, "left": None, "no_room": 0, "trouble": "", "load": 2, "limit": 3}
    service = {
        "name": "node",
        "fleet": "node",
        "targets": 4,
        "generation": "1.2",
        "held": None,
        "handing_over": 0,
        "summary": {"level": "good", "text": "4 of 4 targets seen scraped 3 s ago"},
        "withheld": [],
        "membership": known | {"kind": "probe"},
        "scrapers": [scraper | {"id": f"10.0.0.{n}:9090", "delivery_error": None} for n in (1, 2)],
        "sources": [known | {"name": "file:/targets.json", "targets": 4}],
    }
    return dict(filled(Service, service | changed))
