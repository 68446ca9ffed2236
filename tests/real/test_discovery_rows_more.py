"""Lists that churn, files in the middle of being written, Python functions that misbehave: rows 30 to 32."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest

from promring.model import DiscoveryError
from tests.fakes.source import TargetSource
from tests.real.stage import stage
from tests.real.test_discovery_rows import (
    MB,
    TROUBLE,
    described,
    http_of,
    listed,
    once_each,
    put,
    rss_mb,
    watched,
)
from tests.rows import Seen
from tests.sources import python_source
from tests.waiting import until

# --- 30: churn -------------------------------------------------------------------------------------------------------

CYCLES = 20
START_S = 3.0
"""As long as an interpreter takes to start on a busy machine."""
POOL = 2000


@pytest.mark.row(30, did=f"1 % of {POOL} targets replaced in each of {CYCLES} cycles, 4 scrapers")
@pytest.mark.parametrize(
    "load_factor",
    [pytest.param(1.1, id="the default bound"), pytest.param(1.01, id="a bound that bites", marks=pytest.mark.long)],
)
async def test_churn_moves_next_to_none_of_the_targets_that_stay(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen, load_factor: float
) -> None:
    async with TargetSource([]) as source:
        options: dict[str, Any] = {
            "start": False,
            "http_sd": 0,
            "targets": [http_of(source, timeout="30s")],
            "interval_s": 60.0,
        }
        options |= {"handover": {"overlap": "0s"}, "placement": {"load_factor": load_factor}}
        options |= {"audit": {"second_opinion": False}}  # nobody reaches these targets
        async with stage(tmp_path, consul_program, prometheus_program, scrapers=4, count=1, **options) as s:
            names = [f"127.0.0.1:{n}" for n in range(1, POOL + 1)]
            source.groups = [{"targets": names}]
            await s.controller.start()
            await until(lambda: len(s.slices()) == 4 and all(s.slices().values()) and once_each(s, names), "on all four")
            await s.quiet()

            def owners() -> dict[str, str]:
                return {address: name for name, slice_ in s.slices().items() for address in slice_}

            shares = []
            for cycle in range(CYCLES):
                before = owners()
                gone = POOL // 100
                stay = names[gone:]
                names = [*stay, *(f"127.0.0.2:{cycle * gone + n + 1}" for n in range(gone))]
                source.groups = [{"targets": names}]
                await until(lambda n=names: once_each(s, n), f"cycle {cycle} placed")  # type: ignore[misc]
                after = owners()
                shares.append(sum(before[a] != after[a] for a in stay) / len(stay))
                assert max(map(len, s.slices().values())) <= load_factor * POOL / 4 + 1
            mean, most = sum(shares) / CYCLES, max(shares)
            assert mean < (0.005 if load_factor == 1.1 else 0.05)
            assert most < (0.01 if load_factor == 1.1 else 0.1)
            seen(f"load_factor {load_factor:g}: unchanged targets that moved a cycle: mean {mean:.2%}, most {most:.2%}")


# --- 31: files half-written, renamed, swapped ------------------------------------------------------------------------


def kubernetes_volume(folder: Path, version: int, text: str) -> None:
    """As the kubelet does: a new folder, and the symlink ``..data`` swapped over to it."""
    new = folder / f"..{version}"
    new.mkdir(parents=True)
    (new / "targets.json").write_text(text)
    (folder / "..new").symlink_to(new.name)
    (folder / "..new").rename(folder / "..data")
    if not (folder / "targets.json").is_symlink():
        (folder / "targets.json").symlink_to("..data/targets.json")
    if (folder / f"..{version - 1}").exists():
        shutil.rmtree(folder / f"..{version - 1}")


async def in_pieces(path: Path, text: str, pieces: int = 6, pause_s: float = 0.3) -> None:
    """Written in place, as a slow script does."""
    with path.open("w") as file:
        for i in range(pieces):
            file.write(text[len(text) * i // pieces : len(text) * (i + 1) // pieces])
            file.flush()
            await asyncio.sleep(pause_s)


@pytest.mark.row(
    31,
    did="files written in pieces, renamed over, ..data swapped, folder removed and made again, link to a folder swapped",
)
async def test_a_file_that_is_replaced_in_whatever_way_is_its_last_good_list_until_it_is_whole(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    plain, folder, swapped, volume = (tmp_path / "in" / name for name in ("plain", "folder", "swapped", "volume"))
    paths = [plain / "a.json", plain / "b.yml", folder / "c.json", swapped / "d.json", volume / "targets.json"]
    sources = [{"file": {"files": [str(path)]}} for path in paths]
    options: dict[str, Any] = {"start": False, "http_sd": 0, "targets": sources}
    async with stage(tmp_path, consul_program, prometheus_program, count=50, **options) as s:
        s.allowed |= TROUBLE
        of = {path: s.farm.addresses[i * 10 : i * 10 + 10] for i, path in enumerate(paths)}

        def text(path: Path, version: int) -> str:
            made: list[dict[str, Any]] = [
                {"targets": [address], "labels": {"v": str(version), "of": path.stem}} for address in of[path]
            ]
            if path.suffix == ".yml":
                return "".join(f"- targets: ['{g['targets'][0]}']\n  labels: {json.dumps(g['labels'])}\n" for g in made)
            return json.dumps(made, indent=1)

        def versions(path: Path) -> set[str]:
            groups_ = [group for x in s.scrapers for group in json.loads(s.path_of(x).read_bytes())]
            return {g["labels"]["v"] for g in groups_ if g["labels"]["of"] == path.stem}

        for place in (plain, folder, tmp_path / "in" / "v1"):
            place.mkdir(parents=True)
        swapped.symlink_to("v1")
        for path in paths[:4]:
            path.write_text(text(path, 1))
        kubernetes_volume(volume, 1, text(paths[4], 1))
        await s.controller.start()
        await until(lambda: s.placed_on(*s.scrapers), "every target placed")
        await s.quiet()
        a, b, c, d, e = paths
        took: dict[str, float] = {}

        async def heard(path: Path, version: int, what: str) -> None:
            took[what] = await until(lambda: versions(path) == {str(version)}, what)

        async with watched(s) as found:
            both = asyncio.gather(in_pieces(a, text(a, 2)), in_pieces(b, text(b, 2)))
            await asyncio.sleep(1.5)
            assert versions(a) == versions(b) == {"1"}, "half-written: the last good list"
            await both
            await heard(a, 2, "JSON in pieces")
            await heard(b, 2, "YAML in pieces")
            for number, path in ((3, a), (3, b)):
                put(path, text(path, number))
                await heard(path, number, f"renamed over {path.suffix}")
            for number in (2, 3):
                kubernetes_volume(volume, number, text(e, number))
                await heard(e, number, "..data swapped")
            shutil.rmtree(folder)
            folder.mkdir()
            c.write_text(text(c, 2))
            await heard(c, 2, "folder made again at once")
            await asyncio.sleep(1.2)
            put(c, text(c, 3))
            await heard(c, 3, "and the file then changed")
            shutil.rmtree(folder)
            await until(lambda: any("c.json: vanished" in x for x in s.controller.log_lines("discovery_failed")), "missed")
            await asyncio.sleep(1)
            assert versions(c) == {"3"}, "gone: the last good list"
            folder.mkdir()
            put(c, text(c, 4))
            await heard(c, 4, "folder made again later")
            new = tmp_path / "in" / "v2"
            new.mkdir()
            (new / "d.json").write_text(text(d, 2))
            (new.parent / "link").symlink_to("v2")
            (new.parent / "link").rename(swapped)
            await heard(d, 2, "link to a folder swapped")
            put(new / "d.json", text(d, 3))
            await heard(d, 3, "and the file then changed ")
        assert not found.lost
        assert s.placed_on(*s.scrapers)
        seen(
            f"no slice lost a target in {found.samples} looks; heard after: "
            + ", ".join(f"{k} {v:.1f} s" for k, v in took.items())
        )


# --- 32: python callable ---------------------------------------------------------------------------------------------

CMDB = """
import os, signal, subprocess, sys, threading, time
HERE = os.path.dirname(__file__)
def targets():
    with open(os.path.join(HERE, "mode")) as file:
        mode = file.read()
    with open(os.path.join(HERE, "asked"), "w") as file:
        file.write(mode)
    with open(os.path.join(HERE, "addresses")) as file:
        good = [{"targets": file.read().split()}]
    if mode == "raises": raise RuntimeError("the CMDB is down")
    if mode == "hangs": time.sleep(4242)
    if mode == "hangs without the interpreter lock": os.execvp("sleep", ["sleep", "4242"])
    if mode == "spins":
        while True: pass
    if mode == "ignores signals and hangs":
        for n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)
        subprocess.Popen(["sleep", "4242"]); time.sleep(4242)
    if mode == "object": return object()
    if mode == "text": return "a:1"
    if mode == "wrong type": return [{"targets": "a:1"}]
    if mode == "no text": return [{"targets": [["a:1"]]}]
    if mode == "generator": return (group for group in good)
    if mode == "dict": return good[0]
    if mode == "contains itself": good.append(good); return good
    if mode == "exits 0": os._exit(0)
    if mode == "sys.exit": sys.exit(0)
    if mode == "exits 3": os._exit(3)
    if mode == "killed": os.kill(os.getpid(), 9)
    if mode == "raises BaseException": raise KeyboardInterrupt
    if mode == "prints 50 MB and raises":
        for _ in range(50): print("x" * 2**20)
        raise RuntimeError("after much noise")
    if mode == "prints 50 MB":
        for _ in range(50): print("x" * 2**20)
    if mode == "closes the output": os.close(1); os.close(2)
    if mode == "no memory": bytearray(2**33)
    return good
