"""Whether a request goes through a proxy, beside real Prometheus 3.5."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from promring.demo.process import Process, free_port
from promring.discovery import SourceContext
from promring.discovery.http import HttpTargets
from promring.model import DiscoveryError
from promring.runtime.proxy import proxy_url
from promring.runtime.redact import SecretUrl
from tests.fakes.proxy import FakeProxy
from tests.proxied import PROXIED
from tests.real.conftest import server
from tests.rows import Seen
from tests.waiting import until

pytestmark = pytest.mark.real


@pytest.mark.row(57, did="the same lists of hosts without a proxy, beside real Prometheus")
async def test_a_request_goes_through_the_proxy_when_that_of_prometheus_does(tmp_path: Path, seen: Seen) -> None:
    program = server("prometheus3")
    paths = {f"{url}{number}": number for number, (_, url, _) in enumerate(PROXIED)}
    async with FakeProxy() as theirs, FakeProxy() as ours:
        jobs = [
            {
                "job_name": f"{number}",
                "http_sd_configs": [{"url": url, "proxy_url": theirs.url} | ({"no_proxy": no} if no else {})],
            }
            for (url, number), (no, _, _) in zip(paths.items(), PROXIED, strict=True)
        ]
        (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": jobs}))
        engine = Process(
            [
                program,
                "--agent",
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.agent.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{free_port()}",
            ],
            tmp_path / "log",
        )
        await engine.start()
        try:
            for (no, _, expected), url in zip(PROXIED, paths, strict=True):
                timeout = 30.0 if expected else 0.3  # the others ask for what is not there
                settings = HttpTargets(url=SecretUrl(url), proxy_url=proxy_url(ours.url), no_proxy=no, timeout=timeout)
                try:
                    await settings.source(SourceContext(tmp_path)).fetch()
                except DiscoveryError:
                    assert not expected, url
            log = tmp_path / "log"
            failed = 'msg="Unable to refresh target groups"'
            await until(lambda: len(theirs.asked) + log.read_text().count(failed) >= len(PROXIED), "all requests", 60)
        finally:
            await engine.stop()

        def numbers(proxy: FakeProxy) -> set[int]:
            return {int(target.rpartition("/")[2]) for _, target, _ in proxy.asked}

        assert numbers(ours) == numbers(theirs) == {number for number, (_, _, proxied) in enumerate(PROXIED) if proxied}
        seen(f"{len(PROXIED)} requests, {len(numbers(ours))} through the proxy")
