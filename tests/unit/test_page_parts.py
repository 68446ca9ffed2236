"""What the page is made of, without a server: rows that are asked for, the ring, charts, previews, the timeline, actions."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from aiohttp.test_utils import make_mocked_request

from promring.core.coverage import ScraperCoverage
from promring.core.difference import compare
from promring.core.placement import Policy, place
from promring.core.pool import build_pool
from promring.core.ring import Ring
from promring.fleet.state import Memory, ServiceMemory
from promring.fleet.timeline import RESHARDS_KEPT, TARGETS_KEPT, Timeline, reshard_of
from promring.model import Generation, Moved, Placement, Plan, Scraper, Slice, TargetGroup
from promring.telemetry import log
from promring.web.actions import KEPT, Actions
from promring.web.answers import parts
from promring.web.answers.fleets import Fleet, HandOver, Sample
from promring.web.answers.status import Status
from promring.web.page import words
from promring.web.page.charts import POINTS_MOST, charts_of
from promring.web.page.ring import ARCS_MOST, SLOTS, load_arcs, ring_arcs
from promring.web.page.scrapers import ROWS_MOST, Asked, rows_of
from promring.web.page.shown import troubled_first, verdict
from promring.web.views.scrapers import _trouble
from tests.fakes.answers import convert


def scraper(name: str, **part: object) -> parts.Scraper:
    return convert(parts.Scraper, {"id": name, "state": "up", "load": 10, "targets": 10, **part})


def live(*names: str) -> tuple[Scraper, ...]:
    return tuple(Scraper(name, name, 9090) for name in names)


def test_what_the_audit_saw_of_a_slice_that_is_empty_now_is_no_trouble_any_more() -> None:
    seen = ScraperCoverage(5, 2, 3, 0, 0, "", 0, "it never asks a:1", 0)
    silent = replace(seen, error="no answer", never_asked="", missing=0)
    assert _trouble(scraper("a", targets=5), seen, 0) == "targets of its slice are not seen scraped: it never asks a:1"
    assert _trouble(scraper("a", targets=5), silent, 0) == "cannot be asked: no answer"
    assert [_trouble(scraper("a", targets=0, drained=True), one, 0) for one in (seen, silent)] == ["", ""]
    assert _trouble(scraper("a", targets=0, state="down", reason="refused"), silent, 0) == "refused"


@pytest.mark.parametrize(("looked_at", "yet"), [(990.0, True), (1010.0, True), (1016.0, False)])
def test_of_a_list_that_was_new_when_it_was_looked_at_it_is_said(looked_at: float, yet: bool) -> None:
    said = _trouble(scraper("a", sliced_at=1000.0), ScraperCoverage(5, 2, 3, 0, 0), 0, looked_at)
    new = " yet: its list was new when it was last looked at" if yet else ""
    assert said == f"3 targets of its slice are not scraped by it{new}"


@pytest.mark.parametrize(("flaps", "said"), [(1, "left once soon"), (2, "left twice soon"), (6, "left 6 times soon")])
def test_how_often_a_scraper_left_is_said_in_words(flaps: int, said: str) -> None:
    assert said in _trouble(scraper("a", joins_at=1.0), None, flaps)


def placed(*names: str, targets: int = 300) -> Placement:
    pool = build_pool([[TargetGroup.of([f"t{n}:1" for n in range(targets)])]])
    return place(pool, Ring(live(*names), 64), Policy(virtual_nodes=64))


WELL = {"level": "good", "text": ""}
NO_ROOM = {"unplaced": 16, "ownerless": 0}
LOOKED = {"at": 98.0, "age_s": 2.0, "interval_s": 30.0, "ratio": 1.0, "targets": 60, "covered": 60}
HELD = {"reason": "source_shrank", "detail": "it says 20 of 60"}


@pytest.mark.parametrize(
    ("fleet", "process", "level", "said"),
    [
        ({}, {}, "good", "60 of 60 targets seen scraped, 2 s ago"),
        ({"scrapers": [{"id": "a:1", "state": "down", "since": 88.0}]}, {}, "warn", "1 of 1 scrapers down: a:1 for 12 s"),
        ({"scrapers": [{"id": "a:1", "state": "up", "alias_of": "b:1"}]}, {}, "warn", "a:1 is the same server as b:1"),
        ({"scrapers": [{"id": "a:1", "state": "up", "delivery_error": "x"}]}, {}, "warn", "not delivered to a:1"),
        ({"fits": NO_ROOM}, {}, "warn", "16 targets have fewer owners than wanted"),
        (
            {"fits": NO_ROOM, "scrapers": [{"id": "a:1", "state": "up"}]},
            {},
            "warn",
            "16 targets have fewer owners than wanted",
        ),
        ({"targets": None, "coverage": None}, {}, "warn", "no plan yet"),
        ({"withheld": [HELD]}, {}, "warn", "1 held: source shrank"),
        ({}, {"config": {"last_reload_successful": False}}, "warn", "the last reload was refused"),
        ({}, {"leader": False, "controllers": {"lock": True, "leader": None}}, "warn", "; no controller leads"),
        (
            {},
            {"leader": True, "controllers": {"lock": True, "lacking": "key"}},
            "warn",
            "; a right that the lock needs is lost",
        ),
        ({"coverage": LOOKED | {"missing": 3, "unproved": 7}}, {}, "good", "; 3 missing; 7 not proved"),
        (
            {"coverage": LOOKED | {"unproved": 7}, "scrapers": [{"id": "a:1", "state": "up", "audit_error": "x"}]},
            {},
            "warn",
            "; a:1 cannot be asked what it scrapes",
        ),
    ],
)
def test_the_line_on_top_says_why_it_is_not_good(
    fleet: dict[str, object], process: dict[str, object], level: str, said: str
) -> None:
    summary = WELL | {"level": level}
    one = {"name": "main", "targets": 60, "coverage": LOOKED, "summary": summary, "held": None, **fleet}
    every = {"fleets": [one], "config": {"last_reload_successful": True}, **process}
    found = verdict(convert(Status, every), [], 100.0)
    assert (found.level, said in found.text) == (level, True), found.text


def test_the_line_on_top_counts_a_scraper_of_two_fleets_once_and_names_what_nobody_looks_at() -> None:
    dead, well = {"id": "a:1", "state": "down", "since": 88.0}, {"id": "b:1", "state": "up"}
    looked = {"name": "x", "targets": 60, "coverage": LOOKED, "scrapers": [dead, well], "summary": WELL}
    off = {"name": "y", "targets": 9, "coverage": None, "scrapers": [dead], "summary": WELL | {"level": "unknown"}}
    new = off | {"name": "z", "targets": 1, "coverage": {"at": None, "interval_s": 30.0}, "scrapers": []}
    found = verdict(convert(Status, {"fleets": [looked, off, new], "leader": True}), [], 100.0)
    assert "; 1 of 2 scrapers down: a:1 for 12 s" in found.text
    assert (
        "60 of 60 targets seen scraped, 2 s ago; 9 targets not looked at, as the audit is off; 1 target not loo"
        in found.text
    )


def test_what_the_line_on_top_leaves_out_is_counted() -> None:
    scrapers = [{"id": f"s{n}:1", "state": "down", "sick": "reaches 0 of 9"} for n in range(5)]
    bad: dict[str, object] = {"targets": None, "coverage": None, "summary": WELL | {"level": "bad"}, "scrapers": []}
    fleets = [bad | {"name": name} for name in "abcde"]
    fleets[0] = fleets[0] | {"scrapers": scrapers}
    found = verdict(convert(Status, {"fleets": fleets}), [], 100.0).text
    assert found.startswith("no plan yet of a, b, c and 2 more; ")
    assert "; 5 of 5 scrapers down: s0:1, s1:1, s2:1 and 2 more; " in found
    assert "; 2 causes more; " in found
    assert found.endswith("; look at a, b, c and 2 more")


def test_of_several_fleets_those_with_trouble_come_first_in_the_order_of_the_configuration() -> None:
    levels = {"b": "good", "a": "warn", "d": "unknown", "c": "bad"}
    fleets = [convert(Fleet, {"name": name, "summary": {"level": level, "text": ""}}) for name, level in levels.items()]
    assert [one.name for one in troubled_first(fleets)] == ["a", "c", "b", "d"]


def test_names_are_in_the_order_of_people() -> None:
    names = ["a.10:9", "a.2:9", "b", "a.2:10", "9", "10"]
    assert sorted(names, key=words.natural) == ["9", "10", "a.2:9", "a.2:10", "a.10:9", "b"]


@pytest.mark.parametrize(
    ("share", "said"), [(1.0, "100 %"), (0.0, "0 %"), (0.5, "50 %"), (0.999999, "99.9999 %"), (0.9999999, "99.9999 %")]
)
def test_what_is_less_than_all_is_never_said_to_be_all(share: float, said: str) -> None:
    assert words.percent(share) == said


def test_rows_are_filtered_ordered_and_paged_and_the_links_keep_what_is_asked_for() -> None:
    every = [scraper(f"s{n}:9", trouble="down" if n % 50 == 7 else "", zone=f"z{n % 2}") for n in range(250)]
    first = rows_of(every, Asked.of({}), writable=True, had={})
    assert [one.id for one in first.rows[:6]] == ["s7:9", "s57:9", "s107:9", "s157:9", "s207:9", "s0:9"]
    assert (len(first.rows), first.found, first.pages, first.troubled, first.all) == (ROWS_MOST, 250, 3, 5, 250)
    last = rows_of(every, Asked.of({"page": "99", "sort": "id"}), writable=True, had={})
    assert (last.asked.page, last.rows[-1].id, len(last.rows)) == (3, "s249:9", 50)
    troubled = rows_of(every, Asked.of({"trouble": "1", "q": "s1"}), writable=True, had={})
    assert [one.id for one in troubled.rows] == ["s107:9", "s157:9"]
    assert troubled.asked.link(page=2) == "?trouble=1&q=s1&page=2"
    assert troubled.asked.link(sort="load") == "?trouble=1&q=s1&sort=load"
    for odd in ({"page": "-1"}, {"page": "x"}, {"page": "9" * 30}, {"page": "\u00b2"}, {"sort": "nothing"}):
        assert Asked.of(odd) == Asked()


def test_the_ring_has_every_scraper_and_the_arcs_of_load_are_bounded_with_those_in_trouble_alone() -> None:
    names = [f"s{n}:9" for n in range(5)]
    numbers = {name: n for n, name in enumerate(names)}
    arcs = ring_arcs(Ring(live(*names), 512), numbers)
    assert {arc.text for arc in arcs} == set(names)
    assert len(arcs) <= SLOTS
    assert ring_arcs(Ring((), 512), {}) == []
    few = load_arcs([scraper(name) for name in names], numbers)
    assert [arc.text for arc in few] == [f"{name}: 20 % of the load" for name in names]
    assert load_arcs([scraper("a", load=0)], {}) == []
    many = [scraper(f"s{n}:9", trouble="down" if n == 500 else "") for n in range(1000)]
    grouped = load_arcs(many, {one.id: 0 for one in many})
    assert len(grouped) <= ARCS_MOST + 2
    assert all(one.colour != other.colour for one, other in pairwise(grouped)), "no bands of one colour"
    assert [arc.text.split(":")[0] for arc in grouped if arc.colour == "c-trouble"] == ["s500"]


def test_a_chart_has_the_worst_of_what_it_joins_and_a_gap_where_nothing_was_known() -> None:
    samples = [Sample(15.0 * n, 1.0, 100, 1.05, 0, 3) for n in range(1440)]
    samples[700] = Sample(15.0 * 700, 0.25, 100, 1.5, 40, 3)
    for n in range(1000, 1100):
        samples[n] = Sample(15.0 * n, None, 100, 1.05, 0, 3)
    charts = {one.name: one for one in charts_of(samples)}
    assert (charts["covered"].low, charts["covered"].high, len(charts["covered"].lines)) == ("25 %", "100 %", 2)
    assert "25 %" in [value for _, value in charts["covered"].rows]
    assert charts["balance"].high == "1.500"
    assert "40" in [value for _, value in charts["moved"].rows]
    assert all(len(line.split()) <= POINTS_MOST for one in charts.values() for line in one.lines)
    assert charts_of(samples[:1]) == []


def test_the_timeline_says_who_left_who_took_how_much_and_where_a_target_was() -> None:
    timeline, before, after = Timeline(), placed("a", "b", "c"), placed("a", "b")
    plan = compare(before, after)
    timeline.add(reshard_of(1.0, "initial", Generation(1, 1), None, before, Plan(()), held=0, slices_changed=3), Plan(()))
    timeline.add(reshard_of(2.0, "scrapers", Generation(1, 2), before, after, plan, held=7, slices_changed=2), plan)
    first, second = timeline.reshards
    assert (first.joined, first.left, first.ended_at) == (("a", "b", "c"), (), 1.0)
    assert (second.joined, second.left, second.ended_at) == ((), ("c",), None)
    assert sum(m.count for m in second.moves if m.source == "c") == before.counts()["c"]
    assert [timeline.left_at(name) for name in "abc"] == [None, None, 2.0]
    timeline.holding(0, 5.0)
    assert timeline.reshards[-1].ended_at == 5.0
    assert plan.targets is not None
    (moved,) = timeline.moves_of(int(plan.targets.ids[0]))
    assert (moved.at, moved.source, moved.destination in ("a", "b")) == (2.0, "c", True)
    assert timeline.moves_of(1) == []
    nothing = reshard_of(3.0, "targets", Generation(1, 3), after, after, Plan(()), held=0, slices_changed=1)
    timeline.add(nothing, Plan(()))
    assert len(timeline.reshards) == 2, "one that moved nothing is no news"


def test_after_a_reload_nobody_has_joined_who_had_a_slice_before() -> None:
    now, plan = placed("a", "b", "c"), Plan(())
    again = reshard_of(1.0, "policy", Generation(1, 1), None, now, plan, slices={"a", "b", "c"}, held=0, slices_changed=0)
    assert (again.joined, again.left) == ((), ())
    other = reshard_of(1.0, "policy", Generation(1, 1), None, now, plan, slices={"a", "b", "gone"}, held=0, slices_changed=0)
    assert (other.joined, other.left) == (("c",), ("gone",))
    assert reshard_of(1.0, "initial", Generation(1, 1), None, now, plan, held=0, slices_changed=0).joined == ("a", "b", "c")


def test_a_reshard_that_changes_nothing_ends_no_hand_over_and_one_that_undoes_it_does() -> None:
    before, after = placed("a", "b"), placed("a", "b", "c")
    line, plan = Timeline(), compare(before, after)
    joined = reshard_of(1.0, "scrapers", Generation(1, 2), before, after, plan, held=50, slices_changed=1)
    line.add(joined, plan)
    line.holding(50, 1.0)
    same = compare(after, after)
    line.add(reshard_of(2.0, "targets", Generation(1, 3), after, after, same, held=50, slices_changed=1), same)
    line.holding(50, 2.0)
    assert list(line.reshards) == [joined]
    back = compare(after, before)
    line.add(reshard_of(3.0, "scrapers", Generation(1, 3), after, before, back, held=0, slices_changed=0), back)
    assert [(one.left, one.ended_at, one.slices_changed) for one in line.reshards] == [((), 3.0, 1), (("c",), 3.0, 0)]


def test_the_timeline_is_bounded() -> None:
    timeline, one = Timeline(), placed("a", "b")
    ids = np.arange(TARGETS_KEPT, dtype=np.uint64)
    zeros, ones = (np.full(TARGETS_KEPT, value, dtype=np.int32) for value in (0, 1))
    for n in range(RESHARDS_KEPT + 5):
        moved = Moved(("a", "b"), ids + np.uint64(n), zeros, ones)
        plan = Plan((), moved)
        reshard = reshard_of(float(n), "scrapers", Generation(1, n), None, one, plan, held=0, slices_changed=1)
        timeline.add(reshard, plan)
        timeline.made(Generation(1, n), float(n))
    assert len(timeline.reshards) == RESHARDS_KEPT
    newest = RESHARDS_KEPT + 4
    assert [m.at for m in timeline.moves_of(newest)] == [float(newest)], "only the last moves are remembered"
    assert timeline.made_at(Generation(1, newest)) == float(newest)
    assert timeline.made_at(Generation(9, 9)) is None


def test_moved_targets_are_those_whose_owner_changed() -> None:
    seed = random.randrange(10**6)
    names = random.Random(seed).sample([f"s{n}" for n in range(20)], 6)
    before, after = placed(*names), placed(*names[1:])
    plan = compare(before, after)
    assert plan.targets is not None, seed
    assert len(plan.targets) == plan.moved, seed
    said = {
        int(i): (plan.targets.scrapers[s], plan.targets.scrapers[d])
        for i, s, d in zip(plan.targets.ids, plan.targets.sources, plan.targets.destinations, strict=True)
    }
    for row, ident in enumerate(after.pool.ids.tolist()):
        had, has = (side.scrapers[int(side.owners[row, 0])].id for side in (before, after))
        assert said.get(ident) == ((had, has) if had != has else None), seed


def test_an_action_says_who_and_why_and_only_the_last_ones_are_kept() -> None:
    log.configure(stream=io.StringIO())
    actions = Actions(log.get(), clock=lambda: 5.0)
    headers = {"Authorization": "Basic YW5uOnNlY3JldA=="}  # ann
    actions.add(
        make_mocked_request("POST", "/x?reason=new%20%20disk%0A", headers=headers),
        "drain",
        "",
        fleet="f",
        scraper="s",
        targets=9,
    )
    actions.add(make_mocked_request("POST", "/x", headers={"Authorization": "Basic ???"}), "reload", "2 decisions")
    reload, drain = actions.of("f")
    assert (drain.why, drain.by.split(" at ")[0], drain.at, drain.scraper) == ("new disk", "ann", 5.0, "s")
    assert (reload.why, " at " in reload.by) == ("", False)
    assert actions.had("f") == {"s": 9}
    actions.add(make_mocked_request("POST", "/x"), "undrain", "", fleet="f", scraper="s")
    assert actions.had("f") == {}, "who leaves later does not begin with these"
    assert [one.action for one in actions.of("other")] == ["reload"]
    for _ in range(KEPT + 5):
        actions.add(make_mocked_request("POST", "/x"), "release", "", fleet="f")
    assert len(actions.of()) == KEPT


def test_how_long_a_hand_over_has_not_moved_is_counted_from_the_last_change_of_its_number() -> None:
    timeline, before, after = Timeline(), placed("a", "b", "c"), placed("a", "b")
    plan = compare(before, after)
    timeline.add(reshard_of(2.0, "drain", Generation(1, 2), before, after, plan, held=7, slices_changed=2), plan)
    for held, at in ((7, 2.0), (7, 30.0), (5, 40.0), (5, 60.0)):
        timeline.holding(held, at)
    assert (timeline.held_at, timeline.reshards[-1].ended_at) == (40.0, None)
    one = HandOver(5, 7, "drain", 2.0, timeline.held_at, 100.0, [])
    assert [words.still(one, now) for now in (69.0, 70.0, 95.0)] == [0.0, 30.0, 55.0]
    timeline.holding(0, 99.0)
    assert (timeline.held_at, timeline.reshards[-1].ended_at) == (99.0, 99.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [("a\u202eb\u0007", r"a\u202eb\u0007"), ("\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05dc\u05d5\u05dd"), ("a\tb\n", "a\tb\n")],
)
def test_what_turns_a_line_or_is_not_seen_is_written_out_and_no_script_of_the_world_is(text: str, said: str) -> None:
    assert words.visible(text) == said


def test_the_totals_of_scrapers_are_counted_once_for_each_set_of_slices() -> None:
    a, b = live("a", "b")
    first = {
        "x": ServiceMemory(
            slices={"a": Slice("x", a, Generation(1, 2), b"", 3), "b": Slice("x", b, Generation(1, 1), b"", 4)}
        )
    }
    memory = Memory(services=first)
    assert memory.targets() == {"a": 3, "b": 4}
    assert memory.totals() is replace(memory, drained=frozenset("a")).totals()
    more = first | {"y": ServiceMemory(slices={"a": Slice("y", a, Generation(1, 7), b"", 5)})}
    found = replace(memory, services=more).totals()
    assert (found["a"].targets, found["a"].slices, found["a"].newest) == (8, 2, Generation(1, 7))
    assert (found["b"].targets, found["b"].slices, found["b"].newest) == (4, 1, Generation(1, 1))
    assert memory.targets() == {"a": 3, "b": 4}, "of its own slices, whoever counted before"
