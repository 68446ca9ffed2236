"""The same lists through promring and through real Prometheus 2.42, 3.5 and vmagent.

Direct: what promring makes of a list is what Prometheus makes of it. By way of slices: what scrapers make of promring's
slices, all together, is what promring made of the list, each target once. What differs stands in ``DIFFERENCES`` with its
heading in ``docs/compatibility.md``, and only that.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from testbed.sdoracle import Targets

from promring.core.placement import Policy, place
from promring.core.plan import bodies
from promring.core.ring import Ring
from promring.discovery.groups import from_json, from_yaml
from promring.discovery.intervals import INTERVAL
from promring.model import DiscoveryError, Scraper, TargetPool
from promring.runtime.http_client import new_session
from tests.differential.corpus import JSON, YAML
from tests.differential.generated import generated_lists
from tests.differential.odd import odd_lists
from tests.differential.oracle import SETTLED_S, Oracle, Verdicts, config_of, oracles
from tests.differential.readings import passing, read, shown, targets_of
from tests.real.conftest import server
from tests.rows import Seen
from tests.waiting import until

pytestmark = pytest.mark.real

DOCUMENT = Path(__file__).parents[2] / "docs" / "compatibility.md"
CASES = Path(__file__).parent / "cases"
MARKER = "marker:1"
SHARDS = 3
OLD, NEW = "Prometheus 2.42", "Prometheus 3.5"

NAMES = "Label names that only Prometheus 3 takes"
CONTROL = "Control characters in an address"
EMPTY_ADDRESS = "An empty address"
EMPTY_FILE = "An empty YAML file"
NULL_NAME = "A null as a label name in YAML"

OLD_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ONLY_NEW = """
label_dash.json label_dots.json label_unicode_name.json label_digit_first.json label_colon.json label_space_name.json
label_newline_name.json label_bad_utf8_name.json label_surrogate_name.json label_bad_name_empty.json label_key_dash.yml
label_key_unicode.yml label_key_number.yml label_merge_char.yml
"""
_WITH_CONTROL = """
target_newline.json target_tab.json target_nul.json target_del.json target_nel.json target_raw_del.json target_newline.yml
"""
_WITHOUT_ADDRESS = "target_empty.json target_null.json target_nulls_block.yml tag_python_name.yml"
_BOTH = frozenset({OLD, NEW})
DIFFERENCES: Mapping[str, tuple[str, frozenset[str]]] = {
    **dict.fromkeys(_ONLY_NEW.split(), (NAMES, frozenset({OLD}))),
    **dict.fromkeys(_WITH_CONTROL.split(), (CONTROL, _BOTH)),
    **dict.fromkeys(_WITHOUT_ADDRESS.split(), (EMPTY_ADDRESS, _BOTH)),
    "no_bytes.yml": (EMPTY_FILE, _BOTH),
    "label_key_null.yml": (NULL_NAME, _BOTH),
    "label_key_null_long.yml": (NULL_NAME, _BOTH),
    "label_key_scalars.yml": (NULL_NAME, _BOTH),
}
"""By list: the heading of ``docs/compatibility.md`` that says why, and whose verdict is another one."""


def names_of(name: str, text: bytes) -> set[str]:
    """The names of all labels in a list that promring takes, also of those that another ``labels`` replaces."""
    parse = from_json if name.endswith(".json") else from_yaml
    found = {key.decode(errors="replace") for key in re.findall(rb'"([^"\\]*)":', text)} if name.endswith(".json") else set()
    try:
        return found | {label for group in parse(text, name) for label in group.labels or ()}
    except DiscoveryError:
        return set()


def slices_of(pool: TargetPool) -> list[bytes]:
    """For each of ``SHARDS`` scrapers."""
    ring = Ring(tuple(Scraper(f"s:{n}", "s", n) for n in range(1, SHARDS + 1)), 16)
    return [body for _, body, _ in bodies(place(pool, ring, Policy()))]


def lists() -> Iterator[tuple[str, bytes]]:
    yield from ((f"{name}.json", text) for name, text in JSON.items())
    yield from ((f"{name}.yml", text) for name, text in YAML.items())
    yield from generated_lists()
    yield from odd_lists()


async def verdicts(made: list[Oracle]) -> list[tuple[str, Verdicts]]:
    """Once each has read everything."""
    async with new_session() as session:
        for oracle in made:
            await oracle.verdicts(session, MARKER)
        await asyncio.sleep(SETTLED_S)  # those that a scraper read before may be applied with the next turn
        return [(oracle.name, await oracle.verdicts(session, MARKER)) for oracle in made]


@pytest.mark.timeout(480)
@pytest.mark.row(
    57, "A1", did="lists of every kind, well and badly formed, through promring and real scrapers, direct and as a slice"
)
async def test_a_list_means_what_prometheus_says(tmp_path: Path, seen: Seen) -> None:
    server("prometheus")
    folder = tmp_path / "lists"
    folder.mkdir()
    texts = dict(lists())
    pools = {name: read(name, text) for name, text in texts.items()}
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    for name, pool in pools.items():
        if pool is not None:
            for number, body in enumerate(slices_of(pool)):
                (folder / slice_name(name, number)).write_bytes(body)
    (folder / "zz-marker.json").write_text(json.dumps([{"targets": [MARKER]}]))
    async with oracles(tmp_path / "servers", config_of(folder)) as made:
        found = await verdicts(made)
    wrong: list[str] = []
    differ: set[str] = set()
    for name, pool in pools.items():
        ours = None if pool is None else targets_of(pool)
        for one, verdict in found:
            theirs = verdict.of(folder / name)
            if one in _BOTH and theirs != ours:
                differ.add(name)
                named = one in DIFFERENCES.get(name, ("", frozenset()))[1]
                if not named and not is_documented(one, theirs, ours, names_of(name, texts[name])):
                    wrong.append(f"{name}: {texts[name][:200]!r}: {one} {shown(theirs)}, promring {shown(ours)}")
            if ours is None or (one == OLD and not names_are_old(ours)):
                continue
            shards = [verdict.of(folder / slice_name(name, number)) for number in range(SHARDS)]
            if sorted(map(sorted, (target for shard in shards for target in shard or ()))) != sorted(map(sorted, ours)):
                wrong.append(f"{name} as slices: {one} {[*map(shown, shards)]}, promring {shown(ours)}")
    assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong[:40])
    assert set(DIFFERENCES) <= differ, f"no difference any more: {sorted(set(DIFFERENCES) - differ)}"
    taken = sum(pool is not None for pool in pools.values())
    by = ", ".join(one for one, _ in found)
    seen(f"{len(texts)} lists, {taken} taken, by {by}; {len(DIFFERENCES)} differences, each documented")


def is_documented(one: str, theirs: Targets | None, ours: Targets | None, names: set[str]) -> bool:
    """Whether a generated list differs only by what has a heading. ``names``: of its labels, empty ones too."""
    if theirs is None or ours is None:
        return one == OLD and ours is not None and not all(map(OLD_NAME.fullmatch, names))
    return ours == passing(theirs)


def slice_name(name: str, number: int) -> str:
    return f"slice-{number}-{name.replace('.', '-')}.json"


def names_are_old(targets: Targets) -> bool:
    """Whether Prometheus 2 takes every label name."""
    return all(OLD_NAME.fullmatch(name) for target in targets for name, _ in target)


async def test_a_list_that_ends_vmagent_does_not_as_a_slice(tmp_path: Path) -> None:
    program = server("vmagent")
    text = json.dumps([{"targets": ["a:1"], "labels": {INTERVAL: "0s"}}, {"targets": ["b:1"]}]).encode()
    pool = read("list.json", text)
    assert pool is not None
    slices = b"[" + b",".join(body.strip()[1:-1] for body in slices_of(pool) if body.strip() != b"[]") + b"]"
    assert not await survives(program, tmp_path / "list", text)
    assert await survives(program, tmp_path / "slice", slices)


async def survives(vmagent: Path, folder: Path, listed: bytes) -> bool:
    """Whether a vmagent that reads the list goes on until it scrapes b:1. With an interval in the list it is to end."""
    path = folder.with_suffix(".json")
    path.write_bytes(listed)
    config = f"scrape_configs: [{{job_name: x, scrape_interval: 1s, file_sd_configs: [{{files: [{path}]}}]}}]"
    process = Oracle(vmagent, folder, config).process
    await process.start()
    try:
        ends = INTERVAL.encode() in listed
        await until(
            lambda: not process.running or (not ends and "http://b:1/" in process.log_file.read_text()), "an end", 60
        )
        return process.running
    finally:
        await process.stop()


def test_every_difference_is_documented() -> None:
    headings = set(re.findall(r"^## (.+)$", DOCUMENT.read_text(), re.M))
    assert {heading for heading, _ in DIFFERENCES.values()} <= headings
