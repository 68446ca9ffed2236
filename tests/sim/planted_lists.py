"""Bugs in how a list of scrapers is read, to plant as those of ``planted``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from promring.kubernetes.pods import Pod
from promring.membership import Roster
from promring.membership.listing import NOBODY_OFF, Lineup, ListedMembership, Off
from promring.model import Members

Places = list[tuple[Any, str, Any]]


def a_list_that_is_known_is_not_asked() -> Places:
    """After a start with the list of before nobody is probed."""
    real = ListedMembership._heard

    def heard(self: ListedMembership, members: Members, off: Off = NOBODY_OFF) -> None:
        if not self._had and members == self._last:
            self._had = True
            self._lineup.heard(members, 0.0)
        else:
            real(self, members, off)

    return [(ListedMembership, "_heard", heard)]


def who_is_taken_out_is_gone_at_once() -> Places:
    """Its targets do not move to others first."""

    def decide(self: Lineup, *_: object) -> bool:
        gone, self._missing = bool(self._missing), {}
        return gone

    return [(Lineup, "decide", decide), (ListedMembership, "roster", lambda self: Roster(self._roster.listed, ()))]


def names_are_not_kept() -> Places:
    """Whoever is missing from one answer of a name server leaves."""
    real = Lineup.__init__
    return [(Lineup, "__init__", lambda self, _, **more: real(self, 0.0, **more))]


def a_time_of_deletion_is_not_heard() -> Places:
    """A pod that is told to end keeps its targets until it is dead."""
    return [(Pod, "is_leaving", property(lambda _: False))]


LIST_BUGS: Mapping[str, Callable[[], Places]] = {
    bug.__name__: bug
    for bug in (
        a_list_that_is_known_is_not_asked,
        who_is_taken_out_is_gone_at_once,
        names_are_not_kept,
        a_time_of_deletion_is_not_heard,
    )
}
