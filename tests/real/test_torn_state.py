"""The state that outlives a restart: cut, flipped, newer, another's, unreadable, unsaved. Never a crash."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from promring.core.pool import pool_of
from promring.fleet.journal import VERSION
from promring.fleet.state import Memory, ServiceMemory
from promring.fleet.store import Store
from promring.model import Generation, TargetGroup
from promring.runtime.http_client import request
from promring.telemetry import log
from tests.real.stage import Stage, stage, write_targets
from tests.real.torn import (
    NOBODY,
    fill,
    needs_root,
    read_only,
    remount,
    tmpfs,
)
from tests.real.torn_writer import SERVICE, Writer, memory_of
from tests.rows import Seen
from tests.waiting import until


def damaged(good: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """What was done to the file, and what is in it then."""
    for part in range(16):
        yield f"cut at {part}/16", good[: len(good) * part // 16]
    for _ in range(100):
        at = rng.randrange(len(good))
        yield f"byte {at} flipped", good[:at] + bytes([good[at] ^ rng.randrange(1, 256)]) + good[at + 1 :]
    for at in range(good.index(b"\n") + 1):
        yield f"byte {at} of the header flipped", good[:at] + bytes([good[at] ^ 0x80]) + good[at + 1 :]
    magic, _, rest = good.split(b" ", 2)
    for version in (b"%d" % (VERSION + 1), b"-1", b"x", b"9" * 5000, b"\xff"):
        yield f"version {version[:5]!r}", b" ".join((magic, version, rest))
    yield "twice", good + good
    yield "zeros, as after a power cut", bytes(len(good))
    yield "text", b"{}\n"


@pytest.mark.row(
    45, did="the state file cut at every 1/16, 100 bytes flipped at random, every byte of its header, newer versions"
)
async def test_a_damaged_state_is_set_aside_and_named_and_never_a_crash(
    tmp_path: Path, said: io.StringIO, seen: Seen
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    store, path = Store(tmp_path, SERVICE, log.get()), tmp_path / f"{SERVICE}.state"
    await store.save(memory_of(Generation(1, 1), 2))
    contents = list(damaged(path.read_bytes(), random.Random(seed)))
    for what, content in contents:
        path.write_bytes(content)
        said.truncate(said.seek(0))
        assert store.load() == Memory(), what
        (aside,) = tmp_path.glob("*.bad-*")
        assert aside.read_bytes() == content, what
        (line,) = said.getvalue().splitlines()
        assert " level=error caller=store.py:" in line, what
        assert f" msg=state_set_aside path={aside} error=" in line, what
        assert not path.exists()
        aside.unlink()
    await store.save(memory_of(Generation(2, 1), 2))
    assert store.load().generation == (2, 1)
    seen(f"{len(contents)} damaged files: each set aside, named, started without")


@pytest.mark.row(
    45, did="in place of the state: another service's, a directory, a loop of links, nothing; not even a folder"
)
async def test_what_is_no_state_of_ours_is_named_and_never_a_crash(tmp_path: Path, said: io.StringIO) -> None:
    folder = tmp_path / "state"
    store, path = Store(folder, SERVICE, log.get()), folder / f"{SERVICE}.state"
    assert store.load() == Memory()
    assert f"msg=state_none path={path}" in said.getvalue()
    await Store(folder, "other", log.get()).save(memory_of(Generation(1, 1), 1))
    (folder / "other.state").rename(path)
    assert store.load() == Memory()
    assert "error=\"it belongs to fleet 'other'\"" in said.getvalue()
    path.symlink_to(path.name)
    assert store.load() == Memory()
    assert f'msg=state_unreadable path={path} error="Too many levels of symbolic links"' in said.getvalue()
    await store.save(memory_of(Generation(2, 1), 1))
    assert store.load().generation == (2, 1), "a link is replaced"
    path.unlink()
    path.mkdir()
    assert store.load() == Memory()
    assert 'error="not a file of at most' in said.getvalue()
    await store.save(memory_of(Generation(3, 1), 1))
    assert store.load().generation == (3, 1), "a folder is set aside"
    folder.rename(tmp_path / "gone")
    await store.save(memory_of(Generation(3, 1), 1))
    assert store.load().generation == (3, 1), "a folder that was lost is made again"


@needs_root
@pytest.mark.row(45, did="the state file, then its folder, may not be read")
def test_an_unreadable_state_is_named_and_never_a_crash() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Writer(folder) as writer:
            assert writer.once(do="save", generation=(1, 1), count=1)["error"] == ""
            for mode in (0o755, 0o700):
                (folder / "state").chmod(mode)
                writer.begin(user=NOBODY)
                answer = writer.ask(do="load")
                assert answer["generation"] == [0, 0]
                assert f'path={folder}/state/{SERVICE}.state error="Permission denied"' in answer["log"]
                assert "Permission denied" in writer.ask(do="save", generation=(2, 1), count=1)["error"]
                writer.tell(do="end")
                assert writer.ended() == 0
            assert writer.once(do="load")["generation"] == [1, 1]


@needs_root
@pytest.mark.row(65, did="a disk that holds the state once: it is full in the middle of a compaction")
async def test_a_compaction_for_which_there_is_no_room_is_said_and_saves_go_on(
    tmp_path: Path, said: io.StringIO, seen: Seen
) -> None:
    def of(n: int) -> Memory:
        """A label of 300 kB, another one for each ``n``."""
        pool = pool_of([TargetGroup.of(["t:1"], {"long": chr(97 + n % 26) * 300_000})])
        return replace(memory, drained=frozenset({f"{n}"}), services={**memory.services, "more": ServiceMemory({"s": pool})})

    with tmpfs(tmp_path / "state", "3m"):
        store, path, memory = (
            Store(tmp_path / "state", SERVICE, log.get()),
            tmp_path / "state" / f"{SERVICE}.state",
            Memory(),
        )
        memory = memory_of(Generation(1, 1), 4)
        await store.save(memory)
        runs = asyncio.create_task(store.run())
        n = 0
        while "state_not_compacted" not in said.getvalue() and n < 7:
            n += 1
            await store.save(of(n))
            await asyncio.sleep(0.2)
        await until(lambda: "state_not_compacted" in said.getvalue(), "a compaction that fails")
        assert "No space left on device" in said.getvalue()
        await store.save(replace(of(n), drained=frozenset({"last"})))
        runs.cancel()
        await asyncio.wait([runs])
        assert [p.name for p in path.parent.iterdir()] == [path.name]
        loaded = Store(tmp_path / "state", SERVICE, log.get()).load()
        assert (loaded.services, loaded.drained) == (of(n).services, frozenset({"last"}))
    seen(f"said; the {n + 1} saves are there, nothing else is left")


@needs_root
@pytest.mark.row(33, did="the disk of the state is full")
def test_a_state_that_cannot_be_saved_is_named_by_its_path(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "state"), Writer(tmp_path) as writer:
        error = writer.once(do="save", generation=(1, 1), count=4)["error"]
        assert "No space left on device" in error
        assert str(tmp_path / "state") in error


@pytest.mark.row(45, did="a real promring whose state file was cut while it was down")
async def test_promring_with_a_cut_state_says_so_starts_without_it_and_moves_nothing(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        s.allowed |= {"state_set_aside"}
        await s.taken()
        stamps, state = s.stamps(), tmp_path / "state" / "node_exporter.state"
        await s.controller.kill()
        os.truncate(state, state.stat().st_size // 2)
        await s.controller.start()
        await s.controller.until(lambda: s.controller.is_ready(s.session), "promring")
        assert len(s.controller.log_lines("state_set_aside")) == 1
        await until(state.exists, "a new state")
        await asyncio.sleep(1)
        assert s.stamps() == stamps
        assert len(list(state.parent.glob("*.bad-*"))) == 1
    seen("set aside, said once; no slice was touched")


async def failures_of(s: Stage) -> float:
    """How many saves have failed."""
    answer = await request(s.session, "GET", f"{s.controller.url}/metrics", timeout_s=10)
    lines = [line for line in answer.body.decode().splitlines() if line.startswith("promring_state_failures_total{")]
    return sum(float(line.split()[-1]) for line in lines)


@pytest.mark.row(45, did="the state file alone is removed, then moved, while promring runs and nothing changes")
async def test_a_state_file_that_is_removed_while_promring_runs_is_there_again_in_seconds(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0, reconcile_interval="10m") as s:
        s.allowed |= {"state_file_gone"}
        await s.taken()
        stamps, state = s.stamps(), tmp_path / "state" / "node_exporter.state"
        before = state.read_bytes()
        state.unlink()
        await until(state.exists, "the state, again")
        state.rename(tmp_path / "elsewhere")
        await until(state.exists, "the state, again")
        assert len(s.controller.log_lines("state_file_gone")) == 2
        await s.controller.kill()
        await s.controller.start()
        await s.controller.until(lambda: s.controller.is_ready(s.session), "promring")
        assert s.controller.log_lines("state_none") == s.controller.log_lines("state_none")[:1], "only at the first start"
        assert s.stamps() == stamps
    seen(f"written again, {len(before)} bytes; a restart from it moves nothing")


@needs_root
@pytest.mark.row(33, did="the disk of the state is full, then without an inode, then read-only, and then it is not")
async def test_a_disk_that_takes_no_state_is_said_once_and_the_state_is_saved_when_there_is_room(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    folder = tmp_path / "state"
    said = 0
    with tmpfs(folder, "1m"):
        async with stage(tmp_path, consul_program, prometheus_program, http_sd=0, reconcile_interval="1s") as s:
            s.allowed |= {"state_not_saved", "state_file_gone"}

            async def tries(label: str) -> None:
                """What is new cannot be saved, many times over; it is delivered, and said once."""
                before = await failures_of(s)
                write_targets(tmp_path, s.farm.addresses, labels={"env": label})
                await until(lambda: all(f'"{label}"'.encode() in s.path_of(x).read_bytes() for x in s.scrapers), "delivered")

                async def often() -> bool:
                    return await failures_of(s) >= before + 4

                await until(often, "tried again and again")

            async def saved(times: int) -> None:
                await until(lambda: len(s.controller.log_lines("state_saved_again")) == times, "saved again")

            fill(folder / "filler", 0)
            await tries("full")
            (folder / "filler").unlink()
            await saved(1)
            remount(folder, "nr_inodes=3")
            (folder / "node_exporter.state").unlink()
            for n in range(3):
                with contextlib.suppress(OSError):
                    (folder / f"taken-{n}").touch()
            await tries("inodes")
            remount(folder, "nr_inodes=100")
            await saved(2)
            with read_only(folder):
                await tries("ro")
            await saved(3)
            said = len(s.controller.log_lines("state_not_saved"))
            assert said == 3
    seen(f"{said} lines for a dozen failed saves; saved again within seconds each time")


@needs_root
@pytest.mark.long
@pytest.mark.row(33, 45, did="the disk of the state is full during five changes, then kill -9, then there is room again")
async def test_a_start_from_a_state_that_fell_behind_its_sinks_still_delivers(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    def everywhere(label: str) -> bool:
        return all(f'"{label}"'.encode() in s.path_of(x).read_bytes() for x in s.scrapers)

    with tmpfs(tmp_path / "state", "1m"):
        async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
            s.allowed |= {"state_not_saved", "delivery_failed", "scraper_undeliverable"}
            fill(tmp_path / "state" / "filler", 0)
            for label in ("one", "two", "three", "four", "five"):
                write_targets(tmp_path, s.farm.addresses, labels={"env": label})
                await until(lambda label=label: everywhere(label), f"{label} is delivered")  # type: ignore[misc]
            assert s.controller.log_lines("state_not_saved")
            await s.controller.kill()
            (tmp_path / "state" / "filler").unlink()
            write_targets(tmp_path, s.farm.addresses, labels={"env": "six"})
            await s.controller.start()
            await until(lambda: everywhere("six"), "six is delivered", 20)
