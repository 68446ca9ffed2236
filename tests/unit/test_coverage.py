"""Coverage tells the truth: all well, one missing, one doubled, one behind, a stranger, one that does not answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
import structlog

from promring.audit.absent import judged, looked_for
from promring.audit.active import decoded, seen_by_pool, with_dropped
from promring.audit.answers import AuditError, NoPoolError, Told
from promring.audit.look import Look
from promring.audit.mistaken import with_mistaken
from promring.audit.times import interval_s
from promring.core.claims import shown_by
from promring.core.coverage import Active, Coverage, Index, Seen, coverage
from promring.core.fragment import ID_LABEL, decode, fragments, identities
from promring.core.placement import Policy, place
from promring.core.pool import build_pool
from promring.core.ring import Ring
from promring.core.takers import PROOF, Takers
from promring.model import Placement, Scraper, TargetGroup, TargetPool
from tests.laws.strategies import pool_of
from tests.seeing import told as as_listed

MEMBERS = tuple(Scraper(f"{name}:1", name, 1) for name in "abc")
NAMES = [f"t{n}:1" for n in range(30)]


def placement() -> Placement:
    return place(pool_of(NAMES), Ring(MEMBERS, 64), Policy(64))


STRANGER = Active({"__address__": "stranger:1"}, up=True)


def as_told(found: Placement) -> dict[str, list[Active]]:
    """Every scraper scrapes its slice and nothing else."""
    told: dict[str, list[Active]] = {s.id: [] for s in found.scrapers}
    for row, (owner,) in enumerate(found.owners.tolist()):
        told[found.scrapers[owner].id].append(as_listed(found.pool, row))
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
    told["c:1"] += [doubled, STRANGER]
    sick = told["c:1"][0]
    told["c:1"][0] = sick._replace(up=False)
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
    told["a:1"][0] = one._replace(age_s=None, up=False)
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


def test_of_a_target_that_came_after_the_question_nothing_is_known() -> None:
    """A new leader reads a newer list while it asks: the scrapers have had these targets from the last one."""
    asked = build_pool([(TargetGroup.of(NAMES[:-2]),)])
    found = placement()
    answers = {name: Index(asked).seen(1.0, some) for name, some in as_told(found).items()}
    result = coverage(found, answers, {}, asked)
    names = identities(found.pool)
    assert ({names[row] for row in result.unproved}, len(result.missing)) == (set(NAMES[-2:]), 0)
    assert len(coverage(found, answers, {}).missing) == 2, "else nobody who was asked scrapes them"
    dropped = Index(asked).dropped([as_listed(found.pool, row).discovered for row in result.unproved])
    answers = {name: replace(one, dropped=dropped) for name, one in answers.items()}
    assert len(coverage(found, answers, {}).dropped) == 2, "what was dropped is known of the next targets, too"


def test_one_that_changed_hands_is_covered_by_whom_scrapes_it() -> None:
    """A scraper behind its slice: it scrapes what another one shall have by now."""
    found = placement()
    told = as_told(found)
    told["b:1"].append(told["a:1"].pop())
    result = coverage(found, seen(found, told), {})
    assert (result.uncovered, len(result.doubled)) == (0, 0)
    assert (result.scrapers["a:1"].missing, result.scrapers["b:1"].foreign) == (1, 1)


def test_a_removed_scraper_that_goes_on_scraping_doubles_and_one_with_nothing_may_have_other_jobs() -> None:
    before = placement()
    told = as_told(before)
    drained = tuple(replace(s, weight=0.0 if s.id == "a:1" else 1.0) for s in MEMBERS)
    after = place(before.pool, Ring(drained, 64), Policy(64))
    goes_on = as_told(after) | {"a:1": told["a:1"]}
    result = coverage(after, seen(after, goes_on), {})
    assert (result.uncovered, len(result.doubled)) == (0, len(told["a:1"]))
    assert result.scrapers["a:1"].foreign == len(told["a:1"]) > 5
    others = coverage(after, seen(after, as_told(after)), {"a:1": "no scrape pool 'pool' (…); there is node"})
    assert (others.ratio, others.scrapers["a:1"].error) == (1.0, "")


def test_entries_of_one_address_are_told_apart() -> None:
    modules = [TargetGroup.of(["t:1"], {"__param_module": m}) for m in ("icmp", "http")]
    pool = build_pool([[*modules, TargetGroup.of(["t:1", "u:1"]), TargetGroup.of(["u:1"], {"host": "x"})]])
    assert len(set(pool.ids.tolist())) == len(pool) == 5
    found = place(pool, Ring(MEMBERS[:1], 8), Policy(8))
    for lost in range(5):
        told = {"a:1": [as_listed(pool, row) for row in range(5) if row != lost]}
        assert coverage(found, seen(found, told), {}).missing.tolist() == [lost]


def test_what_is_listed_and_not_asked_is_not_covered_and_the_reason_is_named() -> None:
    found = placement()
    told = as_told(found)
    limit = "target_limit exceeded (number of targets: 12, limit: 2)"
    told["a:1"] = [one._replace(up=False, never_asked=limit) for one in told["a:1"]]
    result = coverage(found, seen(found, told), {})
    assert (len(result.missing), result.scrapers["a:1"].never_asked) == (len(told["a:1"]), limit)
    assert result.scrapers["a:1"].scraped == 0


def test_a_server_that_stands_still_proves_nothing() -> None:
    found = placement()
    told = {name: [one._replace(age_s=14.0) for one in some] for name, some in as_told(found).items()}
    assert coverage(found, seen(found, told), {}).ratio == 1.0
    old = {name: [one._replace(age_s=16.0) for one in some] for name, some in told.items()}
    assert coverage(found, seen(found, old), {}).ratio == 0.0
    assert all("16 s before the Date" in one.never_asked for one in coverage(found, seen(found, old), {}).scrapers.values())
    slow = {name: [one._replace(age_s=16.0, interval_s=60.0) for one in some] for name, some in told.items()}
    assert coverage(found, seen(found, slow), {}).ratio == 1.0


def test_what_relabelling_drops_is_a_kind_of_its_own() -> None:
    found = placement()
    told = as_told(found)
    gone = told["a:1"].pop(), told["a:1"].pop()
    index = Index(found.pool)
    sights = seen(found, told)
    dropped = index.dropped([one.discovered for one in gone] + [STRANGER.discovered])
    result = coverage(found, {**sights, "a:1": replace(sights["a:1"], dropped=dropped)}, {})
    assert (result.ratio, len(result.dropped), len(result.missing)) == (1.0, 2, 0)
    assert (result.scrapers["a:1"].dropped, result.scrapers["a:1"].missing, result.scrapers["a:1"].behind) == (2, 0, False)
    capped = coverage(found, {**sights, "a:1": replace(sights["a:1"], dropped=dropped[:1], hidden=1)}, {})
    assert (len(capped.dropped), len(capped.unproved), len(capped.missing)) == (1, 1, 0), (
        "it drops one more, nobody knows which"
    )


def test_what_is_dropped_by_one_who_got_it_from_another_controller_is_not_missing() -> None:
    found = placement()
    told = as_told(found)
    gone = told["a:1"].pop()
    sights = seen(found, told)
    sights["b:1"] = replace(sights["b:1"], dropped=Index(found.pool).dropped([gone.discovered]))
    result = coverage(found, sights, {})
    assert (result.ratio, len(result.dropped), len(result.missing)) == (1.0, 1, 0)
    assert (result.scrapers["a:1"].missing, result.scrapers["b:1"].dropped) == (1, 0), "a:1 has not its slice yet"


def test_what_one_scraper_drops_and_another_took_is_missing_until_a_second_one_drops_it_too() -> None:
    found, takers = placement(), Takers()
    told = as_told(found)
    gone = told["a:1"].pop()
    took = {**told, "b:1": [*told["b:1"], gone]}
    judged = takers.judged(found.pool, seen(found, took), tries=True)
    assert coverage(found, judged, {}).scrapers["a:1"].denied == 0, "b:1 has it"
    drops = Index(found.pool).dropped([gone.discovered])

    def looked(pool: TargetPool, *who: str) -> Coverage:
        sights = {name: replace(one, dropped=drops) if name in who else one for name, one in seen(found, told).items()}
        return coverage(found, takers.judged(pool, sights, tries=True), {})

    for pool in (found.pool, pool_of([*NAMES, "more:1"]), found.pool):  # lists change meanwhile
        denied = looked(pool, "a:1")
        assert (len(denied.missing), len(denied.dropped), denied.scrapers["a:1"].denied) == (1, 0, 1)
    assert len(looked(found.pool, "b:1").dropped) == 1, "who took it last has new rules"
    for _ in range(2):
        agreed = looked(found.pool, "a:1", "c:1")
        assert (agreed.ratio, len(agreed.dropped), agreed.scrapers["a:1"].denied) == (1.0, 1, 0)
    assert looked(found.pool, "a:1").ratio == 1.0, "they agreed"


def test_of_what_one_scraper_drops_a_few_are_untold_until_another_takes_or_drops_them() -> None:
    """``taken``: a shard rule that one scraper has, which drops half of its targets; else a rule that all have."""
    found = placement()
    for taken in (True, False):
        takers, told = Takers(), as_told(found)
        gone, told["a:1"] = told["a:1"][:6], told["a:1"][6:]
        drops = Index(found.pool).dropped([one.discovered for one in gone])
        sights = seen(found, told)
        sights["a:1"] = replace(sights["a:1"], dropped=drops)
        first = takers.judged(found.pool, sights, tries=True)["a:1"]
        assert (first.untold.tolist(), len(first.denied)) == (drops[:PROOF].tolist(), 0)
        tried = [one for one in gone if int(one.discovered[ID_LABEL], 16) in first.untold]
        if taken:
            sights["b:1"] = seen(found, {"b:1": [*told["b:1"], *tried]})["b:1"]
        else:
            sights["b:1"] = replace(sights["b:1"], dropped=first.untold)
        judged = takers.judged(found.pool, sights, tries=True)
        assert (judged["a:1"].denied.tolist(), len(judged["a:1"].untold)) == (drops.tolist() if taken else [], 0)
        assert len(coverage(found, judged, {}).dropped) == (0 if taken else 6)


def test_what_scrapers_say_they_drop_is_read() -> None:
    pool = pool_of(["t:1", "u:1", "v:1"])
    index = Index(pool)
    seen = index.seen(1.0, [as_listed(pool, 0)])
    one, other, third = ({"discoveredLabels": dict(as_listed(pool, row).discovered)} for row in range(3))
    third["discoveredLabels"]["job"] = "y"

    def read(*entries: object, **more: object) -> Seen:
        data = {"activeTargets": [], "droppedTargets": entries or None, **more}
        return with_dropped(seen, Told(msgspec.json.encode({"status": "success", "data": data}), 1.0), "x", index)

    assert read().dropped.tolist() == []
    assert read(one, other, third).dropped.tolist() == sorted(pool.ids[:2].tolist()), "the third is another job's"
    assert read({**other, "scrapePool": "y"}).dropped.tolist() == [], "the pool says so"
    counted = read(other, droppedTargetCounts={"x": 3, "y": 1})
    assert (counted.dropped.tolist(), counted.hidden) == ([int(pool.ids[1])], 2)
    elsewhere = {"discoveredLabels": {"__address__": "w:1", "job": "y"}}
    assert read(*[elsewhere] * 10_000).hidden >= len(pool), "vmagent shows no more than that, and does not say so"
    assert read(*[elsewhere] * 10_000, droppedTargetCounts={"y": 10_000}).hidden == 0
    assert read(*[elsewhere] * 9_999).hidden == 0
    bare = {"discoveredLabels": {ID_LABEL: f"{int(pool.ids[2]):016x}"}}
    assert read(bare).dropped.tolist() == [int(pool.ids[2])], "relabelling took its job away"


def test_what_a_scraper_drops_without_an_id_is_unproved_and_of_another_list() -> None:
    """Its reload was refused, and it goes on with its own list of before, of which a hashmod rule drops a part."""
    pool = pool_of(["t:1", "u:1"])
    index = Index(pool)
    mine, dropped = ({"__address__": address, "job": "x"} for address in ("t:1", "u:1"))
    seen = index.seen(1.0, [Active(mine, up=True)])
    data = {"activeTargets": [], "droppedTargets": [{"discoveredLabels": dropped}]}
    seen = with_dropped(seen, Told(msgspec.json.encode({"status": "success", "data": data}), 1.0), "x", index)
    assert (len(seen.dropped), len(seen.unlabelled), len(seen.dropped_bare)) == (0, 1, 1)
    told = coverage(place(pool, Ring((Scraper("a:1", "a", 1),), 8), Policy()), {"a:1": seen}, {})
    assert (len(told.unproved), len(told.missing)) == (2, 0)
    scraped = [decode(pool.fragment(row)).address == "t:1" for row in range(2)]
    assert shown_by(seen, pool.ids).tolist() == scraped, "what it drops it does not scrape"


def test_targets_that_are_shown_without_their_id_are_unproved_and_those_of_no_list_foreign() -> None:
    """As Prometheus 2.42 shows them where relabelling takes the id away; the job's own labels are among them."""
    groups = [
        TargetGroup.of(["t:1"]),
        TargetGroup.of(["u:1"], {"__param_x": "1", "a": "b"}),
        TargetGroup.of(["v:1"], {"__scheme__": "https", "__metrics_path__": "/m"}),
        TargetGroup.of(["w:1"]),
    ]
    pool = build_pool([groups])
    found = place(pool, Ring((Scraper("a:1", "a", 1),), 8), Policy())
    jobs = {"__scheme__": "http", "__metrics_path__": "/metrics", "job": "x"}
    bare = [
        jobs | {"__address__": "t:1", "__param_y": "of the job"},
        jobs | {"__address__": "u:1", "__param_x": "1", "a": "b"},
        jobs | {"__address__": "v:1", "__scheme__": "https", "__metrics_path__": "/m"},
        jobs | {"__address__": "z:1"},
        jobs | {"__address__": "w:1", ID_LABEL: "0" * 15 + "1"},
    ]
    index = Index(pool)
    sight = index.seen(1.0, [Active(labels, up=True) for labels in bare])
    addresses = {int(key): decode(pool.fragment(row)).address for row, key in enumerate(pool.ids.tolist())}
    assert sorted(addresses[key] for key in sight.unlabelled.tolist()) == ["t:1", "u:1", "v:1"]
    assert (sight.foreign, sight.foreign_count) == (("z:1", "w:1"), 2), "what has another id is another target"
    told = coverage(found, {"a:1": sight}, {})
    assert (len(told.unproved), [addresses[int(pool.ids[row])] for row in told.missing]) == (3, ["w:1"])
    assert "labelkeep" in told.scrapers["a:1"].never_asked
    assert len(index.unlabelled(bare[:3])) == 3


