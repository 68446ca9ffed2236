"""What ``promring plan`` says is what then happens."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.real.stage import Stage, stage
from tests.waiting import until


async def planned(s: Stage, *arguments: str, offline: bool = False) -> dict[str, Any]:
    """Of the command, which asks the controller; or Consul and the sources by itself."""
    command = [
        sys.executable,
        "-m",
        "promring",
        "plan",
        *([f"--config.file={s.controller.config_file}", "--offline"] if offline else [f"--url={s.controller.url}"]),
        "--output=json",
        *arguments,
    ]
    out = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=True, timeout=120)
    result: dict[str, Any] = json.loads(out.stdout)
    return result


async def moved_total(s: Stage) -> float:
    metrics = (await s.controller.get(s.session, "/metrics")).body.decode()
    found = re.search(r'promring_targets_moved_total{fleet="node_exporter"} (\S+)', metrics)
    assert found is not None
    return float(found[1])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_a_plan_without_a_scraper_is_what_happens_when_it_is_killed(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0, count=200) as s:
        killed, *left = s.scrapers
        stamps, before, moved_before = s.stamps(), s.slices(), await moved_total(s)
        plan = await planned(s, "--without", killed.id)
        from_api = await s.controller.ask(s.session, "fleets/node_exporter/plan", without=killed.id)
        assert from_api == plan
        alone = await planned(s, "--without", killed.id, offline=True)
        assert alone.pop("decided_by") == "configuration"
        assert alone == {key: plan[key] for key in alone}, "there is nothing that only the controller knows"
        assert s.stamps() == stamps, "it touches nothing"
        assert (await planned(s))["moves"] == []

        await killed.kill()
        await until(lambda: s.placed_on(*left), "its targets on the others")
        said = {row["id"]: row for row in plan["scrapers"]}
        assert {x.id: sha256(s.path_of(x)) for x in left} == {x.id: said[x.id]["sha256"] for x in left}
        assert {x.id: len(s.slice_of(x)) for x in left} == {x.id: said[x.id]["after"] for x in left}
        assert (said[killed.id]["before"], said[killed.id]["after"]) == (len(before[killed.id]), None)
        owner = {a: name for name, slice_ in s.slices().items() if name != killed.id for a in slice_}
        moved = sum(owner[a] != name for name, slice_ in before.items() for a in slice_)
        assert plan["moved"] == moved
        assert await moved_total(s) - moved_before == moved


async def test_a_plan_with_a_scraper_is_what_happens_when_it_joins(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, scrapers=3, running=2, http_sd=0, count=200) as s:
        joining = s.scrapers[-1]
        plan = await planned(s, "--with", joining.id)
        await joining.start()
        await until(lambda: s.placed_on(*s.scrapers), "the targets on all three")
        said = {row["id"]: row["sha256"] for row in plan["scrapers"]}
        assert {x.id: sha256(s.path_of(x)) for x in s.scrapers} == said


async def test_a_plan_knows_the_drains_of_the_running_controller_and_a_file_does_not(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, http_sd=0, count=90) as s:
        drained, gone, left = s.scrapers
        stamps = s.stamps()
        await s.drain(drained)
        plan = await planned(s, "--without", gone.id)
        after = {row["id"]: row["after"] for row in plan["scrapers"]}
        assert after == {drained.id: 0, gone.id: None, left.id: 90}
        alone = await planned(s, "--without", gone.id, offline=True)
        assert {row["id"]: row["after"] for row in alone["scrapers"]}[drained.id] > 0, "what only the controller knows"
        await until(lambda: s.placed_on(gone, left) and s.slice_of(drained) == [], "the drain goes on")
        assert {row["id"]: row["sha256"] for row in (await planned(s))["scrapers"]} == {
            x.id: sha256(s.path_of(x)) for x in s.scrapers
        }
        assert stamps != s.stamps(), "by the drain"
