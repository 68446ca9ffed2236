"""The run that the original chapter shows, on a real Consul and real Prometheus servers."""

from __future__ import annotations

from pathlib import Path

from tests.real.stage import CONSUL_SERVICE, stage
from tests.waiting import until


async def test_a_second_scraper_started_later_reshards_as_in_the_chapter(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, scrapers=2, running=1) as s:
        first, second = s.scrapers
        log = s.controller.log_lines
        await until(lambda: bool(log("node_same")), "node_same in the log")
        assert f"srv_name={CONSUL_SERVICE} num=1 detail={first.id}" in log("service_node_change_by_healthy_check")[0]
        assert f"nodes={first.id}" in log("node_same")[0]
        assert log("node_update_reshard") == []

        await second.start()
        await until(lambda: s.placed_on(first, second), "the targets on both scrapers")

        assert "num=2" in log("service_node_change_by_healthy_check")[1]
        both = ",".join(sorted([first.id, second.id]))
        (reshard,) = log("node_update_reshard")
        assert f"old_num=1 new_num=2 oldnodes={first.id} newnodes={both}" in reshard
        assert all(s.slices().values()), "both slices have targets"
        await s.scraped_by_now()
        for line in s.controller.log_file.read_text().splitlines():
            assert all(f" {key}=" in f" {line}" for key in ("ts", "level", "caller", "msg")), line
