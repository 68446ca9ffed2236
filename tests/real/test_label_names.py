"""A fleet with a Prometheus 2, and a source with a label name that only Prometheus 3 takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.stage import SERVICE, configuration, stage
from tests.waiting import until


@pytest.mark.timeout(240)
async def test_a_slice_that_a_prometheus_2_refuses_for_a_label_name_is_explained_and_the_key_mends_it(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    """One such target makes it refuse its whole slice: it goes on with the slice before. Few targets have such a name here:
    when most have, the guard holds the list that is shorter without them, until it is released.
    """
    audit: dict[str, Any] = {"audit": {"interval": "2s", "timeout": "2s"}}
    async with stage(tmp_path, consul_program, prometheus_program, scrapers=2, http_sd=1, **audit) as s:
        s.allowed.add("discovery_entries_refused")
        path = tmp_path / "targets.json"
        groups = json.loads(path.read_text())
        extra = [{"targets": [f"127.0.0.{n}:1" for n in range(1, 11)], "labels": {"my.label": "x"}}]
        (tmp_path / "targets.new").write_text(json.dumps(groups + extra))
        (tmp_path / "targets.new").rename(path)

        def explained() -> bool:
            return any("label_names: legacy" in line and "my.label" in line for line in s.controller.log_lines("coverage"))

        await until(explained, "the warning names label and key", 120)
        config = configuration(tmp_path, s.consul, [x.id for x in s.scrapers], **audit)
        config["shard_services"][0]["label_names"] = "legacy"
        s.controller.configure(yaml.safe_dump(config))
        assert (await s.controller.reload(s.session)).status == 200

        async def mended() -> bool:
            found = await s.controller.ask(s.session, f"services/{SERVICE}")
            return bool(found["coverage"]["missing"] == 0)

        await until(mended, "what else was listed is scraped", 60)
