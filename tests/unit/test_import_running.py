"""A server that an import is judged by, and what it could not do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from promring.demo.process import StartError
from promring.importing.running import prometheus
from tests.waiting import until

SERVER = """\
#!{python}
import http.server, sys
address = next(a for a in sys.argv if a.startswith("--web.listen-address=")).partition("=")[2]
{said}

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

host, port = address.split(":")
http.server.HTTPServer((host, int(port)), Ready).serve_forever()
"""
SAID = """print("level=error msg=\\"Error adding file watcher\\"", file=sys.stderr, flush=True)"""


def server(folder: Path, said: str) -> Path:
    program = folder / "prometheus"
    program.write_text(SERVER.format(python=sys.executable, said=said))
    program.chmod(0o755)
    return program


async def test_a_server_that_cannot_watch_its_files_proves_nothing(tmp_path: Path) -> None:
    """It goes on, with no targets of theirs: two of these would be equal."""
    with pytest.raises(StartError, match=r"prometheus could not watch its files.*max_user_instances"):
        async with prometheus(server(tmp_path, SAID), tmp_path / "data", "") as url:
            assert url.startswith("http://127.0.0.1:")


async def test_a_server_that_complains_of_nothing_is_believed(tmp_path: Path) -> None:
    async with prometheus(server(tmp_path, ""), tmp_path / "data", "") as url:
        await until((tmp_path / "data" / "log").exists, url)
