"""Planned moves between real servers: no target misses a scrape, and nobody has it longer than needed."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from promring.demo.scraper import ScraperProcess
from tests.real.stage import SERVICE, Stage, stage, write_targets
from tests.waiting import until

INTERVAL_S = 1.0
LATE = 1.75
"""A missed scrape is a gap of two intervals; a busy machine is late by a part of one."""
OVERLAP_S = 60.0
"""What a hand-over by receipt does not take on a busy machine, either."""


def gaps(s: Stage, since: float) -> dict[str, float]:
    """The longest time without a scrape of each target since then."""
    now = time.monotonic()
    found = {}
    for address in s.farm.addresses:
        times = [since, *(at for at in s.farm.scrapes(address) if at > since), now]
        found[address] = max(b - a for a, b in pairwise(times))
    return found


async def settled(s: Stage) -> None:
    """Everything is scraped."""
    await s.scraped_by_now()


async def handed_over(s: Stage, *scrapers: ScraperProcess) -> float:
    """Wait until each target is on exactly one of these and on nobody else; how long it took."""
    others = [x for x in s.scrapers if x not in scrapers]

    def done() -> bool:
        return s.placed_on(*scrapers) and all(not s.slices().get(x.id) for x in others)

    return await until(done, "handed over", OVERLAP_S + 10)


@pytest.mark.row(22, did="a Prometheus drained, and taken back")
async def test_a_drain_and_the_way_back_miss_no_scrape(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(
        tmp_path,
        consul_program,
        prometheus_program,
        http_sd=0,
        interval_s=INTERVAL_S,
        handover={"overlap": f"{OVERLAP_S:g}s"},
    ) as s:
        await settled(s)
        since = time.monotonic()
        drained, *left = s.scrapers
        had = len(s.slice_of(drained))
        await s.drain(drained)
        took = await handed_over(s, *left)
        (begun,) = [line for line in s.controller.log_lines("reshard") if " reason=drain " in line]
        held = int(re.search(r" held=(\d+)", begun)[1])  # type: ignore[index]
        assert held >= had, "it held on to everything"
        assert 0.5 < took < OVERLAP_S, "by receipt, not by time"
        assert s.slice_of(drained) == []
        described = await s.controller.ask(s.session, f"services/{SERVICE}")
        assert [x["id"] for x in described["scrapers"] if x["drained"]] == [drained.id]
        assert described["handing_over"] == 0

        await asyncio.sleep(2)
        await s.drain(drained, back=True)
        await handed_over(s, *s.scrapers)
        await asyncio.sleep(2)
        worst = max(gaps(s, since).values())
        assert worst < LATE * INTERVAL_S, f"a target was not scraped for {worst:.2f} s"


async def test_servers_agents_and_vmagent_hand_over_to_each_other(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, vmagent_program: Path
) -> None:
    kinds = [(prometheus_program, False), (prometheus_program, True), (vmagent_program, False)]
    async with stage(
        tmp_path,
        consul_program,
        None,
        http_sd=0,
        interval_s=INTERVAL_S,
        kinds=kinds,
        handover={"overlap": f"{OVERLAP_S:g}s"},
        audit={"interval": "1s", "timeout": "1s"},
    ) as s:
        await settled(s)
        since = time.monotonic()
        for drained in s.scrapers:
            await s.drain(drained)
            took = await handed_over(s, *(x for x in s.scrapers if x is not drained))
            assert took < OVERLAP_S, "by receipt, not by time"
            await s.drain(drained, back=True)
            await handed_over(s, *s.scrapers)
        await asyncio.sleep(2)
        worst = max(gaps(s, since).values())
        assert worst < LATE * INTERVAL_S, f"a target was not scraped for {worst:.2f} s"

        async def covered() -> bool:
            found = await s.controller.ask(s.session, f"services/{SERVICE}/coverage")
            return (
                bool(found)
                and found["ratio"] == 1.0
                and found["doubled"] == 0
                and not any(x["error"] for x in found["scrapers"])
            )

        await until(covered, "the audit understands all three", 15)


@pytest.mark.row(21, 40, did="a Prometheus joins, kill -9 of promring in the middle of the hand-over")
async def test_a_join_misses_no_scrape_and_a_restart_in_the_middle_changes_nothing_of_it(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(
        tmp_path,
        consul_program,
        prometheus_program,
        running=2,
        http_sd=0,
        interval_s=INTERVAL_S,
        handover={"overlap": f"{OVERLAP_S:g}s"},
    ) as s:
        await settled(s)
        since = time.monotonic()
        joining = s.scrapers[-1]
        await joining.start()
        await until(lambda: joining.id in s.slices(), "the joining one has its slice")
        await s.controller.kill()
        await s.controller.start()
        await handed_over(s, *s.scrapers)
        await asyncio.sleep(2)
        worst = max(gaps(s, since).values())
        assert worst < LATE * INTERVAL_S, f"a target was not scraped for {worst:.2f} s"


async def test_who_never_scrapes_what_it_got_leaves_it_to_the_old_one_and_is_named(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    """The joining scraper is up but does not read the folder of the slices."""
    async with stage(
        tmp_path,
        consul_program,
        prometheus_program,
        running=2,
        http_sd=0,
        handover={"overlap": "8s"},
        audit={"interval": "2s", "timeout": "1s"},
    ) as s:
        await settled(s)
        joining = s.scrapers[-1]
        config = tmp_path / "scraper-2" / "prometheus.yml"
        config.write_text(config.read_text().replace("/out/", "/elsewhere/"))
        await joining.start()
        await until(lambda: bool(s.slices().get(joining.id)), "the joining one has its slice")
        given = len(s.slice_of(joining))
        await asyncio.sleep(3 * 8)
        assert not s.placed_on(*s.scrapers), "three times the overlap, and still held"
        assert None not in (await s.farm.scraped_since(s.farm.addresses, time.monotonic(), 20)).values()

        async def named() -> bool:
            found = await s.controller.ask(s.session, f"services/{SERVICE}/coverage")
            return any((x["id"], x["missing"]) == (joining.id, given) for x in (found or {}).get("scrapers", []))

        await until(named, "the one that lacks its targets is named")


async def test_coverage_tells_the_truth(tmp_path: Path, consul_program: Path, prometheus_program: Path) -> None:
    async with stage(
        tmp_path, consul_program, prometheus_program, http_sd=0, audit={"interval": "1s", "timeout": "500ms"}
    ) as s:
        a, b, _ = s.scrapers

        async def told() -> dict[str, object]:
            found = await s.controller.ask(s.session, f"services/{SERVICE}/coverage", limit="1000")
            return dict(found) if found else {}

        async def is_so(**wanted: object) -> bool:
            found = await told()
            return all(found.get(name) == value for name, value in wanted.items())

        await until(lambda: is_so(ratio=1.0, uncovered=0, doubled=0, missing=0), "all well", 20)
        await s.scraped_by_now()
        # A slice edited by hand, one target out, one of another scraper in: behind until it is put back.
        s.allowed |= {"slice_put_back"}
        mine, theirs = s.slice_of(a), s.slice_of(b)
        s.controller.signal(19)  # SIGSTOP, so that it does not put it back at once
        (out,) = (line for line in s.path_of(a).read_text().splitlines() if f'"{mine[0]}"' in line)
        (into,) = (line for line in s.path_of(b).read_text().splitlines() if f'"{theirs[0]}"' in line)
        s.path_of(a).write_text(s.path_of(a).read_text().replace(out.rstrip(","), into.rstrip(",")))
        await asyncio.sleep(8)
        s.controller.signal(18)
        await until(lambda: is_so(missing=1, doubled=1), "one missing, one doubled", 10)
        found = await told()
        lists = found["lists"]
        assert isinstance(lists, dict)
        assert [row["target"] for row in lists["missing"]] == [mine[0]]
        assert [row["target"] for row in lists["doubled"]] == [theirs[0]]
        await until(lambda: is_so(ratio=1.0, doubled=0), "put back and applied", 20)
        # One that cannot be asked: what it has is not proved, although it is scraped.
        config = tmp_path / "scraper-1" / "prometheus.yml"
        good = config.read_text()
        config.write_text(good.replace(f"job_name: {SERVICE}", "job_name: other"))
        b.signal(1)
        await until(lambda: is_so(unproved=len(theirs)), "not proved", 20)
        config.write_text(good)
        b.signal(1)
        await until(lambda: is_so(ratio=1.0, unproved=0), "proved again", 20)
        metrics = (await s.controller.get(s.session, "/metrics")).body.decode()
        assert f'promring_coverage_ratio{{service="{SERVICE}"}} 1.0' in metrics


@pytest.mark.row(24, did="a target that only its owner cannot reach")
async def test_a_target_that_its_owner_cannot_reach_is_tried_by_the_next_and_comes_home(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(
        tmp_path, consul_program, prometheus_program, http_sd=0, audit={"interval": "1s", "timeout": "500ms"}
    ) as s:
        await s.scraped_by_now()
        owner, *others = s.scrapers
        target = s.slice_of(owner)[0]
        config = tmp_path / "scraper-0" / "prometheus.yml"
        good = config.read_text()
        blocked = yaml.safe_load(good)  # it speaks TLS to this one target, which does not: every scrape fails
        rule = {"source_labels": ["__address__"], "regex": target, "target_label": "__scheme__", "replacement": "https"}
        blocked["scrape_configs"][0]["relabel_configs"] = [rule]
        config.write_text(yaml.safe_dump(blocked))
        owner.signal(signal.SIGHUP)
        began = time.monotonic()
        await until(lambda: any(target in s.slice_of(x) for x in others), "the next one tries it", 30)
        assert target in s.slice_of(owner), "the owner goes on trying"
        assert None not in (await s.farm.scraped_since([target], time.monotonic(), 20)).values()
        assert sum(len(s.slice_of(x)) for x in s.scrapers) == len(s.farm.addresses) + 1, "nobody else's moved"
        assert time.monotonic() - began > 2
        config.write_text(good)
        owner.signal(signal.SIGHUP)
        await until(lambda: s.placed_on(*s.scrapers) and target in s.slice_of(owner), "home again", 30)
        await s.scraped_by_now()


@pytest.mark.row(18, did="the check of a living Prometheus fails")
async def test_one_that_is_called_dead_while_it_lives_is_scraped_twice_never_not_at_all(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0, interval_s=INTERVAL_S) as s:
        await settled(s)
        since = time.monotonic()
        doubted, *left = s.scrapers
        await s.call_dead(doubted)
        await until(lambda: s.placed_on(*left), "the others have everything")
        assert s.slice_of(doubted), "what it has is not taken from it"
        await asyncio.sleep(8)
        await s.call_dead(doubted, back=True)
        await handed_over(s, *s.scrapers)
        await asyncio.sleep(2)
        worst = max(gaps(s, since).values())
        assert worst < LATE * INTERVAL_S, f"a target was not scraped for {worst:.2f} s"


@pytest.mark.row(19, did="a Prometheus killed, its slice moved, started again with the old one")
async def test_one_that_returns_with_an_old_slice_gets_its_new_one_before_anybody_lets_go(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0, interval_s=INTERVAL_S) as s:
        await settled(s)
        returning, *left = s.scrapers
        old = s.slice_of(returning)
        await returning.kill()
        await until(lambda: s.placed_on(*left), "its targets on the others")
        gone = old[0]
        write_targets(s.folder, [a for a in s.farm.addresses if a != gone])
        await until(lambda: all(gone not in s.slice_of(x) for x in left), "a target is gone meanwhile")
        assert gone in s.slice_of(returning)
        await s.farm.scraped_since([a for a in s.farm.addresses if a != gone], time.monotonic(), 20)
        since = time.monotonic()
        await returning.start()
        await until(lambda: gone not in s.slice_of(returning), "its new slice")
        assert len(s.slice_of(returning)) + sum(len(s.slice_of(x)) for x in left) > len(s.farm.addresses), (
            "the others hold on"
        )
        others = [a for a in s.farm.addresses if a != gone]
        await until(lambda: sorted(a for x in s.scrapers for a in s.slice_of(x)) == sorted(others), "handed over", 30)
        await asyncio.sleep(2)
        worst = max(gap for address, gap in gaps(s, since).items() if address != gone)
        assert worst < LATE * INTERVAL_S, f"a target was not scraped for {worst:.2f} s"
