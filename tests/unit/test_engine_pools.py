"""The targets of a Prometheus as a discovery engine: what its answers mean, from one to the next."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from promring.core.fragment import decode, fragments
from promring.discovery import Dropped
from promring.discovery.engine_config import Job, jobs_of
from promring.discovery.engine_pools import EnginePools
from promring.model import DiscoveryError, TargetPool

OWN = {
    "job": "node",
    "__scheme__": "http",
    "__metrics_path__": "/metrics",
    "__scrape_interval__": "100y",
    "__scrape_timeout__": "10s",
}
JOBS = {
    "node": Job(tuple(OWN.items())),
    "http": Job((*{**OWN, "job": "http", "__metrics_path__": "/probe"}.items(), ("__param_module", "x"))),
}


def active(labels: dict[str, str], pool: str = "node") -> dict[str, Any]:
    return {
        "discoveredLabels": {**dict(JOBS[pool].own), **labels},
        "labels": {"instance": labels["__address__"]},
        "scrapePool": pool,
        "health": "unknown",
        "lastScrape": "0001-01-01T00:00:00Z",
    }


def body(targets: list[dict[str, Any]], dropped: list[dict[str, Any]] | None = None, **more: Any) -> bytes:
    data = {"activeTargets": targets, "droppedTargets": dropped or [], **more}
    return json.dumps({"status": "success", "data": data}).encode()


def read(pools: EnginePools, text: bytes, step: int = 1000) -> None:
    reading = pools.begin(JOBS)
    for at in range(0, len(text), step):
        reading.feed(text[at : at + step])
    reading.end()


def labels_of(pool: TargetPool) -> list[dict[str, str]]:
    found = [{"__address__": one.address, **one.labels} for one in map(decode, fragments(pool))]
    return sorted(found, key=lambda labels: sorted(labels.items()))


def test_labels_that_only_the_job_says_do_not_travel_and_those_of_the_target_do() -> None:
    pools = EnginePools("engine")
    own = {"__address__": "a:1", "__scheme__": "https", "__scrape_interval__": "5s", "job": "other", "__meta_x": "y"}
    read(
        pools, body([active({"__address__": "b:1"}), active(own), active({"__address__": "c:1", "__param_y": "z"}, "http")])
    )
    assert labels_of(pools.pools["node"]) == [own, {"__address__": "b:1"}]
    assert labels_of(pools.pools["http"]) == [{"__address__": "c:1", "__param_y": "z"}]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_read_from_answer_to_answer_is_what_the_last_one_says(seed: int) -> None:
    rng = random.Random(seed)
    pools, listed = EnginePools("engine"), [{"__address__": f"10.0.0.{i}:1", "__meta_n": str(i)} for i in range(60)]
    for turn in range(12):
        entries = [active(labels, "http" if i % 3 else "node") for i, labels in enumerate(listed)]
        rng.shuffle(entries)
        read(pools, body(entries), step=rng.choice((50, 1000, 100_000)))
        for name, wanted in (("node", listed[::3]), ("http", [one for i, one in enumerate(listed) if i % 3])):
            unique = {tuple(sorted(one.items())): one for one in wanted}
            assert labels_of(pools.pools[name]) == [
                dict(one) for one in sorted(unique.values(), key=lambda x: sorted(x.items()))
            ]
        for _ in range(rng.randrange(8)):
            place = rng.randrange(len(listed))
            listed[place] = {
                "__address__": f"10.0.0.{rng.randrange(70)}:1",
                "__meta_n": f"{turn}",
                "__meta_m": rng.choice("ab"),
            }


def test_an_answer_that_says_the_same_in_another_order_gives_the_same_object() -> None:
    pools = EnginePools("engine")
    entries = [active({"__address__": f"10.0.0.{i}:1"}) for i in range(50)]
    read(pools, body(entries))
    before = pools.pools["node"]
    read(pools, body(entries[::-1]))
    assert pools.pools["node"] is before
    read(pools, body(entries[1:]))
    assert len(pools.pools["node"]) == 49
    read(pools, body([]))
    assert pools.pools == {}


def test_what_relabelling_dropped_is_counted_and_named() -> None:
    pools = EnginePools("engine")
    dropped = [{"discoveredLabels": {"__address__": f"d{i}:1", "job": "node"}} for i in range(12)]
    read(pools, body([active({"__address__": "a:1"})], dropped))
    assert pools.dropped["node"].count == 12
    assert pools.dropped["node"].named[:2] == ("d0:1", "d1:1")
    read(pools, body([], dropped[:1], droppedTargetCounts={"node": 7000}))
    assert pools.dropped["node"] == Dropped(7000, ("d0:1",))


def test_entries_that_no_scraper_could_be_given_are_counted_while_they_are_listed() -> None:
    pools = EnginePools("engine")
    bad, good = active({"__address__": "a\n:1"}), active({"__address__": "b:1"})
    for _ in range(2):
        read(pools, body([bad, good]))
        assert (pools.pools["node"].refused, len(pools.pools["node"])) == (1, 1)
        assert "control character" in pools.pools["node"].remarks[0]
    read(pools, body([good]))
    assert pools.pools["node"].refused == 0


BAD = {
    "cut in an entry": body([active({"__address__": "a:1"})])[:60],
    "cut after the list": b'{"status":"success","data":{"activeTargets":[]',
    "an error": b'{"status":"error","error":"no"}',
    "no list": b'{"status":"success","data":{}}',
    "null": b'{"status":"success","data":{"activeTargets":null}}',
    "html": b"<html>activeTargets</html>",
    "nothing": b"",
    "a label that is a number": b'{"status":"success","data":{"activeTargets":[{"discoveredLabels":{"a":1}}]}}',
    "entries that are none": b'{"status":"success","data":{"activeTargets":[1,2]}}',
    "deep": b'{"status":"success","data":{"activeTargets":[{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}}",
    "no UTF-8": b'{"status":"success","data":{"activeTargets":[{"scrapePool":"\xff"}]}}',
}


@pytest.mark.parametrize("name", BAD)
def test_an_answer_that_is_none_changes_nothing(name: str) -> None:
    pools = EnginePools("engine")
    read(pools, body([active({"__address__": "a:1"})]))
    before = pools.pools["node"]
    with pytest.raises(DiscoveryError, match="malformed"):
        read(pools, BAD[name])
    assert pools.pools["node"] is before


def test_jobs_are_read_from_the_configuration_as_a_prometheus_prints_it() -> None:
    text = """
