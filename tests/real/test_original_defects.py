"""Every defect of the original program, as a test on real servers: promring has none of them.

Tested elsewhere: all scrapers dead, a hung scraper, kill -9 (``test_scrapers.py``), a forgotten catalogue
(``test_consul.py``), two services with one file (``tests/unit/test_config.py``).
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.real.stage import BELIEVED, stage, write_targets
from tests.waiting import until


async def test_the_ring_after_a_change_has_the_virtual_nodes_it_was_configured_with(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    placement = {"virtual_nodes": 128, "load_factor": None}
    options: dict[str, Any] = {"scrapers": 3, "running": 2, "http_sd": 0, "count": 120, "placement": placement}
    async with stage(tmp_path, consul_program, prometheus_program, **options) as s:
        first, second, joining = s.scrapers
        before = s.slices()
        await joining.start()
        await until(lambda: s.placed_on(*s.scrapers), "the new scraper in the plan")
        for scraper in (first, second):
            assert set(s.slice_of(scraper)) <= set(before[scraper.id]), "targets move to the new scraper only"


async def test_a_short_interval_never_brings_an_old_slice_back(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(
        tmp_path, consul_program, prometheus_program, http_sd=0, reconcile_interval="250ms", guard=BELIEVED
    ) as s:
        everything = s.farm.addresses
        for turn in range(12):
            listed = everything if turn % 2 else everything[: 30 + turn]
            write_targets(tmp_path, listed)
            await until(
                lambda want=listed: sorted(a for x in s.slices().values() for a in x) == sorted(want),  # type: ignore[misc]
                f"list {turn} placed",
            )
            for _ in range(20):
                assert sorted(a for x in s.slices().values() for a in x) == sorted(listed)
                await asyncio.sleep(0.03)


async def test_a_cycle_without_a_change_writes_nothing_and_a_changed_target_rewrites_one_slice(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0, reconcile_interval="250ms") as s:
        stamps = s.stamps()
        await asyncio.sleep(2)
        assert s.stamps() == stamps
        groups = json.loads((tmp_path / "targets.json").read_text())
        groups.append({"targets": [groups[0]["targets"].pop()], "labels": {"env": "other"}})
        (tmp_path / "targets.json").write_text(json.dumps(groups))
        await until(lambda: s.stamps() != stamps, "the changed label delivered")
        after = s.stamps()
        assert sum(after[name] != stamp for name, stamp in stamps.items()) == 1


async def test_a_scraper_without_targets_gets_an_empty_list(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=1, guard=BELIEVED) as s:
        write_targets(tmp_path, s.farm.addresses[:1])
        await until(lambda: sorted(map(len, s.slices().values())) == [0, 0, 1], "one target on one of three scrapers")
        described = await s.controller.ask(s.session, "services/node_exporter")
        empty = next(x["id"] for x in described["scrapers"] if x["targets"] == 0)
        answer = await s.controller.get(s.session, f"/sd/node_exporter/{empty}")
        assert (answer.status, json.loads(answer.body)) == (200, [])


async def test_two_scrapers_on_one_host_and_every_address_of_a_group_are_told_apart(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        groups = json.loads((tmp_path / "targets.json").read_text())
        assert max(len(g["targets"]) for g in groups) > 1
        assert len({x.id.partition(":")[0] for x in s.scrapers}) == 1
        assert s.placed_on(*s.scrapers)
        assert all(s.slices().values())


async def test_a_slice_that_cannot_be_written_is_a_failure_that_is_seen_and_tried_again(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        s.allowed |= {"delivery_failed"}
        blocked = s.path_of(s.scrapers[0])
        blocked.unlink()
        blocked.mkdir()  # root writes to read-only files, but nobody renames a file onto a folder
        write_targets(tmp_path, s.farm.addresses[:50])
        await until(lambda: bool(s.controller.log_lines("delivery_failed")), "the failure in the log")
        assert str(blocked) in s.controller.log_lines("delivery_failed")[0]
        described = await s.controller.ask(s.session, "services/node_exporter")
        assert [x["id"] for x in described["scrapers"] if x["delivery_error"]] == [s.scrapers[0].id]
        metrics = (await s.controller.get(s.session, "/metrics")).body.decode()
        assert 'promring_deliveries_total{fleet="node_exporter",means="file",outcome="failed"}' in metrics
        blocked.rmdir()

        def everywhere() -> bool:
            slices = s.slices()
            return len(slices) == 3 and sorted(a for x in slices.values() for a in x) == sorted(s.farm.addresses[:50])

        await until(everywhere, "the slice written once it can be")


@pytest.mark.row(20, did="a slice edited, one deleted by hand")
async def test_a_slice_edited_or_deleted_by_hand_is_put_back_and_reported_once(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0) as s:
        s.allowed |= {"slice_put_back"}
        await asyncio.sleep(2.5)
        bodies = {name: stamp[2] for name, stamp in s.stamps().items()}
        s.path_of(s.scrapers[0]).write_text("[]")
        s.path_of(s.scrapers[1]).unlink()
        await until(lambda: {n: x[2] for n, x in s.stamps().items()} == bodies, "both put back within an interval", 4)
        await asyncio.sleep(2.5)
        assert len(s.controller.log_lines("slice_put_back")) == 2
