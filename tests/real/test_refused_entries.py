"""One bad entry, one bad file, one bad service among many: the others go on, and each is named and counted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from promring.demo.process import Process
from tests.real.stage import SERVICE, configuration, stage
from tests.rows import Seen
from tests.waiting import until


@pytest.mark.row(57, did="a list with odd entries, a file that becomes malformed, a service without a source that answers")
async def test_one_bad_entry_file_and_service_stop_nobody_else(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, start=False, count=30, http_sd=0) as s:
        s.allowed |= {"discovery_entries_refused", "discovery_failed"}
        first, *rest = s.farm.addresses
        folder = tmp_path / "lists"
        folder.mkdir()
        (folder / "good.json").write_text(json.dumps([{"targets": rest[:15]}]))
        odd: list[Any] = [{"targets": ["", "a\n:1", *rest[15:]]}, {"targets": ["b:1"], "labels": {"x" * 600: "y"}}, {}]
        (folder / "odd.yml").write_text(json.dumps(odd))
        config = configuration(tmp_path, s.consul, [x.id for x in s.scrapers])
        service = config["shard_services"][0]
        service["targets"] = [{"file": {"files": [str(folder / "*.json"), str(folder / "*.yml")]}}]
        dead = {**json.loads(json.dumps(service)), "name": "dead", "targets": [{"http": {"url": "http://127.0.0.1:1/sd"}}]}
        dead["delivery"] = [{"http_sd": {}}]
        config["shard_services"] = [dead, service]
        s.controller.configure(config)
        await s.controller.start()

        def listed() -> list[str]:
            return sorted(address for addresses in s.slices().values() for address in addresses)

        await until(lambda: listed() == sorted(rest), "every entry that can be scraped is in a slice")
        (folder / "good.json").write_text("[{")
        (folder / "new.json").write_text(json.dumps([{"targets": [first]}]))
        await until(lambda: listed() == sorted([first, *rest]), "the other files go on, the bad one keeps its last list")

        (source,) = (await s.controller.ask(s.session, f"services/{SERVICE}"))["sources"]
        assert (source["targets"], source["refused"]) == (30, 3)
        assert [remark.partition(":")[0] for remark in source["remarks"]] == [
            "[0].targets[0]",
            "[0].targets[1]",
            "[1].labels",
        ]
        assert "good.json:1: " in source["reason"]
        (line,) = s.controller.log_lines("discovery_entries_refused")
        assert "count=3" in line
        metrics = (await s.controller.get(s.session, "/metrics")).body.decode()
        name = f"file:{folder}/*.json,{folder}/*.yml"
        assert f'promring_discovery_refused_entries{{service="{SERVICE}",source="{name}"}} 3.0' in metrics
        page = (await s.controller.get(s.session, "/")).body.decode()
        assert "3 entries left out" in page
        status = Process(
            [sys.executable, "-m", "promring", "status", "--url", s.controller.url], tmp_path / "status", {"NO_COLOR": "1"}
        )
        await status.start()
        await status.wait()
        assert "3 entries left out: [0].targets[0]" in (tmp_path / "status").read_text()
        seen("30 of 30 good entries placed; 3 entries, the file and the dead service named in log, page, status and metrics")
