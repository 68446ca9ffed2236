"""Schemathesis asks a running daemon whatever its own OpenAPI document allows, and much that it does not allow."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest
from aiohttp import web

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.runtime.http_client import new_session
from tests.rows import Seen

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
NAMES = """
[parameters]
fleet = "node"
service = "node"
name = "page.css"

[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503"]
"""
"""What is there, so that more than "404" is tried. 503 has reasons that the document names."""


@pytest.mark.row(
    "A7", "A11", did="Schemathesis on the OpenAPI document of a daemon: each operation, values within and beyond"
)
@pytest.mark.parametrize(
    ("phases", "named"),
    [
        ("coverage", True),
        pytest.param("coverage,fuzzing", False, marks=pytest.mark.long),
        pytest.param("fuzzing,stateful", True, marks=pytest.mark.long),
    ],
)
async def test_every_answer_is_as_the_document_says_and_none_is_a_fault(
    tmp_path: Path, seen: Seen, phases: str, named: bool
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
    daemon = Controller(tmp_path, {"shard_services": [service]}, port=free_port())
    try:
        await daemon.start()
        async with new_session() as session:
            await daemon.until(lambda: daemon.is_ready(session), "promring")
            status, said = await _asked(daemon, phases, NAMES if named else NAMES[NAMES.index("[checks]") :])
            assert status == 0, said[-8000:]
            assert daemon.running
            assert await daemon.is_ready(session)
        assert not re.search(r"Traceback|msg=unforeseen", daemon.log_file.read_text())
        requests, operations = re.findall(r"(\d+) generated", said)[-1], re.findall(r"Tested: +(\d+)", said)[-1]
        seen(f"{requests} requests of {operations} operations")
    finally:
        await daemon.stop()
        await runner.cleanup()


async def _ready(_: web.Request) -> web.Response:
    return web.Response(text="ready")


async def _asked(daemon: Controller, phases: str, config: str) -> tuple[int, str]:
    """Exit status and output of ``schemathesis run``, the same requests each time."""
    (daemon.folder / "schemathesis.toml").write_text(config)
    program = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        f"--config-file={daemon.folder / 'schemathesis.toml'}",
        "run",
        f"{daemon.url}/api/v1/openapi.json",
        f"--url={daemon.url}",
        f"--header=Authorization: Bearer {daemon.token}",
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
