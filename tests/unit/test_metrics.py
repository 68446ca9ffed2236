"""``/metrics``: both formats, what is counted of requests and probes."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from promring.agent.metrics import AgentMetrics
from promring.web.negotiation import prefers_openmetrics
from tests.unit.test_web import Running, running
from tests.waiting import until

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


async def text(r: Running, accept: str = "") -> tuple[str, str]:
    _, headers, body = await r.get("/metrics", **({"Accept": accept} if accept else {}))
    return headers["content-type"], body.decode()


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        (PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=0.2, text/plain;q=0.5", False),
        ("application/openmetrics-text;q=x", False),
        ("," * 10_000, False),
    ],
)
def test_openmetrics_is_for_who_asks_for_it(accept: str, wanted: bool) -> None:
    assert prefers_openmetrics(accept) is wanted


async def test_both_formats_are_well_formed_and_say_the_same(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        kind, said = await text(r, PROMETHEUS)
        assert kind.startswith("application/openmetrics-text; version=")
        assert said.endswith("# EOF\n")
        kind, other = await text(r)
        assert kind.startswith("text/plain; version=0.0.4")
        families = {one.name for one in open_metrics(said)}  # type: ignore[no-untyped-call]
        assert families == {one.name.removesuffix("_total") for one in plain(other)}
        assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds"} <= families


async def test_requests_and_probes_are_counted_and_who_last_came_is_known(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        for path in ("/api/v1/services/node", "/api/v1/services/nope", "/nowhere/at/all", f"/sd/node/{r.nodes[1]}"):
            await r.get(path)
        samples = dict[tuple[str, ...], float]()

        def asked() -> list[str]:
            return [key[2] for key in samples if key[0] == "promring_scraper_last_ask_timestamp_seconds"]

        async def probed() -> bool:
            await r.get(f"/sd/node/{r.nodes[0]}")
            families = plain((await text(r))[1])
            samples.update({(s.name, *s.labels.values()): s.value for one in families for s in one.samples})
            return samples["promring_probes_total", "node", "success"] >= 2 and bool(asked())

        await until(probed, "both were probed, and one asked more than once")
        counted = {key[1:]: value for key, value in samples.items() if key[0] == "promring_http_requests_total"}
        route = "/api/v1/services/{service}"
        by_route = {(values[1], values[0]): value for values, value in counted.items()}
        assert (by_route[route, "200"], by_route[route, "404"], by_route["none", "404"]) == (1, 1, 1)
        assert samples["promring_probes_total", "node", "not_made"] == 0
        assert asked() == [r.nodes[0]], "the other one looked once"


def test_an_agent_tells_what_its_process_takes() -> None:
    assert (AgentMetrics().registry.get_sample_value("process_resident_memory_bytes") or 0) > 1e6
