"""Entries of an engine's answer that are alike are decoded at once, to the same pool as one by one, whatever they are."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from promring.discovery.engine_config import Job
from promring.discovery.engine_pools import EnginePools
from promring.discovery.list_rules import ANY, ListRules
from promring.model import TargetPool
from tests.laws.test_uniform import addresses, names, odd_names, seen, texts

OWN = {"job": "node", "__scheme__": "http", "__metrics_path__": "/metrics", "__param_a": "x", "__scrape_interval__": "100y"}
values = texts | st.sampled_from(["http", "/metrics", "node"])
alike = st.dictionaries(names, values, max_size=4)
entries = st.lists(st.tuples(addresses, alike | alike | alike | st.dictionaries(names | odd_names, values)), max_size=80)
answers = st.lists(entries, min_size=1, max_size=3)


def read(listed: list[list[tuple[str, dict[str, str]]]], rules: ListRules, least: int) -> list[tuple[object, ...]]:
    """What the pool is after each answer. ``least``: entries of which records are made."""
    pools, found = EnginePools("engine", least), []
    pools.rules["node"] = rules
    for answer in listed:
        targets: list[dict[str, Any]] = [
            {"discoveredLabels": {**OWN, "__address__": at, **labels}, "labels": {}, "scrapePool": "node"}
            for at, labels in answer
        ]
        body = json.dumps({"status": "success", "data": {"activeTargets": targets, "droppedTargets": []}})
        reading = pools.begin({"node": Job(tuple(OWN.items()))})
        reading.feed(body.encode("utf-8", "surrogatepass"))
        reading.end()
        pool = pools.pools.get("node")
        found.append(() if pool is None else _seen(pool))
    return found


def _seen(pool: TargetPool) -> tuple[object, ...]:
    *columns, remarks = seen(pool)
    return *columns, sorted(remarks)  # type: ignore[call-overload]


@given(answers, st.sampled_from([ANY, ListRules(trusted=False), ListRules(legacy_names=True)]))
@example([[("a:1", {}), ("a:1", {"__scheme__": "https"})], [("a:1", {"job": "x"}), ("b:1", {})]], ANY)
@example([[("a:1", {})], [("a:1", {"job": "x"}), ("b:1", {})]], ListRules(trusted=False))
@example([[("a:1", {})], [("a:1", {"env": "x"}), ("b:1", {"env": ""})]], ANY)
def test_an_answer_read_at_once_is_the_answer_read_entry_by_entry(
    listed: list[list[tuple[str, dict[str, str]]]], rules: ListRules
) -> None:
    assert read(listed, rules, least=1) == read(listed, rules, least=10**9)