global: {scrape_interval: 1m, external_labels: {a: b}}
rule_files: [x, y]
scrape_configs:
- job_name: node
  scrape_interval: 100y
  scrape_timeout: 10s
  metrics_path: /metrics
  scheme: http
  static_configs:
  - targets: [a, b]
    labels: {job_name: no}
- job_name: probe
  params:
    module: [http_2xx, other]
    empty: []
  metrics_path: /probe
  scheme: https
  scrape_native_histograms: false
  always_scrape_classic_histograms: false
  convert_classic_histograms_to_nhcb: true
  relabel_configs: [{source_labels: [__address__], action: keep}]
"""
    assert dict(jobs_of(text)["node"].own) == OWN
    assert dict(jobs_of(text)["probe"].own) == {
        "job": "probe",
        "__param_module": "http_2xx",
        "__metrics_path__": "/probe",
        "__scheme__": "https",
        "__scrape_native_histograms__": "false",  # as Prometheus 3.14 prints them, and adds them to each target
        "__always_scrape_classic_histograms__": "false",
        "__convert_classic_histograms_to_nhcb__": "true",
    }


@pytest.mark.parametrize("text", ["[1]", "scrape_configs: [1]", "scrape_configs: [{scheme: x}]", "a: [", "x", ""])
def test_what_is_no_configuration_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        jobs_of(text)
