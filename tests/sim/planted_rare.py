"""Bugs that only the rare examinations find, to plant as those of ``planted``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from promring.consul.client import Client
from promring.consul.lock import ConsulLockStore
from promring.core import guard
from promring.core.admission import Admitted
from promring.core.second_opinion import SecondOpinions
from promring.core.standing import History, State
from promring.core.unresponsive import Unresponsive
from promring.fleet import health, moves
from promring.fleet.held_back import HeldBack
from promring.fleet.refusing import Refusing
from promring.fleet.retirement import Retirement
from promring.model import Failing

Places = list[tuple[Any, str, Any]]


def what_may_not_be_seen_is_gone() -> Places:
    """Consul's word that a list is not whole, because a right is missing, is not heard."""
    real = Client._read
    return [(Client, "_read", lambda self, response: replace(real(self, response), filtered=None))]


def who_is_barred_keeps_the_lock() -> Places:
    """A session goes on although its controller may not touch the lock's key any more."""
    return [(ConsulLockStore, "_leaving_when_barred", lambda _: nullcontext())]


def a_refusal_is_not_heard() -> Places:
    """What a scraper does not take of one service waits for it."""
    return [(Refusing, "now", lambda *_: frozenset())]


def the_old_way_ends_at_once() -> Places:
    """With a reload that changes the delivery the old places get nothing any more."""

    async def deliver(*_: object, **__: object) -> None:
        pass

    return [(Retirement, "deliver", deliver)]


def nobody_is_idle() -> Places:
    """What a scraper was given, and does not have, waits for it."""
    return [(health, "lacking", lambda *_: {})]


def the_idle_get_targets() -> Places:
    """Who is idle for a service gets its share of it."""
    return [(SecondOpinions, "failing", lambda self, now: Failing.of(self.sick(now)))]


def a_moment_without_an_answer_ends_a_panic() -> Places:
    """Who is said to be gone counts as one that never was, once there is no answer."""
    back = {State.LEAVING: State.IN, State.JOINING: State.OUT}

    def unanswered(history: History, *_: object, **__: object) -> Admitted:
        return Admitted(
            History({n: replace(one, state=back.get(one.state, one.state)) for n, one in history.standings.items()})
        )

    return [(guard, "unanswered", unanswered)]


def nobody_is_held_back() -> Places:
    """After a start without a state who shows nothing gets its new list at once."""
    return [(HeldBack, "begin", lambda *_: None)]


def canaries_are_forgotten() -> Places:
    """Who is idle has nothing by which it is seen when that is over."""
    return [(moves, "canaries", lambda *_: {})]


def a_check_that_passes_is_life() -> Places:
    """Nobody asks a scraper directly that its check calls alive."""
    return [(Unresponsive, "suspects", lambda *_: ())]


RARE_BUGS: Mapping[str, Callable[[], Places]] = {
    bug.__name__: bug
    for bug in (
        what_may_not_be_seen_is_gone,
        who_is_barred_keeps_the_lock,
        a_refusal_is_not_heard,
        the_old_way_ends_at_once,
        nobody_is_idle,
        the_idle_get_targets,
        canaries_are_forgotten,
        nobody_is_held_back,
        a_moment_without_an_answer_ends_a_panic,
        a_check_that_passes_is_life,
    )
}
