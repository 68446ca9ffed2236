"""Who asks for its slice, and who asks without taking it: since when, and what its agent says about why.

Who asks is believed for what it says of itself: anybody can ask for any name, and only scrapers that are served are kept.
The text of an agent is shown to people. An agent that declines what is served, as it could not write it for instance, says
so in each question, and names the services; after ``DECLINES_S`` without a question it is not said any more.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple
from urllib.parse import quote, unquote

from promring.delivery.receiver import parse_generation
from promring.model import NEVER_ENDS, Generation
from promring.runtime.clocks import monotonic
from promring.runtime.text import clean

STILL_S = 180.0
"""Who has not asked for so long is not said to ask without taking."""
WHY_MOST = 400
DECLINES_S = 60.0
_NEWER = re.compile(r": has generation ([0-9.]{3,40}), refuses the older ")
ONE_LOOK_S = 0.5
"""What comes within it is one question."""
WORDS_S = 30.0
"""So long an agent's words count without another question: it asks around while it lacks something."""


class Asker(NamedTuple):
    """``at``: when it last asked; ``untaken_since``: the first time since it last had the slice that was served, None: it
    had it the last time. Monotonic seconds. ``why``: its agent's words; ``declines``: it was offered and not taken;
    ``again``: it has asked more than once, so it may be no person who looked at a URL.
    """

    at: float
    untaken_since: float | None = None
    why: str = ""
    declines: bool = False
    again: bool = False


class Askers:
    """Of one delivery."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._asked: dict[str, Asker] = {}

    def asked(
        self, scraper: str, *, has: bool, why: str = "", declines: bool = False, had_until: float | None = None
    ) -> bool:
        """``has``: it has the slice that is served; ``declines``: it was offered that and did not take it; ``had_until``:
        it has what was served until then (monotonic seconds), and lacks only what came since. Whether it is news that it
        declines, or that it does not any more. What one lacked that has not asked for long says nothing now.
        """
        now, before = self._clock(), self._asked.get(scraper)
        declined = before is not None and before.declines
        again = before is not None and (before.again or now - before.at > ONE_LOOK_S)
        at = now if before is None or again else before.at
        if before is None or now - before.at >= STILL_S:
            before = Asker(now)
        since = max(now if before.untaken_since is None else before.untaken_since, had_until or 0.0)
        still = declines or (before.declines and now - before.at < DECLINES_S and had_until is None)
        self._asked[scraper] = after = Asker(at, again=again) if has else Asker(at, since, why, still, again)
        return after.declines is not declined

    def declining(self) -> dict[str, str]:
        """By scraper that does not take what it is offered: its agent's words."""
        now = self._clock()
        asked = self._asked.items()
        return {name: one.why for name, one in asked if one.declines and now - one.at < DECLINES_S}

    def keep(self, scrapers: Collection[str]) -> None:
        """Those are served, and no others."""
        for gone in self._asked.keys() - set(scrapers):
            del self._asked[gone]

    def items(self) -> list[tuple[str, Asker]]:
        """By scraper. One that asks no more is not said to lack anything: an agent may have taken its slice elsewhere."""
        now, asked = self._clock(), self._asked.items()
        lasts = ((name, one, WORDS_S if one.why else STILL_S) for name, one in asked)
        return [(name, one if now - one.at < s else Asker(one.at, again=one.again)) for name, one, s in lasts]


def together(deliveries: Iterable[Askers]) -> dict[str, Asker]:
    """By scraper, of several services: when it last asked, and what it has lacked for the longest."""
    found: dict[str, Asker] = {}
    for name, one in (pair for askers in deliveries for pair in askers.items()):
        known = found.get(name, one)
        lacking = min(known, one, key=lambda asker: NEVER_ENDS if asker.untaken_since is None else asker.untaken_since)
        found[name] = lacking._replace(at=max(known.at, one.at), again=known.again or one.again)
    return found


def said_of(service: str, why: str) -> str:
    """What an agent's words, which name one service after the other, say of this one; empty: nothing."""
    return "; ".join(part for part in why.split("; ") if part.startswith(f"{service}: "))


def newer_in(why: str) -> Generation | None:
    """The generation because of which an agent refused what it was offered, where its words are those."""
    found = _NEWER.search(why)
    with contextlib.suppress(ValueError):
        return parse_generation(found[1]) if found else None
    return None


def header_of(why: str) -> str:
    """As an agent sends it: ASCII, bounded."""
    return quote(clean(why[:WHY_MOST]), safe=" !#$&'()*+,-./:;=?@[]_~")


def why_in(header: str) -> str:
    """What an agent said, in one line that can be printed. Any text is understood."""
    said = unquote(header[: WHY_MOST * 12], errors="replace")
    return "".join(letter if letter.isprintable() else "?" for letter in said[:WHY_MOST])
