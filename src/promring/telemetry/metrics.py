"""The metrics of what happens (counters, durations). Gauges are read from the live objects when
``/metrics`` is asked for, in ``web/metrics.py``, so that none of them outlives what it describes.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from promring.telemetry.unforeseen import UnforeseenCounts

disable_created_metrics()  # type: ignore[no-untyped-call]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """One registry a process. Label values are names from the configuration, never targets."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(UnforeseenCounts())
        self.reshards = self._counter(
            "reshards",
            "Placements that changed a slice, by reason: initial, scrapers, targets, drain, policy, handover, "
            "second_opinion, failing, loads.",
            "fleet",
            "reason",
        )
        self.targets_moved = self._counter("targets_moved", "Targets that went from one scraper to another.", "fleet")
        self.deliveries = self._counter(
            "deliveries",
            "Slices delivered, by means (file, ssh, ansible, http_sd) and outcome: written, failed (the receiver's side), "
            "refused (it has a newer generation), unsent (our own side, or the way), withheld (we do not lead).",
            "fleet",
            "means",
            "outcome",
        )
        self.discovery_failures = self._counter(
            "discovery_failures", "Questions to a source that gave no list.", "service", "source"
        )
        self.state_failures = self._counter(
            "state_failures", "Failures to save the last good state to the state directory.", "fleet"
        )
        self.loads_failures = self._counter(
            "loads_failures", "Rounds in which a scraper, or the store, gave no figures of loads, or odd ones.", "fleet"
        )
        self.takeovers = self._counter(
            "takeovers", "Times that this controller went above the epoch of another one that ran without a lock."
        )
        self.lease_lapses = self._counter(
            "lease_lapses", "Times that this controller's lease ended before the store of the lock had renewed it."
        )
        self.http_refused = self._counter(
            "http_refused", "Connections and requests that were refused or cut off, by reason.", "reason"
        )
        self.http_requests = self._counter(
            "http_requests",
            "Requests that were answered, by route (none: no such path) and code (499: the client went away).",
            "handler",
            "code",
        )
        self.reconcile_duration = self._seconds(
            "reconcile_duration_seconds", "Seconds of one cycle, from facts to slices delivered."
        )
        self.delivery_lag = self._seconds(
            "delivery_lag_seconds", "Seconds from the change of a fact to its slices delivered."
        )

    def forget(self, *, fleet: str = "", service: str = "") -> None:
        """Remove the series of a fleet, or of a service, that is gone."""
        if service:
            self.discovery_failures.remove_by_labels({"service": service})
        if fleet:
            for metric in (
                self.reshards,
                self.targets_moved,
                self.deliveries,
                self.state_failures,
                self.loads_failures,
                self.reconcile_duration,
                self.delivery_lag,
            ):
                metric.remove_by_labels({"fleet": fleet})

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"promring_{name}", text, labels, registry=self.registry)

    def _seconds(self, name: str, text: str) -> Histogram:
        return Histogram(f"promring_{name}", text, ("fleet",), registry=self.registry, buckets=SECONDS)
