"""Bugs of what people ask for (drains, releases, other settings) and of sick scrapers, to plant as those of ``planted``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from promring.core.eligible import entitled
from promring.core.placement import Policy
from promring.fleet import reconcile
from promring.fleet.planner import Planner
from promring.fleet.releases import Releases
from promring.model import Failing

Places = list[tuple[Any, str, Any]]


def a_drain_is_forgotten() -> Places:
    """Who is drained gets targets as anybody does."""
    return [(reconcile, "entitled", lambda members, _, failing: entitled(members, (), failing))]


def the_sick_get_targets() -> Places:
    """Who is found to reach nothing is named, and gets targets all the same."""
    return [(reconcile, "entitled", lambda members, drained, _: entitled(members, drained, Failing()))]


def a_release_is_not_heard() -> Places:
    """What a person lets go is logged, and held."""
    return [(Releases, "take", lambda *_: ())]


def the_first_policy_stays() -> Places:
    """A reload that changes how targets are placed is read, said, and not used."""
    first: dict[tuple[str, ...], Policy] = {}
    real = Planner.__init__

    def init(self: Planner, *args: Any, **more: Any) -> None:
        real(self, *args, **more)
        self.policy = first.setdefault(tuple(sorted(self._placing)), self.policy)

    return [(Planner, "__init__", init)]


def a_scraper_is_drained_for_ever() -> Places:
    """Who was drained once gets nothing any more."""
    real, ever = entitled, set[str]()

    def entitled_once(members: Any, drained: Any, failing: Any) -> Any:
        ever.update(drained)
        return real(members, ever, failing)

    return [(reconcile, "entitled", entitled_once)]


PEOPLE_BUGS: Mapping[str, Callable[[], Places]] = {
    bug.__name__: bug
    for bug in (
        a_drain_is_forgotten,
        the_sick_get_targets,
        a_release_is_not_heard,
        the_first_policy_stays,
        a_scraper_is_drained_for_ever,
    )
}
