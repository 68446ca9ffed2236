"""Who counts as alive, as tables: answers at times in, members out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from promring.core.admission import TOLD_S, Admitted, Aside, Led, admit, unanswered
from promring.core.standing import DELAY_MOST_S, History, Rules, Standing, State
from promring.model import LONG_AGO, NEVER_ENDS, Members, Reply, Scraper


def scrapers(names: Iterable[str]) -> Members:
    return tuple(sorted(Scraper(f"{name}:1", name, 1) for name in names))


class Case:
    """A history, told answers one after the other."""

    def __init__(self, start: str = "", **rules: float | frozenset[str]) -> None:
        self.rules = Rules(**rules)  # type: ignore[arg-type]
        self.history = History.of(scrapers(start))
        self.probed: dict[str, Reply] = {}
        self.last = Admitted(self.history)

    def says(
        self,
        names: str,
        at: float,
        *,
        released: bool = False,
        no_room: bool = False,
        drained: str = "",
        unable: str = "",
        waiting: str | None = None,
        dead: str = "",
    ) -> str:
        """The members' names after the answer, ``!`` before them when held. ``released``: who was lost before; ``unable``:
        who has weight 0; ``waiting``, ``dead``: to come into the plan of the leader that is followed, and in its eyes.
        """
        self.last = admit(
            tuple(replace(s, weight=0.0) if s.host in unable else s for s in scrapers(names)),
            self.history,
            self.rules,
            at,
            probed=self.probed,
            drained=[f"{name}:1" for name in drained],
            let_go=self.last.lost if released else (),
            let_in=released,
            no_room=no_room,
            led=None if waiting is None else Led([f"{n}:1" for n in waiting + dead], [f"{n}:1" for n in waiting]),
        )
        self.history = self.last.history
        held = "!" if self.last.panic or self.last.warming_up else ""
        return held + "".join(s.host for s in self.history.members)

    def hears_nothing(self, at: float) -> str:
        """The members' names after a moment without an answer."""
        self.last = unanswered(self.history, self.rules, at, probed=self.probed)
        self.history = self.last.history
        return "".join(s.host for s in self.history.members)


def test_the_first_ones_come_in_together_after_the_delay_or_when_all_expected_are_there() -> None:
    case = Case(join_delay_s=5.0)
    assert [case.says("a", 0), case.says("ab", 3), case.says("abc", 4.9), case.says("abc", 5)] == ["!", "!", "!", "abc"]
    case = Case(join_delay_s=5.0, expected=frozenset({"a:1", "b:1"}))
    assert [case.says("a", 0), case.says("ab", 1)] == ["!", "ab"]
    case = Case(join_delay_s=5.0, expected=frozenset({"a:1", "b:1"}))
    assert [case.says("a", 0), case.says("a", 5)] == ["!", "a"]
    assert Case(join_delay_s=5.0).says("ab", 0, released=True) == "ab"
    assert Case(join_delay_s=0.0).says("a", 0) == "a"
    assert Case().says("", 0) == "", "there is nobody to wait for"


@pytest.mark.parametrize(
    ("expected", "waited_for"), [(frozenset[str](), ""), (frozenset({"a:1", "b:1", "c:1"}), " for b:1, c:1")]
)
def test_a_cold_start_names_those_that_it_waits_for(expected: frozenset[str], waited_for: str) -> None:
    case = Case(join_delay_s=5.0, expected=expected)
    case.says("a", 0)
    assert case.last.warming_up == f"1 scraper is alive; waiting up to 5 s{waited_for}"


def test_who_came_and_went_before_the_start_is_over_neither_comes_in_nor_is_waited_for() -> None:
    case = Case(join_delay_s=5.0)
    assert [case.says("abc", 0), case.says("ab", 1), case.says("ab", 5)] == ["!", "!", "ab"]
    case = Case(join_delay_s=5.0)
    assert [case.says("x", 0), case.says("a", 3), case.says("a", 7.9), case.says("a", 8)] == ["!", "!", "!", "a"]
    case = Case(wait_scrapers=2, wait_most_s=20.0)
    assert [case.says("x", 0), case.says("a", 3)] == ["!", "!"], "one of two"


