"""Which files a pattern matches, and what is said when that cannot be seen."""

from __future__ import annotations

import glob
from pathlib import Path

import pytest

from promring.discovery.file import FileSource
from promring.discovery.globs import escaped, matching, may_match
from promring.model import DiscoveryError
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
