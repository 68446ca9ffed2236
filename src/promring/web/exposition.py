"""The text of ``/metrics``, in the format of Prometheus or as OpenMetrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE_PLAIN
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from promring.runtime.text import clean
from promring.runtime.threads import computed, consume_error
from promring.web.gate import Shared


@dataclass(frozen=True, slots=True)
class Form:
    """A text format of metrics."""

    content_type: str
    write: Callable[[Collector], bytes]


PLAIN = Form(CONTENT_TYPE_PLAIN, generate_latest)
OPEN_METRICS = Form(openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest)


class Rendered:
    """The text of ``/metrics``: rendered beside the loop, once for all who ask at the same time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.families = Shared(lambda: list(registry.collect()))  # the live objects are the loop's
        self._work: dict[Form, asyncio.Future[bytes]] = {}

    async def get(self, form: Form = PLAIN) -> bytes:
        work = self._work.get(form)
        if work is None or work.done():
            families = self.families.get()
            work = self._work[form] = asyncio.ensure_future(computed(lambda: _text(families, form)))
            work.add_done_callback(consume_error)
        return await asyncio.shield(work)


def _text(families: list[Metric], form: Form) -> bytes:
    try:
        return form.write(_Collected(families))
    except UnicodeEncodeError:
        for family in families:
            family.samples = [s._replace(labels={k: clean(v) for k, v in s.labels.items()}) for s in family.samples]
        return form.write(_Collected(families))


class _Collected(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families
