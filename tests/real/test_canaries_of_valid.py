"""A9: a daemon whose configuration is valid and has a canary at each key for a secret: what it says, writes and starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest

from promring.demo.controller import Controller
from promring.demo.process import free_port
from promring.runtime.http_client import new_session, request
from tests.canaries import JOB, Canaries, Written, configuration
from tests.fakes.answers_all import server_of_all
from tests.real.test_canaries import command
from tests.rows import Seen
from tests.waiting import until

NOT_YET = ("/-/ready", "/-/leader", "/sd/{scraper}", "/sd/{service}/{scraper}")
"""What may answer 503 as it is, while there is no plan; the others then say that something is ``unavailable``."""


@pytest.fixture
def server() -> Iterator[str]:
    with server_of_all() as address:
        yield address


def started_by(pid: int) -> str:
    """Command lines and environments of a process and of all that it started."""
    texts, todo = [], [pid]
    while todo:
        one = todo.pop()
        try:
            texts += [Path(f"/proc/{one}/{name}").read_bytes().decode("utf-8", "replace") for name in ("cmdline", "environ")]
            todo += [int(p) for t in Path(f"/proc/{one}/task").iterdir() for p in (t / "children").read_text().split()]
        except OSError:
            continue
    return "\n".join(texts)


async def every_page(session: aiohttp.ClientSession, url: str, headers: dict[str, str], scraper: str) -> str:
    """What each path says that the daemon's own description has."""
    described = json.loads((await request(session, "GET", f"{url}/api/v1/openapi.json", timeout_s=30, headers=headers)).body)
    names = {
        "fleet": f"{JOB}2",
        "service": f"{JOB}2",
        "scraper": scraper,
        "kind": "missing",
        "name": "page.js",
        "target": "x",
    }
    texts = []
    for path, methods in described["paths"].items():
        if "get" in methods:
            at = path.format(**names) + ("?target=t:1" if path.endswith("where") else "")
            answer = await request(session, "GET", url + at, timeout_s=30, headers=headers)
            not_yet = answer.status == 503 and (path in NOT_YET or b'"errorType":"unavailable"' in answer.body)
            assert answer.status < 500 or not_yet, (path, answer.body)
            texts.append(f"{at} {answer.status} {answer.headers} {answer.body.decode('utf-8', 'replace')}")
    return "\n".join(texts)


def with_deliveries(made: dict[str, Any], written: Written, program: Path) -> dict[str, Any]:
    """The same, and a service for each delivery that has secrets or starts something."""
    program.write_text("import os, time\ndef targets(_):\n    time.sleep(0.3)\n    return [{'targets': ['p:1']}]\n")
    ssh = {
        "user": "nobody",
        "path": "/nowhere/{scraper}.json",
        "port": 1,
        "timeout": "2s",
        "identity_file": written.file(
            "ssh key", "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n"
        ),
        "known_hosts": written.file("known hosts", "127.0.0.1 ssh-ed25519 {}\n"),
    }
    ansible = {
        "extra_vars_file": written.file("variables", "ansible_become_password: '{}'\n"),
        "vault_password_file": written.file("password of a vault"),
        "timeout": "10s",
    }
    run = {"run": ["sh", "-c", "cat > /dev/null; sleep 0.3"], "path": "/x/{service}.json"}
    for kind, settings in (("ssh", ssh), ("ansible", ansible), ("command", run)):
        made["shard_services"].append(
            {
                "name": f"by_{kind}",
                "scrapers": {"probe": {"nodes": [written.server], "interval": "1s", "healthy_after": 1}},
                "join_delay": "0s",
                "targets": [
                    {
                        "python": {
                            "callable": f"{program.stem}:targets",
                            "interval": "1m",
                            "timeout": "50s",
                            "settings": {"password": written.canary(f"settings {kind}")},
                        }
                    }
                ],
                "delivery": [{kind: settings}],
            }
        )
    return made


@pytest.mark.row(
    "A9", did="valid configurations with a canary at each key for a secret, sources, scrapers and stores that answer"
)
@pytest.mark.parametrize("second", [False, True])
async def test_a_daemon_with_a_valid_configuration_says_no_secret_of_it(
    tmp_path: Path, server: str, second: bool, seen: Seen
) -> None:
    canary = Canaries()
    written = Written(tmp_path / "files", canary, server)
    made = with_deliveries(configuration(written, second=second), written, tmp_path / "canary_targets.py")
    hashed = canary.take(
        "hash of the web password", bcrypt.hashpw(canary("web password").encode(), bcrypt.gensalt(4)).decode()
    )
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{reader: '{hashed}'}}\n")
    controller = Controller(tmp_path, json.dumps(made, indent=1), port=free_port(), level="debug")
    controller.token = canary("web token")
    (tmp_path / "token").write_text(controller.token)
    controller.arguments.append(f"--web.config.file={tmp_path}/web.yml")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    headers = {"Authorization": f"Bearer {controller.token}"}
    shown, processes = "", ""
    async with new_session(keep_alive=False) as session:
        await controller.start()
        try:
            text = controller.log_file.read_text

            async def looks(word: str) -> bool:
                nonlocal processes
                processes += started_by(controller.pid)
                return word in text()

            await controller.until(lambda: looks("msg=listening"), "it listens")
            leads = (
                "msg=delivery_failed fleet=by_ansible",
                "msg=delivery_failed fleet=by_ssh",
                f"fleet={JOB}1 srv_name={JOB}1 reason=initial",
            )
            for word in ("msg=lock_gives_no_answer",) if second else leads:  # the second one has a lock that nobody gets
                await until(lambda word=word: looks(word), word, 90)  # type: ignore[misc]
            shown += await every_page(session, controller.url, headers, server)
            for line in (
                "status",
                "status -o json",
                "events -o json",
                "where t:1",
                "config -o json",
                "alerts",
                "plan --fleet node1",
            ):
                shown += await command(*line.split(), f"--url={controller.url}", f"--token-file={tmp_path}/token")
            reloaded = await request(session, "POST", f"{controller.url}/-/reload", timeout_s=60, headers=headers)
            shown += f"{reloaded.status} {reloaded.body.decode()}"
            shown += await every_page(session, controller.url, headers, server)
        finally:
            await controller.stop()
    logged = text()
    assert f"{JOB}2" in shown
    assert reloaded.status == 200, reloaded.body
    assert second or "ansible-playbook" in processes
    assert canary.found(logged) == []
    assert canary.found(shown) == []
    assert canary.found(processes) == []
    new = [path for path in tmp_path.rglob("*") if path.is_file() and path not in before]
    assert [path for path in new if canary.found(path.read_bytes())] == []
    readable = [path for path in (tmp_path / "state").rglob("*") if path.stat().st_mode & 0o077]
    assert readable == [], "the state is its owner's only"
    seen(f"{len(canary)} canaries, {len(shown) + len(logged)} characters, {len(new)} files, 0 found")
