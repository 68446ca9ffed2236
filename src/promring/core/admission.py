"""Who counts as alive: from what membership answers to the scrapers that the plan is made for. Pure; time is given.

One scraper's standing, as a table; ``delay`` is ``join_delay_s``, doubled for each leave soon after a join:

| standing  | is in the answer            | is not                                             |
|-----------|-----------------------------|----------------------------------------------------|
| (none)    | joining                     | (none)                                             |
| joining   | in, after ``delay``         | out                                                |
| in        | in                          | leaving                                            |
| leaving   | in                          | out, after ``leave_delay_s`` - unless in a panic   |
| out       | joining                     | forgotten after ``FORGIVEN_S``                     |

In and leaving are in the plan. "No answer" and "none" change no standing; whoever was joining begins again.

A panic: those who leave now, and who left within ``panic_hold_s``, are more than ``panic_threshold`` of all. Then nobody
leaves before ``panic_hold_s`` has passed and each was probed directly: who does not answer leaves, who does stays.
With nobody in the plan yet, all that are joining come in together: when every expected one is there, or after
``join_delay_s``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from promring.model import Members, Scraper

DELAY_MOST_S = 300.0
FORGIVEN_S = 600.0
NEVER, INFINITY = float("-inf"), float("inf")


class State(Enum):
    JOINING = "joining"
    IN = "in"
    LEAVING = "leaving"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Rules:
    """Seconds; ``panic_threshold`` is a share of the scrapers. ``expected``: ids that are configured by name."""

    join_delay_s: float = 5.0
    leave_delay_s: float = 0.0
    panic_threshold: float = 0.5
    panic_hold_s: float = 60.0
    expected: frozenset[str] = frozenset()

    def delay_s(self, flaps: int) -> float:
        """How long a scraper with so many quick leaves must be healthy before it comes in."""
        return min(max(DELAY_MOST_S, self.join_delay_s), self.join_delay_s * 2.0 ** min(flaps, 20))


@dataclass(frozen=True, slots=True)
class Standing:
    """One scraper. ``since``: when its state began; ``joined_at``, ``left_at``: when it came into the plan, and left it."""

    scraper: Scraper
    state: State
    since: float
    joined_at: float = NEVER
    left_at: float = NEVER
    flaps: int = 0

    @property
    def planned(self) -> bool:
        return self.state in (State.IN, State.LEAVING)

    def to(self, state: State, now: float) -> Standing:
        return replace(self, state=state, since=now)

    def joined(self, now: float) -> Standing:
        return replace(self, state=State.IN, since=now, joined_at=now)

    def left(self, now: float) -> Standing:
        flaps = self.flaps + 1 if now - self.joined_at < FORGIVEN_S else 0
        return replace(self, state=State.OUT, since=now, left_at=now, flaps=flaps)


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered from verdict to verdict. Never changed: ``admit`` makes the next."""

    standings: Mapping[str, Standing] = field(default_factory=dict)
    panic_since: float | None = None

    @property
    def members(self) -> Members:
        """Who is in the plan."""
        return tuple(sorted(s.scraper for s in self.standings.values() if s.planned))

    @classmethod
    def of(cls, members: Members) -> History:
        """These are in the plan, since ever."""
        return cls({s.id: Standing(s, State.IN, NEVER) for s in members})


@dataclass(frozen=True, slots=True)
class Admitted:
    """``panic`` and ``warming_up``: why the plan must be held, or empty. ``vouched``: not in the answer, and alive all the
    same. ``suspects``: who shall be probed directly. ``again_at``: when the answer would be another one by itself.
    """

    history: History
    panic: str = ""
    warming_up: str = ""
    vouched: tuple[str, ...] = ()
    suspects: Members = ()
    again_at: float = INFINITY


def unanswered(history: History) -> History:
    """There is no answer, or it is "none": who is in the plan stays, who was joining has to begin again."""
    back = {State.LEAVING: State.IN, State.JOINING: State.OUT}
    return History({n: replace(one, state=back.get(one.state, one.state)) for n, one in history.standings.items()})


