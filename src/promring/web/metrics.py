"""The gauges of ``/metrics``, read from the live objects at the time of the scrape; ``telemetry.metrics`` has the counters.

``scripts/make-metrics-page`` writes docs/metrics.md from both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from promring import __version__
from promring.web.controller import Controller
from promring.web.samples import OF_FLEETS, OF_SERVICES, gauge, of_probes, of_scrapers


class LiveGauges(Collector):
    """``connections``: how many clients are connected; ``most``: how many may be; ``tasks``: how many the event loop has."""

    def __init__(
        self,
        controller: Controller,
        connections: Callable[[], int] = lambda: 0,
        most: int = 0,
        tasks: Callable[[], int] = lambda: 0,
    ) -> None:
        self._controller = controller
        self._connections, self._most, self._tasks = connections, most, tasks

    def collect(self) -> Iterator[Metric]:
        services, fleets = list(self._controller.services.values()), list(self._controller.fleets.values())
        yield gauge(
            "tasks",
            "Tasks of the event loop of promring; it should not grow while nothing else does.",
            (),
            [((), float(self._tasks()))],
        )
        for name, text, labels, of_fleets in OF_FLEETS:
            yield gauge(name, text, ("fleet", *labels), of_fleets(fleets))
        yield from of_scrapers(fleets)
        yield of_probes(fleets)
        for name, text, labels, of_services in OF_SERVICES:
            yield gauge(name, text, ("service", *labels), of_services(services))
        yield from self._process()

    def _process(self) -> Iterator[Metric]:
        reload = self._controller.reload_state
        ready = float(not self._controller.unready())
        yield gauge("ready", "1 when /-/ready answers 200: every fleet has a plan of known scrapers.", (), [((), ready)])
        yield gauge(
            "leader",
            "1 while this controller leads: it delivers. Without a lock always 1.",
            (),
            [((), float(self._controller.leadership.leads()))],
        )
        leadership = self._controller.leadership
        yield gauge(
            "leader_known",
            "1 while this controller leads, or has seen lately who does. Without a lock always 1.",
            (),
            [((), float(leadership.leads() or bool(leadership.known_leader)))],
        )
        lock = float(not self._controller.leadership.alone)
        yield gauge(
            "lock", "1 with controllers.lock: several controllers may run, and scrapers ask any of them.", (), [((), lock)]
        )
        locked_out = self._controller.leadership.locked_out_by is not None
        yield gauge(
            "locked_out",
            "1 while receivers refuse this controller, as another one without a lock wrote to them.",
            (),
            [((), float(locked_out))],
        )
        yield gauge(
            "config_last_reload_successful",
            "1 when the last reload took the configuration file, 0 when it was refused.",
            (),
            [((), float(reload.successful))],
        )
        yield gauge(
            "config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken.",
            (),
            [((), reload.at)],
        )
        yield gauge(
            "http_connections", "Clients that are connected to the port of promring.", (), [((), float(self._connections()))]
        )
        yield gauge("http_connections_max", "Clients that may be connected at a time.", (), [((), float(self._most))])
        yield gauge("build_info", "Always 1; the version is its label.", ("version",), [((__version__,), 1.0)])
