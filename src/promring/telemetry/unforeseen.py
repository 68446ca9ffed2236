"""``promring_unforeseen_total``, of controllers and agents. Commands that have no metrics load only what counts."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from promring.runtime import unforeseen


class UnforeseenCounts(Collector):
    """``promring_unforeseen_total{loop}`` of this process."""

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "promring_unforeseen",
            "Faults of promring itself in a loop; the answer counts as none and the loop goes on. Please report them.",
            labels=("loop",),
        )
        for loop, count in unforeseen.counts().items():
            family.add_metric((loop,), float(count))
        yield family
