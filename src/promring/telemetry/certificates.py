"""``promring_certificate_…_timestamp_seconds``, of controllers and agents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from promring.runtime.certificates import Validity, in_use


class CertificateTimes(Collector):
    """Of the certificate files that this process showed lately as a client, and of its ``own`` as a server, by path."""

    def __init__(self, own: Callable[[], Mapping[str, Validity]] = dict) -> None:
        self._own = own

    def collect(self) -> Iterator[Metric]:
        ends = GaugeMetricFamily(
            "promring_certificate_expiry_timestamp_seconds",
            "When a certificate ends that promring shows, as a server or as a client; of a chain the one that ends first.",
            labels=("path",),
        )
        begins = GaugeMetricFamily(
            "promring_certificate_start_timestamp_seconds", "Since when that certificate is valid.", labels=("path",)
        )
        for path, valid in sorted({**in_use(), **self._own()}.items()):
            ends.add_metric((path,), valid.ends)
            begins.add_metric((path,), valid.begins)
        yield ends
        yield begins
