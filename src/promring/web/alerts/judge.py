"""Which alerts are true, and since when. Judged each ``EVERY_S``, kept in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client.core import Metric

from promring.web.alerts.conditions import CONDITIONS, RISES_S
from promring.web.alerts.readings import Readings, Series, names_asked
from promring.web.alerts.rules import Rule, read_rules, said
from promring.web.answers.status import Alert

EVERY_S, NEW_S = 15.0, 2.0
SEVERITIES = ("critical", "warning")
"""The worst first."""


class Alerts:
    """``collect``: every metric of the process; ``instance``: how this controller is called in texts."""

    def __init__(
        self,
        collect: Callable[[], Iterable[Metric]],
        instance: Callable[[], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.rules: Sequence[Rule] = read_rules()
        self._collect, self._instance, self._clock = collect, instance, clock
        self._readings = Readings(RISES_S, names_asked(CONDITIONS.values()))
        self._true: dict[tuple[str, Series], tuple[float, float]] = {}
        """By alert and series: since when it is true, and its value now."""

    async def run(self) -> None:
        """For ever."""
        while True:
            self.take()
            await asyncio.sleep(EVERY_S)

    def take(self) -> None:
        """Judge once, by the numbers of this moment."""
        at, before = self._clock(), self._true
        self._readings.take(self._collect(), at)
        self._true = {}
        for rule in self.rules:
            if rule.judged:
                for series, value in CONDITIONS[rule.name](self._readings).items():
                    since, _ = before.get((rule.name, series), (at, value))
                    self._true[rule.name, series] = min(since, at), value

    def every(self) -> list[Alert]:
        """Those that are true: first those that fire, the worst and oldest first, then those that wait. Judged now, if that
        was more than ``NEW_S`` ago.
        """
        if not 0 <= self._clock() - self._readings.at < NEW_S:
            self.take()
        rules = {rule.name: rule for rule in self.rules}
        found = [self._answer(rules[name], series, *known) for (name, series), known in self._true.items()]
        return sorted(found, key=lambda one: (one.state, SEVERITIES.index(one.severity), one.since, one.alert))

    def _answer(self, rule: Rule, series: Series, since: float, value: float) -> Alert:
        labels = dict(series)
        texts: Mapping[str, str] = {"instance": self._instance(), **labels}
        fires_at = since + rule.for_s
        return Alert(
            alert=rule.name,
            severity=rule.severity,
            state="firing" if self._readings.at >= fires_at else "pending",
            since=round(since, 3),
            fires_at=round(fires_at, 3),
            labels=labels,
            value=value,
            summary=said(rule.summary, texts, value),
            description=said(rule.description, texts, value),
            runbook=f"runbooks#{rule.name.lower()}",
        )
