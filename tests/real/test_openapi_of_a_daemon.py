"""Schemathesis asks a running daemon whatever its own OpenAPI document allows, and much that it does not allow."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
from pathlib import Path

import bcrypt
import pytest
from aiohttp import web
from yarl import URL

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.model import join_host_port
from promring.runtime.http_client import new_session
from promring.web import openapi
from promring.web.envelope import encode
from tests.rows import Seen
from tests.waiting import answers

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
NAMES = """
[parameters]
fleet = "node"
service = "node"
scraper = "%s"
kind = "missing"
name = "page.css"

[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
"""
"""What is there, so that more than "404" is tried, a drain too. 503 has reasons that the document names."""
TOKEN = "Authorization: Bearer demo-token"
USER = "Authorization: Basic " + base64.b64encode(b"prometheus:open sesame").decode()
STRANGER = "Authorization: Basic " + base64.b64encode(b"prometheus:wrong").decode()
HASH = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()


@pytest.mark.row(
    "A7", "A11", did="Schemathesis on the OpenAPI document of a daemon: each operation, values within and beyond"
)
@pytest.mark.parametrize(
    ("phases", "named", "users", "header"),
    [
        pytest.param("coverage", True, False, TOKEN, id="token"),
        pytest.param("coverage,fuzzing", False, False, TOKEN, id="token, names of nothing", marks=pytest.mark.long),
        pytest.param("fuzzing,stateful", True, False, TOKEN, id="token, at length", marks=pytest.mark.long),
        pytest.param("coverage", True, False, "X-None: 1", id="no token", marks=pytest.mark.long),
        pytest.param("coverage", True, True, TOKEN, id="users, token", marks=pytest.mark.long),
        pytest.param("coverage", True, True, USER, id="users, one of them", marks=pytest.mark.long),
        pytest.param("coverage", True, True, STRANGER, id="users, none of them", marks=pytest.mark.long),
    ],
)
async def test_every_answer_is_as_the_document_says_and_none_is_a_fault(
    tmp_path: Path, seen: Seen, phases: str, named: bool, users: bool, header: str
) -> None:
    app = web.Application()
    app.router.add_get("/-/ready", _ready)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    for _ in range(3):
        await web.TCPSite(runner, "127.0.0.1", 0).start()
    (tmp_path / "targets.json").write_text(json.dumps([{"targets": [f"t{n}:1" for n in range(30)], "labels": {"env": "a"}}]))
    service = {
        "name": "node",
        "scrapers": {"probe": {"nodes": [f"{host}:{port}" for host, port in runner.addresses], "interval": "1s"}},
        "targets": [{"file": {"files": ["targets.json"]}}],
        "delivery": [{"http_sd": {}}],
    }
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{prometheus: {HASH}}}")
    env = {"PROMRING_WEB_CONFIG_FILE": str(tmp_path / "web.yml")} if users else None
    daemon = Controller(tmp_path, {"shard_services": [service]}, port=free_port(), env=env)
    config = NAMES % join_host_port(*runner.addresses[0]) if named else NAMES[NAMES.index("[checks]") :]
    try:
        await daemon.start()
        async with new_session() as session:
            ready = URL(daemon.url).with_path("/-/ready").with_user("prometheus").with_password("open sesame")
            await daemon.until(lambda: answers(session, ready), "promring")
            status, said = await _asked(daemon, phases, config, header)
            assert status == 0, said[-8000:]
            assert daemon.running
            assert await answers(session, ready)
        assert not re.search(r"Traceback|msg=unforeseen", daemon.log_file.read_text())
        requests, operations = re.findall(r"(\d+) generated", said)[-1], re.findall(r"Tested: +(\d+)", said)[-1]
        seen(f"{requests} requests of {operations} operations")
    finally:
        await daemon.stop()
        await runner.cleanup()


async def _ready(_: web.Request) -> web.Response:
    return web.Response(text="ready")


async def _asked(daemon: Controller, phases: str, config: str, header: str) -> tuple[int, str]:
    """Exit status and output of ``schemathesis run``, the same requests each time."""
    (daemon.folder / "schemathesis.toml").write_text(config)
    document = daemon.folder / "openapi.json"
    document.write_bytes(encode(openapi.document()))
    program = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={daemon.folder / 'schemathesis.toml'}",
        "run",
        str(document),
        f"--url={daemon.url}",
        f"--header={header}",
        f"--checks={CHECKS}",
        f"--phases={phases}",
        "--max-examples=50",
        "--request-timeout=30",
        "--generation-deterministic",
        "--no-color",
        cwd=daemon.folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await program.communicate()
    assert program.returncode is not None  # it has ended
    return program.returncode, said.decode()
