"""What the names of labels say of a group: whether its targets can have them, and whether they redirect a scrape."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from promring.core.fragment import LEGACY_NAME, redirects
from promring.discovery.intervals import INTERVAL
from promring.discovery.limits import LABEL_NAME_MAX, LABELS_MAX

NAMES_KEPT = 1000
_REDIRECTS = re.compile(r"__scheme__|__metrics_path__|__(param|scrape)_.*|job")


class Known(NamedTuple):
    """What the names of some labels say. ``plain``: with values that are not empty they pass as they are; ``length``: of
    all, in characters; ``wrong``: why no target can have these, mostly the empty text; ``redirects``: whether some redirect
    a scrape; ``timed``: whether one says how often.
    """

    plain: bool
    length: int
    wrong: str
    redirects: bool
    timed: bool

    @property
    def enough(self) -> bool:
        """Whether targets with them pass, whatever their values are, unless one is empty."""
        return self.plain and not self.wrong and not self.timed


class Names:
    """The names of labels, each set of them looked at once: the groups of a list mostly have the same."""

    def __init__(self, *, trusted: bool, legacy: bool) -> None:
        self._trusted, self._legacy = trusted, legacy
        self.known: dict[tuple[str, ...], Known] = {}

    def look(self, labels: Iterable[str]) -> Known:
        """``labels``: their names."""
        names = tuple(labels)
        known = self.known.get(names)
        if known is None:
            if len(self.known) >= NAMES_KEPT:
                self.known.clear()
            known = self.known[names] = self._looked(names)
        return known

    def _looked(self, names: tuple[str, ...]) -> Known:
        lost = not self._trusted and any(map(_REDIRECTS.fullmatch, names))
        return Known(
            not lost and "__address__" not in names,
            sum(map(len, names)),
            _wrong_names(names, legacy=self._legacy),
            any(map(redirects, names)),
            INTERVAL in names,
        )

    def passing(self, labels: Mapping[str, str | None], lost: set[str]) -> dict[str, str]:
        """Without the empty ones, the address, and what a source that is not trusted may not say, which is told to
        ``lost``.
        """
        found = {name: value for name, value in labels.items() if value and name != "__address__"}
        if self._trusted or _wrong_names(tuple(found), legacy=self._legacy):
            return found
        lost |= {name for name in found if _REDIRECTS.fullmatch(name)}
        return {name: value for name, value in found.items() if name not in lost}


def _wrong_names(names: Collection[str], *, legacy: bool) -> str:
    """Why no target can have labels with these names; mostly the empty text."""
    if len(names) > LABELS_MAX:
        return f"more than {LABELS_MAX}"
    for name in names:
        if not name or len(name) > LABEL_NAME_MAX:
            return f"{name[:80]!r} is not a label name of 1 to {LABEL_NAME_MAX} characters"
        if legacy and not LEGACY_NAME.fullmatch(name):
            return f"{name[:80]!r} is not a label name of Prometheus 2 (label_names: legacy)"
    return ""
