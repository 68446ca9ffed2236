"""Which scrapers count as alive: from what membership answers to the scrapers that a plan is made for. Pure; time is given.

The standing of a scraper changes as in this table. ``delay`` is ``join_delay_s``, doubled for each leave soon after a join;
the leave of a scraper that its membership was draining does not count:

| standing  | is in the answer            | is not                                             |
|-----------|-----------------------------|----------------------------------------------------|
| (none)    | joining                     | (none)                                             |
| joining   | in, after ``delay``         | out                                                |
| in        | in                          | leaving                                            |
| leaving   | in                          | out, after ``leave_delay_s`` - unless in a panic   |
| out       | joining                     | forgotten after ``FORGIVEN_S``                     |

A scraper that is *in* or *leaving* is in the plan. "No answer" and "none" change no standing, and time stands still until
the next answer: joining, leaving and a panic then go on from where they were.

**A long delay is cut short where the scraper is needed**, to the delay of a scraper that left twice. When more live
scrapers wait with long delays than are in, some come in until half of all are in, those that left least often first. When
targets have no room in the plan, all of them come in.

**A controller that follows goes by the leader's plan**, since it may have seen other leaves. A scraper that is joining here
and is in the leader's plan comes in after ``TOLD_S``. A scraper that waits in the leader's plan waits here, too, even if it
was in; that counts as a leave, and it is not in again before it is in the leader's plan. A scraper that the leader takes for
dead comes in as it would without the leader.

**A panic** begins when the scrapers that are leaving, or left within ``panic_hold_s``, are more than ``panic_threshold`` of
all; with a ``leave_delay_s`` it begins before the first of them has left. It lasts until every one of them is back or out.
During a panic every missing scraper is probed directly, also those that had left before:

- A scraper that refuses the connection is dead, and leaves as without a panic.
- A scraper that is silent leaves after ``panic_hold_s`` without an answer to a probe. Before that it counts as alive and is
  held: it keeps what it has and gets nothing new.
- A scraper that answers stays.

The whole plan is held for ``panic_hold_s`` and until each missing scraper was probed, unless one of them is found dead. Then
the plan goes on without the dead, and what the held scrapers got since the first one went missing is taken elsewhere, too.

**At the start**, with no scraper in the plan yet, all that are joining come in together: when every expected scraper is
there, or after ``join_delay_s``. Where the number to wait for is configured: when so many are there, or after
``wait_most_s``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from promring.core.missing import Missing, missing_at_once
from promring.core.standing import FORGIVEN_S, History, Rules, Standing, State
from promring.model import NEVER_ENDS, Members, Reply

TOLD_S = 10.0
"""How long the leader needs at most to tell which scrapers are not in its plan."""


class Led(NamedTuple):
    """What the leader tells of its plan: the listed scrapers that are ``out`` of it, and those of them that are alive and
    ``waiting`` to come in. Ids.
    """

    out: Collection[str]
    waiting: Collection[str]


class Aside(NamedTuple):
    """Scrapers in the plan without a sign of life. They keep what they had before ``since``, and get nothing new."""

    scrapers: frozenset[str]
    since: float


NOBODY_ASIDE = Aside(frozenset(), NEVER_ENDS)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The verdict about one answer of the membership.

    ``panic`` and ``warming_up``: why the plan must be held, or empty. ``lost``: scrapers that stay in the plan although
    the answer lacks them, because of a panic; ``vouched``: those of them that answer a probe; ``said``: the same in words.
    ``suspects``: scrapers to probe directly; ``began_at``: when the first missing scraper went. ``until``: when what is held
    ends by itself, None: it does not; ``again_at``: when the verdict changes without another answer.
    """

    history: History
    panic: str = ""
    warming_up: str = ""
    lost: tuple[str, ...] = ()
    vouched: tuple[str, ...] = ()
    said: str = ""
    suspects: Members = ()
    began_at: float = NEVER_ENDS
    until: float | None = None
    again_at: float = NEVER_ENDS

    @property
    def aside(self) -> Aside:
        held = frozenset(self.lost) - frozenset(self.vouched)
        return Aside(held, self.began_at) if held else NOBODY_ASIDE


def unanswered(
    history: History, rules: Rules, now: float, *, probed: Mapping[str, Reply], drained: Collection[str] = ()
) -> Admitted:
    """The verdict without an answer, or with "none": no standing changes. Scrapers that are lost in a panic are still probed
    directly, and get nothing new unless they answer. Arguments as those of ``admit``.
    """
    still = history.silent(now)
    if still.panic_since is None or still.silent_since is None:
        return Admitted(still)
    lost = tuple(name for name, one in still.standings.items() if one.state is State.LEAVING)
    missing = missing_at_once(still.standings, lost, rules, still.silent_since, drained)
    return Admitted(
        still,
        lost=lost,
        vouched=_vouched(lost, probed, still.standings),
        said=missing.said(probed),
        suspects=missing.suspects(lost),
        began_at=missing.began_at,
    )