@pytest.mark.parametrize("hash_labels", [None, ["__address__"], ["host"]])
def test_what_relabelling_makes_equal_to_another_target_is_dropped_and_not_missing(hash_labels: list[str] | None) -> None:
    groups = [
        TargetGroup.of(["t:1", "u:1"], {"__meta_id": "1", "host": "a"}),
        TargetGroup.of(["t:1"], {"__meta_id": "2", "host": "a"}),
        TargetGroup.of(["t:1"], {"__param_x": "1", "host": "a"}),
    ]
    pool = build_pool([groups], hash_labels)
    wanted = (("t:1", "1"), ("t:1", "2"), ("u:1", "1"), ("t:1", ""))
    first, second, other, redirected = (row_of(pool, address, meta_id) for address, meta_id in wanted)
    index = Index(pool)
    empty = Told(msgspec.json.encode({"status": "success", "data": {"activeTargets": [], "droppedTargets": []}}), 1.0)

    def dropped(*rows: int) -> list[int]:
        seen = index.seen(1.0, [as_listed(pool, row) for row in rows])
        found: list[int] = with_dropped(seen, empty, "x", index).dropped.tolist()
        return found

    assert dropped(first, other, redirected) == [int(pool.ids[second])]
    assert dropped(second) == [int(pool.ids[first])]
    assert dropped(first, second) == dropped(other, redirected) == dropped() == []


