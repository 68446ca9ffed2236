"""Zones, replicas, weights and capacity, from Consul's metadata to what Prometheus scrapes."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.real.stage import CONSUL_SERVICE, SERVICE, Stage, stage
from tests.real.test_plan import planned
from tests.rows import Seen
from tests.waiting import until


def owners(s: Stage) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {address: set() for address in s.farm.addresses}
    for name, addresses in s.slices().items():
        for address in addresses:
            found[address].add(name)
    return found


async def metadata(s: Stage) -> dict[str, dict[str, str]]:
    entries = await s.consul.get(s.session, f"/v1/health/service/{CONSUL_SERVICE}")
    return {f"{e['Service']['Address']}:{e['Service']['Port']}": e["Service"]["Meta"] for e in entries}


async def gauge(s: Stage, name: str) -> float:
    text = (await s.controller.get(s.session, "/metrics")).body.decode()
    found = re.search(rf"^promring_{name}{{.*}} (\S+)$", text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def zoned_targets(s: Stage, zones: list[str]) -> None:
    groups = [{"targets": [a], "labels": {"zone": zones[i % len(zones)]}} for i, a in enumerate(s.farm.addresses)]
    (s.folder / "new").write_text(json.dumps(groups))
    (s.folder / "new").rename(s.folder / "targets.json")


async def test_two_replicas_stand_in_two_zones_until_one_zone_is_dead(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    zones = ["a", "a", "b", "b"]
    async with stage(
        tmp_path,
        consul_program,
        prometheus_program,
        scrapers=4,
        http_sd=0,
        start=False,
        nodes=[{"zone": zone} for zone in zones],
        zones={"label": "zone"},
        placement={"replication_factor": 2, "load_factor": 2.0},
    ) as s:
        zone_of = {x.id: zone for x, zone in zip(s.scrapers, zones, strict=True)}
        await s.controller.start()
        pairs = {frozenset((x.id, y.id)) for x in s.scrapers[:2] for y in s.scrapers[2:]}

        def in_two_zones() -> bool:
            """Not at once when Consul calls those of one zone passing first."""
            return all(frozenset(o) in pairs for o in owners(s).values())

        await until(in_two_zones, "two owners each, in two zones")
        await s.quiet()
        assert in_two_zones()
        assert {name: meta["zone"] for name, meta in (await metadata(s)).items()} == zone_of
        await s.scraped_by_now()

        killed = s.scrapers[0]
        plan = await planned(s, "--without", killed.id)
        assert [(z["zone"], z["scrapers_before"], z["scrapers_after"]) for z in plan["zones"]] == [("a", 2, 1), ("b", 2, 2)]
        await killed.kill()
        said = {row["id"]: row["after"] for row in plan["scrapers"] if row["after"] is not None}
        await until(lambda: {x.id: len(s.slice_of(x)) for x in s.scrapers[1:]} == said, "as the plan says")
        others = {x.id: set(s.slice_of(x)) for x in s.scrapers[1:]}
        assert Counter(a for slice_ in others.values() for a in slice_) == dict.fromkeys(s.farm.addresses, 2)
        assert others[s.scrapers[1].id] == set(s.farm.addresses), "the one left in its zone has one of each two"

        await s.scrapers[1].kill()
        left = s.scrapers[2:]
        await until(lambda: all(sorted(s.slice_of(x)) == sorted(s.farm.addresses) for x in left), "both on both left")
        await s.scraped_by_now()


async def test_targets_go_to_their_zone_while_it_lives(tmp_path: Path, consul_program: Path) -> None:
    zones = ["a", "a", "b"]
    async with stage(
        tmp_path,
        consul_program,
        None,
        http_sd=0,
        start=False,
        nodes=[{"zone": zone} for zone in zones],
        zones={"label": "zone"},
        placement={"load_factor": None},
    ) as s:
        zoned_targets(s, ["a", "b", "nowhere"])
        await s.controller.start()
        await until(lambda: s.placed_on(*s.scrapers), "placed")
        (alone,) = s.scrapers[2:]
        asked_b = set(s.farm.addresses[1::3])
        assert asked_b <= set(s.slice_of(alone))
        assert not set(s.farm.addresses[0::3]) & set(s.slice_of(alone))
        found = await s.controller.ask(s.session, f"services/{SERVICE}/where", target=s.farm.addresses[1])
        assert found[0]["scraper"] == alone.id
        assert found[0]["reason"] in ("zone", "ring")
        await alone.kill()
        await until(lambda: s.placed_on(*s.scrapers[:2]), "on the other zone, since its own is dead")


@pytest.mark.row(23, did="capacity 25 a scraper, 60 targets: kill -9 of 2 of 3, held for 2 s, then as much as fits")
async def test_what_does_not_fit_is_said_and_placed_as_soon_as_there_is_room(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    options: dict[str, Any] = {"placement": {"capacity": 25}, "guard": {"panic_hold": "2s"}}
    async with stage(tmp_path, consul_program, None, http_sd=0, count=60, **options) as s:
        s.allowed |= {"targets_unplaced"}
        left, *killed = s.scrapers
        plan = await planned(s, "--without", killed[0].id, "--without", killed[1].id)
        assert (plan["fits"]["all"], plan["fits"]["unplaced"]) == (False, 35)
        said = s.controller.log_lines
        before = len(said("targets_unplaced"))  # at the start scrapers are found one after the other
        for scraper in killed:
            await scraper.kill()
        await until(lambda: any(" targets=35 " in x for x in said("targets_unplaced")[before:]), "said what has no room")
        await until(lambda: len(s.slice_of(left)) == 25, "as full as it may be, no fuller")
        status = await s.controller.ask(s.session, f"services/{SERVICE}")
        assert status["fits"]["unplaced"] == 35
        assert await gauge(s, "unplaced_targets") == 35
        assert len(status["fits"]["unplaced_targets"]) == 20, "as many as are named"
        lost = next(iter(set(s.farm.addresses) - set(s.slice_of(left))))
        (found,) = await s.controller.ask(s.session, f"services/{SERVICE}/where", target=lost)
        assert (found["scraper"], found["reason"]) == (None, "no_room")
        for scraper in killed:
            await scraper.start()
        await until(lambda: s.placed_on(*s.scrapers), "all placed again")
        await until(lambda: bool(said("targets_all_placed")), "said")
        assert await gauge(s, "unplaced_targets") == 0
        seen("the one left has 25, 35 are said to have no room; all placed when the others are back")


async def test_a_weight_in_consul_is_a_share_of_the_targets(tmp_path: Path, consul_program: Path) -> None:
    async with stage(
        tmp_path, consul_program, None, http_sd=0, count=120, nodes=[{"weight": 1}, {"weight": 2}, {"weight": 0}]
    ) as s:
        sizes = [len(s.slice_of(x)) for x in s.scrapers]
        assert sizes[2] == 0
        assert sizes[0] <= 1.1 * 40 + 1
        assert sizes[1] <= 1.1 * 80 + 1
        s.allowed |= {"consul_weight_ignored"}
        entry = (await metadata(s))[s.scrapers[1].id]
        assert entry["promring_weight"] == "2"
