"""Coverage tells the truth: all well, one missing, one doubled, one behind, a stranger, one that does not answer."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from promring.audit.active import AuditError, decoded
from promring.core.coverage import Active, Index, Seen, coverage
from promring.core.placement import Policy, place
from promring.core.pool import build_pool, identities, target
from promring.core.ring import Ring
from promring.model import Placement, Scraper, TargetGroup
from tests.laws.strategies import pool_of

MEMBERS = tuple(Scraper(f"{name}:1", name, 1) for name in "abc")
NAMES = [f"t{n}:1" for n in range(30)]


def placement() -> Placement:
    return place(pool_of(NAMES), Ring(MEMBERS, 64), Policy(64))


def active(address: str, **labels: str) -> Active:
    discovered = {"__address__": address, "__scheme__": "http", "__metrics_path__": "/metrics", "job": "x", **labels}
    return Active(discovered, scraped=True, up=True)


def as_told(found: Placement) -> dict[str, list[Active]]:
    """Every scraper scrapes its slice and nothing else."""
    told: dict[str, list[Active]] = {s.id: [] for s in found.scrapers}
    for name, (owner,) in zip(identities(found.pool), found.owners.tolist(), strict=True):
        told[found.scrapers[owner].id].append(active(name))
    return told


def seen(found: Placement, told: dict[str, list[Active]]) -> dict[str, Seen]:
    index = Index(found.pool)
    return {name: index.seen(1.0, some) for name, some in told.items()}


def test_all_well() -> None:
    found = placement()
    result = coverage(found, seen(found, as_told(found)), {})
    assert (result.ratio, result.uncovered, len(result.doubled), len(result.down)) == (1.0, 0, 0, 0)
    assert not any(one.behind for one in result.scrapers.values())
    assert sum(one.scraped for one in result.scrapers.values()) == 30


def test_one_is_missing_one_doubled_one_a_stranger_and_one_down() -> None:
    found = placement()
    told = as_told(found)
    missing = told["a:1"].pop()
    doubled = told["b:1"][0]
    told["c:1"] += [doubled, active("stranger:1")]
    sick = told["c:1"][0]
    told["c:1"][0] = Active(sick.discovered, scraped=True, up=False)
    result = coverage(found, seen(found, told), {})
    names = identities(found.pool)
    assert [names[row] for row in result.missing] == [missing.discovered["__address__"]]
    assert [names[row] for row in result.doubled] == [doubled.discovered["__address__"]]
    assert [names[row] for row in result.down] == [sick.discovered["__address__"]]
    assert result.ratio == pytest.approx(29 / 30)
    assert not len(result.unproved)
    a, c = result.scrapers["a:1"], result.scrapers["c:1"]
    assert (a.missing, a.foreign, c.missing, c.foreign, c.down) == (1, 0, 0, 2, 1)


def test_a_target_that_was_not_scraped_yet_is_not_covered() -> None:
    found = placement()
    told = as_told(found)
    one = told["a:1"][0]
    told["a:1"][0] = Active(one.discovered, scraped=False, up=False)
    assert coverage(found, seen(found, told), {}).uncovered == 1


def test_who_does_not_answer_proves_nothing_and_hides_nobody_else() -> None:
    found = placement()
    told = as_told(found)
    lost = len(told.pop("a:1"))
    told["b:1"].pop()
    result = coverage(found, seen(found, told), {"a:1": "refused"})
    assert (len(result.unproved), len(result.missing), result.uncovered) == (lost, 1, lost + 1)
    assert result.scrapers["a:1"].error == "refused"
    nobody = coverage(found, {}, {})
    assert (nobody.ratio, len(nobody.unproved)) == (0.0, 30)


def test_one_that_changed_hands_is_covered_by_whom_scrapes_it() -> None:
    """A scraper behind its slice: it scrapes what another one shall have by now."""
    found = placement()
    told = as_told(found)
    told["b:1"].append(told["a:1"].pop())
    result = coverage(found, seen(found, told), {})
    assert (result.uncovered, len(result.doubled)) == (0, 0)
    assert (result.scrapers["a:1"].missing, result.scrapers["b:1"].foreign) == (1, 1)


def test_targets_that_labels_tell_apart_are_told_apart() -> None:
    modules = [TargetGroup.of(["t:1"], {"__param_module": m}) for m in ("icmp", "http")]
    pool = build_pool([[*modules, TargetGroup.of(["t:1", "u:1"])]])
    assert len(pool) == 4
    found = place(pool, Ring(MEMBERS[:1], 8), Policy(8))
    told = {"a:1": [active("t:1", __param_module="icmp"), active("t:1"), active("u:1", __param_target="by the job")]}
    result = coverage(found, seen(found, told), {})
    (missing,) = result.missing.tolist()
    assert identities(pool)[missing] == "t:1\0__param_module\0http"
    hosts = build_pool([[TargetGroup.of(["t:1"], {"host": h}) for h in "xy"]], hash_labels=("__address__", "host"))
    found = place(hosts, Ring(MEMBERS[:1], 8), Policy(8))
    result = coverage(found, seen(found, {"a:1": [active("t:1", host="x")]}), {})
    assert result.uncovered == 1


def test_what_scrapers_answer_is_read_strictly() -> None:
    one = {
        "discoveredLabels": {"__address__": "t:1"},
        "scrapePool": "x",
        "health": "up",
        "lastScrape": "2026-01-01T00:00:00Z",
    }
    never = {**one, "lastScrape": "0001-01-01T00:00:00Z", "health": "unknown"}

    def body(*targets: object) -> bytes:
        return msgspec.json.encode({"status": "success", "data": {"activeTargets": targets or None}})

    assert [(a.scraped, a.up) for a in decoded(body(one, never), "x")] == [(True, True), (False, False)]
    assert list(decoded(body(), "x")) == []
    other = {**one, "scrapePool": "y"}
    assert len(list(decoded(body(one, other), "x"))) == 1
    with pytest.raises(AuditError, match=r"no scrape pool 'x'.*there is y"):
        list(decoded(body(other), "x"))
    for bad in (b"", b"{}", b'{"status":"success","data":{"activeTargets":5}}', b"\xff"):
        with pytest.raises(AuditError, match="/api/v1/targets: "):
            list(decoded(bad, "x"))


@pytest.mark.parametrize(
    "text",
    [
        b'{"status":"error","data":{"activeTargets":[]}}',
        b'{"status":"error","errorType":"unavailable","error":"starting","data":{"activeTargets":null}}',
        b'{"status":"success","data":{}}',
        b'{"status":"success","data":{"droppedTargets":[]}}',
    ],
)
def test_an_answer_that_does_not_list_what_is_scraped_proves_nothing(text: bytes) -> None:
    with pytest.raises(AuditError, match="/api/v1/targets: "):
        list(decoded(text, "x"))


def test_an_index_of_nothing_finds_nothing() -> None:
    index = Index(pool_of([]))
    found = index.seen(1.0, [active("t:1")])
    assert (found.foreign, found.foreign_count, len(found.ids)) == (("t:1",), 1, 0)
    assert found.scraped_ids.dtype == np.uint64


def test_a_relabelled_address_is_found_by_its_parameter_or_its_instance() -> None:
    found = place(pool_of(["t:1", "u:1"]), Ring(MEMBERS[:1], 8), Policy(8))
    probe = {"__address__": "blackbox:9115", "__param_target": "t:1"}
    told = [
        Active(probe, scraped=True, up=True, instance="t:1"),
        Active({"__address__": "proxy:1"}, scraped=True, up=True, instance="u:1"),
        Active({"__address__": "proxy:1"}, scraped=True, up=True, instance="stranger"),
    ]
    result = coverage(found, {"a:1": Index(found.pool).seen(1.0, told)}, {})
    assert (result.uncovered, result.scrapers["a:1"].foreign) == (0, 1)


def test_entries_of_one_address_are_told_apart_by_their_labels() -> None:
    groups = [
        TargetGroup.of(["t:1"], {"module": "icmp"}),
        TargetGroup.of(["t:1"], {"module": "http"}),
        TargetGroup.of(["u:1"]),
    ]
    found = place(build_pool([groups]), Ring(MEMBERS, 64), Policy(64))
    owner = found.scrapers[found.owners[0, 0]].id
    told: dict[str, list[Active]] = {name: [] for name in ["a:1", "b:1", "c:1"]}
    for row in range(len(found.pool)):
        one = target(found.pool, row)
        told[found.scrapers[found.owners[row, 0]].id].append(active(one.address, **one.labels))
    assert coverage(found, seen(found, told), {}).ratio == 1.0
    gone = next(a for a in told[owner] if a.discovered.get("module"))
    told[owner].remove(gone)
    missing = coverage(found, seen(found, told), {}).missing.tolist()
    assert [target(found.pool, row).labels["module"] for row in missing] == [gone.discovered["module"]]
