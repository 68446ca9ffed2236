"""What an agent counts, under ``promring_agent_``, and ``process_*``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics

from promring.model import Generation
from promring.telemetry.certificates import CertificateTimes
from promring.telemetry.unforeseen import UnforeseenCounts

disable_created_metrics()  # type: ignore[no-untyped-call]
OUTCOMES = ("written", "same", "refused", "failed")


class AgentMetrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(UnforeseenCounts())
        self.registry.register(CertificateTimes())
        ProcessCollector(registry=self.registry)
        self._answers = self._counter("answers", "Questions to controllers: answered, failed.", "outcome")
        self._slices = self._counter(
            "slices", "Slices that were offered: written, same, refused, failed.", "service", "outcome"
        )
        self.reloads = self._counter("reloads", "Reloads of the scraper that the agent asked for: ok, failed.", "outcome")
        self.http_refused = self._counter(
            "http_refused", "Connections and requests that were refused or cut off, by reason.", "reason"
        )
        self._epoch = self._gauge("slice_epoch", "Epoch of the slice in the file.", "service")
        self._number = self._gauge("slice_generation", "Number of the slice in the file, within its epoch.", "service")
        self._offered = self._gauge(
            "slice_offered", "0 while the controller has nothing for the file, or knows no such service any more.", "service"
        )
        self._at = self._gauge("last_success_timestamp_seconds", "When a controller last answered.")
        self._frozen = self._gauge(
            "frozen", "1 while all that controllers offer for the file is refused, for a minute and more.", "service"
        )
        for outcome in ("answered", "failed"):
            self._answers.labels(outcome)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"promring_agent_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"promring_agent_{name}", text, labels, registry=self.registry)

    def answered(self) -> None:
        self._answers.labels("answered").inc()
        self._at.set_to_current_time()

    def failed(self) -> None:
        self._answers.labels("failed").inc()

    def know(self, service: str, frozen: Callable[[], str]) -> None:
        """There is a file for it from now on."""
        for outcome in OUTCOMES:
            self._slices.labels(service, outcome)
        self._frozen.labels(service).set_function(lambda: float(bool(frozen())))
        self.offered(service, True)

    def forget(self, service: str) -> None:
        for outcome in OUTCOMES:
            with contextlib.suppress(KeyError):
                self._slices.remove(service, outcome)
        for gauge in (self._epoch, self._number, self._offered, self._frozen):
            with contextlib.suppress(KeyError):
                gauge.remove(service)

    def took(self, service: str, outcome: str) -> None:
        """What came of a slice that was offered: one of ``OUTCOMES``."""
        self._slices.labels(service, outcome).inc()

    def offered(self, service: str, is_so: bool) -> None:
        self._offered.labels(service).set(float(is_so))

    def slice_is_gone(self, service: str) -> None:
        """There is no slice in the file."""
        for gauge in (self._epoch, self._number):
            with contextlib.suppress(KeyError):
                gauge.remove(service)

    def slice_is(self, service: str, generation: Generation) -> None:
        self._epoch.labels(service).set(generation.epoch)
        self._number.labels(service).set(generation.n)
