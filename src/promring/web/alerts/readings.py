"""The numbers of this process that alerts rest on: each metric now, and how far counters rose. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping

from prometheus_client.core import Metric

Series = tuple[tuple[str, str], ...]
"""The labels of a series, in order of their names."""
Numbers = dict[Series, float]


class Readings:
    """``kept_s``: counters whose rise is asked for, and over how many seconds; ``names``: all metrics that are asked for,
    since a large fleet has tens of thousands of others.
    """

    def __init__(self, kept_s: Mapping[str, float], names: Collection[str]) -> None:
        self.at = 0.0
        """When the numbers were read, in seconds since 1970."""
        self._kept_s, self._names = kept_s, frozenset(names)
        self._now: dict[str, Numbers] = {}
        self._past: dict[str, dict[Series, deque[tuple[float, float]]]] = {name: {} for name in kept_s}
        """Of each series when it had another value, the oldest first; of those before the span only the last."""

    def take(self, families: Iterable[Metric], at: float) -> None:
        """The numbers of this moment."""
        self.at, self._now = at, {}
        for family in families:
            for sample in family.samples:
                if sample.name not in self._names:
                    continue
                series = tuple(sorted(sample.labels.items()))
                self._now.setdefault(sample.name, {})[series] = sample.value
        for name, kept_s in self._kept_s.items():
            self._keep(self._past[name], self._now.get(name, {}), at - kept_s)

    def now(self, name: str, **only: str) -> Numbers:
        """Of each series of a metric that has these labels."""
        wanted = set(only.items())
        return {series: value for series, value in self._now.get(name, {}).items() if wanted <= set(series)}

    def rise(self, name: str) -> Numbers:
        """How far each series of a counter rose within its span; all of it when the process has counted for less."""
        begin = self.at - self._kept_s[name]
        found: Numbers = {}
        for series, value in self._now.get(name, {}).items():
            at, before = self._past[name][series][0]
            found[series] = value - before if at <= begin and before <= value else value
        return found

    def _keep(self, past: dict[Series, deque[tuple[float, float]]], now: Numbers, begin: float) -> None:
        for gone in past.keys() - now.keys():
            del past[gone]
        for series, value in now.items():
            points = past.setdefault(series, deque())
            if not points or points[-1][1] != value:
                points.append((self.at, value))
            while len(points) > 1 and points[1][0] <= begin:
                points.popleft()


def names_asked(conditions: Iterable[Callable[[Readings], Numbers]]) -> frozenset[str]:
    """The metrics that conditions ask for. A condition asks for all of its metrics, whatever they say."""
    asked = _Asked()
    for condition in conditions:
        condition(asked)
    return frozenset(asked.names)


class _Asked(Readings):
    """No numbers; notes what is asked for."""

    def __init__(self) -> None:
        super().__init__({}, ())
        self.names: set[str] = set()

    def now(self, name: str, **only: str) -> Numbers:
        self.names.add(name)
        return {}

    def rise(self, name: str) -> Numbers:
        self.names.add(name)
        return {}