def row_of(pool: TargetPool, address: str, meta_id: str) -> int:
    found = [decode(one) for one in fragments(pool)]
    return next(n for n, one in enumerate(found) if (one.address, one.labels.get("__meta_id", "")) == (address, meta_id))


def test_what_scrapers_answer_is_read_strictly() -> None:
    one = {
        "discoveredLabels": {"__address__": "t:1"},
        "scrapePool": "x",
        "health": "up",
        "lastScrape": "2026-01-01T00:00:00Z",
    }
    never = {**one, "lastScrape": "0001-01-01T00:00:00Z", "health": "unknown"}
    other_never = {**one, "lastScrape": "1970-01-01T00:00:00Z", "health": "down"}
    limited = {**one, "health": "down", "lastError": "target_limit exceeded (number of targets: 4, limit: 2)"}
    clock = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC).timestamp()

    def body(*targets: object) -> Told:
        return Told(msgspec.json.encode({"status": "success", "data": {"activeTargets": targets or None}}), clock)

    assert [(a.age_s, a.up, a.interval_s) for a in decoded(body(one, never, other_never), "x")] == [
        (11.0, True, None),
        (None, False, None),
        (None, False, None),
    ]
    ahead = {**one, "lastScrape": "2026-01-01T02:00:00+01:00"}
    with pytest.raises(AuditError, match="3590 s later than the Date of the answer: is there a proxy with another clock"):
        list(decoded(body(one, ahead), "x"))
    assert [bool(a.never_asked) for a in decoded(body(one, limited), "x")] == [False, True]
    assert [a.never_asked for a in decoded(body(never, other_never), "x")] == ["", ""]
    (interval,) = [a.interval_s for a in decoded(body({**one, "scrapeInterval": "15s"}), "x")]
    (other_interval,) = [
        a.interval_s for a in decoded(body({**one, "discoveredLabels": {"__scrape_interval__": "1m0s"}}), "x")
    ]
    assert (interval, other_interval) == (15.0, 60.0)
    assert [interval_s(text) for text in ("1.5s", "1m30.25s", "500ms", "1h0m0s", "0.5h", "1m0s", "250µs")] == [
        1.5, 90.25, 0.5, 3600.0, 1800.0, 60.0, 0.00025,
    ]  # fmt: skip
    odd = ("", "0s", "0.0s", "1.5", "s", "1.s", ".5s", "-1.5s", "1.5s ", "9999999.5h", "1.5s" * 11, "\u0661.5s")
    assert [text for text in odd if interval_s(text) is not None] == []
    assert list(decoded(body(), "x")) == []
    other = {**one, "scrapePool": "y"}
    assert len(list(decoded(body(one, other), "x"))) == 1
    with pytest.raises(AuditError, match=r"no scrape pool 'x'.*there is y"):
        list(decoded(body(other), "x"))
    for bad in (b"", b"{}", b'{"status":"success","data":{"activeTargets":5}}', b"\xff"):
        with pytest.raises(AuditError, match="/api/v1/targets: "):
            list(decoded(Told(bad, 1.0), "x"))


