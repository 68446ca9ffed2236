"""Files that are whole or not there, and the state that outlives a restart."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promring.core.pool import pool_of
from promring.delivery.file import FileDelivery
from promring.delivery.http_sd import HttpSdDelivery
from promring.fleet.state import Memory, ServiceMemory
from promring.fleet.store import Store
from promring.model import Generation, Scraper, Slice, TargetGroup
from promring.runtime import disk
from promring.runtime.paths import file_name, render
from promring.telemetry import log

SCRAPER = Scraper("10.0.0.1:9090", "10.0.0.1", 9090)


def names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def slice_of(body: bytes, n: int = 1) -> Slice:
    return Slice("node", SCRAPER, Generation(0, n), body, 1)


def test_a_file_is_replaced_whole_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.json"
    disk.install(path, b"one")
    inode = path.stat().st_ino
    disk.install(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_ino != inode
    assert names_in(path.parent) == ["x.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """A file-size limit gives the short write of a full disk: part of it is written, then an error."""
    path = tmp_path / "x.json"
    disk.install(path, b"old")
    code = (
        "import resource, signal, sys; from pathlib import Path; from promring.runtime import disk\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: disk.install(Path(sys.argv[1]), b'x' * 10000)\n"
        "except OSError as error: print(error.strerror)\n"
    )
    out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert out.stdout == "File too large\n"
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["x.json"]


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting a tmpfs needs root")
def test_a_full_disk_leaves_the_old_slice_and_names_the_error(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        path = folder / "x.json"
        disk.install(path, b"old")
        with pytest.raises(OSError, match=r"No space left on device: '[^']*'$"):
            disk.install(path, b"x" * 200_000)
        assert path.read_bytes() == b"old"
        assert names_in(folder) == ["x.json"]
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_symlink_is_replaced_not_followed(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "x.json"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    disk.install(path, b"new")
    assert (victim.read_bytes(), path.read_bytes(), path.is_symlink()) == (b"precious", b"new", False)


def test_old_left_overs_are_removed_and_young_ones_are_not(tmp_path: Path) -> None:
    old, young = tmp_path / f".a{disk.TEMPORARY_SUFFIX}", tmp_path / f".b{disk.TEMPORARY_SUFFIX}"
    old.touch()
    young.touch()
    os.utime(old, (1, 1))
    disk.remove_left_overs(tmp_path)
    assert names_in(tmp_path) == [young.name]


async def test_a_delivery_writes_once_then_leaves_it_alone_and_puts_back_what_was_changed(tmp_path: Path) -> None:
    delivery = FileDelivery(f"{tmp_path}/{{service}}/{{scraper}}.json", log.get())
    path = tmp_path / "node" / "10.0.0.1_9090.json"

    async def outcome(slice_: Slice) -> str:
        return (await delivery.deliver([slice_]))[0].outcome

    body = b'[{"targets":["a:1"]}]\n'
    assert await outcome(slice_of(body)) == "written"
    assert await outcome(slice_of(body)) == "same"
    path.write_bytes(b"[]")
    assert await outcome(slice_of(body)) == "written"
    path.unlink()
    assert await outcome(slice_of(body)) == "written"
    assert path.read_bytes() == body
    fresh = FileDelivery(f"{tmp_path}/{{service}}/{{scraper}}.json", log.get())
    assert (await fresh.deliver([slice_of(body)]))[0].outcome == "same", "what is there already is not written"
    fresh = FileDelivery(f"{tmp_path}/{{service}}/{{scraper}}.json", log.get())
    (refused,) = await fresh.deliver([slice_of(b"[]\n", 0)])
    assert (refused.outcome, path.read_bytes()) == ("refused", body)
    assert refused.fenced_by == Generation(0, 1)
    assert "refuses the older 0.0" in refused.error


ODD_NAMES = ["../../etc/passwd", "a/b", "", ".hidden", "-rf", "x\0y", "[::1]:9090", "a\nb", "..", "\udcff"]


@pytest.mark.row("A3", did="any text as the name of a scraper or a service, in a template for paths")
@given(st.text() | st.sampled_from(ODD_NAMES), st.text() | st.sampled_from(ODD_NAMES))
def test_any_names_stay_in_their_folders(name: str, service: str) -> None:
    path = render("/base/{service}/{scraper}_{host}.json", service, Scraper(name, name, 1))
    assert path.parent.parent == Path("/base")
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", path.parent.name)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", path.name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", ".hidden", "-rf", "x\0y", "[::1]:9090"])
def test_no_name_leaves_its_folder(name: str) -> None:
    path = render("/base/{service}/{scraper}.json", "s", Scraper(name, name, 1))
    assert path.parent == Path("/base/s")
    assert len(file_name(name)) == 16


def memory() -> Memory:
    groups = pool_of((TargetGroup.of(["t:1", "t:2"], {"env": "prod"}),))
    slices = {SCRAPER.id: slice_of(b'[{"targets":["t:1"]}]\n', 7)}
    other = pool_of((TargetGroup.of(["t:1"]),))
    services = {
        "node": ServiceMemory({"file:x": groups}, slices, {"file:x": 99.5}),
        "more": ServiceMemory({"file:x": other}, {SCRAPER.id: replace(slice_of(b"[]\n", 2), service="more", targets=0)}),
    }
    return Memory((SCRAPER,), services, Generation(0, 7), members_at=100.5)


async def test_state_comes_back_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path, "node", log.get())
    assert store.load() == Memory()
    await store.save(memory())
    assert store.load() == memory()
    assert (tmp_path / "node.state").stat().st_mode & 0o077 == 0


async def test_corrupt_cut_foreign_or_newer_state_is_set_aside_and_never_a_crash(tmp_path: Path) -> None:
    store = Store(tmp_path, "node", log.get())
    path = tmp_path / "node.state"
    await store.save(memory())
    good = path.read_bytes()
    header, _, body = good.partition(b"\n")
    broken = [b"", b"\n", b"promring-state", good[:-1], body, header, good.replace(b"state 7", b"state 8")]
    broken += [good.replace(b"state 7", b"state 6"), good + good]
    broken += [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(0, len(good), 7)]
    for content in broken:
        path.write_bytes(content)
        assert store.load() == Memory(), content
        assert not path.exists()
        (aside,) = tmp_path.glob("node.state.bad-*")
        assert aside.read_bytes() == content
        aside.unlink()
    await Store(tmp_path, "other", log.get()).save(memory())
    (tmp_path / "other.state").rename(path)
    assert store.load() == Memory(), "the state of another fleet"


async def test_a_new_epoch_of_the_same_bytes_fences_who_wrote_in_between(tmp_path: Path) -> None:
    def slice_in(epoch: int, n: int, body: bytes = b"[]\n") -> Slice:
        return Slice("node", SCRAPER, Generation(epoch, n), body, 0)

    first, second = (FileDelivery(f"{tmp_path}/{{scraper}}.json", log.get()) for _ in range(2))
    await first.deliver([slice_in(10, 5)])
    await second.deliver([slice_in(12, 1)])
    await first.deliver([slice_in(14, 1)])  # it leads again, with the same bytes
    (late,) = await second.deliver([slice_in(12, 2, b'[{"targets":["old:1"]}]\n')])  # frozen in the middle of its put
    assert (late.outcome, late.fenced_by) == ("refused", Generation(14, 1))


async def test_who_asks_for_names_that_nobody_knows_leaves_nothing() -> None:
    delivery = HttpSdDelivery()
    for n in range(100):
        assert await delivery.wait(f"nobody-{n}", "".__eq__, 0.0005) is None
    assert not delivery._waiting
    waiting = asyncio.create_task(delivery.wait(SCRAPER.id, "".__eq__, 5))
    await asyncio.sleep(0.01)
    await delivery.deliver([slice_of(b"[]\n")])
    served = await waiting
    assert served is not None
    assert served.slice.body == b"[]\n"
