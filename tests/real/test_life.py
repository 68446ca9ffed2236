"""Start, reload, stop and being killed, with a real Consul and real scrapers."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from promring.demo.process import Process
from tests.real.stage import BELIEVED, Stage, stage, write_targets
from tests.rows import Seen
from tests.waiting import slower, until

STOP_S = 5.0


@pytest.mark.row(44, did="reload with a duplicate key, by SIGHUP with a bad pattern, then good ones")
async def test_a_bad_reload_changes_nothing_and_a_good_one_moves_only_what_it_says(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        s.allowed |= {"reload_refused"}
        good = s.controller.config_file.read_text()
        stamps = s.stamps()
        s.controller.configure(good + "\nglobal: {debounce: 1s}\n")
        refused = await s.controller.reload(s.session)
        assert refused.status == 400
        assert "duplicate key" in refused.text()
        s.controller.configure(good.replace("targets.json", "targets.txt"))
        s.controller.signal(signal.SIGHUP)
        await until(lambda: len(s.controller.log_lines("reload_refused")) == 2, "SIGHUP refused too")
        metrics = (await s.controller.get(s.session, "/metrics")).body.decode()
        assert "promring_config_last_reload_successful 0.0" in metrics
        assert s.stamps() == stamps
        assert (await s.controller.get(s.session, "/-/ready")).status == 200

        s.controller.configure(good)
        assert (await s.controller.reload(s.session)).status == 200
        await asyncio.sleep(3)
        assert s.stamps() == stamps, "the same configuration moves nothing"
        killed, *left = s.scrapers
        await killed.kill()
        await until(lambda: s.placed_on(*left), "a death seen after the reload")

        config = yaml.safe_load(good)
        config["shard_services"][0]["targets"] = [{"file": {"files": [str(tmp_path / "other.json")]}}]
        s.controller.configure(config)
        s.allowed |= {"discovery_failed", "sources_kept"}
        stamps = s.stamps()
        assert (await s.controller.reload(s.session)).status == 200
        await until(lambda: bool(s.controller.log_lines("discovery_failed")), "the new source asked")
        await asyncio.sleep(1)
        assert s.stamps() == stamps, "a replaced source takes nothing away before the new one has spoken"
        (tmp_path / "other.json").write_text(json.dumps([{"targets": ["127.0.0.1:1"]}]))
        await until(lambda: sorted(s.slice_of(left[0]) + s.slice_of(left[1])) == ["127.0.0.1:1"], "the new list", 20)


async def test_reload_and_other_writes_need_the_token(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, scrapers=1) as s:
        url = f"{s.controller.url}/-/reload"
        async with s.session.post(url) as response:
            assert response.status == 401
        async with s.session.post(url, headers={"Authorization": "Bearer wrong"}) as response:
            assert response.status == 403
        async with s.session.get(url) as response:
            assert response.status == 405
        (s.controller.folder / "token").write_text("")
        async with s.session.post(url, headers={"Authorization": "Bearer "}) as response:
            assert response.status == 403, "an empty token is none"


@pytest.mark.row(46, did="SIGINT, SIGTERM while an agent waits")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_gracefully(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, number: int
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, scrapers=1) as s:
        path = f"/sd/node_exporter/{s.scrapers[0].id}"
        etag = (await s.controller.get(s.session, path)).headers["etag"]
        waiting = asyncio.ensure_future(s.session.get(f"{s.controller.url}{path}?wait=60s", headers={"If-None-Match": etag}))
        await asyncio.sleep(0.3)
        started = time.monotonic()
        s.controller.signal(number)
        assert await s.controller.wait() == 0
        assert time.monotonic() - started < STOP_S * slower()
        assert s.controller.log_lines("stopped")
        assert (await waiting).status == 503, "who waits is told, and asks another one"


def whole(s: Stage, lists: list[list[str]]) -> bool:
    """Whether every slice file is a whole one, and no temporary file is left."""
    folder = s.path_of(s.scrapers[0]).parent
    assert [p.name for p in folder.iterdir() if p.name.endswith("-tmp")] == []
    slices = s.slices()
    known = {address for listed in lists for address in listed}
    assert all(set(addresses) <= known for addresses in slices.values())
    return all(s.path_of(x).read_bytes().endswith(b"]\n") for x in s.scrapers if s.path_of(x).exists())


@pytest.mark.row(46, did="SIGTERM at random moments of a delivery")
async def test_sigterm_in_the_middle_of_a_delivery_leaves_whole_slices_and_the_next_run_finishes(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen, long: bool
) -> None:
    turns = 8 if long else 4
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0, guard=BELIEVED, interval_s=20) as s:
        lists = [s.farm.addresses, [f"127.0.1.{i % 250}:{1000 + i}" for i in range(6000)]]
        rng = random.Random(20)
        for turn in range(turns):
            listed = lists[(turn + 1) % 2]
            write_targets(tmp_path, listed)
            await asyncio.sleep(0.2 + rng.random() * 0.15)
            started = time.monotonic()
            s.controller.signal(signal.SIGTERM)
            assert await s.controller.wait() == 0
            assert time.monotonic() - started < STOP_S * slower()
            assert whole(s, lists)
            await s.controller.start()
            await s.controller.until(lambda: s.controller.is_ready(s.session), "promring")
            await until(
                lambda want=listed: sorted(a for x in s.slices().values() for a in x) == sorted(want),  # type: ignore[misc]
                "the next run finished what this one began",
            )
    seen(f"{turns} times whole slices, and the next run finished")


@pytest.mark.row(46, did="SIGTERM while strace holds an fsync")
@pytest.mark.skipif(shutil.which("strace") is None and not os.environ.get("CI"), reason="strace is not here")
async def test_sigterm_while_a_slow_disk_holds_an_fsync_ends_the_file_and_begins_no_other(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        before = s.stamps()
        tracer = Process(
            [
                *[
                    "strace",
                    "-f",
                    "-q",
                    "-o",
                    "/dev/null",
                    "-e",
                    "trace=fsync",
                    "-e",
                    "inject=fsync:delay_enter=700000",
                    "-p",
                ],
                str(s.controller.pid),
            ],
            tmp_path / "strace.log",
        )
        await tracer.start()
        await asyncio.sleep(0.5)
        if not tracer.running:
            pytest.skip(f"strace cannot attach: {tracer.log_tail()}")
        write_targets(tmp_path, [f"127.0.2.1:{1000 + i}" for i in range(60)])
        folder = s.path_of(s.scrapers[0]).parent
        await until(lambda: any(p.name.endswith("-tmp") for p in folder.iterdir()), "a slice being written")
        started = time.monotonic()
        s.controller.signal(signal.SIGTERM)
        assert await s.controller.wait() == 0
        assert time.monotonic() - started < STOP_S * slower()
        await tracer.stop()
        written = [name for name, stamp in s.stamps().items() if stamp != before[name]]
        assert len(written) == 1, "the one that was being written, no other"
        assert [p.name for p in folder.iterdir() if p.name.endswith("-tmp")] == []


async def test_a_second_signal_stops_at_once(tmp_path: Path, consul_program: Path, prometheus_program: Path) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, scrapers=1) as s:
        s.controller.signal(signal.SIGSTOP)
        s.controller.signal(signal.SIGTERM)
        s.controller.signal(signal.SIGINT)
        started = time.monotonic()
        s.controller.signal(signal.SIGCONT)
        status = await s.controller.wait()
        assert time.monotonic() - started < 3 * slower()
        assert status in (128 + signal.SIGTERM, 128 + signal.SIGINT)


@pytest.mark.row(40, did="kill -9 of promring, then a start")
async def test_killed_and_started_again_it_moves_nothing(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        stamps = s.stamps()
        await s.controller.kill()
        assert await s.scraped_by_now() < 15, "scraping goes on without promring"
        await s.controller.start()
        await s.controller.until(lambda: s.controller.is_ready(s.session), "promring")
        await asyncio.sleep(3)
        assert s.stamps() == stamps


async def test_a_second_promring_on_one_state_directory_is_refused(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, scrapers=1) as s:
        arguments = [x for x in s.controller.arguments if "listen-address" not in x]
        command = [*arguments, "--web.listen-address=127.0.0.1:0"]
        second = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, check=False)
        assert second.returncode == 1
        assert f"is in use by process {s.controller.pid}" in second.stderr