def _vouched(lost: Iterable[str], probed: Mapping[str, Reply], standings: Mapping[str, Standing]) -> tuple[str, ...]:
    """The lost scrapers that answer a probe. A scraper that was not asked since a restart or a stand-still counts by its
    answer before, if it gave one after it was lost.
    """
    answered = {name for name in lost if standings[name].answered_at >= standings[name].since}
    return tuple(name for name in lost if probed.get(name, Reply.ANSWERS if name in answered else None) is Reply.ANSWERS)


def admit(
    answer: Members,
    history: History,
    rules: Rules,
    now: float,
    *,
    probed: Mapping[str, Reply],
    drained: Collection[str] = (),
    let_go: Collection[str] = (),
    let_in: bool = False,
    no_room: bool = False,
    led: Led | None = None,
) -> Admitted:
    """Who counts as alive after ``answer``.

    ``probed``: what those lost before do when they are asked directly; ``drained``: who gets nothing anyway, so it does not
    matter that it leaves; ``let_go``: a person says that these are gone; ``let_in``: that the first ones need not be waited
    for; ``no_room``: that the scrapers in the plan have no room for all targets; ``led``: what the controller that leads
    says of its plan, None: there is none that we follow.
    """
    history = history.heard(now)
    standings = {one.scraper.id: one for one in _seen(answer, history.standings, probed, now)}
    if history.members:
        due = [n for n, one in standings.items() if one.state is State.JOINING and joins_at(one, rules, led) <= now]
        standings |= {name: standings[name].joined(now) for name in due}
    standings |= _waiting_there(standings, led, now, drained)
    gone = [n for n, one in standings.items() if one.state is State.LEAVING]
    missing = missing_at_once(standings, gone, rules, now, drained)
    found = _leaving(standings, gone, missing, history.panic_since, rules, now, probed=probed, let_go=let_go)
    standings = standings | {name: standings[name].left(now) for name in found.leaving}
    if history.members:
        needed = _needed(standings, rules, now, drained, led, no_room=no_room)
        standings |= {name: standings[name].joined(now) for name in needed}
    staying = tuple(name for name in found.lost if name not in found.leaving)
    after = History(standings, found.panic_since if staying else None)
    warming_up, warm_at = ("", NEVER_ENDS) if history.members or let_in else _warm_up(after, rules, now)
    if not warming_up and not after.members:
        after = _all_in(after, now, drained, led.waiting if led else ())
    return Admitted(
        after,
        panic=found.panic,
        warming_up=warming_up,
        lost=staying,
        vouched=_vouched(staying, probed, standings),
        said=found.said,
        suspects=missing.suspects(staying),
        began_at=missing.began_at,
        until=warm_at if warming_up else _held_until(after, staying, found.ends_at, probed, rules, now),
        again_at=min(at for at in (found.ends_at, warm_at, *_due(after.standings, rules, led), NEVER_ENDS) if at > now),
    )


def _all_in(history: History, now: float, drained: Collection[str], waiting: Collection[str]) -> History:
    """All that are joining come in together, but those that are ``waiting`` for the leader, unless nobody else may have
    targets: ``to``, not ``joined``, as they were there before, and a first leave is no flap.
    """
    joining = {n: one for n, one in history.standings.items() if one.state is State.JOINING}
    first = {n: one for n, one in joining.items() if n not in waiting}
    first = first if _may_have(first, drained) else joining
    return History({**history.standings, **{n: one.to(State.IN, now) for n, one in first.items()}}, history.panic_since)


def _may_have(some: Mapping[str, Standing], drained: Collection[str]) -> list[str]:
    """Who of them may have targets."""
    return [n for n, one in some.items() if one.scraper.able and n not in drained]


def joins_at(one: Standing, rules: Rules, led: Led | None) -> float:
    """When one that is joining comes in at the latest, if it stays; ``NEVER_ENDS``: when the leader lets it in."""
    if led is None or (one.scraper.id in led.out and one.scraper.id not in led.waiting):
        return one.joins_at(rules)
    if one.scraper.id in led.waiting:
        return NEVER_ENDS
    return min(one.joins_at(rules), one.since + max(rules.join_delay_s, TOLD_S))


def _waiting_there(
    standings: Mapping[str, Standing], led: Led | None, now: float, drained: Collection[str]
) -> Mapping[str, Standing]:
    """Who is in the plan here, and waits to come into that of the leader; nobody, when there would be none left."""
    are_in = {n: one for n, one in standings.items() if one.state is State.IN}
    waits = {n: one.left(now).to(State.JOINING, now) for n, one in are_in.items() if led is not None and n in led.waiting}
    return waits if _may_have({n: one for n, one in are_in.items() if n not in waits}, drained) else {}


def _needed(
    standings: Mapping[str, Standing], rules: Rules, now: float, drained: Collection[str], led: Led | None, *, no_room: bool
) -> Iterable[str]:
    """Which of the scrapers that wait for having left too often come in early; the leader says it of those it sees alive."""
    able = {n: standings[n] for n in _may_have(standings, drained)}
    asked = able if led is None else able.keys() & set(led.out) - set(led.waiting)
    waiting = [n for n in asked if able[n].state is State.JOINING and able[n].needed_at(rules) <= now]
    are_in = sum(one.state is State.IN for one in able.values())
    count = len(waiting) if no_room else max(0, math.ceil((len(waiting) - are_in) / 2))
    return sorted(waiting, key=lambda name: (able[name].flaps, able[name].since, name))[:count]


