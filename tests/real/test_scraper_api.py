"""Scrapers behind TLS, passwords, client certificates and a path, as they are out there: 3.5, 2.42 as an agent, vmagent."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest
import trustme
import yaml
from testbed.consul import ConsulProcess

from promring.config.scraper_api import ScraperApi
from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.demo.scraper import ScraperProcess, SdConfig
from promring.demo.targets import Farm
from promring.runtime.http_client import HttpError, new_session
from tests.real.conftest import server
from tests.waiting import until

SERVICE, USER, PREFIX = "node", "promring", "/scrape"
COUNT = 30


class Locked(ScraperProcess):
    """A scraper that wants TLS, and a password or a client certificate, under a path."""

    def __init__(self, program: Path, folder: Path, files: Path, *, agent: bool = False, mutual: bool = False) -> None:
        port = free_port()
        slice_file = folder.parent / "out" / f"127.0.0.1_{port}.json"
        super().__init__(program, folder, SdConfig(file=slice_file), port=port, interval_s=1.0, agent=agent, job=SERVICE)
        self.slice_file, self._web = slice_file, folder / "web.yml"
        self._passwords, self._mutual = folder / "password", mutual
        self._tls = {"cert_file": str(files / "server.pem"), "key_file": str(files / "server.key")}
        if mutual:
            self._tls |= {"client_ca_file": str(files / "ca.pem"), "client_auth_type": "RequireAndVerifyClientCert"}
        self.let_in("first")
        if self.is_vmagent:
            self.arguments += [
                "-tls",
                f"-tlsCertFile={files}/server.pem",
                f"-tlsKeyFile={files}/server.key",
                f"-httpAuth.username={USER}",
                f"-httpAuth.password=file://{self._passwords}",
                f"-http.pathPrefix={PREFIX}",
            ]
        else:
            self.arguments += [f"--web.config.file={self._web}", f"--web.route-prefix={PREFIX}"]

    def let_in(self, password: str) -> None:
        """From now on this password only. Prometheus reads it for each request, vmagent every few seconds."""
        self._passwords.write_text(password)
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        users = {} if self._mutual else {"basic_auth_users": {USER: hashed}}
        temporary = self._web.with_suffix(".new")
        temporary.write_text(yaml.safe_dump({"tls_server_config": self._tls, **users}))
        temporary.replace(self._web)

    @property
    def slice(self) -> list[str]:
        text = self.slice_file.read_text() if self.slice_file.exists() else "[]"
        return [address for group in json.loads(text) for address in group["targets"]]


@dataclass
class Fleet:
    folder: Path
    session: aiohttp.ClientSession
    farm: Farm
    scrapers: list[Locked]
    controller: Controller
    api: dict[str, Any] = field(default_factory=dict)

    def placed_on(self, *scrapers: Locked) -> bool:
        return sorted(a for s in scrapers for a in s.slice) == sorted(self.farm.addresses) and all(s.slice for s in scrapers)

    async def whole(self) -> bool:
        found = await self.controller.ask(self.session, f"services/{SERVICE}/coverage")
        return bool(found) and found["ratio"] == 1

    async def seen_again(self) -> None:
        """Every target is proved by an audit from now on."""
        now = time.time()

        async def proved() -> bool:
            found = await self.controller.ask(self.session, f"services/{SERVICE}/coverage")
            return bool(found) and found["ratio"] == 1 and found["at"] > now

        await until(proved, "audited with the password of now", 40)

    async def until_placed(self, *scrapers: Locked) -> None:
        await until(lambda: self.placed_on(*scrapers), f"all targets on {[s.id for s in scrapers]}", 40)
        await until(self.whole, "coverage is 1", 40)

    def say(self, password: str) -> None:
        """To promring."""
        (self.folder / "password").write_text(password)


def write_certificates(folder: Path) -> trustme.CA:
    ca = trustme.CA()
    certificate = ca.issue_cert("scraper.shop", "127.0.0.1")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "server.key"))
    certificate.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    ca.issue_cert("promring").private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    return ca


@asynccontextmanager
async def fleet_of(
    folder: Path, scrapers: Sequence[Locked], kind: dict[str, Any], api: dict[str, Any], more: dict[str, Any] | None = None
) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(new_session(keep_alive=False))
        farm = await stack.enter_async_context(Farm(COUNT))
        (folder / "out").mkdir(exist_ok=True)
        (folder / "targets.json").write_text(json.dumps([{"targets": farm.addresses}]))
        (folder / "password").write_text("first")
        asked = {"scheme": "https", "path_prefix": PREFIX, **api}
        asked["basic_auth"] = {"username": USER, "password_file": str(folder / "password")}
        service = {
            "name": SERVICE,
            "scrapers": kind,
            "scraper_api": asked,
            "targets": [{"file": {"files": [str(folder / "targets.json")]}}],
            "join_delay": "500ms",
            "handover": {"overlap": "5s"},
            "audit": {"interval": "1s", "timeout": "1s"},
            "delivery": [{"file": {"path": str(folder / "out/{scraper}.json")}}],
        }
        controller = Controller(folder, {**(more or {}), "shard_services": [service]}, port=free_port())
        for scraper in scrapers:
            stack.push_async_callback(scraper.stop)
            await scraper.start()
        stack.push_async_callback(controller.stop)
        model = ScraperApi.model_validate(asked)

        async def ready(scraper: Locked) -> bool:
            try:
                return (await model.get(session, scraper.id, "/-/ready", timeout_s=2)).status == 200
            except HttpError:
                return False

        for scraper in scrapers:
            await scraper.until(lambda s=scraper: ready(s), scraper.id)  # type: ignore[misc]
        await controller.start()
        yield Fleet(folder, session, farm, list(scrapers), controller, asked)


@pytest.mark.row("A10", did="3.5 with basic auth, 2.42 agent with client certificate, vmagent with httpAuth, under a path")
async def test_a_locked_fleet_is_placed_audited_healed_drained_and_its_password_rotated(tmp_path: Path) -> None:
    write_certificates(tmp_path)
    three = Locked(server("prometheus3"), tmp_path / "three", tmp_path)
    agent = Locked(server("prometheus"), tmp_path / "agent", tmp_path, agent=True, mutual=True)
    vmagent = Locked(server("vmagent"), tmp_path / "vmagent", tmp_path)
    every = (three, agent, vmagent)
    client = str(tmp_path / "client.pem")
    tls = {"ca_file": str(tmp_path / "ca.pem"), "cert_file": client, "key_file": client, "server_name": "scraper.shop"}
    probe = {"probe": {"nodes": [s.id for s in every], "interval": "500ms", "timeout": "500ms"}}
    async with fleet_of(tmp_path, every, probe, {"tls_config": tls}) as fleet:
        controller = fleet.controller
        await fleet.until_placed(*every)
        before = {s.id: s.slice for s in every}

        for scraper in every:
            scraper.let_in("second")
        fleet.say("second")
        await fleet.seen_again()
        assert {s.id: s.slice for s in every} == before, "no move"

        for scraper in every:
            scraper.let_in("third")  # and promring does not know

        def named() -> bool:
            lines = [line for msg in ("probe_distrusted", "audit_failed") for line in controller.log_lines(msg)]
            said = [line for line in lines if "refuses our credentials: status 401" in line]
            return any(three.id in line and "probe_distrusted" in line for line in said) and all(
                any(s.id in line and "audit_failed" in line for line in said) for s in (three, vmagent)
            )

        await until(named, "the password that was is named", 40)
        assert {s.id: s.slice for s in every} == before, "no move"
        states = {s["id"]: s["state"] for s in (await controller.ask(fleet.session, f"fleets/{SERVICE}"))["scrapers"]}
        assert set(states.values()) == {"up"}
        fleet.say("third")
        await fleet.seen_again()

        await three.kill()
        await fleet.until_placed(agent, vmagent)
        answer = await controller.post(fleet.session, f"/api/v1/fleets/{SERVICE}/scrapers/{vmagent.id}/drain")
        assert answer.status == 200, answer.text()
        await fleet.until_placed(agent)
        await until(lambda: vmagent.slice == [], "the drained one has nothing", 20)
        text = controller.log_file.read_text() + "".join(p.read_text() for p in (tmp_path / "state").glob("*.json"))
        assert [word for word in ("first", "second", "third") if f"{USER}:{word}" in text] == []


async def test_consul_checks_a_scraper_behind_tls_with_the_password_and_shows_it_to_nobody(
    tmp_path: Path, each_consul: Path
) -> None:
    write_certificates(tmp_path)
    consul = ConsulProcess(each_consul, tmp_path / "consul")
    scraper = Locked(server("prometheus"), tmp_path / "scraper", tmp_path)
    check = {"interval": "500ms", "timeout": "500ms", "tls_skip_verify": True}
    kind = {"consul": {"service": "scr", "register": {"nodes": [scraper.id], "check": check}}}
    await consul.start()
    try:
        tls = {"tls": {"ca_file": str(tmp_path / "ca.pem")}}
        more = {"consul": {"address": consul.address}}
        async with fleet_of(tmp_path, [scraper], kind, tls, more) as fleet:
            await fleet.until_placed(scraper)
            shown = ""
            for path in ("agent/checks", "agent/services", "health/service/scr", "health/checks/scr", "catalog/service/scr"):
                shown += json.dumps(await consul.get(fleet.session, f"/v1/{path}"))
            assert scraper.id.rpartition(":")[2] in shown
            assert "Basic" not in shown
            scraper.let_in("second")
            fleet.say("second")

            async def passes() -> bool:
                checks = await consul.get(fleet.session, "/v1/health/checks/scr")
                return bool(checks) and all(c["Status"] == "passing" and "200" in c["Output"] for c in checks)

            await until(lambda: len(fleet.controller.log_lines("register_service")) == 2, "registered again", 20)
            await until(passes, "passes with the second password", 20)
            assert fleet.placed_on(scraper)
    finally:
        await consul.stop()