def admit(
    answer: Members,
    history: History,
    rules: Rules,
    now: float,
    *,
    probed: Mapping[str, bool],
    off: Collection[str] = (),
    released: bool = False,
) -> Admitted:
    """Who counts as alive after ``answer``. ``probed``: of those suspected before, who answers a direct probe; ``off``: who
    gets nothing anyway, so it does not matter that it leaves; ``released``: a person says that the answer is right.
    """
    delay_s = (lambda _: 0.0) if released else rules.delay_s
    standings = {one.scraper.id: one for one in _seen(answer, history.standings, now)}
    for name, one in standings.items():
        if one.state is State.JOINING and one.since + delay_s(one.flaps) <= now and history.members:
            standings[name] = one.joined(now)
    leave_delay_s = 0.0 if released else rules.leave_delay_s
    lost = [n for n, one in standings.items() if one.state is State.LEAVING and one.since + leave_delay_s <= now]
    panic_since, panic, again_at = None, "", INFINITY
    vouched: tuple[str, ...] = ()
    if lost and not released and (share := _missing(standings, lost, rules, now, history.panic_since, off)):
        panic_since = now if history.panic_since is None else history.panic_since
        ends_at = panic_since + rules.panic_hold_s
        unsure = [name for name in lost if name not in probed]
        vouched = tuple(name for name in lost if probed.get(name))
        if now < ends_at or unsure:
            panic, again_at = _panic(share, lost, probed), ends_at if now < ends_at else again_at
        leaving = [] if panic else [name for name in lost if name not in vouched]
    else:
        leaving = lost
    for name in leaving:
        standings[name] = standings[name].left(now)
    after = History(standings, panic_since)
    warming_up, ends_at = ("", INFINITY) if history.members or released else _warm_up(after, rules, now)
    if not warming_up and not after.members:
        first = {n: one.to(State.IN, now) for n, one in standings.items() if one.state is State.JOINING}
        after = History(standings | first, panic_since)  # not ``joined``: they were there before, a first leave is no flap
    suspects = tuple(standings[n].scraper for n in lost if n not in leaving) if panic_since is not None else ()
    again_at = min(again_at, ends_at, _due_next(after.standings.values(), rules, now, members=bool(after.members)))
    return Admitted(after, panic, warming_up, () if panic else vouched, suspects, again_at)


def _seen(answer: Members, before: Mapping[str, Standing], now: float) -> Iterable[Standing]:
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
        elif one.state is State.LEAVING or now - max(one.left_at, one.since) < FORGIVEN_S:
            yield one


def _missing(
    standings: Mapping[str, Standing],
    lost: Collection[str],
    rules: Rules,
    now: float,
    panic_since: float | None,
    off: Collection[str],
) -> tuple[int, int] | None:
    """How many are missing, of how many, when that is a panic. Who gets nothing does not count, nor who joined since and
    lives: newcomers make those who are gone no fewer.
    """
    joined_before = now + 1.0 if panic_since is None else panic_since
    counting = {n: one for n, one in standings.items() if one.scraper.weight and n not in off}
    recent = {n for n, one in counting.items() if not one.planned and now - one.left_at < rules.panic_hold_s}
    base = recent | {n for n, one in counting.items() if one.planned and (one.joined_at < joined_before or n in lost)}
    missing = {n for n in recent if standings[n].state is State.OUT} | (base & set(lost))
    return (len(missing), len(base)) if len(missing) > rules.panic_threshold * len(base) else None


def _panic(share: tuple[int, int], lost: list[str], probed: Mapping[str, bool]) -> str:
    dead = [name for name in lost if probed.get(name) is False]
    alive = [name for name in lost if probed.get(name)]
    asked = f"{len(dead)} of {len(lost)} do not answer a direct probe, {len(alive)} do"
    return f"{share[0]} of {share[1]} scrapers are gone at once: {', '.join(sorted(lost)[:10])}; {asked}"


def _warm_up(history: History, rules: Rules, now: float) -> tuple[str, float]:
    """Why the first scrapers are still waited for, and until when; an empty text when they are not."""
    joining = {n: one for n, one in history.standings.items() if one.state is State.JOINING}
    if not joining:
        return "", INFINITY
    ends_at = min(one.since for one in joining.values()) + rules.join_delay_s
    absent = sorted(rules.expected - joining.keys())
    if now >= ends_at or (rules.expected and not absent):
        return "", INFINITY
    others = f" for {', '.join(absent[:10])}" if absent else ""
    return f"{len(joining)} scrapers are alive; waiting up to {rules.join_delay_s:g} s{others}", ends_at


def _due_next(standings: Iterable[Standing], rules: Rules, now: float, *, members: bool) -> float:
    """When the next one may come in, or go."""
    due = [one.since + rules.delay_s(one.flaps) for one in standings if one.state is State.JOINING and members]
    due += [one.since + rules.leave_delay_s for one in standings if one.state is State.LEAVING]
    return min((at for at in due if at > now), default=INFINITY)