@pytest.mark.parametrize("told", [{}, {"health": ""}, {"health": "unknown"}, {"health": "UP"}, {"health": "stale"}])
def test_a_scrape_of_which_nobody_says_whether_it_was_good_proves_nothing_and_is_no_failure(told: dict[str, str]) -> None:
    """Such answers made the scraper sick: its targets moved, although it reached all of them."""
    found = place(pool_of(["t:1"]), Ring(MEMBERS[:1], 8), Policy(8))
    listed = {
        "discoveredLabels": dict(as_listed(found.pool, 0).discovered),
        "scrapePool": "x",
        "lastScrape": "2026-01-01T00:00:00Z",
    }
    clock = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC).timestamp()
    body = msgspec.json.encode({"status": "success", "data": {"activeTargets": [{**listed, **told}]}})
    seen = Index(found.pool).seen(100.0, decoded(Told(body, clock), "x"))
    assert not seen.scraped.any()
    assert not seen.up.any()
    assert f"health {told.get('health', '')!r}" in seen.never_asked


def test_a_server_that_names_no_scrape_pools_is_told_from_one_with_other_pools() -> None:
    body = b'{"status":"success","data":{"activeTargets":[{"discoveredLabels":{},"health":"up"}]}}'
    (found,) = seen_by_pool(Told(body, 1.0), {"x": Index(pool_of(["t:1"]))}, 1.0).values()
    assert "name no pool" in str(found)


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
        list(decoded(Told(text, 1.0), "x"))