"""
BAD_CALLABLE = {
    "raises": "the CMDB is down",
    "hangs": f"no result within {START_S:g} s",
    "hangs without the interpreter lock": f"no result within {START_S:g} s",
    "spins": f"no result within {START_S:g} s",
    "ignores signals and hangs": f"no result within {START_S:g} s",
    "object": "object",
    "text": "array",
    "wrong type": "[0].targets: the text",
    "no text": "[0].targets[0]",
    "generator": "generator",
    "dict": "array",
    "contains itself": "recursion",
    "exits 0": "without a result",
    "sys.exit": "without a result",
    "exits 3": "status 3",
    "killed": "killed by SIGKILL",
    "raises BaseException": "KeyboardInterrupt",
    "prints 50 MB and raises": "after much noise",
    "no memory": "MemoryError",
}


@pytest.mark.row(
    32,
    did=f"a Python function bad in {len(BAD_CALLABLE)} ways: raises, hangs, spins, exits, rubbish, a generator, noise",
)
async def test_whatever_a_python_function_does_its_last_list_stays_and_the_loop_goes_on(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    (tmp_path / "cmdb.py").write_text(CMDB)
    python = {"python": {"callable": "cmdb:targets", "interval": "300ms", "timeout": f"{START_S:g}s"}}
    options: dict[str, Any] = {"start": False, "http_sd": 0, "targets": [python]}
    async with stage(tmp_path, consul_program, prometheus_program, count=20, **options) as s:
        s.allowed |= TROUBLE

        def mode(name: str) -> None:
            put(tmp_path / "mode", name)

        (tmp_path / "addresses").write_text(" ".join(s.farm.addresses))
        mode("good")
        await s.controller.start()
        await until(lambda: s.placed_on(*s.scrapers), "every target placed")
        await s.quiet()
        stamps = s.stamps()

        asked = tmp_path / "asked"

        async def refused(name: str) -> bool:
            now = await described(s)
            answered = asked.read_text() == name and now["last_answer_at"] > asked.stat().st_mtime
            return answered and now["state"] == "unknown" and BAD_CALLABLE[name] in now["reason"] and now["targets"] == 20

        pages: dict[str, float] = {}
        base, most_mb = rss_mb(s.controller.pid), 0.0
        for name in BAD_CALLABLE:
            mode(name)
            async with watched(s) as found:
                await until(lambda n=name: refused(n), f"{name}: refused")  # type: ignore[misc]
            assert s.stamps() == stamps, name
            pages[name], most_mb = max(found.pages_ms), max(most_mb, found.rss_mb - base)
        for name in ("prints 50 MB", "closes the output"):
            mode(name)
            put(tmp_path / "addresses", " ".join([*s.farm.addresses, f"127.0.0.1:{len(name)}"]))
            wanted = [*s.farm.addresses, f"127.0.0.1:{len(name)}"]
            await until(lambda w=wanted: set(listed(s)) == set(w), f"{name}: what it returned")  # type: ignore[misc]
        mode("good")
        hung = max(ms for name, ms in pages.items() if "no result" in BAD_CALLABLE[name])
        await s.controller.stop()
        left = [p.pid for p in psutil.process_iter(["cmdline"]) if "4242" in (p.info["cmdline"] or [])]
        assert not left, "nothing of the function is left"
        most = max(pages.values())
        assert most < 500
        seen(f"/-/healthy at most {hung:.0f} ms while it hangs, {most:.0f} ms in all; memory of promring +{most_mb:.0f} MB")


@pytest.mark.row(
    32, did="a Python function that takes all memory, by itself and in a child; one that returns more than it may"
)
@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("x = []\n while True: x.append(bytearray(2**20))", "MemoryError"),
        (
            "import subprocess as p, sys\n p.run([sys.executable, '-c', 'x = bytearray(2**29)'], check=True)",
            "CalledProcessError",
        ),
        (
            "return [{'targets': ['a:1'], 'labels': {'x': 'y' * 10**6}}] * 10**6",
            "MemoryError|was killed by",
        ),  # msgspec does not survive everywhere
    ],
    ids=["itself", "a child", "the answer"],
)
async def test_a_python_function_cannot_take_all_memory(tmp_path: Path, seen: Seen, body: str, named: str) -> None:
    (tmp_path / "cmdb.py").write_text(f"def greedy():\n {body}\n")
    source = python_source("cmdb:greedy", 60.0, 20.0, str(tmp_path), memory_bytes_max=256 * MB)
    peak = 0.0

    async def look() -> None:
        nonlocal peak
        while True:
            for child in psutil.Process().children(recursive=True):
                try:
                    peak = max(peak, rss_mb(child.pid))
                except psutil.Error:
                    continue
            await asyncio.sleep(0.01)

    looking = asyncio.create_task(look())
    try:
        with pytest.raises(DiscoveryError, match=named):
            await source.fetch()
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    assert peak < 320
    seen(f"limit 256 MB (default 4 GB): ended with {named.partition('|')[0]} at {peak:.0f} MB")