def test_a_cold_start_waits_for_as_many_as_it_is_told_and_no_longer_than_that() -> None:
    case = Case(join_delay_s=5.0, wait_scrapers=3, wait_most_s=20.0)
    assert [case.says("a", 0), case.says("ab", 6), case.says("abd", 9)] == ["!", "!", "abd"]
    case = Case(join_delay_s=5.0, wait_scrapers=3, wait_most_s=20.0, expected=frozenset({"a:1", "b:1"}))
    assert case.says("ab", 0) == "!"
    assert case.last.again_at == 20, "one that is healthy for long enough does not come in alone"
    assert case.says("ab", 19.9) == "!"
    assert case.last.warming_up == "2 scrapers are alive; waiting up to 20 s for 3"
    assert (case.last.until, case.last.again_at) == (20, 20)
    assert case.says("ab", 20) == "ab"


def test_a_join_must_last_and_begins_again_when_interrupted() -> None:
    case = Case("ab", join_delay_s=5.0)
    assert [case.says("abc", 0), case.says("abc", 4), case.says("ab", 4.5), case.says("abc", 6)] == ["ab"] * 4
    assert case.last.again_at == 11
    assert [case.says("abc", 10.9), case.says("abc", 11)] == ["ab", "abc"]


def test_a_leave_is_at_once_or_after_its_delay() -> None:
    assert Case("abc").says("ab", 0) == "ab"
    case = Case("abc", leave_delay_s=3.0)
    assert [case.says("ab", 0), case.says("abc", 2), case.says("ab", 3), case.says("ab", 5.9)] == ["abc"] * 4
    assert case.last.again_at == 6
    assert case.says("ab", 6) == "ab"
    assert case.says("abc", 10) == "ab"
    assert case.says("abc", 15) == "abc"
    assert case.last.again_at == float("inf"), "nothing is due while nobody joins or leaves"


def test_each_state_of_a_scraper_is_said_with_its_beginning() -> None:
    case = Case("ab", leave_delay_s=3.0, join_delay_s=5.0)
    story = [
        ("abc", 0, State.JOINING, 0),
        ("abc", 5, State.IN, 5),
        ("ab", 10, State.LEAVING, 10),
        ("abc", 11, State.IN, 11),
        ("ab", 20, State.LEAVING, 20),
        ("ab", 23, State.OUT, 23),
        ("abc", 30, State.JOINING, 30),
        ("ab", 31, State.OUT, 31),
    ]
    for names, at, state, since in story:
        case.says(names, at)
        assert (case.history.standings["c:1"].state, case.history.standings["c:1"].since) == (state, since)


def test_the_join_delay_of_a_flapper_doubles_up_to_five_minutes_and_is_forgiven() -> None:
    case, at = Case("abc", join_delay_s=5.0), 0.0
    waits = []
    for _ in range(9):
        at += 1
        assert case.says("ab", at) == "ab"
        returned = at = at + 1
        while case.says("abc", at) == "ab":  # looked at when it is said that one may come in
            at = case.last.again_at
        waits.append(at - returned)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300], "the first leave, after a long time, is no flap"
    for stayed_s, wait_s in ((599, 300), (600, 5)):
        at += stayed_s
        assert case.says("ab", at) == "ab"
        at += 1
        assert [case.says("abc", at), case.says("abc", at + wait_s - 0.5)] == ["ab", "ab"]
        at += wait_s
        assert case.says("abc", at) == "abc"


