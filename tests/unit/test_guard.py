"""The guard as a table: facts in, verdict out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from promring.core import verdicts
from promring.core.admission import NOBODY_ASIDE, Aside
from promring.core.guard import judge_lists, judge_members
from promring.core.pool import pool_of
from promring.core.standing import History, Rules, Standing, State
from promring.core.verdicts import Hold
from promring.model import Empty, Fact, Known, Members, Release, Reply, Scraper, TargetGroup, TargetPool, Unknown
from tests.judging import Act, Facts, Guard, Judgement, judge

MEMBERS: Members = (Scraper("a:1", "a", 1),)
GROUPS: TargetPool = pool_of((TargetGroup.of(["t:1"]),))
OTHER: TargetPool = pool_of((TargetGroup.of(["t:2"]),))


def fact(newest: Any, good: Any = None) -> Fact[Any]:
    return Fact(newest, 1.0, Known(good) if good else None, 1.0 if good else 0.0)


UP = fact(Known(MEMBERS), MEMBERS)
STALE_UP = fact(Unknown("Consul is down"), MEMBERS)
GOOD, STALE, EMPTIED = fact(Known(GROUPS), GROUPS), fact(Unknown("500"), GROUPS), fact(Empty(), GROUPS)
SILENT, NEVER_ANY = fact(Unknown("refused")), fact(Empty())
S = {"s": GROUPS}


def verdict_on(facts: Facts, planned: Any, *, guard: Guard | None = None, released: bool = False) -> Judgement:
    """With the scrapers of the plan as they were, if there was one. ``released``: what is held is let go."""
    history = History.of(facts.members.good.value) if planned and facts.members.good else History()
    guard = guard or Guard(Rules(join_delay_s=0))
    first = judge(facts, history, guard, NOW, planned=planned)
    return (
        judge(facts, history, guard, NOW, planned=planned, released=[one.let_go for one in first.verdict.withheld])
        if released
        else first
    )


@pytest.mark.parametrize(
    ("members", "sources", "planned", "verdict"),
    [
        (fact(Unknown("refused")), {"s": GOOD}, None, "scrapers_unknown"),
        (fact(Empty()), {"s": GOOD}, None, "no_scrapers"),
        (fact(Empty(), MEMBERS), {"s": GOOD}, S, "no_scrapers"),
        (UP, {"s": SILENT}, None, "targets_unknown"),
        (UP, {"s": GOOD, "x": SILENT}, None, "targets_unknown"),
        (UP, {"x": SILENT}, S, {"s": GROUPS}),  # a reload replaced s by x, which has not spoken: s stays
        (UP, {"x": NEVER_ANY}, S, {"s": GROUPS}),  # nor has it when it says "none"
        (UP, {"x": fact(Known(OTHER), OTHER), "y": SILENT}, S, {"x": OTHER, "s": GROUPS}),
        (UP, {"s": NEVER_ANY}, None, "no_targets"),
        (UP, {"s": GOOD, "x": SILENT}, S, {"s": GROUPS}),  # a broken source that was added stops nobody
        (UP, {"s": GOOD, "x": NEVER_ANY}, None, {"s": GROUPS}),
        (UP, {"s": GOOD}, None, {"s": GROUPS}),
        (STALE_UP, {"s": GOOD}, S, {"s": GROUPS}),
        (UP, {"s": STALE}, S, {"s": GROUPS}),
        (UP, {"s": EMPTIED}, S, {"s": GROUPS}),
        (UP, {"x": fact(Known(OTHER), OTHER)}, S, {"x": OTHER}),  # replaced, and the new one has spoken
    ],
)
def test_verdicts(members: Any, sources: Any, planned: Any, verdict: Any) -> None:
    result = verdict_on(Facts(members, sources), planned).verdict
    if isinstance(verdict, str):
        assert isinstance(result, Hold)
        assert result.reason == verdict
    else:
        assert isinstance(result, Act)
        assert (result.members, dict(result.sources)) == (MEMBERS, verdict)
        assert result.kept == tuple(name for name in verdict if name not in sources)


def test_where_targets_have_no_room_a_scraper_that_left_too_often_comes_in_early() -> None:
    flapper = Scraper("b:1", "b", 1)
    facts = verdicts.Facts(fact(Known((*MEMBERS, flapper)), (*MEMBERS, flapper)), {})
    history = History(
        {**History.of(MEMBERS).standings, flapper.id: Standing(flapper, State.JOINING, 0.0, flaps=9)},
    )
    found = {full: judge_members(facts, history, Rules(), 21.0, no_room=full) for full in (True, False)}
    assert {full: len(one.history.members) for full, one in found.items()} == {True: 2, False: 1}


def test_a_hold_names_the_source_and_its_reason() -> None:
    held = verdict_on(Facts(UP, {"http:cmdb": SILENT}), None).verdict
    assert isinstance(held, Hold)
    assert held.detail == "no answer yet from http:cmdb (refused)"


def listed(count: int) -> TargetPool:
    return pool_of((TargetGroup.of([f"t{n}:1" for n in range(count)]),))


TEN, SEVEN, SIX = listed(10), listed(7), listed(6)
THOUSANDS = listed(2000)


NOW = 10_000.0


def said(pool: TargetPool | None, repeats: int = 1, for_s: float = 0.0, last: TargetPool = TEN) -> Fact[TargetPool]:
    """The newest answer, after ``last``; None: an empty list. It is fresh, the last of so many in so long."""
    newest: Any = Empty() if pool is None else Known(pool)
    return Fact(newest, 1.0, Known(last if pool is None else pool), 1.0, "", newest, repeats, NOW - for_s)


def failing(after: Fact[TargetPool]) -> Fact[TargetPool]:
    """No answer, after these."""
    return replace(after, newest=Unknown("500"))


def partly(after: Fact[TargetPool]) -> Fact[TargetPool]:
    """An answer that is equal, but partly from before."""
    assert isinstance(after.newest, Known)
    return replace(after, newest=Known(after.newest.value), trouble="b.json: vanished")


@pytest.mark.parametrize(
    ("had", "fact", "goes_on_with", "reason"),
    [
        (TEN, said(SEVEN), SEVEN, ""),
        (TEN, said(SIX), TEN, "source_shrank"),
        (TEN, said(SIX, 2, 3600), TEN, "source_shrank"),
        (TEN, said(SIX, 300, 299), TEN, "source_shrank"),
        (TEN, said(SIX, 3, 300), SIX, ""),
        (TEN, failing(said(SIX, 300, 3600)), TEN, "source_shrank"),
        (TEN, partly(said(SIX, 300, 3600)), TEN, "source_shrank"),
        (TEN, failing(said(listed(12))), TEN, ""),  # the plan has a list that was partly from before: it stays
        (TEN, said(None), TEN, "source_empty"),
        (TEN, said(None, 2, 7200), TEN, "source_empty"),
        (TEN, said(None, 3000, 3599), TEN, "source_empty"),
        (TEN, said(None, 3, 3600), listed(0), ""),
        (TEN, failing(said(None, 3000, 7200)), TEN, "source_empty"),
        (listed(0), said(None), listed(0), ""),  # confirmed before
        (listed(0), said(TEN), TEN, ""),
        (SIX, said(TEN), TEN, ""),
        (TEN, said(THOUSANDS), TEN, "source_grew"),
        (TEN, said(THOUSANDS, 300, 299), TEN, "source_grew"),
        (TEN, said(THOUSANDS, 3, 300), THOUSANDS, ""),
        (listed(1500), said(THOUSANDS), THOUSANDS, ""),
        (TEN, fact(Unknown("500"), SIX), TEN, ""),  # what was doubted does not get in when there is no answer any more
    ],
)
def test_a_list_that_is_much_shorter_empty_or_much_longer_is_doubted_until_confirmed(
    had: TargetPool, fact: Fact[TargetPool], goes_on_with: TargetPool, reason: str
) -> None:
    sources = {"s": fact, "other": GOOD}
    result = verdict_on(Facts(UP, sources), {"s": had, "other": GROUPS}).verdict
    assert isinstance(result, Act), "one doubted source stops nobody else"
    assert result.sources == {"s": goes_on_with, "other": GROUPS}
    assert [one.reason for one in result.withheld] == [reason] * bool(reason)
    released = verdict_on(Facts(UP, sources), {"s": had, "other": GROUPS}, released=True).verdict
    assert isinstance(released, Act)
    assert not released.withheld
    if reason:
        assert len(released.sources["s"]) == (len(fact.fresh.value) if isinstance(fact.fresh, Known) else 0)


def test_the_doubt_is_said_in_figures_and_when_it_ends() -> None:
    judged = verdict_on(Facts(UP, {"http:cmdb": said(SIX, 2, 100)}), {"http:cmdb": TEN})
    (doubt,) = judged.verdict.withheld
    assert doubt.detail == (
        "http:cmdb says 6 targets, the plan has 10 of it; 2 of 3 fresh equal answers over at least 300 s"
    )
    assert (doubt.until, doubt.confirmed) == (None, (2, 3)), "nobody knows when the third comes"
    assert judged.again_at > NOW + 200, "an answer wakes the loop"
    enough = verdict_on(Facts(UP, {"s": said(SIX, 3, 100)}), {"s": TEN})
    (doubt,) = enough.verdict.withheld
    assert (doubt.until, doubt.confirmed, enough.again_at) == (NOW + 200, (3, 3), NOW + 200)
    (late,) = verdict_on(Facts(UP, {"s": said(SIX, 2, 400)}), {"s": TEN}).verdict.withheld
    assert late.until is None, "time alone ends nothing: an answer is missing"
    (fails,) = verdict_on(Facts(UP, {"s": failing(said(SIX, 9, 100))}), {"s": TEN}).verdict.withheld
    assert (fails.until, fails.confirmed) == (None, (0, 3))
    assert fails.detail == "s says 6 targets, the plan has 10 of it; and its newest answer confirms nothing: 500"
    (part,) = verdict_on(Facts(UP, {"s": partly(said(SIX, 9, 100))}), {"s": TEN}).verdict.withheld
    assert part.detail.endswith("and its newest answer confirms nothing: b.json: vanished")


@pytest.mark.parametrize(
    ("had", "new", "times", "least", "doubted"),
    [
        (10, 100, 10.0, 0, False),
        (10, 101, 10.0, 0, True),
        (10, 101, None, 0, False),
        (10, 101, 10.0, 90, True),
        (10, 101, 10.0, 91, False),
        (100, 150, 10.0, 0, False),
        (0, 50, 10.0, 0, False),
    ],
)
def test_a_longer_list_is_doubted_when_it_is_both_many_times_as_long_and_many_targets_longer(
    had: int, new: int, times: float | None, least: int, doubted: bool
) -> None:
    guard = verdicts.Guard(growth_threshold=times, growth_least=least)
    lists = judge_lists({"s": said(listed(new))}, guard, NOW, planned={"s": listed(had)})
    assert [one.reason for one in lists.withheld] == ["source_grew"] * doubted


@pytest.mark.parametrize("there", ["all", "enough", "not enough"])
def test_what_another_source_has_now_is_not_lost(there: str) -> None:
    """Six of ten went from one source to another."""
    had, four = listed(10), listed(4)
    moved = {"all": range(4, 10), "enough": range(4, 8), "not enough": range(4, 6)}[there]
    other = pool_of((TargetGroup.of([*(f"t{n}:1" for n in moved), "x:1"]),))
    planned = {"a": had, "b": pool_of((TargetGroup.of(["x:1"]),))}
    result = verdict_on(Facts(UP, {"a": said(four), "b": said(other)}), planned).verdict
    assert isinstance(result, Act)
    assert [one.reason for one in result.withheld] == ["source_shrank"] * (there == "not enough")
    assert len(result.sources["a"]) == (10 if there == "not enough" else 4)


def test_a_source_that_gave_all_away_is_empty_at_once_and_one_that_lost_a_part_is_not() -> None:
    planned = {"a": TEN, "b": listed(0)}
    result = verdict_on(Facts(UP, {"a": said(None), "b": said(TEN)}), planned).verdict
    assert isinstance(result, Act)
    assert (len(result.sources["a"]), len(result.sources["b"]), result.withheld) == (0, 10, ())
    fails = verdict_on(Facts(UP, {"a": failing(said(SIX)), "b": said(TEN)}), planned).verdict
    assert [one.reason for one in fails.withheld] == ["source_shrank"], "who fails has not said where the rest is"
    for elsewhere in (fact(Unknown("500"), TEN), said(SIX)):
        kept = verdict_on(Facts(UP, {"a": said(None), "b": elsewhere}), planned).verdict
        assert isinstance(kept, Act)
        assert [one.reason for one in kept.withheld] == ["source_empty"]


def test_a_list_that_is_itself_doubted_vouches_for_nobody() -> None:
    """``b`` has what ``a`` lost, but lost more itself, so its list before stays."""
    fifty = pool_of((TargetGroup.of([f"b{n}:1" for n in range(50)]),))
    result = verdict_on(Facts(UP, {"a": said(SIX), "b": said(TEN)}), {"a": TEN, "b": fifty}).verdict
    assert isinstance(result, Act)
    assert (len(result.sources["a"]), len(result.sources["b"])) == (10, 50)
    assert [(one.reason, one.about) for one in result.withheld] == [("source_shrank", ("a",)), ("source_shrank", ("b",))]


@pytest.mark.parametrize(("new", "reason", "hold_s"), [(SIX, "source_shrank", 300), (None, "source_empty", 3600)])
def test_a_first_list_that_is_shorter_than_the_last_leaders_is_held_as_long(
    new: TargetPool | None, reason: str, hold_s: float
) -> None:
    def judged(fact: Fact[TargetPool]) -> Judgement:
        guard = Guard(Rules(join_delay_s=0))
        return judge(Facts(UP, {"s": fact}), History(), guard, NOW, planned=None, counts={"s": 10})

    held = judged(said(new, 300, hold_s - 1))
    assert isinstance(held.verdict, Hold)
    assert (held.verdict.reason, held.verdict.until, held.again_at) == (reason, NOW + 1, NOW + 1)
    failed = judged(failing(said(new, 300, 2 * hold_s))).verdict
    assert isinstance(failed, Hold)
    assert (failed.reason, failed.until) == (reason, None)
    remembered = judged(replace(said(new, 300, 2 * hold_s), fresh=None)).verdict
    assert isinstance(remembered, Hold)
    assert remembered.reason == reason, "what was never heard in this run confirms nothing"
    silent = judged(SILENT).verdict
    assert isinstance(silent, Hold)
    assert silent.reason == "targets_unknown", "no answer is no short list"
    believed = judged(said(new, 3, hold_s)).verdict
    assert isinstance(believed, Act)
    assert not believed.withheld


def test_a_first_plan_may_be_released_although_a_source_is_silent() -> None:
    facts = Facts(UP, {"s": GOOD, "x": SILENT})
    assert isinstance(verdict_on(facts, None).verdict, Hold)
    released = verdict_on(facts, None, released=True).verdict
    assert isinstance(released, Act)
    assert dict(released.sources) == {"s": GROUPS}


def test_a_list_that_is_not_the_last_leaders_waits_for_its_source_or_for_a_person() -> None:
    facts, asked = Facts(UP, {"s": STALE, "x": STALE}), ("s", "x")
    held = judge(facts, History.of(MEMBERS), Guard(), NOW, planned=None, stale=asked).verdict
    assert isinstance(held, Hold)
    assert (held.reason, held.what) == ("targets_unknown", asked)
    assert held.detail == "the last leader had another list of s, x than is known here; a newer answer is needed"
    for released, goes_on in ((held.withheld[0].let_go, True), (Release("targets_unknown", ("s",)), False)):
        judged = judge(facts, History.of(MEMBERS), Guard(), NOW, planned=None, stale=asked, released=[released])
        assert isinstance(judged.verdict, Act) is goes_on, "what was shown is let go, and nothing else"


def test_a_doubted_answer_leaves_no_list_to_go_on_with_when_the_plan_is_older_than_the_last_leaders() -> None:
    facts = Facts(UP, {"s": Fact(Empty(), NOW, Known(SIX), NOW)})
    for older, reason in ((("s",), "targets_unknown"), (("x",), "source_empty"), ((), "source_empty")):
        judged = judge(facts, History.of(MEMBERS), Guard(), NOW, planned={"s": SIX}, older=older).verdict
        assert [(one.reason, one.what[0]) for one in judged.withheld] == [(reason, "s")]
        assert isinstance(judged, Hold) is (reason == "targets_unknown"), "else the plan's list stays"
    held = judge(facts, History.of(MEMBERS), Guard(), NOW, planned={"s": SIX}, older=("s",)).verdict
    assert "this one is doubted: s says 0 targets, the plan has 6 of it" in held.withheld[0].detail


def test_what_the_last_leader_had_is_not_asked_once_there_is_a_plan() -> None:
    judged = judge(
        Facts(UP, {"s": said(SIX)}), History.of(MEMBERS), Guard(), NOW, planned={"s": SIX}, counts={"s": 10}
    ).verdict
    assert isinstance(judged, Act)
    assert (judged.sources, judged.withheld) == ({"s": SIX}, ())


def test_the_first_scrapers_are_waited_for_or_let_in_by_a_person() -> None:
    facts, guard = Facts(UP, {"s": GOOD}), Guard(Rules(join_delay_s=5.0))
    held = judge(facts, History(), guard, NOW, planned=None)
    assert isinstance(held.verdict, Hold)
    assert (held.verdict.reason, held.verdict.until, held.again_at) == ("warming_up", NOW + 5, NOW + 5)
    for released, come_in in ((Release("warming_up", ()), True), (Release("targets_unknown", ()), False)):
        verdict = judge(facts, History(), guard, NOW, planned=None, released=[released]).verdict
        assert isinstance(verdict, Act) is come_in


ABLE, DRAINED, WITHOUT = Scraper("a:1", "a", 1), Scraper("b:1", "b", 1), Scraper("c:1", "c", 1, weight=0.0)


@pytest.mark.parametrize(
    ("alive", "reason"),
    [((ABLE, DRAINED, WITHOUT), ""), ((DRAINED, WITHOUT), "no_scrapers"), ((DRAINED,), "no_scrapers"), ((ABLE,), "")],
)
def test_a_fleet_in_which_nobody_may_have_a_target_keeps_its_plan(alive: Members, reason: str) -> None:
    facts = Facts(fact(Known(alive), alive), {"s": GOOD})
    verdict = judge(facts, History.of(alive), Guard(), NOW, planned=S, drained=["b:1"]).verdict
    assert (verdict.reason if isinstance(verdict, Hold) else "") == reason


def test_who_gets_nothing_may_leave_without_a_panic() -> None:
    many: Members = tuple(Scraper(f"{c}:1", c, 1) for c in "abcd")
    facts = Facts(fact(Known(many[:1]), many[:1]), {"s": GOOD})
    judged = judge(facts, History.of(many), Guard(), NOW, planned=S, drained=[s.id for s in many[1:]]).verdict
    assert isinstance(judged, Act)
    assert (judged.members, judged.withheld) == (many[:1], ())


@pytest.mark.parametrize(
    ("history", "detail"),
    [(History(), "no scraper is alive"), (History.of(MEMBERS), "no scraper is alive; the last plan stays")],
)
def test_that_nobody_is_alive_says_whether_a_plan_stays(history: History, detail: str) -> None:
    held = judge(Facts(fact(Empty()), {"s": GOOD}), history, Guard(), NOW, planned=None).verdict
    assert isinstance(held, Hold)
    assert held.detail == detail


@pytest.mark.parametrize("members", [fact(Unknown("refused")), fact(Empty())])
def test_what_is_not_known_and_nobody_alive_cannot_be_released(members: Fact[Members]) -> None:
    assert isinstance(verdict_on(Facts(members, {"s": GOOD}), None, released=True).verdict, Hold)


def test_a_panic_holds_the_whole_plan_and_names_whom_to_probe() -> None:
    many: Members = tuple(Scraper(f"{c}:1", c, 1) for c in "abcdef")
    left = fact(Known(many[:2]), many[:2])
    judged = judge(Facts(left, {"s": GOOD}), History.of(many), Guard(), 100.0, planned=S)
    assert isinstance(judged.verdict, Hold)
    assert (judged.verdict.reason, judged.suspects, judged.again_at) == ("panic", many[2:], 160.0)
    assert judged.verdict.until == 160.0
    probed = {s.id: Reply.SILENT if s.id == "c:1" else Reply.ANSWERS for s in many[2:]}
    later = judge(Facts(left, {"s": GOOD}, probed), judged.history, Guard(), 160.0, planned=S)
    assert isinstance(later.verdict, Act)
    assert [s.id for s in later.verdict.members] == ["a:1", "b:1", "d:1", "e:1", "f:1"]
    assert [one.reason for one in later.verdict.withheld] == ["panic"]
    assert later.verdict.aside is NOBODY_ASIDE


def test_with_some_dead_the_plan_goes_on_and_the_silent_are_set_aside() -> None:
    many: Members = tuple(Scraper(f"{c}:1", c, 1) for c in "abcdef")
    left = fact(Known(many[:2]), many[:2])
    probed = {"c:1": Reply.REFUSES, "d:1": Reply.REFUSES, "e:1": Reply.SILENT, "f:1": Reply.ANSWERS}
    verdict = judge(Facts(left, {"s": GOOD}, probed), History.of(many), Guard(), 100.0, planned=S).verdict
    assert isinstance(verdict, Act)
    assert [s.id for s in verdict.members] == ["a:1", "b:1", "e:1", "f:1"]
    assert verdict.aside == Aside(frozenset({"e:1"}), 100.0)
    (held,) = verdict.withheld
    assert held.what == ("e:1", "f:1")
    assert "these answer a direct probe and stay: f:1" in held.detail
    assert "these keep what they have and get nothing new meanwhile: e:1" in held.detail
    for reply, named in ((Reply.SILENT, "keep what they have"), (Reply.ANSWERS, "answer a direct probe")):
        told = dict.fromkeys(("e:1", "f:1"), reply)
        (held,) = judge(
            Facts(left, {"s": GOOD}, probed | told), History.of(many), Guard(), 100.0, planned=S
        ).verdict.withheld
        words = ("keep what they have", "answer a direct probe")
        assert [word for word in words if f"these {word}" in held.detail] == [named], "nobody is named for what none does"


def test_a_release_of_a_panic_lets_go_the_scrapers_that_it_names_and_no_other_release_does() -> None:
    many: Members = tuple(Scraper(f"{c}:1", c, 1) for c in "abcdef")
    left = Facts(fact(Known(many[:2]), many[:2]), {"s": GOOD})
    gone = tuple(s.id for s in many[2:])
    for reason, members in (("panic", many[:2]), ("targets_unknown", None)):
        verdict = judge(left, History.of(many), Guard(), 100.0, planned=S, released=[Release(reason, gone)]).verdict
        assert (verdict.members if isinstance(verdict, Act) else None) == members


def test_the_loop_looks_again_at_whatever_is_due_first() -> None:
    """One scraper joins at 102, a panic ends at 160; then the same with a join after it."""
    many: Members = tuple(Scraper(f"{c}:1", c, 1) for c in "abcdef")
    came = Facts(fact(Known((*many[:2], Scraper("x:1", "x", 1)))), {"s": GOOD})
    for delay_s, at in ((2.0, 102.0), (200.0, 160.0)):
        judged = judge(came, History.of(many), Guard(Rules(join_delay_s=delay_s)), 100.0, planned=S)
        assert judged.again_at == at


def test_a_release_lets_go_only_what_was_shown() -> None:
    shown = verdict_on(Facts(UP, {"s": said(SIX)}), {"s": TEN}).verdict
    later = Facts(UP, {"s": said(None)})
    history = History.of(MEMBERS)
    judged = judge(later, history, Guard(), 100.0, planned={"s": TEN}, released=[one.let_go for one in shown.withheld])
    assert isinstance(judged.verdict, Act)
    assert judged.verdict.sources == {"s": TEN}, "six were released, not none"


def test_sources_that_a_reload_put_in_the_place_of_others_are_compared_with_them() -> None:
    short, planned = said(listed(3), 1), {"file:a": TEN}
    result = verdict_on(Facts(UP, {"file:a,b": short}), planned).verdict
    assert isinstance(result, Act)
    assert (result.kept, len(result.sources["file:a"])) == (("file:a",), 10)
    assert [one.reason for one in result.withheld] == ["source_shrank"]
    beside = verdict_on(Facts(UP, {"file:a,b": short, "b": said(TEN)}), planned | {"b": TEN}).verdict
    assert isinstance(beside, Act)
    assert beside.kept == ("file:a",), "a source that was there before replaces none"
    for now in (
        verdict_on(Facts(UP, {"file:a,b": said(listed(3), 3, 300)}), planned).verdict,
        verdict_on(Facts(UP, {"file:a,b": short}), planned, released=True).verdict,
        verdict_on(Facts(UP, {"file:a,b": said(SEVEN, 1)}), planned).verdict,
    ):
        assert isinstance(now, Act)
        assert (list(now.sources), now.withheld) == (["file:a,b"], ())


@pytest.mark.parametrize(
    ("second", "confirmed", "until"),
    [
        (said(listed(2), 3, 300), None, None),
        (said(listed(2), 2, 300), (2, 3), None),
        (said(listed(2), 3, 100), (3, 3), NOW + 200),
        (failing(said(listed(2), 3, 300)), (0, 3), None),
    ],
)
def test_two_sources_in_the_place_of_one_must_both_have_said_it_often_and_long_enough(
    second: Fact[TargetPool], confirmed: tuple[int, int] | None, until: float | None
) -> None:
    for sources in ({"x": said(listed(3), 3, 300), "y": second}, {"y": second, "x": said(listed(3), 3, 300)}):
        result = verdict_on(Facts(UP, sources), {"file:a": TEN}).verdict
        assert isinstance(result, Act)
        assert [(one.confirmed, one.until) for one in result.withheld] == [(confirmed, until)] * (confirmed is not None)
