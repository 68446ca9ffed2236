"""``promring_certificate_…_timestamp_seconds``, of controllers and agents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from promring.runtime.certificates import Place, Validity, in_use

LABELS = ("path", "kind")


class CertificateTimes(Collector):
    """Of the certificates that this process used lately as a client, and of its ``own``: those of its port, and those that
    stand in its configuration. What is both a certificate and an authority is told once, as a certificate.
    """

    def __init__(self, own: Callable[[], Mapping[Place, Validity]] = dict) -> None:
        self._own = own

    def collect(self) -> Iterator[Metric]:
        ends = GaugeMetricFamily(
            "promring_certificate_expiry_timestamp_seconds",
            "When a certificate ends that promring shows (of a chain the first one), or what it verifies others with (kind "
            "authority; of several the last one).",
            labels=LABELS,
        )
        begins = GaugeMetricFamily(
            "promring_certificate_start_timestamp_seconds", "Since when that certificate is valid.", labels=LABELS
        )
        told = {_text(place.path): (place.kind, valid) for place, valid in sorted({**in_use(), **self._own()}.items())}
        for path, (kind, valid) in sorted(told.items()):
            ends.add_metric((path, kind), valid.ends)
            begins.add_metric((path, kind), valid.begins)
        yield ends
        yield begins


def _text(path: str) -> str:
    """A path may have bytes that are no text, which metrics cannot have."""
    return path.encode(errors="backslashreplace").decode()
