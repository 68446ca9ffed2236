"""Delivery by the real ``ansible-playbook``: over ssh to real sshds, and over local connections where that is enough."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from aiohttp import web
from testbed.sshd import SshdProcess, make_key

from promring.delivery import Outcome, receiver
from promring.delivery.ansible import AnsibleDelivery, AnsibleSettings
from promring.delivery.ansible_push import AnsiblePace
from promring.delivery.ansible_run import REPORT, find_program
from promring.demo.process import free_port
from promring.model import Generation, Scraper, Slice
from promring.runtime.disk import TEMPORARY_SUFFIX
from promring.telemetry import log
from tests.real.conftest import server
from tests.waiting import patient, slower, until

GOOD, FROZEN, MISSING, FAILING = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"
BODY = b'[{"targets":["a:1"]}]\n'
NAME = "file_sd_by_promring.json"
STAT = tuple[int, int]
WAITS = AnsiblePace(retry_first_s=0.0, wait_s=600.0, slow_wait_s=600.0)  # every call waits until each push has ended


@pytest.fixture(autouse=True)
def ansible() -> None:
    if find_program() is None:
        pytest.skip("ansible-playbook is not here; pip install ansible-core")


def a_slice(host: str, body: bytes = BODY, generation: tuple[int, int] = (1, 1), port: int = 9090) -> Slice:
    return Slice("x", Scraper(f"{host}:{port}", host, port), Generation(*generation), body, 1)


def kinds(outcomes: list[Outcome]) -> list[str]:
    return [o.outcome for o in outcomes]


class Ground:
    """Local connections, a folder a host. ``playbook`` writes one; ``delivery`` uses it, or the one that comes along."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.deliveries: list[AnsibleDelivery] = []
        (folder / "sleeper").symlink_to(str(shutil.which("sleep")))
        self.extra = folder / "extra.yml"
        self.set_extra(ansible_connection="local", dest_dir=f"{folder}/{{{{ inventory_hostname }}}}/sd")

    def set_extra(self, **variables: str | int) -> None:
        self.extra.write_text(json.dumps({"ansible_python_interpreter": "/usr/bin/python3"} | variables))

    def playbook(self, text: str) -> Path:
        path = self.folder / "their.yml"
        path.write_text(text)
        return path

    def delivery(
        self,
        playbook: Path | None = None,
        *,
        timeout_s: float = 30.0,
        verify_s: float = 600.0,
        pace: AnsiblePace | None = None,
        **more: object,
    ) -> AnsibleDelivery:
        settings = AnsibleSettings(playbook=playbook, extra_vars_file=self.extra, timeout=float(timeout_s), **more)  # type: ignore[arg-type]
        made = AnsibleDelivery(settings, log.get(), pace=pace or replace(WAITS, verify_s=verify_s))
        self.deliveries.append(made)
        return made

    def path(self, host: str) -> Path:
        return self.folder / host / "sd" / NAME

    def stat(self, host: str) -> STAT:
        stat = self.path(host).stat()
        return stat.st_ino, stat.st_mtime_ns

    def names(self, host: str) -> list[str]:
        return sorted(p.name for p in self.path(host).parent.iterdir())

    def left(self) -> list[str]:
        """What runs that has this folder in its arguments, or the report of a run that is over in its environment."""
        found = []
        for process in psutil.process_iter():
            try:
                arguments, report = " ".join(process.cmdline()), process.environ().get(REPORT)
                zombie = process.status() == psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
            ours = str(self.folder) in arguments and "sshd" not in arguments and process.pid != os.getpid()
            if not zombie and (ours or (report and not Path(report).parent.exists())):
                found.append(arguments)
        return found


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    made = Ground(tmp_path)
    yield made
    for delivery in made.deliveries:
        await delivery.close()


@asynccontextmanager
async def sshds(ground: Ground, *addresses: str) -> AsyncIterator[dict[str, SshdProcess]]:
    """Real ones; the extra variables lead to them."""
    program, port = server("sshd"), free_port()
    key = make_key(ground.folder / "user_key")
    made = {a: SshdProcess(program, ground.folder / f"sshd-{a}", key, address=a, port=port) for a in addresses}
    (ground.folder / "known_hosts").write_text("".join(s.known_hosts_line() for s in made.values()))
    ground.set_extra(
        ansible_port=port,
        ansible_ssh_common_args=f"-o UserKnownHostsFile={ground.folder}/known_hosts",
        dest_dir=f"{ground.folder}/{{{{ inventory_hostname }}}}/sd",
    )
    try:
        for sshd in made.values():
            await sshd.start()
        for sshd in made.values():
            await sshd.until(sshd.is_ready, "sshd", 20)
        yield made
    finally:
        for sshd in made.values():
            sshd.signal_all(signal.SIGCONT)
            await sshd.stop()