@dataclass(frozen=True, slots=True)
class _Leaving:
    """Of those that are gone: who is ``lost``, and who of them leaves now. ``panic``: why nobody may act; ``said``: why one
    is on; ``ends_at``: when it does by itself.
    """

    lost: Collection[str]
    leaving: Collection[str]
    panic_since: float | None = None
    panic: str = ""
    said: str = ""
    ends_at: float = NEVER_ENDS


def _leaving(
    standings: Mapping[str, Standing],
    gone: Sequence[str],
    missing: Missing,
    panic_since: float | None,
    rules: Rules,
    now: float,
    *,
    probed: Mapping[str, Reply],
    let_go: Collection[str],
) -> _Leaving:
    """Who of the ``gone`` leaves. When too many are gone at once, only who is surely dead does, until the hold is over."""
    leaving = [n for n in gone if n in let_go or standings[n].since + rules.leave_delay_s <= now]
    if set(gone) <= set(let_go) or (panic_since is None and not missing.too_many(rules)):
        return _Leaving(leaving, leaving)
    panic_since = now if panic_since is None else panic_since
    ends_at, said, panic = panic_since + rules.panic_hold_s, missing.said(probed), ""
    leaving = [n for n in leaving if probed.get(n) is Reply.REFUSES]
    if now >= ends_at and all(n in probed for n in gone):
        leaving += [n for n in gone if _is_out(standings[n], probed[n], rules, now)]
    elif not any(probed.get(n) is Reply.REFUSES for n in missing.ids):
        panic = said
    return _Leaving(gone, leaving, panic_since, panic, said, ends_at)


def _is_out(one: Standing, reply: Reply, rules: Rules, now: float) -> bool:
    """Whether one that is gone in a panic leaves when the hold of all is over."""
    return reply is not Reply.ANSWERS and one.held_until(rules) <= now


def _held_until(
    after: History, staying: Collection[str], ends_at: float, probed: Mapping[str, Reply], rules: Rules, now: float
) -> float | None:
    """When a panic ends by itself; None: there is none, or somebody answers, and then only a person ends it."""
    if not staying or any(probed.get(name) is Reply.ANSWERS for name in staying):
        return None
    last = max(ends_at, *(after.standings[name].held_until(rules) for name in staying))
    return last if last > now else None


def _seen(answer: Members, before: Mapping[str, Standing], probed: Mapping[str, Reply], now: float) -> Iterable[Standing]:
    """The standings when nothing but the answer is considered."""
    live = {scraper.id: scraper for scraper in answer}
    for name, scraper in live.items():
        one = before.get(name)
        if one is None:
            yield Standing(scraper, State.JOINING, now)
        elif one.state is State.OUT:
            yield replace(one, scraper=scraper, state=State.JOINING, since=now)
        elif one.state is State.LEAVING:
            yield replace(one, scraper=scraper, state=State.IN, since=now)
        else:
            yield replace(one, scraper=scraper)
    for name, one in before.items():
        if name in live:
            continue
        if one.state is State.IN:
            yield one.to(State.LEAVING, now)
        elif one.state is State.JOINING:
            yield one.to(State.OUT, now)
        elif one.state is State.LEAVING:
            yield replace(one, answered_at=now) if probed.get(name) is Reply.ANSWERS else one
        elif now - max(one.left_at, one.since) < FORGIVEN_S:
            yield one


def _warm_up(history: History, rules: Rules, now: float) -> tuple[str, float]:
    """Why the first scrapers are still waited for, and until when; an empty text when they are not."""
    joining = {n: one for n, one in history.standings.items() if one.state is State.JOINING}
    if not joining:
        return "", NEVER_ENDS
    wait_s = rules.wait_most_s if rules.wait_scrapers else rules.join_delay_s
    ends_at = min(one.since for one in joining.values()) + wait_s
    absent = sorted(rules.expected - joining.keys())
    enough = len(joining) >= rules.wait_scrapers if rules.wait_scrapers else bool(rules.expected) and not absent
    if now >= ends_at or enough:
        return "", NEVER_ENDS
    others = f" for {', '.join(absent[:10])}" if absent else ""
    if rules.wait_scrapers:
        others = f" for {rules.wait_scrapers}"
    alive = "1 scraper is" if len(joining) == 1 else f"{len(joining)} scrapers are"
    return f"{alive} alive; waiting up to {wait_s:g} s{others}", ends_at


def _due(standings: Mapping[str, Standing], rules: Rules, led: Led | None) -> Iterable[float]:
    """When one may come in, or go."""
    members = any(one.planned for one in standings.values())
    for one in standings.values():
        if one.state is State.JOINING and members:
            yield from (one.needed_at(rules), joins_at(one, rules, led))
        elif one.state is State.LEAVING:
            yield from (one.since + rules.leave_delay_s, one.held_until(rules))
