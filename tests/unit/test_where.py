"""Where is a target? Asked in the words of whoever sees it on a page of Prometheus."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from promring.core.fragment import target
from promring.core.pool import build_pool
from promring.model import TargetGroup, TargetPool
from promring.web.where import NEAR_MOST, find, near
from tests.unit.test_page import shown
from tests.unit.test_web import running

BLACKBOX = "127.0.0.1:9115"
POOL = build_pool(
    [
        [
            TargetGroup.of(["10.0.0.1:9100", "10.0.0.2:9100"], {"env": "prod"}),
            TargetGroup.of(["db.example.com"], {"__scheme__": "https", "instance": "the-database"}),
            TargetGroup.of(["https://shop.example/health?x=1"], {"__param_module": "http_2xx"}),
            TargetGroup.of([BLACKBOX], {"__param_target": "https://one.example", "__metrics_path__": "/probe"}),
            TargetGroup.of([BLACKBOX], {"__param_target": "https://two.example", "__metrics_path__": "/probe"}),
            TargetGroup.of(["[2001:db8::1]:9100", "unix-host:9100"], {"path": 'C:\\x "y"', "emoji": "\N{SNOWMAN}"}),
            TargetGroup.of(["10.0.0.3:9100"], {"__metrics_path__": "/other", "job": "10.0.0.1"}),
        ]
    ]
)


def found(asked: str, pool: TargetPool = POOL) -> tuple[str, list[str]]:
    one = find(pool, asked, time.monotonic() + 60)
    assert one.total == len(one.rows)
    rows = [target(pool, row) for row in one.rows]
    return one.match, sorted(t.labels.get("__param_target", t.address) for t in rows)


@pytest.mark.parametrize(
    ("asked", "match", "targets"),
    [
        ("10.0.0.1:9100", "address", ["10.0.0.1:9100"]),
        ("[2001:db8::1]:9100", "address", ["[2001:db8::1]:9100"]),
        (BLACKBOX, "address", ["https://one.example", "https://two.example"]),
        ("the-database", "label", ["db.example.com"]),
        ("https://two.example", "label", ["https://two.example"]),
        ('C:\\x "y"', "label", ["[2001:db8::1]:9100", "unix-host:9100"]),
        ("\N{SNOWMAN}", "label", ["[2001:db8::1]:9100", "unix-host:9100"]),
        ("10.0.0.1", "label", ["10.0.0.3:9100"]),
        # What older servers add to an address.
        ("db.example.com:443", "address", ["db.example.com"]),
        # A scrape URL as Prometheus shows it.
        ("http://10.0.0.2:9100/metrics", "url", ["10.0.0.2:9100"]),
        ("10.0.0.2:9100/metrics", "url", ["10.0.0.2:9100"]),
        ("https://db.example.com:443/metrics", "url", ["db.example.com"]),
        ("https://db.example.com/metrics", "url", ["db.example.com"]),
        (f"http://{BLACKBOX}/probe?target=https%3A%2F%2Ftwo.example", "url", ["https://two.example"]),
        # The address has become a parameter by relabelling.
        (
            f"http://{BLACKBOX}/probe?module=http_2xx&target=https%3A%2F%2Fshop.example%2Fhealth%3Fx%3D1",
            "url",
            ["https://shop.example/health?x=1"],
        ),
        # A part.
        ("example.co", "part", ["db.example.com"]),
        ("10.0.0.", "part", ["10.0.0.1:9100", "10.0.0.2:9100", "10.0.0.3:9100"]),
        # Nothing.
        ("10.9.9.9:9100", "part", []),
        ("http://10.0.0.3:9100/metrics", "part", []),
        ("http://[", "part", []),
        ("http://h/?" + "&".join("a" * 50), "part", []),
        ("\ud800", "part", []),
    ],
)
def test_a_target_is_found_by_what_is_seen_of_it(asked: str, match: str, targets: list[str]) -> None:
    assert found(asked) == (match, targets)


def test_the_nearest_addresses_are_named_when_there_is_none() -> None:
    until = time.monotonic() + 60
    assert near([POOL], "10.0.0.11:9100", until)[0] == "10.0.0.1:9100"
    assert near([POOL], "unx-host:9100", until)[0] == "unix-host:9100"
    assert near([POOL], "unix-host:9110", until)[0] == "unix-host:9100"
    assert near([POOL], "nothing-like-it", until) == []
    assert near([POOL], "x", until) == []
    many = build_pool([[TargetGroup.of([f"host-{n}:9100" for n in range(5000)])]])
    assert len(near([many], "host-x:9100", until)) == NEAR_MOST


def test_a_look_that_has_no_time_left_says_so() -> None:
    one = find(POOL, "example.co", time.monotonic() - 1)
    assert (one.rows, one.truncated) == ([], True)
    assert near([POOL], "10.0.0.11:9100", time.monotonic() - 1) == []


async def test_every_service_is_asked_at_once_and_parts_count_only_when_nothing_is_called_so(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        exact = await r.data("/api/v1/where?target=t1:9100")
        assert [(t["service"], t["match"], t["target"]) for t in exact["targets"]] == [
            ("node", "address", "t1:9100"),
            ("files-only", "address", "t1:9100"),
        ]
        assert {t["scraper"] for t in exact["targets"]} <= set(r.nodes)
        one = await r.data("/api/v1/where?target=t1&service=node")
        assert {t["match"] for t in one["targets"]} == {"part"}
        assert (one["near"], one["truncated"]) == ([], False)
        few = await r.data("/api/v1/where?target=t1&limit=1")
        assert (len(few["targets"]), few["total"] > 1) == (1, True)
        none = await r.data("/api/v1/where?target=t1:9101")
        assert (none["targets"], none["total"], none["near"][0]) == ([], 0, "t1:9100")
        status, _, body = await r.get("/api/v1/services/node/where?target=t1:9101")
        assert (status, "near it: t1:9100" in json.loads(body)["error"]) == (404, True)
        assert (await r.get("/api/v1/where"))[0] == 400
        assert (await r.get("/api/v1/where?target=x&service=nope"))[0] == 404
        assert "near it: t1:9100" in (await shown(r, "/where?target=t1:9101")).text


async def test_a_search_that_had_no_time_does_not_say_that_a_target_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as r:
        monkeypatch.setattr("promring.web.where.LOOK_S", -10.0)
        status, _, body = await r.get("/api/v1/services/node/where?target=no-such-part")
        assert (status, "not everything was looked at" in json.loads(body)["error"]) == (503, True)