# --- over ssh --------------------------------------------------------------------------------------------------------


@pytest.mark.row(37, did="one host of several hangs, one is missing, one fails")
async def test_one_host_is_written_and_those_that_hang_are_missing_or_fail_are_named(ground: Ground) -> None:
    async with sshds(ground, GOOD, FROZEN, FAILING) as made:
        (ground.folder / FAILING).write_text("no folder")
        made[FROZEN].signal_all(signal.SIGSTOP)
        slices = [a_slice(h) for h in (FROZEN, MISSING, FAILING, GOOD)]
        user, key = made[GOOD].user, ground.folder / "user_key"
        delivery = ground.delivery(timeout_s=patient(10), user=user, identity_file=key)
        began = time.monotonic()
        outcomes = await delivery.deliver(slices)
        assert time.monotonic() - began < 12 * slower()
        assert kinds(outcomes) == ["failed", "failed", "failed", "written"]
        frozen, missing, failing, _ = (o.error for o in outcomes)
        assert frozen.startswith(f"{FROZEN}: unreachable: ")
        assert missing.startswith(f"{MISSING}: unreachable: ")
        assert "Connection refused" in missing
        assert failing.startswith(f"{FAILING}: {ground.path(FAILING)}: mkdir: ")
        assert not any("\n" in o.error for o in outcomes)
        assert ground.path(GOOD).read_bytes() == BODY
        assert ground.left() == []

        (ground.folder / FAILING).unlink()
        made[FROZEN].signal_all(signal.SIGCONT)
        assert kinds(await delivery.deliver(slices)) == ["written", "failed", "written", "same"]
        assert ground.left() == []


