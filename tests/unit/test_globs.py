"""Which files a pattern matches, and what is said when that cannot be seen."""

from __future__ import annotations

import glob
import io
from pathlib import Path

import pytest

from promring.core.pool import pool_of
from promring.discovery.file import FileSource
from promring.discovery.globs import escaped, matching, may_match
from promring.model import DiscoveryError, TargetGroup
from tests.hostile.test_own_trouble import no_descriptors

ONE = '[{"targets": ["t1:9100"]}]'

PATTERNS = "*.json a.json */x.json d?/*.json */*/x.json no/*.json [[]e]/*.json .*.json a.json/*.json"


@pytest.mark.parametrize("pattern", PATTERNS.split())
def test_a_pattern_matches_what_it_matches_elsewhere(tmp_path: Path, pattern: str) -> None:
    for name in ("a.json", ".h.json", "b.yml", "d1/x.json", "d2/x.json", "d2/y.json", "d2/deep/x.json", "[e]/z.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(ONE)
    (tmp_path / "c.json").symlink_to("/nowhere")
    (tmp_path / "d9").symlink_to("d9")
    found = sorted(map(str, matching(tmp_path / pattern)))
    assert found == sorted(glob.glob(f"{tmp_path}/{pattern}"))


NAMES = [
    "a.json",
    "b.json",
    "_c.json",
    "^d.json",
    "[f].json",
    "-g.json",
    "r*s.json",
    "t?u.json",
    "v\\w.json",
    "é.json",
    ".o.json",
]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("[^_]*.json", set(NAMES) - {"_c.json", ".o.json"}),
        ("[!_]*.json", set(NAMES) - {"_c.json", ".o.json"}),
        ("[^a-c].json", {"é.json"}),
        ("[a-b].json", {"a.json", "b.json"}),
        ("[b-a].json", set()),
        (r"\[f\].json", {"[f].json"}),
        ("[[]f].json", {"[f].json"}),
        (r"[\^]d.json", {"^d.json"}),
        ("[-]g.json", {"-g.json"}),
        (r"r\*s.json", {"r*s.json"}),
        (r"t\?u.json", {"t?u.json"}),
        (r"v\\w.json", {"v\\w.json"}),
        ("[a.json", set()),
        ("[^.]*.json", set(NAMES) - {".o.json"}),
    ],
)
def test_a_pattern_means_what_it_means_in_prometheus(tmp_path: Path, pattern: str, expected: set[str]) -> None:
    """As Prometheus 2.42 and 3.5 read them, but for ``[!_]``, ``[-]`` and what it refuses."""
    folder = tmp_path / "a [b] \\ c"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_text(ONE)
    wanted = f"{escaped(str(folder))}/{pattern}"
    assert {path.name for path in matching(Path(wanted))} == expected
    assert {name for name in NAMES if may_match(wanted, f"{folder}/{name}")} == expected


async def test_without_a_descriptor_no_file_is_said_to_be_absent(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(ONE)
    source = FileSource([f"{tmp_path}/*.json", f"{tmp_path}/none/*.json"], 60.0)
    with pytest.raises(DiscoveryError, match=r"none/\*\.json: no such file"):
        await source.fetch()
    fresh = FileSource([f"{tmp_path}/*.json"], 60.0)
    with no_descriptors(), pytest.raises(DiscoveryError, match=r"\*\.json: Too many open files"):
        await fresh.fetch()
    assert len(await fresh.fetch()) == 1


async def test_a_pattern_that_matches_nothing_is_awaited_and_then_means_nothing(tmp_path: Path, said: io.StringIO) -> None:
    """As with Prometheus; else the source would fail for ever, and the guard believes no list of one that fails."""
    a, b = tmp_path / "a.json", tmp_path / "b.yml"
    a.write_text(ONE)
    patterns = [f"{tmp_path}/*.json", f"{tmp_path}/*.yml"]
    with pytest.raises(DiscoveryError, match=r"\*\.yml: no such file; awaited for 30 s from the start$") as caught:
        await FileSource(patterns, 60.0).fetch()
    assert caught.value.pool is None, "a file that is written a moment after the start has its time"
    source = FileSource(patterns, 60.0, patience_s=0.0)
    assert len(await source.fetch()) == len(await source.fetch()) == 1
    assert said.getvalue().count("discovery_pattern_unmatched") == 1
    b.write_text("- targets: [b:1, c:1]")
    assert len(await source.fetch()) == 3
    b.unlink()
    with pytest.raises(DiscoveryError, match=r"b\.yml: vanished") as caught:
        await source.fetch()
    assert len(caught.value.pool or ()) == 3, "a file that was there is no pattern that matches nothing"
    a.unlink()
    with pytest.raises(DiscoveryError, match=r"\.json: no such file; .*\.yml: no such file"):
        await FileSource(patterns, 60.0, patience_s=0.0).fetch()


async def test_a_pattern_that_matches_nothing_is_awaited_while_something_remembered_is_missing(tmp_path: Path) -> None:
    """A file server that is not mounted yet, a file that went while promring was not there."""
    a, b = tmp_path / "a.json", tmp_path / "b.yml"
    a.write_text(ONE)
    patterns = [f"{tmp_path}/*.json", f"{tmp_path}/*.yml"]
    source = FileSource(patterns, 60.0, patience_s=0.0)
    source.remember(pool_of([TargetGroup.of(["t1:9100", "b:1"])]))
    for _ in range(2):
        with pytest.raises(DiscoveryError, match=r"\*\.yml: no such file; reload if its targets shall go") as caught:
            await source.fetch()
        assert (len(caught.value.pool or ()), caught.value.remembered) == (2, True)
    b.write_text("- targets: [b:1]")
    assert len(await source.fetch()) == 2
    b.unlink()
    reloaded = FileSource(patterns, 60.0, patience_s=0.0, reloaded=True)
    reloaded.remember(pool_of([TargetGroup.of(["t1:9100", "b:1"])]))
    assert len(await reloaded.fetch()) == 1, "somebody has seen that the file is gone, and asked for a reload"
    again = FileSource(patterns, 60.0, patience_s=0.0)
    again.remember(pool_of([TargetGroup.of(["t1:9100"])]))
    assert len(await again.fetch()) == 1, "nothing that is remembered is missing"
