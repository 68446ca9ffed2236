"""Ways to Consul: a token where access is denied by default, a unix socket."""

from __future__ import annotations

from pathlib import Path

import pytest
from testbed.consul import ConsulProcess

from promring.consul.client import Access, Client
from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.runtime.http_client import HttpError, new_session
from tests.real.stage import CONSUL_SERVICE
from tests.waiting import until

MASTER = "11111111-2222-3333-4444-555555555555"


def config(consul: ConsulProcess, token_file: Path | None) -> dict[str, object]:
    access: dict[str, object] = {"address": consul.address}
    if token_file is not None:
        access["token_file"] = str(token_file)
    return {
        "consul": access,
        "shard_services": [
            {
                "name": "x",
                "scrapers": {
                    "consul": {"service": CONSUL_SERVICE, "register": {"nodes": ["127.0.0.1:1", "127.0.0.1:2"]}},
                },
                "targets": [{"file": {"files": ["targets.json"]}}],
                "delivery": [{"file": {"path": "out/{scraper}.json"}}],
            }
        ],
    }


@pytest.mark.row(8, did="Consul with ACLs, denied by default: a token that it does not know, then none at all")
async def test_a_denying_consul_never_reshards_and_the_reason_is_said(tmp_path: Path, consul_program: Path) -> None:
    acl = {"enabled": True, "default_policy": "deny", "tokens": {"master": MASTER}}
    consul = ConsulProcess(consul_program, tmp_path / "consul", extra={"acl": acl, "primary_datacenter": "dc1"})
    await consul.start()
    folder = tmp_path / "promring"
    folder.mkdir()
    (folder / "targets.json").write_text('[{"targets": ["10.0.0.1:9100", "10.0.0.2:9100"]}]')
    token = tmp_path / "a-token"
    token.write_text(MASTER)
    controller = Controller(folder, config(consul, token), port=free_port())
    try:
        async with new_session(keep_alive=False) as session:

            async def let_in() -> bool:
                async with Client(Access(consul.address, token_file=token)) as client:
                    try:
                        await client.register({"ID": "probe", "Name": "probe"})
                        return bool((await client.instances("probe")).entries)
                    except Exception:
                        return False

            await until(let_in, "Consul with its ACL system up", 30)
            # With the token: both are registered, and pass as soon as this test says so (nobody listens there).
            await controller.start()
            await until(lambda: len(controller.log_lines("register_service")) == 2, "both registered")

            # A token that Consul does not know: refused loudly, and nothing else happens.
            token.write_text("00000000-0000-0000-0000-00000000dead")
            await until(lambda: any("403" in x for x in controller.log_lines("register_failed")), "the refusal said", 30)
            assert MASTER not in controller.log_file.read_text()
            assert "0000dead" not in controller.log_file.read_text()

            # No token at all: Consul says "none" without an error; that is never taken for "all died".
            await controller.stop()
            controller.configure(str(config(consul, None)).replace("'", '"').replace("None", "null"))
            await controller.start()

            async def said() -> bool:
                try:
                    return "not even its own" in (await controller.get(session, "/-/ready")).text()
                except HttpError:
                    return False

            await until(said, "the reason on the page")
            ready = await controller.get(session, "/-/ready")
            assert ready.status == 503
            assert "not even its own: may the token read" in ready.text()
            assert not (folder / "out").exists()
    finally:
        await controller.stop()
        await consul.stop()


async def test_consul_over_a_unix_socket(tmp_path: Path, consul_program: Path) -> None:
    socket = tmp_path / "consul.sock"
    consul = ConsulProcess(consul_program, tmp_path / "consul", extra={"addresses": {"http": f"unix://{socket}"}})
    await consul.start()
    try:
        async with Client(Access(f"unix://{socket}")) as client:

            async def answers() -> bool:
                try:
                    await client.register({"ID": "x-1", "Name": "x", "Address": "10.0.0.1", "Port": 9090})
                    return [e.host for e in (await client.instances("x")).entries] == ["10.0.0.1"]
                except Exception:
                    return False

            await until(answers, "an answer over the socket", 30)
    finally:
        await consul.stop()