async def test_a_host_whose_key_is_not_known_is_never_written(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_HOST_KEY_CHECKING", "False")
    async with sshds(ground, GOOD) as made:
        (ground.folder / "known_hosts").write_text("")
        delivery = ground.delivery(timeout_s=patient(10), user=made[GOOD].user, identity_file=ground.folder / "user_key")
        (outcome,) = await delivery.deliver([a_slice(GOOD)])
        assert outcome.outcome == "failed"
        assert "Host key verification failed" in outcome.error
        assert not ground.path(GOOD).exists()
        assert (ground.folder / "known_hosts").read_text() == ""


async def test_a_host_that_hangs_in_the_middle_holds_up_no_other(ground: Ground) -> None:
    async with sshds(ground, GOOD, FROZEN) as made:
        playbook = ground.playbook(f"""
- hosts: all
  gather_facts: false
  tasks:
    - raw: if [ {{{{ inventory_hostname }}}} = {FROZEN} ]; then exec {ground.folder}/sleeper 60; fi
      timeout: 0
    - raw: echo done > {ground.folder}/done-{{{{ inventory_hostname }}}}
""")
        deadline_s = patient(6)
        delivery = ground.delivery(
            playbook, timeout_s=deadline_s, user=made[GOOD].user, identity_file=ground.folder / "user_key"
        )
        began = time.monotonic()
        outcomes = await delivery.deliver([a_slice(FROZEN), a_slice(GOOD)])
        assert time.monotonic() - began < deadline_s + 2 * slower()
        assert outcomes == [
            Outcome(f"{FROZEN}:9090", "failed", f"{FROZEN}: not done within {deadline_s:g} s"),
            Outcome(f"{GOOD}:9090", "written"),
        ]
        assert (ground.folder / f"done-{GOOD}").exists()
        assert [text for text in ground.left() if "sleeper 60" not in text] == [], "only what runs on the far side"


# --- local -----------------------------------------------------------------------------------------------------------


@pytest.mark.row("A5", did="labels and addresses with Jinja in them, pushed by Ansible")
async def test_bytes_arrive_as_they_are_and_only_what_changed_is_written(ground: Ground) -> None:
    canary = ground.folder / "canary"
    labels = {
        "a": f"{{{{ lookup('pipe', 'touch {canary}') }}}}",
        "b": f"$(touch {canary})`touch {canary}`",
        "c": "é\u2028'\"\\",
    }
    body = json.dumps([{"targets": ["{% raw %}:1"], "labels": labels}], ensure_ascii=False).encode()
    hosts = ("h1", "h2", "h3")
    delivery = ground.delivery(verify_s=0.0)
    assert kinds(await delivery.deliver([a_slice(h, body, (1, 9)) for h in hosts])) == ["written"] * 3
    assert [ground.path(h).read_bytes() for h in hosts] == [body] * 3
    assert not canary.exists()
    assert ground.names("h1") == [f".{NAME}.promring", f".{NAME}.promring-lock", NAME]

    stats = {h: ground.stat(h) for h in hosts}
    ground.path("h3").write_text("by hand")
    assert kinds(await delivery.deliver([a_slice(h, body, (1, 9)) for h in hosts])) == ["same", "same", "written"]
    assert {h: ground.stat(h) for h in hosts[:2]} == {h: stats[h] for h in hosts[:2]}
    assert ground.path("h3").read_bytes() == body

    mixed = [a_slice("h1", body, (1, 9)), a_slice("h2", BODY, (1, 10)), a_slice("h3", BODY, (1, 8))]
    outcomes = await delivery.deliver(mixed)
    assert kinds(outcomes) == ["same", "written", "refused"]
    assert outcomes[2].error == f"h3: {ground.path('h3')}: has generation 1.9, refuses the older 1.8"
    assert [ground.path(h).read_bytes() for h in hosts] == [body, BODY, body]
    assert ground.stat("h1") == stats["h1"]
    assert receiver.held(ground.path("h2")) == (Generation(1, 10), a_slice("h2").sha256)


async def test_a_playbook_that_only_knows_the_originals_variables_works(ground: Ground) -> None:
    playbook = ground.playbook(f"""
- name: play
  hosts: all
  user: root
  gather_facts: false
  tasks:
    - name: copy file
      copy:
        src: '{{{{ src_sd_file_name }}}}'
        dest: '{ground.folder}/{{{{ service_port }}}}-{{{{ dest_sd_file_name }}}}'
        mode: '0644'
        force: yes
      register: result
    - name: touched
      raw: echo {{{{ service_port }}}} >> {ground.folder}/reloads
      when: result.changed
""")
    delivery = ground.delivery(playbook, verify_s=0.0)
    two = [a_slice("h", port=9090), a_slice("h", b"[]", port=9091)]
    assert kinds(await delivery.deliver(two)) == ["written", "written"]
    assert (ground.folder / f"9090-{NAME}").read_bytes() == BODY
    assert (ground.folder / f"9091-{NAME}").read_bytes() == b"[]"
    assert kinds(await delivery.deliver(two)) == ["same", "same"]
    assert sorted((ground.folder / "reloads").read_text().split()) == ["9090", "9091"]
    one = ground.delivery(playbook, service_port=7)
    await one.deliver([a_slice("h")])
    assert (ground.folder / f"7-{NAME}").read_bytes() == BODY


async def test_the_scraper_is_told_until_it_hears(ground: Ground) -> None:
    reloads: list[str] = []

    async def reload(request: web.Request) -> web.Response:
        reloads.append(request.method)
        return web.Response(status=200 if len(reloads) > 1 else 403)

    app = web.Application()
    app.router.add_route("*", "/-/reload", reload)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    delivery = ground.delivery(verify_s=0.0, reload=True)
    try:
        (outcome,) = await delivery.deliver([a_slice("h", port=port)])
        assert outcome.outcome == "failed"
        assert "403" in outcome.error
        assert ground.path("h").read_bytes() == BODY
        assert kinds(await delivery.deliver([a_slice("h", port=port)])) == ["written"]
        assert kinds(await delivery.deliver([a_slice("h", port=port)])) == ["same"]
        assert reloads == ["POST", "POST"]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("playbook", "why"),
    [
        ("- hosts: all\n  tasks: [{nonsense: }]\n", "nonsense"),
        ("- hosts: all\n tasks:\n", "YAML"),
        ("- hosts: nobody\n  tasks: []\n", "nobody"),
        ("- hosts: all\n  gather_facts: false\n  tasks: []\n", ""),
        (None, "No such file or directory"),
    ],
)
async def test_a_playbook_that_is_broken_is_our_own_trouble_and_says_why(
    ground: Ground, playbook: str | None, why: str
) -> None:
    path = ground.folder / "missing.yml" if playbook is None else ground.playbook(playbook)
    outcomes = await ground.delivery(path).deliver([a_slice("h1"), a_slice("h2")])
    assert kinds(outcomes) == ["unsent", "unsent"]
    assert all(o.error.startswith(f"{h}: ") and why in o.error for o, h in zip(outcomes, ("h1", "h2"), strict=True)), (
        outcomes
    )