def test_a_check_that_toggles_every_three_seconds_moves_it_once() -> None:
    case, seen = Case("abcd", join_delay_s=5.0), []
    for tenth in range(3000):
        up = (tenth // 30) % 2 == 1
        seen.append(case.says("abcd" if up else "abc", tenth / 10))
    changes = [now for before, now in itertools.pairwise(seen) if now != before]
    assert (seen[0], changes) == ("abc", [])


def flapped(start: str, *flappers: tuple[str, int], **rules: float) -> Case:
    """A fleet of whom some left so often soon after they came, and are back since the time 0."""
    case = Case(start, **rules)
    standings = dict(case.history.standings)
    for name, flaps in flappers:
        (scraper,) = scrapers(name)
        standings[scraper.id] = Standing(scraper, State.JOINING, 0.0, joined_at=-90.0, left_at=-80.0, flaps=flaps)
    case.history = History(standings)
    return case


def test_when_most_wait_for_having_left_too_often_those_that_left_least_often_come_in_until_it_is_half() -> None:
    case = flapped("a", ("b", 9), ("c", 4), ("d", 8), ("e", 5))
    assert case.says("abcde", 10) == "a"
    assert case.last.again_at == 20, "as long as one that left twice"
    assert case.says("abcde", 20) == "ace"
    assert case.says("abcde", 80) == "ace", "two wait, three are in: the penalty of c and e would be over later"
    assert [case.says("abcde", 299), case.says("abcde", 300)] == ["ace", "abcde"]


def test_a_few_that_flap_wait_beside_as_many_that_do_not() -> None:
    case = flapped("ab", ("c", 9), ("d", 9))
    assert [case.says("abcd", 20), case.says("abcd", 299), case.says("abcd", 300)] == ["ab", "ab", "abcd"]


def test_who_is_drained_or_dies_leaves_its_place_to_those_that_wait() -> None:
    assert flapped("ab", ("c", 9), ("d", 9)).says("abcd", 20, drained="b") == "abc", "a and c carry, d waits"
    assert flapped("ab", ("c", 9), ("d", 9)).says("abcd", 20, unable="b") == "abc"
    assert flapped("ab", ("c", 9), ("d", 9)).says("abcd", 20, unable="cd") == "ab", "they would carry nothing"
    assert flapped("ab", ("c", 9), ("d", 9)).says("bcd", 20) == "bc"


def test_where_targets_have_no_room_nobody_that_is_healthy_waits_long() -> None:
    case = flapped("abc", ("d", 9))
    assert case.says("abcd", 19, no_room=True) == "abc"
    assert case.last.again_at == 20
    assert case.says("abcd", 20) == "abc"
    assert case.says("abcd", 21, no_room=True) == "abcd"


def test_who_follows_lets_in_whom_the_plan_of_the_leader_has_whatever_it_has_seen_itself() -> None:
    case = flapped("ab", ("c", 9))
    assert [case.says("abc", 5, waiting=""), case.last.again_at] == ["ab", TOLD_S], "the leader may not have told yet"
    assert [case.says("abc", 9.9, waiting=""), case.says("abc", 10, waiting="")] == ["ab", "abc"]
    slow = flapped("ab", ("c", 1), join_delay_s=30.0)
    assert [slow.says("abc", 29.9, waiting=""), slow.says("abc", 30, waiting="")] == ["ab", "abc"]
    first = Case("ab", join_delay_s=5.0)
    assert [first.says("abc", 0, waiting=""), first.says("abc", 5, waiting="")] == ["ab", "abc"], "no longer than by itself"


def test_who_follows_waits_with_whom_the_leader_lets_wait_and_not_with_whom_that_takes_for_dead() -> None:
    case = flapped("a", ("b", 1), ("c", 1), ("d", 0), ("e", 1))
    assert [case.says("abcde", at, waiting="bc", dead="e") for at in (4.9, 5, 9.9, 10, 9e3)] == [
        "a",
        "ad",
        "ad",
        "ade",
        "ade",
    ]
    assert case.last.again_at == NEVER_ENDS
    assert case.says("abcde", 9001, waiting="c") == "abde", "told that it is in"
    alone = flapped("a", ("b", 1), ("c", 1), ("d", 0))
    assert [alone.says("abcd", 60, waiting="bc"), alone.says("abcd", 61)] == ["ad", "abcd"], "nobody leads any more"


def test_who_is_in_and_waits_at_the_leader_waits_where_that_is_followed_and_is_no_flapper_by_that() -> None:
    case = Case("abc")
    assert [case.says("abc", 100, waiting="bc"), case.says("abc", 101, waiting="c")] == ["a", "a"]
    assert case.says("abc", 110, waiting="c") == "ab"
    assert {n: (one.state, one.since, one.flaps) for n, one in case.history.standings.items() if n != "a:1"} == {
        "b:1": (State.IN, 110, 0),
        "c:1": (State.JOINING, 100, 0),
    }
    assert [case.says("ac", 111, waiting="c"), case.says("c", 112, waiting="c")] == ["a", "!a"], "b left in good time"


def test_who_follows_is_not_left_without_a_scraper_by_what_the_leader_says() -> None:
    case = Case("ab")
    assert [case.says("abc", 0, waiting="ab"), case.says("abc", 9, waiting="ab")] == ["ab", "c"], "c came in then"
    assert case.says("abc", 10, waiting="abc") == "c"


def test_who_the_leader_lets_wait_has_left_here_so_it_is_no_panic_when_another_goes_and_a_second_time_is_a_flap() -> None:
    case = Case("abcd")
    assert [case.says("abcd", 0, waiting="bcd"), case.says("bcd", 1, waiting="bcd")] == ["a", "bcd"], (
        "all come in, none left"
    )
    assert case.last.said == ""
    case = Case("ab")
    told = [case.says("ab", at, waiting="b" if at in (0, 50) else "") for at in (0, 1, 10, 50, 51, 59, 60)]
    assert told == ["a", "a", "ab", "a", "a", "a", "ab"]
    assert case.history.standings["b:1"].flaps == 1


def test_the_one_that_is_left_must_be_one_that_may_have_targets() -> None:
    case = Case("abc")
    assert [case.says("abc", 0, waiting="bc", drained="a"), case.says("abc", 1, waiting="bc", unable="a")] == ["abc", "abc"]
    cold = Case(join_delay_s=5.0)
    assert [cold.says("ab", 0, waiting="b"), cold.says("ab", 5, waiting="b", drained="a")] == ["!", "ab"]


def test_who_follows_lets_in_who_is_needed_of_those_that_the_leader_takes_for_dead_only() -> None:
    case = flapped("a", ("b", 9), ("c", 9))
    assert [case.says("abc", 20, waiting="bc", no_room=True), case.says("abc", 21, no_room=True)] == ["a", "abc"]
    case = flapped("a", ("b", 9), ("c", 9))
    told = [case.says("abc", at, waiting="b", dead="c", no_room=True) for at in (19, 20)]
    assert (told, case.says("abc", 21, waiting="", no_room=True)) == (["a", "ac"], "abc")


def test_a_cold_start_beside_a_leader_leaves_out_whom_that_lets_wait_unless_these_are_all() -> None:
    case = Case(join_delay_s=5.0)
    told = [case.says("abc", at, waiting="b") for at in (0, 5, 9)]
    assert (told, case.says("abc", 9.1, waiting="")) == (["!", "ac", "ac"], "abc")
    assert [(all_ := Case()).says("abc", 0, waiting="abc"), all_.says("abc", 5, waiting="abc")] == ["!", "abc"]


def test_the_last_one_that_is_in_hangs_while_all_others_wait_and_is_no_panic() -> None:
    case = flapped("a", ("b", 9), ("c", 9), ("d", 9), panic_hold_s=60.0)
    assert case.says("abcd", 5) == "a"
    assert case.says("bcd", 6) == "bcd", "one of four is gone; nobody is left, so all come in"
    assert not case.last.panic


def test_too_many_at_once_are_held_until_probed_dead_and_the_time_has_passed() -> None:
    case = Case("abcdef", panic_hold_s=60.0)
    assert case.says("ab", 0) == "!abcdef"
    assert "4 of 6 scrapers are gone at once: c:1, d:1, e:1, f:1" in case.last.panic
    assert (case.last.suspects, case.last.again_at) == (scrapers("cdef"), 60)
    assert case.last.until == 60
    for at in (60, 61):
        assert case.says("ab", at) == "!abcdef", "not probed yet"
        assert case.last.until is None, "nobody knows when the probes end"
    case.probed = dict.fromkeys(["c:1", "d:1", "e:1"], Reply.SILENT)
    assert case.says("ab", 62) == "!abcdef", "one is missing"
    case.probed["f:1"] = Reply.SILENT
    assert case.says("ab", 63) == "ab"
    assert case.history.panic_since is None


def test_before_the_hold_has_passed_dead_probes_do_not_suffice() -> None:
    case = Case("abcdef", panic_hold_s=60.0)
    case.probed = dict.fromkeys(["c:1", "d:1", "e:1", "f:1"], Reply.SILENT)
    assert [case.says("ab", 0), case.says("ab", 59.9), case.says("ab", 60)] == ["!abcdef", "!abcdef", "ab"]


def test_who_answers_a_probe_stays_and_is_named() -> None:
    case = Case("abcdef", panic_hold_s=60.0)
    case.says("ab", 0)
    case.probed = {"c:1": Reply.ANSWERS, "d:1": Reply.ANSWERS, "e:1": Reply.SILENT, "f:1": Reply.ANSWERS}
    assert case.says("ab", 59) == "!abcdef"
    assert case.says("ab", 60) == "abcdf"
    assert list(case.last.vouched) == ["c:1", "d:1", "f:1"]
    assert "not been heard" not in case.last.said
    assert {s.id for s in case.last.suspects} == {"c:1", "d:1", "e:1", "f:1"}, "they are probed further"
    assert case.says("abcdf", 70) == "abcdf"
    assert not case.last.vouched
    assert not case.last.suspects
    case = Case("abcdef", panic_hold_s=0.0)
    case.probed = dict.fromkeys(["c:1", "d:1", "e:1", "f:1"], Reply.ANSWERS)
    assert case.says("ab", 0) == "abcdef", "however short the hold is"


def test_a_scraper_that_refuses_when_the_hold_ends_leaves_once() -> None:
    case = Case("ab", join_delay_s=5.0, panic_threshold=0.4, panic_hold_s=60.0)
    assert [case.says("abcd", 0), case.says("abcd", 5), case.says("ab", 10)] == ["ab", "abcd", "!abcd"]
    case.probed = dict.fromkeys(["c:1", "d:1"], Reply.REFUSES)
    assert [case.says("ab", 71), case.says("abc", 80)] == ["ab", "ab"]
    assert case.last.again_at == 90, "one quick leave doubles its delay, and not two"


def test_who_refuses_is_dead_and_leaves_at_once_while_the_silent_are_held_and_the_answering_stay() -> None:
    case = Case("abcdef", panic_hold_s=60.0)
    assert case.says("ab", 0) == "!abcdef"
    case.probed = {"c:1": Reply.REFUSES}
    assert case.says("ab", 0.4) == "abdef", "the first that is known to be dead does not wait for the others"
    assert (case.last.aside, case.last.until) == (Aside(frozenset({"d:1", "e:1", "f:1"}), 0), 60)
    case.probed |= {"d:1": Reply.REFUSES, "e:1": Reply.SILENT, "f:1": Reply.ANSWERS}
    assert case.says("ab", 5) == "abef"
    assert (case.last.lost, case.last.vouched, sorted(case.last.aside.scrapers)) == (("e:1", "f:1"), ("f:1",), ["e:1"])
    assert case.last.until is None, "one answers: a person must look"
    assert "4 of 6 scrapers are gone at once: c:1, d:1, e:1, f:1" in case.last.said
    assert [case.says("ab", 59.9), case.says("ab", 60)] == ["abef", "abf"]


def test_all_that_refuse_leave_at_once_and_it_is_over() -> None:
    case = Case("abcdefghij", panic_hold_s=60.0)
    assert case.says("abc", 0) == "!abcdefghij"
    case.probed = dict.fromkeys(case.last.lost, Reply.REFUSES)
    assert case.says("abc", 0.4) == "abc"
    assert (case.last.lost, case.last.suspects, case.history.panic_since) == ((), (), None)


def test_in_a_panic_all_that_are_missing_are_asked_and_named_those_that_left_before_too() -> None:
    case = Case("abcdefghij", panic_hold_s=60.0)
    for at, names in enumerate(["abcdefghi", "abcdefgh", "abcdefg", "abcdef", "abcde"]):
        assert case.says(names, at) == names
    assert case.says("abcd", 5) == "!abcde"
    assert case.last.panic.startswith("6 of 10 scrapers are gone at once: e:1, f:1, g:1, h:1, i:1, j:1; asked directly, ")
    assert "6 have not been heard yet" in case.last.panic
    assert case.last.suspects == scrapers("efghij")
    assert case.last.lost == ("e:1",), "a release is about those that are held"
    case.probed = dict.fromkeys(["f:1", "g:1", "h:1", "i:1", "j:1"], Reply.REFUSES) | {"e:1": Reply.SILENT}
    assert case.says("abcd", 6) == "abcde", "most are dead: the plan goes on, and the silent one is held"
    assert "5 refuse the connection, 1 are silent, 0 answer" in case.last.said
    assert case.last.aside == Aside(frozenset({"e:1"}), 0), "what it got since the first one died is not its own"


def test_a_long_list_of_the_missing_is_cut() -> None:
    many = tuple(sorted(Scraper(f"s{n:02}:1", f"s{n:02}", 1) for n in range(50)))
    last = admit(many[:1], History.of(many), Rules(), 0, probed={})
    assert "49 of 50 scrapers are gone at once: s01:1, " in last.panic
    assert " and 29 more; " in last.panic
    last = admit(many[:1], History.of(many[:21]), Rules(), 0, probed={})
    assert "20 of 21 scrapers" in last.panic
    assert "more" not in last.panic


def test_a_leave_delay_is_for_the_dead_too() -> None:
    case = Case("abc", leave_delay_s=5.0, panic_hold_s=60.0)
    assert case.says("a", 0) == "!abc"
    case.probed = dict.fromkeys(case.last.lost, Reply.REFUSES)
    assert [case.says("a", 1), case.says("a", 5)] == ["abc", "a"]


def test_who_dies_one_after_the_other_within_the_hold_counts_together() -> None:
    case = Case("abcdef", panic_hold_s=60.0)
    assert [case.says("abcde", 0), case.says("abcd", 1), case.says("abc", 2)] == ["abcde", "abcd", "abc"]
    assert case.says("ab", 3) == "!abc"
    case = Case("abcdef", panic_hold_s=60.0)
    assert [case.says("abcdef"[:n], 61 * (6 - n)) for n in (5, 4, 3, 2)] == ["abcde", "abcd", "abc", "ab"]
    case = Case("abcdef", panic_threshold=0.2, panic_hold_s=60.0)
    assert [case.says("abcde", 0), case.says("abcd", 60)] == ["abcde", "abcd"], "the first left as long ago as the hold"


def test_who_left_long_ago_and_is_not_back_does_not_count_among_all() -> None:
    case = Case("abcd", panic_hold_s=60.0)
    assert [case.says("abc", 0), case.says("abc", 100)] == ["abc", "abc"]
    assert case.says("a", 101) == "!abc", "two of three, not of four"
    assert "2 of 3" in case.last.said


def test_who_left_a_moment_ago_and_is_back_is_not_missing() -> None:
    case = Case("abcdef", panic_threshold=0.4, panic_hold_s=60.0)
    assert [case.says("abcde", 0), case.says("abcdef", 1), case.says("abcf", 2)] == ["abcde", "abcde", "abc"]
    case = Case("abcdef", panic_threshold=0.4, panic_hold_s=60.0)
    assert [case.says("abcde", 0), case.says("abcdef", 1), case.says("abc", 2)] == ["abcde", "abcde", "!abcde"]
    assert case.last.began_at == 0, "the first of them has had nothing new since it left"


def test_they_come_back_from_a_panic_without_a_join_delay() -> None:
    case = Case("abcdef")
    assert [case.says("ab", 0), case.says("abcd", 1), case.says("abcdef", 2)] == ["!abcdef", "!abcdef", "abcdef"]


def test_with_a_leave_delay_those_who_go_one_after_the_other_are_seen_together() -> None:
    case = Case("abcdef", leave_delay_s=2.0, panic_hold_s=10.0)
    assert [case.says("abcde", 0), case.says("abcd", 0.7), case.says("abc", 1.2)] == ["abcdef"] * 3
    assert case.says("ab", 1.6) == "!abcdef", "nobody has left when the panic begins"
    assert case.last.lost == ("c:1", "d:1", "e:1", "f:1")
    case.probed = dict.fromkeys(case.last.lost, Reply.SILENT)
    assert [case.says("ab", 3), case.says("ab", 11.5)] == ["!abcdef"] * 2
    assert case.says("ab", 11.7) == "ab"


def test_in_a_panic_nobody_leaves_before_a_longer_leave_delay() -> None:
    case = Case("abc", leave_delay_s=60.0, panic_hold_s=10.0)
    assert case.says("a", 0) == "!abc"
    case.probed = dict.fromkeys(case.last.lost, Reply.SILENT)
    assert [case.says("a", 11), case.says("a", 59)] == ["abc"] * 2
    assert case.says("a", 60) == "a"


def test_a_release_does_not_wait_for_the_leave_delay() -> None:
    case = Case("abc", leave_delay_s=60.0, panic_hold_s=10.0)
    assert case.says("a", 0) == "!abc"
    assert case.says("a", 1, released=True) == "a"


@pytest.mark.parametrize(("threshold", "left", "held"), [(0.5, "ab", "ab"), (0.4, "ab", "!abcd"), (1.0, "a", "a")])
def test_the_threshold_is_a_share_and_one_is_never(threshold: float, left: str, held: str) -> None:
    assert Case("abcd", panic_threshold=threshold).says(left, 0) == held


def test_one_of_two_is_no_panic_and_who_gets_nothing_does_not_count() -> None:
    assert Case("ab").says("a", 0) == "a"
    drained = admit(scrapers("a"), History.of(scrapers("abc")), Rules(), 0, probed={}, drained={"b:1"})
    assert [s.host for s in drained.history.members] == ["a"]
    idle = (*scrapers("a"), Scraper("b:1", "b", 1, weight=0.0), Scraper("c:1", "c", 1, weight=0.0))
    assert not admit(scrapers("a"), History.of(idle), Rules(), 0, probed={}).panic


def test_a_release_lets_go_who_was_lost_then_and_nobody_else() -> None:
    case = Case("abcdef")
    assert [case.says("ab", 0), case.says("ab", 1, released=True), case.says("ab", 2)] == ["!abcdef", "ab", "ab"]
    case = Case("abcdef")
    assert [case.says("ab", 0), case.says("a", 1, released=True)] == ["!abcdef", "!abcdef"], "b was not lost then"


def test_a_panic_lasts_until_the_last_one_is_back_or_out_whoever_left_before() -> None:
    case = Case("abcdef", panic_hold_s=60.0)
    assert [case.says("abcd", 0), case.says("ab", 58)] == ["abcd", "!abcd"]
    case.probed = {"c:1": Reply.SILENT, "d:1": Reply.SILENT}
    assert case.says("ab", 61) == "!abcd", "the first two left longer ago than the hold"
    assert case.says("ab", 117) == "!abcd"
    assert case.says("ab", 118) == "ab"


def test_who_answered_until_now_is_held_from_now_on() -> None:
    case = Case("abcdef", panic_hold_s=60.0)
    case.says("ab", 0)
    case.probed = dict.fromkeys(["c:1", "d:1", "e:1", "f:1"], Reply.ANSWERS)
    assert case.says("ab", 60) == "abcdef"
    case.says("ab", 3600)
    case.probed = dict.fromkeys(["c:1", "d:1", "e:1", "f:1"], Reply.SILENT)
    assert case.says("ab", 3603) == "abcdef", "a moment without an answer is no death"
    assert case.last.again_at == 3660
    assert case.says("ab", 3660) == "ab"


def test_who_is_lost_later_in_a_panic_is_held_as_long() -> None:
    case = Case("abcdefgh", panic_hold_s=60.0)
    case.says("abc", 0)
    case.probed = dict.fromkeys(["d:1", "e:1", "f:1", "g:1", "h:1"], Reply.ANSWERS)
    assert case.says("abc", 100) == "abcdefgh"
    case.says("a", 200)
    case.probed |= {"b:1": Reply.SILENT, "c:1": Reply.SILENT}
    assert case.says("a", 205) == "abcdefgh"
    case.probed |= dict.fromkeys(["d:1", "e:1", "f:1", "g:1", "h:1"], Reply.SILENT)
    assert case.says("a", 206) == "abcdefgh"
    assert case.last.until == 265, "the last that answered did at 205"
    case.probed |= dict.fromkeys(["d:1", "e:1", "f:1", "g:1", "h:1"], Reply.ANSWERS)
    assert case.says("a", 260) == "adefgh"


def test_when_all_are_replaced_the_new_ones_come_in() -> None:
    case = Case("ab", join_delay_s=5.0, panic_hold_s=10.0)
    assert [case.says("cd", 0), case.says("cd", 5)] == ["!ab", "!abcd"]
    case.probed = {"a:1": Reply.SILENT, "b:1": Reply.SILENT}
    assert case.says("cd", 10) == "cd"


def test_no_answer_changes_no_standing_and_its_time_does_not_count() -> None:
    case = Case("abc", join_delay_s=5.0, leave_delay_s=7.0)
    assert case.says("abd", 0) == "abc"
    assert case.hears_nothing(3) == "abc"
    assert case.hears_nothing(50) == "abc"
    assert case.says("abd", 100) == "abc"
    assert case.last.again_at == 102, "it was seen alive for 3 s of 5"
    assert case.says("abd", 102) == "abcd"
    assert case.says("abd", 104) == "abd", "it was gone for 7 s"


def test_who_answers_a_direct_probe_stays_over_a_moment_without_an_answer_of_the_membership() -> None:
    case = Case("abcdefghij", panic_hold_s=60.0)
    assert case.says("abcd", 0) == "!abcdefghij"
    case.probed = dict.fromkeys(["e:1", "f:1"], Reply.REFUSES) | dict.fromkeys(["g:1", "h:1", "i:1", "j:1"], Reply.ANSWERS)
    assert case.says("abcd", 5) == "abcdghij"
    assert case.says("abcd", 3600) == "abcdghij", "who answers stays, for as long as it does"
    assert case.hears_nothing(3601) == "abcdghij"
    assert "".join(s.host for s in case.last.suspects) == "ghij", "who is gone is asked meanwhile, too"
    assert case.says("abcd", 3602) == "abcdghij"


def test_who_is_lost_in_a_panic_gets_nothing_new_while_there_is_no_answer() -> None:
    case = Case("abcdefghij", panic_hold_s=60.0)
    case.says("abcd", 0)
    case.probed = dict.fromkeys(["e:1", "f:1"], Reply.REFUSES) | dict.fromkeys(["g:1", "h:1"], Reply.SILENT)
    assert case.says("abcd", 5) == "abcdghij"
    lost = Aside(frozenset({"g:1", "h:1", "i:1", "j:1"}), 0.0)
    assert case.last.aside == lost
    case.hears_nothing(10)
    assert case.last.aside == lost
    case.probed |= {"g:1": Reply.ANSWERS}
    case.hears_nothing(20)
    assert case.last.aside == Aside(lost.scrapers - {"g:1"}, 0.0)


@pytest.mark.parametrize(
    ("case", "told", "first", "then"),
    [
        (Case("abcdefghij", panic_hold_s=60.0), "abcd", "!abcdefghij", "abcd"),
        (Case("abcdefghij", leave_delay_s=60.0), "abcdefghi", "abcdefghij", "abcdefghi"),
        (Case(wait_scrapers=3, wait_most_s=60.0), "ab", "!", "ab"),
    ],
    ids=["panic", "leave delay", "cold start"],
)
def test_what_is_waited_for_ends_although_there_is_no_answer_now_and_then(
    case: Case, told: str, first: str, then: str
) -> None:
    """One answer of three fails, so a third of the time does not count."""
    gone = {s.id for s in case.history.members} - {s.id for s in scrapers(told)}
    heard: list[tuple[int, str]] = []
    for second in range(0, 200, 10):
        if second % 30 == 20:
            case.hears_nothing(second)
        else:
            heard.append((second, case.says(told, second)))
        case.probed = dict.fromkeys(gone, Reply.SILENT)
    assert heard[0] == (0, first)
    assert next(at for at, said in heard if said == then) == 90
    assert heard[-1][1] == then


def test_a_scraper_that_is_known_with_another_weight_or_zone_is_taken_as_it_is_now() -> None:
    heavy = Scraper("a:1", "a", 1, "z", 2.0)
    assert admit((heavy,), History.of(scrapers("a")), Rules(), 0, probed={}).history.members == (heavy,)
    rules = Rules(join_delay_s=0.0, leave_delay_s=5.0)
    for back_at in (2.0, 6.0):
        history = History.of(scrapers("ab"))
        for at, names in ((0.0, "b"), (back_at - 1.0, "b"), (6.0 if back_at == 6.0 else 1.5, "b")):
            history = admit(scrapers(names), history, rules, at, probed={}).history
        back = admit((heavy, *scrapers("b")), history, rules, back_at, probed={}).history
        assert heavy in back.members, "while it was leaving, and after it had left"


def test_standings_are_forgotten_in_time() -> None:
    case = Case("ab", panic_threshold=1.0)
    case.says("a", 0)
    case.says("a", 599)
    assert case.history.standings["b:1"].state is State.OUT
    case.says("a", 600)
    assert "b:1" not in case.history.standings
    case = Case("ab", panic_threshold=1.0, join_delay_s=5.0)
    for names, at in (("a", 1000), ("ab", 1500), ("a", 1501), ("a", 2100)):
        case.says(names, at)
    assert "b:1" in case.history.standings, "it was seen since it left"
    case.says("a", 2101)
    assert "b:1" not in case.history.standings


answers = st.lists(st.tuples(st.sampled_from(["", "?", *"abcdef", "abc", "abd", "abcdef"]), st.floats(0.1, 90)), max_size=40)


@given(answers, st.sampled_from(Reply))
@example([("e", 1.0), ("f", 1.0), ("", 1.0), ("abc", 1.0), ("abd", 58.0)], Reply.REFUSES)
def test_never_more_than_the_threshold_leave_at_once_unless_they_are_dead(
    story: list[tuple[str, float]], reply: Reply
) -> None:
    """Whatever is answered: within the hold never more than half leave, unless a direct probe found them dead. Half of those
    that are in the plan, have left within the hold, or are back and wait until they come in.
    """
    rules = Rules(join_delay_s=5.0)
    history, at, left = History.of(scrapers("abcdef")), 0.0, [(0.0, "")]
    for answer, pause in story:
        at += pause
        before = history.members
        if answer in ("", "?"):
            history = unanswered(history, rules, at, probed={}).history
            assert history.members == before
            continue
        suspects = {n for n, one in history.standings.items() if one.state is State.LEAVING}
        history = admit(scrapers(answer), history, rules, at, probed=dict.fromkeys(suspects, reply)).history
        gone = {s.id for s in before} - {s.id for s in history.members}
        assert history.members, "somebody always is in the plan"
        recent = {name for when, name in left if at - when < rules.panic_hold_s and name} | gone
        if gone and (reply is Reply.ANSWERS or not gone <= suspects):
            present = {s.id for s in history.members}
            back = {n for n, one in history.standings.items() if one.state is State.JOINING and one.left_at > LONG_AGO}
            assert len(recent - present - {s.id for s in scrapers(answer)}) <= rules.panic_threshold * len(
                {s.id for s in before} | recent | present | back
            )
        left += [(at, name) for name in gone]
    delays = [rules.delay_s(one.flaps) for one in history.standings.values()]
    assert all(delay <= DELAY_MOST_S for delay in delays)
