"""A reload is built before it is taken: real daemons, without Consul and Prometheus; scrapers are health pages."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh
import pytest

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.runtime.http_client import new_session
from tests.rows import Seen
from tests.unit.test_web import scrapers
from tests.waiting import until

PATIENCE_S = 60.0
NAMES = [f"t{n}:1" for n in range(20)]


class Daemon:
    """A running promring with one service, ``near``, that writes files for two scrapers."""

    def __init__(self, folder: Path, nodes: list[str], session: aiohttp.ClientSession, env: dict[str, str]) -> None:
        self.folder, self.nodes, self.session = folder, nodes, session
        self.controller = Controller(folder, {"shard_services": [self.service()]}, port=free_port(), env=env)

    def service(self, name: str = "near", **changes: Any) -> dict[str, Any]:
        return {
            "name": name,
            "scrapers": {"probe": {"nodes": self.nodes, "interval": "500ms", "timeout": "500ms"}},
            "join_delay": "0s",
            "targets": [{"file": {"files": [f"{self.folder}/targets.json"]}}],
            "guard": {"shrink_threshold": 0},
            "handover": {"overlap": "0s"},
            "audit": None,
            "delivery": [{"file": {"path": f"{self.folder}/out/{{service}}/{{scraper}}.json"}}],
            **changes,
        }

    def put(self, names: list[str]) -> None:
        (self.folder / "new").write_text(json.dumps([{"targets": names}]))
        (self.folder / "new").rename(self.folder / "targets.json")

    def slices(self, service: str = "near") -> dict[str, tuple[int, int, bytes]]:
        """By file: inode, mtime and bytes."""
        files = sorted((self.folder / "out" / service).glob("*.json"))
        return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in files}

    def placed(self, names: list[str]) -> bool:
        found = [t for *_, body in self.slices().values() for g in json.loads(body) for t in g["targets"]]
        return sorted(found) == sorted(names)

    async def healthy(self) -> bool:
        return (await self.controller.get(self.session, "/-/healthy")).status == 200

    async def reload(self) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {self.controller.token}"}
        timeout = aiohttp.ClientTimeout(PATIENCE_S)
        async with self.session.post(f"{self.controller.url}/-/reload", headers=headers, timeout=timeout) as answer:
            text = await answer.text()
        return answer.status, json.loads(text)["error"] if answer.status == 400 else text

    def configure(self, *services: dict[str, Any]) -> None:
        self.controller.configure(json.dumps({"shard_services": services}))


@asynccontextmanager
async def daemon(folder: Path, env: dict[str, str] | None = None) -> AsyncIterator[Daemon]:
    async with new_session(keep_alive=False) as session, scrapers(2) as nodes:
        made = Daemon(folder, nodes, session, env or {})
        made.put(NAMES)
        await made.controller.start()
        try:
            await made.controller.until(lambda: made.controller.is_ready(session), "promring", PATIENCE_S)
            await until(lambda: made.placed(NAMES), "every target placed", PATIENCE_S)
            yield made
        finally:
            await made.controller.stop()


def ssh(folder: Path, **changes: str) -> list[dict[str, Any]]:
    files = {"identity_file": f"{folder}/key", "known_hosts": f"{folder}/known_hosts", **changes}
    return [{"ssh": {"user": "u", "port": 1, "path": "/x/{scraper}.json", **files}}]


@pytest.mark.row(55, did="reload to a library, program, function, folder, key, file that is not there or not sound")
async def test_a_reload_that_cannot_be_built_is_refused_whole_and_nothing_changes(tmp_path: Path, seen: Seen) -> None:
    shim = tmp_path / "shim"
    shim.mkdir()
    (shim / "asyncssh.py").write_text("raise ImportError('No module named asyncssh')\n")
    (tmp_path / "a_file").touch()
    (tmp_path / "known_hosts").touch()
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "key")
    async with daemon(tmp_path, {"PYTHONPATH": str(shim), "PATH": ""}) as d:
        before = d.slices()
        in_the_way = {"file": {"path": f"{tmp_path}/a_file/{{scraper}}.json"}}
        refused = {
            "needs asyncssh": d.service("far", delivery=ssh(tmp_path)),
            "No module named 'absent'": d.service("far", targets=[{"python": {"callable": "absent:f"}}]),
            "a_file: not a folder": d.service("far", delivery=[in_the_way]),
            "missing-key: No such file": d.service("far", delivery=ssh(tmp_path, identity_file="missing-key")),
            "writes the same files": d.service("far", delivery=d.service()["delivery"] * 2),
        }
        for what, service in refused.items():
            d.configure(d.service(), service)
            status, text = await d.reload()
            assert (status, what in text) == (400, True), text
            assert re.match(rf"{re.escape(str(d.controller.config_file))}:1: shard_services\[1\]\.", text), text
        d.controller.signal(signal.SIGHUP)
        await until(lambda: len(d.controller.log_lines("reload_refused")) > len(refused), "SIGHUP refused, too", PATIENCE_S)
        assert d.controller.running
        assert d.slices() == before
        metrics = (await d.controller.get(d.session, "/metrics")).body.decode()
        assert "promring_config_last_reload_successful 0.0" in metrics
        d.put(NAMES[:7])
        await until(lambda: d.placed(NAMES[:7]), "it goes on meanwhile", PATIENCE_S)
        d.configure(d.service(), d.service("more"))
        assert (await d.reload())[0] == 200
        await until(lambda: len(d.slices("more")) == 2, "a good one is taken", PATIENCE_S)
    seen(f"{len(refused)} kinds refused with their key, slices byte-equal; the next good one was taken")


async def test_a_configuration_that_takes_long_or_never_ends_holds_nobody_up(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        before, answered = d.slices(), 0
        good = d.controller.config_file.read_text()
        for text, why in (
            ("a: [" + "1, " * 150_000 + "1]", "more than 100000 keys and values"),
            ("shard_services: [" + "1, " * 90_000 + "1]", "at most 1000 items"),
            ("x: " + "y" * (5 << 20), "larger than 4194304 bytes"),
        ):
            d.controller.configure(text)
            reload = asyncio.ensure_future(d.reload())
            while not reload.done():
                assert await d.healthy()
                answered += 1
                await asyncio.sleep(0.05)
            status, said = await reload
            assert (status, why in said) == (400, True), said[:500]
        assert answered > 3
        d.controller.config_file.unlink()
        os.mkfifo(d.controller.config_file)
        status, said = await d.reload()
        assert (status, said) == (400, f"{d.controller.config_file}:1: not a regular file")
        d.controller.config_file.unlink()
        assert (await d.reload())[1] == f"{d.controller.config_file}:1: No such file or directory"
        assert d.slices() == before
        d.controller.configure(good)
        assert (await d.reload())[0] == 200


async def test_a_flood_of_reloads_is_a_few_one_after_the_other(tmp_path: Path) -> None:
    async with daemon(tmp_path) as d:
        before = d.slices()
        answers = await asyncio.gather(*(d.reload() for _ in range(60)))
        assert {status for status, _ in answers} == {200}
        for _ in range(60):
            d.controller.signal(signal.SIGHUP)
        await until(d.healthy, "it answers", PATIENCE_S)
        assert (await d.reload())[0] == 200
        assert len(d.controller.log_lines("reload")) < 30
        assert await d.controller.is_ready(d.session)
        assert {name: body for name, (*_, body) in d.slices().items()} == {name: body for name, (*_, body) in before.items()}


@pytest.mark.row(54, did="the key files of one service are pipes that nobody writes to")
async def test_key_files_that_cannot_be_read_stop_neither_the_other_services_nor_the_stop(
    tmp_path: Path, seen: Seen
) -> None:
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(tmp_path / "key")
    (tmp_path / "known_hosts").touch()
    async with daemon(tmp_path) as d:
        d.configure(d.service(), d.service("far", delivery=ssh(tmp_path)))
        assert (await d.reload())[0] == 200
        await until(lambda: bool(d.controller.log_lines("delivery_failed")), "ssh tried", PATIENCE_S)
        for name in ("key", "known_hosts"):
            (tmp_path / name).unlink()
            os.mkfifo(tmp_path / name)
        for count in (3, 9, 6):
            d.put(NAMES[:count])
            await until(lambda c=count: d.placed(NAMES[:c]), "the other service goes on", PATIENCE_S)  # type: ignore[misc]
        status, said = await d.reload()
        assert status == 400
        assert f"{tmp_path}/known_hosts: not a regular file" in said
        d.controller.signal(signal.SIGTERM)
        assert await d.controller.wait() == 0, "its watchdog ends it with 1 after 5 s"
    seen("the other service wrote each list, a reload was refused, SIGTERM ended it with 0")
