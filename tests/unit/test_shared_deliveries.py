"""What the deliveries of a fleet share: hosts of ssh, runs of Ansible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from promring.build import Context, build_parts
from promring.config.load import loads
from promring.delivery.ansible import AnsibleDelivery
from promring.delivery.ssh import SshDelivery
from promring.election.leadership import Leadership
from promring.telemetry import log
from promring.telemetry.metrics import Metrics

FILES = ("key", "known_hosts", "theirs.yml")
SSH = {"user": "prom", "path": "/sd/{service}.json", "identity_file": "key", "known_hosts": "known_hosts"}


def deliveries(folder: Path, *by_service: list[dict[str, Any]], apart: bool = False) -> list[list[Any]]:
    """Of services of one fleet; ``apart``: each has its own."""
    for name in FILES:
        (folder / name).touch()
    nodes = {"probe": {"nodes": ["10.0.0.1:9090", "10.0.0.2:9090"]}}
    targets = [{"file": {"files": ["targets.json"]}}]
    config: dict[str, Any] = {"shard_services": []}
    if apart:
        for n, one in enumerate(by_service):
            config["shard_services"].append({"name": f"s{n}", "scrapers": nodes, "delivery": one, "targets": targets})
    else:
        (shared,) = by_service
        config["fleets"] = [{"name": "main", "scrapers": nodes, "delivery": shared}]
        config["shard_services"] = [{"name": f"s{n}", "fleet": "main", "targets": targets} for n in range(3)]
    settings = loads(json.dumps(config), base=folder)
    context = Context(settings, folder / "x.yml", folder, None, Leadership(), Metrics(), log.get())
    parts = [build_parts(fleet, context, {}) for fleet in settings.every_fleet]
    return [list(service.deliveries) for part in parts for service in part.services]


async def test_services_of_a_fleet_share_hosts_where_they_are_reached_in_the_same_way(tmp_path: Path) -> None:
    other = {**SSH, "user": "other", "path": "/other/{service}.json"}
    second = {**SSH, "path": "/second/{fleet}/{service}.json"}
    built = deliveries(tmp_path, [{"ssh": SSH}, {"ssh": second}, {"ssh": other}])
    made = [d for one in built for d in one if isinstance(d, SshDelivery)]
    assert len(made) == 9
    assert len({id(d._hosts) for d in made}) == 2
    assert all(one[0]._hosts is one[1]._hosts is not one[2]._hosts for one in built)
    assert made[1]._settings.path == "/second/main/{service}.json"
    (mine,), (theirs,) = deliveries(tmp_path, [{"ssh": SSH}], [{"ssh": SSH}], apart=True)
    assert mine._hosts is not theirs._hosts, "fleets share nothing"
    for delivery in (*made, mine, theirs):
        await delivery.close()


async def test_services_of_a_fleet_share_runs_of_the_playbook_that_comes_along_and_not_of_their_own(
    tmp_path: Path,
) -> None:
    built = deliveries(
        tmp_path,
        [
            {"ansible": {"dest_sd_file_name": "{fleet}-{service}.json"}},
            {"ansible": {"dest_sd_file_name": "{service}.json", "playbook": "theirs.yml"}},
        ],
    )
    shared, own = ([d for d in row if isinstance(d, AnsibleDelivery)] for row in zip(*built, strict=True))
    assert len({id(d._pushes) for d in shared}) == 1
    assert len({id(d._pushes) for d in own}) == 3
    assert [d._settings.dest_sd_file_name for d in shared] == [f"main-s{n}.json" for n in range(3)]
