"""Several shard services under one promring, all watched at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from promring.demo.process import Process
from tests.real.stage import SERVICE, configuration, stage
from tests.waiting import until


async def test_each_service_has_its_own_scrapers_targets_and_slices(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    async with stage(tmp_path, consul_program, prometheus_program, start=False) as s:
        ids = [x.id for x in s.scrapers]
        config = configuration(tmp_path, s.consul, ids)
        services: list[dict[str, Any]] = config["shard_services"]
        other = json.loads(json.dumps(services[0]))
        other["name"], other["identity"] = "blackbox", "host_port"
        other["scrapers"]["consul"]["service"] = "scrape_blackbox"
        other["scrapers"]["consul"]["register"]["nodes"] = ids[:2]
        other["targets"] = [{"file": {"files": [str(tmp_path / "blackbox.json")]}}]
        services.append(other)
        (tmp_path / "blackbox.json").write_text(json.dumps([{"targets": [f"10.0.0.{i}:9115" for i in range(20)]}]))
        s.controller.configure(config)
        await s.controller.start()
        await until(lambda: s.placed_on(*s.scrapers), "the first service placed")

        def blackbox() -> dict[str, list[str]]:
            paths = sorted((tmp_path / "out" / "blackbox").glob("*.json"))
            return {p.stem: [a for g in json.loads(p.read_bytes()) for a in g["targets"]] for p in paths}

        both = sorted(i.replace(":", "_") for i in ids[:2])  # one of them may be seen to live before the other
        await until(
            lambda: sorted(blackbox()) == both and sum(map(len, blackbox().values())) == 20, "the second service placed"
        )
        third = s.stamps()
        await s.scrapers[0].kill()
        await until(lambda: len(blackbox()[ids[1].replace(":", "_")]) == 20, "its death seen by the second service")
        await until(lambda: s.placed_on(*s.scrapers[1:]), "and by the first")
        assert s.stamps() != third
        lines = s.controller.log_lines("node_update_reshard")
        assert {SERVICE, "blackbox"} == {line.split("srv_name=")[1].split(" ")[0] for line in lines}

        # A reload that removes a service stops it and leaves its slices alone.
        before = blackbox()
        s.allowed.add("service_removed")
        config["shard_services"] = services[:1]
        s.controller.configure(yaml.safe_dump(config))
        assert (await s.controller.reload(s.session)).status == 200

        async def gone() -> bool:
            return [x["name"] for x in await s.controller.ask(s.session, "services")] == [SERVICE]

        await until(gone, "the service gone")
        assert blackbox() == before
        assert "blackbox" not in (await s.controller.get(s.session, "/metrics")).body.decode()


@pytest.mark.timeout(180)
async def test_the_demonstration_runs_with_stand_ins_where_prometheus_cannot_be_had(tmp_path: Path) -> None:

    nowhere = {"PROMRING_SERVERS": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PATH": "/nowhere"}
    demo = Process([sys.executable, "-m", "promring", "demo", "--once", "--targets=60"], tmp_path / "demo.log", nowhere)
    await demo.start()
    try:
        status = await demo.wait()
    finally:
        await demo.stop()
    text = " ".join(demo.log_file.read_text().split())  # lines are wrapped at 80 columns
    assert status == 0, text
    assert "small stand-ins take its place" in text
    assert "every target is scraped" in text
