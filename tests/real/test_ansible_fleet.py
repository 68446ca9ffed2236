"""The services of one fleet by the real ``ansible-playbook``: one run, several files a host, outcomes of each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from promring.delivery import Outcome
from promring.delivery.ansible import AnsibleDelivery, AnsiblePushes, AnsibleSettings
from promring.delivery.ansible_push import AnsiblePace
from promring.telemetry import log
from tests.real.test_ansible import GOOD, MISSING, WAITS, Ground, a_slice, ansible, ground, kinds, sshds
from tests.waiting import patient

__all__ = ["ansible", "ground"]
THREE = ("node", "db", "web")
OTHER = "127.0.0.6"


class Services:
    """Deliveries of several services that share their pushes. ``runs`` counts them."""

    def __init__(
        self,
        ground: Ground,
        *,
        pace: AnsiblePace = WAITS,
        user: str | None = None,
        reload: bool = False,
        names: Sequence[str] = THREE,
    ) -> None:
        key = ground.folder / "user_key"
        settings = AnsibleSettings(
            extra_vars_file=ground.extra,
            timeout=patient(20),
            user=user,
            identity_file=key if key.exists() else None,
            reload=reload,
        )
        self.folder, self.runs = ground.folder, 0
        pushes = AnsiblePushes(settings, log.get(), pace=pace)
        run = pushes._run

        def counted(*arguments: object, **more: object) -> object:
            self.runs += 1
            return run(*arguments, **more)  # type: ignore[arg-type]

        pushes._run = counted  # type: ignore[assignment]
        named = {name: settings.model_copy(update={"dest_sd_file_name": f"{name}.json"}) for name in names}
        self.deliveries = {name: AnsibleDelivery(one, log.get(), pushes=pushes) for name, one in named.items()}
        ground.deliveries += self.deliveries.values()

    def path(self, name: str, host: str) -> Path:
        return self.folder / host / "sd" / f"{name}.json"

    async def told(self, *hosts: str, port: int = 9090, **generations: int) -> dict[str, list[Outcome]]:
        """To each service that is named, at once. The outcomes by service."""
        slices = {
            name: [replace(a_slice(h, b"[%s]\n" % (b" " * n), (1, n), port), service=name) for h in hosts]
            for name, n in generations.items()
        }
        told = await asyncio.gather(*(self.deliveries[name].deliver(one) for name, one in slices.items()))
        return dict(zip(slices, told, strict=True))

    async def deliver(self, *hosts: str, port: int = 9090, **generations: int) -> dict[str, list[str]]:
        return {name: kinds(one) for name, one in (await self.told(*hosts, port=port, **generations)).items()}


async def test_one_run_over_one_connection_brings_three_services_to_two_hosts_and_one_that_is_down_is_named(
    ground: Ground,
) -> None:
    async with sshds(ground, GOOD, OTHER) as made:
        services = Services(ground, user=made[GOOD].user)
        told = await services.told(GOOD, MISSING, OTHER, node=1, db=1, web=1)
        assert {name: kinds(one) for name, one in told.items()} == {n: ["written", "failed", "written"] for n in THREE}
        assert all(one[1].error.startswith(f"{MISSING}: unreachable: ") for one in told.values())
        assert services.runs == 1
        assert [made[host].log_lines("Accepted publickey") for host in (GOOD, OTHER)] == [1, 1]
        assert all(services.path(name, host).read_bytes() == b"[ ]\n" for name in THREE for host in (GOOD, OTHER))
        stat = services.path("node", GOOD).stat()
        told_good = await services.deliver(GOOD, OTHER, node=1, db=2, web=1)
        assert told_good == {"node": ["same"] * 2, "db": ["written"] * 2, "web": ["same"] * 2}
        assert services.path("db", OTHER).read_bytes() == b"[  ]\n"
        assert services.path("node", GOOD).stat().st_mtime_ns == stat.st_mtime_ns
        assert services.runs == 2
        assert ground.left() == []


async def test_a_file_that_cannot_be_written_or_is_newer_costs_its_own_service_alone(ground: Ground) -> None:
    services = Services(ground, pace=replace(WAITS, verify_s=0.0))
    services.path("db", "h1").mkdir(parents=True)
    told = await services.told("h1", "h2", node=2, db=2, web=2)
    assert {name: kinds(one) for name, one in told.items()} == {
        "node": ["written", "written"],
        "db": ["failed", "written"],
        "web": ["written", "written"],
    }
    assert told["db"][0].error == f"h1: {services.path('db', 'h1')}: it is a folder"
    services.path("db", "h1").rmdir()
    services.path("web", "h2").write_text("by hand")
    told = await services.told("h1", "h2", node=1, db=2, web=2)
    assert {name: kinds(one) for name, one in told.items()} == {
        "node": ["refused", "refused"],
        "db": ["written", "same"],
        "web": ["same", "written"],
    }
    assert told["node"][0].error == f"h1: {services.path('node', 'h1')}: has generation 1.2, refuses the older 1.1"
    assert services.path("web", "h2").read_bytes() == b"[  ]\n"


async def test_a_scraper_is_told_once_for_all_services_and_again_until_it_hears(ground: Ground) -> None:
    reloads: list[str] = []

    async def reload(request: web.Request) -> web.Response:
        reloads.append(request.method)
        return web.Response(status=200 if len(reloads) > 1 else 403)

    app = web.Application()
    app.router.add_post("/-/reload", reload)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    services = Services(ground, pace=replace(WAITS, verify_s=0.0), reload=True)
    try:
        assert await services.deliver("h", port=port, node=1, db=1, web=1) == {name: ["failed"] for name in THREE}
        assert await services.deliver("h", port=port, node=1, db=1, web=1) == {name: ["written"] for name in THREE}
        assert await services.deliver("h", port=port, node=1, db=1, web=1) == {name: ["same"] for name in THREE}
        assert reloads == ["POST", "POST"]
    finally:
        await runner.cleanup()


async def test_extra_variables_may_name_the_file_of_one_service_and_not_of_several(ground: Ground) -> None:
    variables = json.loads(ground.extra.read_text())
    ground.set_extra(**variables, dest_sd_file_name="theirs.json")
    services = Services(ground, names=["node"], pace=replace(WAITS, verify_s=0.0))
    assert await services.deliver("h", node=1) == {"node": ["written"]}
    assert services.path("theirs", "h").read_bytes() == b"[ ]\n"
    assert not services.path("node", "h").exists()
    services = Services(ground, names=["node", "db"], pace=replace(WAITS, verify_s=0.0))
    for changed in ("db", "node"):  # one at a time, too: else the file would be now this service's, now that one's
        told = await services.told("h", **{changed: 2})
        assert kinds(told[changed]) == ["failed"]
        assert "the extra variables name one file, theirs.json, for several services" in told[changed][0].error
    assert services.path("theirs", "h").read_bytes() == b"[ ]\n"
