"""Many targets in one process: whatever address of this machine is asked at port 9100 answers, and is written down.

``python -m testbed.exporters FILE`` appends a line to ``FILE`` for each scrape: seconds of the monotonic clock, a space, the
address that was asked.
"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 9100


def serve(file: Path) -> None:
    """Until the process is ended."""
    with file.open("ab", buffering=0) as scrapes:

        class Exporter(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                scrapes.write(f"{time.monotonic()} {self.connection.getsockname()[0]}\n".encode())
                body = b"demo_up 1\n"
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the scrapes are in the file."""

        ThreadingHTTPServer(("0.0.0.0", PORT), Exporter).serve_forever()  # noqa: S104 a network of its own


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
