"""The role that sets up a fleet, run by the real ``ansible-playbook`` against real sshds: a controller and an agent."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import stat
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from testbed.sshd import SshdProcess, make_key

from promring.config.load import loads
from promring.demo.process import Process, free_port
from promring.runtime.http_client import HttpError, new_session, request
from tests.real.conftest import server
from tests.waiting import until

ROOT = Path(__file__).parents[2]
ANSIBLE = ROOT / "deploy/ansible"
CONTROLLER, AGENT, SCRAPER = "127.0.0.2", "127.0.0.3", "127.0.0.4:9090"


async def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """What it says; it must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment, cwd=ROOT
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return said


class Site:
    """Two hosts, each with folders of its own."""

    def __init__(self, folder: Path, wheel: Path, key: Path, port: int, web_port: int, sockets: str) -> None:
        self.folder, self.web_port, self.sockets = folder, web_port, sockets
        self.config: dict[str, Any] = {
            "shard_services": [
                {
                    "name": "node",
                    "scrapers": {"probe": {"nodes": [SCRAPER]}},
                    "scraper_api": {"basic_auth": {"username": "promring", "password_file": "scraper-password"}},
                    "targets": [{"file": {"files": [str(folder / "targets.json")]}}],
                    "delivery": [{"http_sd": {}}],
                }
            ]
        }
        (folder / "targets.json").write_text('[{"targets": ["a:1"]}]')
        there = f"{folder}/{{{{ inventory_hostname }}}}"
        self.variables: dict[str, Any] = {
            "ansible_port": port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={folder}/known_hosts",
            "ansible_python_interpreter": "/usr/bin/python3",
            "promring_become": False,
            "promring_wheel": str(wheel),
            "promring_lock_file": str(ROOT / "requirements.lock"),
            "promring_python": sys.executable,
            "promring_user": "root",
            **{f"promring_{one}": f"{there}/{one}" for one in ("home", "config_dir", "state_dir", "unit_dir")},
            "promring_controller_env": {"PROMRING_WEB_LISTEN_ADDRESS": f"127.0.0.1:{web_port}"},
            "promring_agent_env": {"PROMRING_CONTROLLER": f"http://127.0.0.1:{web_port}"},
            "promring_scraper": SCRAPER,
            "promring_manage_service": False,
        }
        for host in (CONTROLLER, AGENT):
            (folder / host / "unit_dir").mkdir(parents=True)
        (folder / CONTROLLER / "config_dir").mkdir()
        (folder / CONTROLLER / "config_dir/scraper-password").write_text(
            "secret"
        )  # the configuration names it by this alone

    async def play(self, *flags: str) -> dict[str, int]:
        """How many tasks changed something, by host."""
        hosts = {"promring_controllers": CONTROLLER, "promring_agents": AGENT}
        groups: dict[str, Any] = {name: {"hosts": {host: {}}} for name, host in hosts.items()}
        inventory = self.folder / "inventory.yml"
        inventory.write_text(
            json.dumps({"all": {"vars": self.variables | {"promring_config": self.config}, "children": groups}})
        )
        program = shutil.which("ansible-playbook", path=str(Path(sys.executable).parent))
        assert program is not None
        environment = {"PATH": f"{Path(program).parent}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.folder)}
        environment["ANSIBLE_SSH_CONTROL_PATH_DIR"] = self.sockets  # the name of a socket has 107 characters at most
        said = await run(program, "-i", inventory, ANSIBLE / "site.yml", *flags, environment=environment)
        return {host: int(count) for host, count in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", said, re.MULTILINE)}


async def test_the_playbook_and_the_inventory_that_one_begins_with_are_well_formed() -> None:
    program = shutil.which("ansible-playbook", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("ansible-playbook is not here; pip install ansible-core")
    inventory = yaml.safe_load((ANSIBLE / "inventory.example.yml").read_text())
    config = inventory["all"]["children"]["promring_controllers"]["vars"]["promring_config"]
    loads(yaml.safe_dump(config).encode(), name="promring_config", base=ANSIBLE)
    await run(program, "--syntax-check", "-i", ANSIBLE / "inventory.example.yml", ANSIBLE / "site.yml")


@pytest.mark.long
async def test_the_role_sets_up_a_controller_and_an_agent_and_changes_nothing_the_second_time(tmp_path: Path) -> None:
    await run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("promring-*.whl")
    key, port = make_key(tmp_path / "user_key"), free_port()
    async with AsyncExitStack() as stack:
        sshds = [SshdProcess(server("sshd"), tmp_path / f"sshd-{a}", key, address=a, port=port) for a in (CONTROLLER, AGENT)]
        (tmp_path / "known_hosts").write_text("".join(one.known_hosts_line() for one in sshds))
        for one in sshds:
            await one.start()
            stack.push_async_callback(one.stop)
            await one.until(one.is_ready, "sshd", 20)
        site = Site(tmp_path, wheel, key, port, free_port(), stack.enter_context(TemporaryDirectory()))
        assert all(changed > 5 for changed in (await site.play("--check")).values())
        assert not (tmp_path / CONTROLLER / "home").exists()
        assert all(changed > 5 for changed in (await site.play()).values())
        assert await site.play() == {CONTROLLER: 0, AGENT: 0}
        for host in (CONTROLLER, AGENT):  # as after another version, whose wheel has another name
            (tmp_path / host / "home/dist/installed").write_text("promring-0.0.9-py3-none-any.whl\n")
        assert all(changed > 0 for changed in (await site.play()).values()), "a wheel that is still there is installed again"

        home, config = tmp_path / CONTROLLER, tmp_path / CONTROLLER / "config_dir"
        token = config / "token"
        assert (stat.S_IMODE(token.stat().st_mode), len(token.read_text().strip())) == (0o600, 64)
        assert (home / "unit_dir/promring.service").read_bytes() == (ROOT / "deploy/promring.service").read_bytes()
        assert "PROMRING_SCRAPER=127.0.0.4:9090\n" in (tmp_path / AGENT / "config_dir/agent.env").read_text()

        # What the unit would start.
        options = dict(line.split("=", 1) for line in (config / "promring.env").read_text().splitlines() if "=" in line)
        options |= {"PROMRING_CONFIG_FILE": str(config / "promring.yml"), "PROMRING_STATE_DIR": str(home / "state_dir")}
        controller = Process([home / "home/bin/promring", "run"], tmp_path / "controller.log", options)
        await controller.start()
        stack.push_async_callback(controller.stop)
        session = await stack.enter_async_context(new_session(keep_alive=False))

        async def serves() -> bool:
            try:
                url = f"http://127.0.0.1:{site.web_port}/-/healthy"
                return (await request(session, "GET", url, timeout_s=2)).status == 200
            except HttpError:
                return False

        await until(serves, "the installed controller serves", 60)

        site.config["shard_services"][0]["delivery"] = [{"pigeon": {}}]
        with pytest.raises(AssertionError, match="pigeon"):
            await site.play()
        kept = yaml.safe_load((config / "promring.yml").read_text())
        assert kept["shard_services"][0]["delivery"] == [{"http_sd": {}}], "a configuration that is refused replaces none"