def test_an_index_of_nothing_finds_nothing() -> None:
    index = Index(pool_of([]))
    found = index.seen(1.0, [STRANGER])
    assert (found.foreign, found.foreign_count, len(found.ids)) == (("stranger:1",), 1, 0)
    assert found.ids.dtype == np.uint64


def test_a_relabelled_address_is_found_by_its_id() -> None:
    found = place(pool_of(["t:1", "u:1"]), Ring(MEMBERS[:1], 8), Policy(8))
    told = [as_listed(found.pool, row, __address__="blackbox:9115") for row in range(2)]
    told.append(Active({"__address__": "t:1", ID_LABEL: "not an id"}, up=True))
    result = coverage(found, {"a:1": Index(found.pool).seen(1.0, told)}, {})
    assert (result.uncovered, result.scrapers["a:1"].foreign) == (0, 1)


@pytest.mark.parametrize("label", ["my.label", "my_label"])
async def test_where_all_is_missing_a_label_name_that_prometheus_2_refuses_is_named(label: str) -> None:
    pool = build_pool([(TargetGroup.of(["t:1", "t:2"], {label: "x"}),)])
    wanted, nothing = place(pool, Ring(MEMBERS, 64), Policy(64)), np.empty(0)
    with structlog.testing.capture_logs() as lines:
        look = Look("x", "x", 0, structlog.get_logger())
        look.seen = {s.id: Seen(20.0, nothing.astype(np.uint64), nothing, nothing.astype(bool)) for s in MEMBERS}
        for _ in range(3):
            await look.compare(wanted, lasts_s=0.0, outside={})
    _, line = [one for one in lines if one["event"] == "coverage"]
    assert (line["missing"], line["log_level"]) == (2, "warning")
    assert line.get("note", "").startswith("the label name 'my.label': a Prometheus 2") == (label == "my.label")


