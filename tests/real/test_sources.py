"""Target sources that fail, while real scrapers scrape: no slice loses a target."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.source import BROKEN, EMPTY, TargetSource
from tests.real.stage import stage, write_targets
from tests.rows import Seen
from tests.waiting import until

SOURCE_TROUBLE = {"discovery_failed", "discovery_empty"}


@pytest.mark.row(25, 27, did="the only http source fails in every way of the fake, one after the other, then is good again")
async def test_no_failure_of_an_http_source_takes_a_target_away(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with TargetSource([]) as source:
        http = {"http": {"url": source.url, "refresh_interval": "300ms", "timeout": "1s"}}
        options: dict[str, Any] = {"start": False, "http_sd": 0, "targets": [http]}
        async with stage(tmp_path, consul_program, prometheus_program, count=30, **options) as s:
            s.allowed |= SOURCE_TROUBLE
            source.groups = [{"targets": s.farm.addresses}]
            await s.controller.start()
            await until(lambda: s.placed_on(*s.scrapers), "every target placed")
            stamps = s.stamps()
            for mode in (*BROKEN, *EMPTY):
                asked, source.mode = len(source.requests), mode
                await until(lambda n=asked: len(source.requests) > n + 1, f"asked again in mode {mode}")  # type: ignore[misc]
                assert s.stamps() == stamps, mode
            (described,) = (await s.controller.ask(s.session, "services/node_exporter"))["sources"]
            assert (described["state"], described["targets"], described["stale"]) == ("empty", 30, True)
            source.mode, source.groups = "good", [{"targets": s.farm.addresses[:-1]}]
            await until(lambda: not s.placed_on(*s.scrapers), "the good source heard again")
            errors = "\n".join(s.controller.log_lines("discovery_failed"))
            for named in ("status 500", ":1: ", "text/html", "status 302", "[1].targets", "1 s"):
                assert named in errors, f"{named!r} in the log"
            seen(f"{len(BROKEN) + len(EMPTY)} ways: slices byte-equal, each failure named in the log")


def put(path: Path, text: str) -> None:
    """In one step: a plain write would let an empty file be seen."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


@pytest.mark.row(27, 31, did="a file malformed, empty, removed; a second one of the glob removed, then a reload")
async def test_a_file_source_malformed_vanished_or_empty_keeps_its_targets_until_it_is_good_or_a_reload_says_so(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    files = {"file": {"files": [str(tmp_path / "targets.json"), str(tmp_path / "more" / "*.json")]}}
    (tmp_path / "more").mkdir()
    more = tmp_path / "more" / "a.json"
    options: dict[str, Any] = {"start": False, "http_sd": 0, "targets": [files]}
    async with stage(tmp_path, consul_program, prometheus_program, count=30, **options) as s:
        s.allowed |= SOURCE_TROUBLE
        write_targets(tmp_path, s.farm.addresses[:20])
        more.write_text(json.dumps([{"targets": s.farm.addresses[20:]}]))
        await s.controller.start()
        await until(lambda: s.placed_on(*s.scrapers), "every target placed")
        stamps = s.stamps()
        failed = s.controller.log_lines
        for broken in ('[{"targets": ["a:1"', '[{"targets": ["a:1"]}, {"tragets": []}]', "", '[{"targets": [5]}]'):
            count = len(failed("discovery_failed"))
            put(more, broken)
            await until(lambda n=count: len(failed("discovery_failed")) > n, f"{broken!r} refused")  # type: ignore[misc]
            assert str(more) in failed("discovery_failed")[-1]
            assert s.stamps() == stamps
        more.unlink()
        await until(lambda: "a.json: vanished" in failed("discovery_failed")[-1], "the vanished file missed")
        await asyncio.sleep(3)  # more than a reconcile interval
        assert s.stamps() == stamps
        put(more, json.dumps([{"targets": s.farm.addresses[20:-1]}]))
        await until(lambda: not s.placed_on(*s.scrapers), "the file heard again, with one target less")

        put(tmp_path / "more" / "b.json", json.dumps([{"targets": s.farm.addresses[-1:]}]))
        await until(lambda: s.placed_on(*s.scrapers), "a second file of the glob")
        stamps = s.stamps()
        (tmp_path / "more" / "b.json").unlink()
        await until(lambda: "b.json: vanished" in failed("discovery_failed")[-1], "the second file missed")
        assert s.stamps() == stamps
        assert (await s.controller.reload(s.session)).status == 200
        await until(lambda: not s.placed_on(*s.scrapers), "a reload lets the vanished file go")
        seen("slices byte-equal while it was bad or gone; only a reload let it go")


@pytest.mark.row(25, did="an http source answers 500 while a file source changes")
async def test_one_source_down_does_not_stop_the_others(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with TargetSource([{"targets": ["127.0.0.1:1"]}]) as source:
        both = [
            {"http": {"url": source.url, "refresh_interval": "300ms", "timeout": "1s"}},
            {"file": {"files": [str(tmp_path / "targets.json")]}},
        ]
        async with stage(tmp_path, consul_program, prometheus_program, start=False, targets=both, http_sd=0) as s:
            s.allowed |= SOURCE_TROUBLE
            await s.controller.start()

            def everywhere(*addresses: str) -> bool:
                return sorted(a for x in s.slices().values() for a in x) == sorted([*s.farm.addresses, *addresses])

            await until(lambda: everywhere("127.0.0.1:1"), "the targets of both sources")
            source.mode = "status 500"
            await until(lambda: bool(s.controller.log_lines("discovery_failed")), "the failure noticed")
            write_targets(tmp_path, [*s.farm.addresses, "127.0.0.1:2"])
            took = await until(lambda: everywhere("127.0.0.1:1", "127.0.0.1:2"), "the other source's new target placed")
            seen(f"the other source's new target placed in {took:.1f} s, the failing one's stay")