@pytest.mark.row(37, did="a playbook longer than the time it has")
async def test_when_the_time_is_over_no_process_is_left_and_who_was_through_is_written(ground: Ground) -> None:
    playbook = ground.playbook(f"""
- hosts: all
  gather_facts: false
  tasks:
    - name: hang
      shell: "setsid {ground.folder}/sleeper 600 & exec {ground.folder}/sleeper 600"
      when: inventory_hostname == 'hangs'
      timeout: 0
    - block:
        - name: fail
          raw: "echo it is full >&2; exit 3"
          when: inventory_hostname == 'fails'
        - name: write
          raw: touch {ground.folder}/{{{{ inventory_hostname }}}}
          notify: told
      rescue:
        - name: give up
          fail: {{msg: "gave up, {{{{ inventory_hostname }}}}"}}
  handlers:
    - name: told
      raw: touch {ground.folder}/{{{{ inventory_hostname }}}}-told
""")
    deadline_s = patient(5)
    delivery = ground.delivery(playbook, timeout_s=deadline_s)
    began = time.monotonic()
    outcomes = await delivery.deliver([a_slice(h) for h in ("hangs", "good", "fails")])
    assert time.monotonic() - began < deadline_s + 7 * slower()
    assert ground.left() == []
    assert kinds(outcomes) == ["failed", "written", "failed"]
    assert [o.error for o in outcomes] == [f"hangs: not done within {deadline_s:g} s", "", "fails: gave up, fails"]
    assert (ground.folder / "good-told").exists()


async def test_a_task_that_hangs_is_ended_in_time(ground: Ground) -> None:
    text = "- hosts: all\n  gather_facts: false\n  tasks:\n    - shell: exec {0}/sleeper 600\n"
    began = time.monotonic()
    (outcome,) = await ground.delivery(ground.playbook(text.format(ground.folder)), timeout_s=5).deliver([a_slice("h")])
    assert time.monotonic() - began < 12 * slower()
    assert outcome.error.startswith("h: ")
    ends = ("imed out", "was terminated", "not done within 5 s")  # Ansible 2.19, 2.17, or we are first
    assert any(end in outcome.error for end in ends), outcome.error
    assert ground.left() == []


async def test_cancelled_in_the_middle_it_leaves_no_process_and_the_old_file(ground: Ground) -> None:
    assert kinds(await ground.delivery().deliver([a_slice("h")])) == ["written"]
    before = ground.stat("h")
    playbook = ground.playbook(f"""
- hosts: all
  gather_facts: false
  tasks:
    - shell: "touch {ground.folder}/began; exec {ground.folder}/sleeper 600"
      timeout: 0
    - copy: src={{{{ src_sd_file_name }}}} dest={{{{ dest_dir }}}}/{{{{ dest_sd_file_name }}}}
""")
    pushing = asyncio.create_task(ground.delivery(playbook, timeout_s=60).deliver([a_slice("h", b"[]", (1, 2))]))
    await until((ground.folder / "began").exists, "it runs", 30)
    began = time.monotonic()
    pushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    assert time.monotonic() - began < 10 * slower()
    assert ground.left() == []
    assert ground.stat("h") == before
    assert ground.path("h").read_bytes() == BODY


async def test_cancelled_at_any_moment_the_file_is_the_old_one_or_the_new_one(ground: Ground) -> None:
    bodies = [b"[" + bytes([65 + n % 26]) * 200_000 + b"]" for n in range(8)]
    await ground.delivery().deliver([a_slice("h", bodies[0], (1, 0))])
    for n, body in enumerate(bodies[1:], 1):
        pushing = asyncio.create_task(ground.delivery().deliver([a_slice("h", body, (1, n))]))
        await asyncio.sleep(0.35 + 0.08 * n)
        pushing.cancel()
        await asyncio.wait([pushing])
        assert ground.left() == []
        assert ground.path("h").read_bytes() in bodies[: n + 1]
    await ground.delivery().deliver([a_slice("h", BODY, (2, 1))])
    assert ground.path("h").read_bytes() == BODY
    for name in ground.names("h"):  # what a receiver that was killed left goes once it is two minutes old
        if name.endswith(TEMPORARY_SUFFIX):
            os.utime(ground.path("h").with_name(name), (time.time() - 130,) * 2)
    await ground.delivery().deliver([a_slice("h", bodies[0], (2, 2))])
    assert ground.names("h") == [f".{NAME}.promring", f".{NAME}.promring-lock", NAME]


async def test_many_hosts_are_pushed_at_once_within_the_time(ground: Ground) -> None:
    hosts = [f"h{n}" for n in range(40)]
    outcomes = await ground.delivery(timeout_s=60).deliver([a_slice(h) for h in hosts])
    assert kinds(outcomes) == ["written"] * 40
    assert all(ground.path(h).read_bytes() == BODY for h in hosts)
