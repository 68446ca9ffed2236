"""Functions of the operator as sources of targets: sync and async, with settings, from entry points."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import JsonValue

from promring.core.fragment import decode, fragments
from promring.discovery.python import WORKER, PythonSource, PythonTargets, why_not_importable
from promring.model import DiscoveryError
from promring.runtime.rlimit import BYTES_MAX

FUNCTIONS = """
import asyncio, dataclasses, os, sys
class Late:
    def __await__(self):
        yield from asyncio.sleep(0.01).__await__()
        return [{"targets": ["late:1"]}]
def sync(settings): return [{"targets": [f"{settings['site']}:{settings['ports'][0]}"]}]
async def asynchronous(settings):
    await asyncio.sleep(0.01)
    return sync(settings)
async def without(): return [{"targets": ["a:1"]}]
def awaitable(): return Late()
async def fails(): raise RuntimeError("the CMDB is down")
async def hangs(): await asyncio.sleep(4243)
def says(settings): return [{"targets": ["a:1"], "labels": {"given": repr(settings)}}]
def many(one, two): return []
def of_bytes(): return [{"targets": ["a:1", b"b:1"]}]
def of_labels(): return ({"targets": ("a:1",), "labels": {"dc": b"fra"}},)
def nan(): return [{"targets": ["a:1"], "labels": {"weight": float("nan")}}]
@dataclasses.dataclass
class Group:
    targets: list
def of_pairs(): return [Group([bytearray(b"c:1")])]
def itself():
    found = []
    found.append(found)
    return found
def groups(): return [Group(["d:1"])]
def of_objects(): return [{"targets": [object()]}]
def exits(): raise SystemExit(0)
def exits_with(): sys.exit("the CMDB is away")
def dies():
    print("noise")
    os._exit(3)
def killed(): os.kill(os.getpid(), 9)
def lines(): raise ValueError("first\\n  second")
"""
METADATA = "Metadata-Version: 2.1\nName: cmdb-of-ours\nVersion: 1\n"


def source(
    folder: Path, callable: str, settings: Mapping[str, JsonValue] | None = None, timeout_s: float = 30.0
) -> PythonSource:
    (folder / "ours.py").write_text(FUNCTIONS)
    given = None if settings is None else dict(settings)
    return PythonSource(PythonTargets(callable=callable, timeout=timeout_s, settings=given), str(folder))


async def addresses(source: PythonSource) -> list[str]:
    return [one.address for one in map(decode, fragments(await source.fetch()))]


@pytest.mark.parametrize("name", ["sync", "asynchronous"])
async def test_a_function_is_called_with_its_settings(tmp_path: Path, name: str) -> None:
    assert await addresses(source(tmp_path, f"ours:{name}", {"site": "fra", "ports": [9100, 2]})) == ["fra:9100"]


@pytest.mark.parametrize(
    ("name", "wanted"), [("without", ["a:1"]), ("awaitable", ["late:1"]), ("groups", ["d:1"]), ("nan", ["a:1"])]
)
async def test_what_is_to_be_awaited_is_awaited(tmp_path: Path, name: str, wanted: list[str]) -> None:
    assert await addresses(source(tmp_path, f"ours:{name}")) == wanted


async def test_empty_settings_are_settings(tmp_path: Path) -> None:
    pool = await source(tmp_path, "ours:says", {}).fetch()
    assert decode(next(iter(fragments(pool)))).labels == {"given": "{}"}


@pytest.mark.parametrize(
    ("name", "timeout_s", "why"),
    [
        ("fails", 30.0, "RuntimeError: the CMDB is down"),
        ("hangs", 1.0, "no result within 1 s"),
        ("sync", 30.0, "missing 1 required positional argument: 'settings'"),
        ("many", 30.0, "missing 2 required positional arguments"),
        ("of_bytes", 30.0, r"the result\[0\]\['targets'\]\[1\] is bytes: b'b:1', not text"),
        ("of_labels", 30.0, r"the result\[0\]\['labels'\]\['dc'\] is bytes: b'fra', not text"),
        ("of_pairs", 30.0, r"the result\[0\]\['targets'\]\[0\] is bytearray: b'c:1', not text"),
        ("of_objects", 30.0, "TypeError: .*object"),
        ("itself", 30.0, "RecursionError"),
        ("exits", 30.0, "its process ended without a result"),
        ("exits_with", 30.0, "the CMDB is away"),
        ("dies", 30.0, "its process ended with status 3: it wrote at last: noise"),
        ("killed", 30.0, "its process was killed by SIGKILL"),
        ("lines", 30.0, "ValueError: first second"),
    ],
)
async def test_a_function_that_fails_is_named_with_its_reason(tmp_path: Path, name: str, timeout_s: float, why: str) -> None:
    with pytest.raises(DiscoveryError, match=rf"ours:{name}: .*{why}"):
        await source(tmp_path, f"ours:{name}", timeout_s=timeout_s).fetch()


async def test_an_entry_point_is_found_by_its_name(tmp_path: Path) -> None:
    installed = tmp_path / "cmdb_of_ours-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(METADATA)
    (installed / "entry_points.txt").write_text("[promring.targets]\ncmdb-exporters = ours:without\n")
    assert await addresses(source(tmp_path, "cmdb-exporters")) == ["a:1"]
    assert why_not_importable("cmdb-exporters", str(tmp_path), 30.0) == ""
    assert "no entry point 'other' of promring.targets" in why_not_importable("other", str(tmp_path), 30.0)


async def test_settings_are_not_in_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "seen.py").write_text(
        "import sys\ndef args(settings): return [{'targets': ['a:1'], 'labels': {'x': repr(sys.argv)}}]"
    )
    given = PythonSource(PythonTargets(callable="seen:args", settings={"token": "s3cr3t-canary"}), str(tmp_path))
    assert b"canary" not in (await given.fetch()).blob


async def test_a_fetch_loads_nothing_of_promring_that_the_function_does_not_need(tmp_path: Path) -> None:
    (tmp_path / "seen.py").write_text("import sys\ndef loaded(): return [{'targets': sorted(sys.modules)}]")
    pool = await PythonSource(PythonTargets(callable="seen:loaded"), str(tmp_path)).fetch()
    assert b'"msgspec"' in pool.blob
    assert not [name for name in (b"pydantic", b"yaml", b"asyncio", b"promring.discovery") if b'"%s"' % name in pool.blob]


def test_a_worker_that_is_only_to_find_the_function_does_not_call_it(tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(FUNCTIONS)
    command = [sys.executable, "-P", str(WORKER), "ours:hangs", str(tmp_path), "1000", str(BYTES_MAX), "30"]
    assert subprocess.run(command, timeout=60, check=False, stdin=subprocess.DEVNULL).returncode == 0
