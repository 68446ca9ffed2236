"""What an agent counts, under ``promring_agent_``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

from promring.model import Generation
from promring.unforeseen import UnforeseenCounts

disable_created_metrics()  # type: ignore[no-untyped-call]


class AgentMetrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(UnforeseenCounts())
        self._answers = Counter(
            "promring_agent_answers",
            "Answers of controllers: written, same, refused, failed.",
            ["outcome"],
            registry=self.registry,
        )
        self.reloads = Counter("promring_agent_reloads", "Reloads of the scraper.", ["outcome"], registry=self.registry)
        self._epoch = Gauge("promring_agent_slice_epoch", "Epoch of the slice in the file.", registry=self.registry)
        self._number = Gauge("promring_agent_slice_generation", "Its number in the epoch.", registry=self.registry)
        self._at = Gauge(
            "promring_agent_last_success_timestamp_seconds", "When a controller last answered.", registry=self.registry
        )
        self.frozen = Gauge(
            "promring_agent_frozen",
            "1 while controllers answer and every slice that they offer is refused, for a minute and more.",
            registry=self.registry,
        )
        for outcome in ("written", "same", "refused", "failed"):
            self._answers.labels(outcome)

    def answered(self, outcome: str) -> None:
        self._answers.labels(outcome).inc()
        if outcome in ("written", "same"):
            self._at.set_to_current_time()

    def slice_is(self, generation: Generation) -> None:
        self._epoch.set(generation.epoch)
        self._number.set(generation.n)