@pytest.mark.parametrize(
    ("elsewhere", "proves"),
    [
        ({ID_LABEL: "of ours"}, False),  # the same job under another name
        ({ID_LABEL: "0123456789abcdef"}, True),  # of another list of promring's
        ({"__address__": "static:1"}, True),  # what a fresh Prometheus has: a job of its own
        ({"__address__": "t:0"}, False),  # a Prometheus 2 whose relabelling takes the id away
        ({}, False),  # a vmagent that drops the original labels
    ],
)
def test_who_has_other_jobs_and_none_of_ours_scrapes_nothing_of_it(elsewhere: dict[str, str], proves: bool) -> None:
    """It counted as one that cannot be asked: an old owner let go to it when the time was over, and nobody scraped."""
    pool = pool_of([f"t:{n}" for n in range(3)])
    index, mine = Index(pool), {str(n): f"{key:016x}" for n, key in enumerate(pool.ids.tolist())}
    labels = elsewhere | ({ID_LABEL: mine["0"]} if elsewhere.get(ID_LABEL) == "of ours" else {})
    other = {"scrapePool": "other", "discoveredLabels": labels, "health": "up", "lastScrape": "2026-01-01T00:00:00Z"}
    answer = {"status": "success", "data": {"activeTargets": [other] * 3_000}}
    told = Told(msgspec.json.encode(answer), 1.8e9)
    found = seen_by_pool(told, {"x": index}, 1.0)
    looked_for(told, found, {"x": index})
    error = found["x"]
    assert isinstance(error, NoPoolError)
    one = next(row for row, text in enumerate(fragments(pool)) if decode(text).address == "t:0")
    judged_of = judged(error, pool.ids[[one]])
    assert isinstance(judged_of, Seen) is proves
    if isinstance(judged_of, Seen):
        assert (len(judged_of.ids), judged_of.never_asked) == (0, str(error))


def test_who_reads_the_slice_of_another_is_told_whose() -> None:
    """A copied configuration: ``/sd/node/`` of another scraper."""
    found = placement()
    told = as_told(found)
    told["a:1"] = told["b:1"]
    what = seen(found, told)
    result = coverage(found, what, {})
    mistaken = with_mistaken(result, found, what, {"a:1", "b:1", "gone:1"}).scrapers
    assert mistaken["a:1"].never_asked.startswith("it scrapes the slice of b:1: is the id in its http_sd URL")
    assert {name: one.never_asked for name, one in mistaken.items() if name != "a:1"} == {"b:1": "", "c:1": ""}
    assert with_mistaken(result, found, what, ()) is result, "who was behind for a moment only is not judged"
    told["a:1"] = told["b:1"][:2]
    half = seen(found, told)
    assert with_mistaken(coverage(found, half, {}), found, half, {"a:1"}).scrapers["a:1"].never_asked == ""
