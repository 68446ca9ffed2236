"""What is held and what is released, in the log: each once, and a recovery only when there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import structlog
from structlog.testing import capture_logs

from promring.core.second_opinion import SecondOpinions, Sick
from promring.core.verdicts import Hold, Lists, ServiceVerdict, Withheld
from promring.fleet.decision_log import Held, say_opinions


def acts(*withheld: Withheld) -> Lists:
    return Lists({}, withheld=withheld)


def doubt(source: str, reason: str = "source_shrank", targets: int = 1) -> Withheld:
    return Withheld(reason, f"{source} says {targets}", (source, str(targets)))


def told(*verdicts: ServiceVerdict) -> list[tuple[Any, ...]]:
    """Lines after the first verdict, which acts on all."""
    with capture_logs() as lines:
        held = Held(structlog.get_logger())
        held.say(acts())
        for verdict in verdicts:
            held.say(verdict)
    return [(line["event"], line["reason"], line.get("sources") or line.get("detail", "")) for line in lines]


def test_two_sources_that_are_doubted_for_one_reason_are_both_said_and_both_released() -> None:
    assert told(acts(doubt("a")), acts(doubt("a"), doubt("b")), acts(doubt("b")), acts()) == [
        ("plan_held", "source_shrank", "a says 1"),
        ("plan_held", "source_shrank", "b says 1"),
        ("plan_released", "source_shrank", "a"),
        ("plan_released", "source_shrank", "b"),
    ]


def test_a_doubt_that_changes_its_figures_is_said_once_and_one_that_changes_its_reason_is_not_released() -> None:
    story = acts(doubt("a")), acts(doubt("a", targets=2)), acts(doubt("a", "source_empty", 0)), acts()
    assert told(*story) == [
        ("plan_held", "source_shrank", "a says 1"),
        ("plan_held", "source_empty", "a says 0"),
        ("plan_released", "source_empty", "a"),
    ]


def test_what_is_not_looked_at_while_everything_is_held_is_not_released() -> None:
    everything = Hold("no_scrapers", "no scraper is alive")
    assert told(acts(doubt("a")), everything, acts(doubt("a")), everything, acts()) == [
        ("plan_held", "source_shrank", "a says 1"),
        ("plan_held", "no_scrapers", "no scraper is alive"),
        ("plan_released", "no_scrapers", ""),
        ("plan_held", "no_scrapers", "no scraper is alive"),
        ("plan_released", "no_scrapers", ""),
        ("plan_released", "source_shrank", "a"),
    ]


def test_a_panic_that_grows_is_said_again_with_all_of_them_and_one_that_gets_smaller_is_not() -> None:
    one, two = Hold("panic", "c", ("c",)), Hold("panic", "c, d", ("c", "d"))
    assert told(one, two, one, acts()) == [
        ("plan_held", "panic", "c"),
        ("plan_held", "panic", "c, d"),
        ("plan_released", "panic", ""),
    ]


def test_who_is_sick_is_said_and_once_that_it_is_over() -> None:
    """A look that sees that the time has passed says nothing of a time that is left."""
    sick = Sick(until=50.0, pause_s=40.0, failed=7, asked=7, tried=4, reached=4)
    with capture_logs() as lines:
        before = SecondOpinions()
        for at, one in ((10.0, sick), (20.0, sick), (58.0, replace(sick, over=True)), (60.0, replace(sick, over=True))):
            now = replace(before, scrapers={"a": one})
            say_opinions(structlog.get_logger(), before, now, at)
            before = now
    said = [(line["event"], line["scraper"], line.get("gets_nothing_for_s")) for line in lines]
    assert said == [("scraper_sick", "a", 40), ("scraper_sick_over", "a", None)]
