"""Delivery by the real ``ansible-playbook`` where playbooks, hosts and this machine are as they are out there."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import subprocess
import time

import pytest

from promring.delivery.ansible_push import AnsiblePace
from promring.delivery.ansible_run import Run, find_program
from promring.runtime.threads import in_thread as in_a_thread
from promring.telemetry import log
from tests.real.test_ansible import BODY, FROZEN, GOOD, Ground, a_slice, ansible, ground, kinds, sshds
from tests.waiting import patient, until

__all__ = ["ansible", "ground"]
DEAD = "127.0.0.9"
INSTALL = "copy: {src: '{{ src_sd_file_name }}', dest: '{{ dest_dir }}/{{ dest_sd_file_name }}'}"


def with_a_dead_one(ground: Ground) -> None:
    """Local connections, but for ``DEAD``: there ssh is refused."""
    for host in ("h1", "h2", "h3"):
        (ground.folder / host / "sd").mkdir(parents=True)
    ground.set_extra(
        ansible_connection=f"{{{{ 'ssh' if inventory_hostname == '{DEAD}' else 'local' }}}}",
        ansible_port=1,
        dest_dir=f"{ground.folder}/{{{{ inventory_hostname }}}}/sd",
    )


@pytest.mark.row(37, did="serial: 1 and a dead host: the others are pushed without it")
@pytest.mark.parametrize(
    "play",
    [
        "serial: 1",
        "strategy: linear\n  any_errors_fatal: true",
    ],
)
async def test_a_dead_host_that_ends_the_play_makes_the_others_wait_and_they_are_pushed_without_it(
    ground: Ground, play: str
) -> None:
    with_a_dead_one(ground)
    playbook = ground.playbook(
        f"- hosts: all\n  gather_facts: false\n  {play}\n  tasks:\n    - raw: 'true'\n    - {INSTALL}\n"
    )
    delivery = ground.delivery(playbook, timeout_s=patient(30))
    hosts = (DEAD, "h1", "h2")
    outcomes = await delivery.deliver([a_slice(h) for h in hosts])
    assert kinds(outcomes) == ["failed", "waiting", "waiting"], outcomes
    assert "the push ended before it was through here: " in outcomes[1].error
    assert not ground.path("h1").exists()
    outcomes = await delivery.deliver([a_slice(h) for h in hosts])
    assert kinds(outcomes) == ["failed", "written", "written"], outcomes
    assert ground.path("h2").read_bytes() == BODY


async def test_a_host_that_was_unreachable_is_not_ok_whatever_the_playbook_ignores(ground: Ground) -> None:
    with_a_dead_one(ground)
    playbook = ground.playbook(
        "- hosts: all\n  gather_facts: false\n  ignore_unreachable: true\n"
        f"  tasks: [{{{INSTALL}}}, {{debug: {{msg: over}}}}]\n"
    )
    outcomes = await ground.delivery(playbook, timeout_s=patient(30)).deliver([a_slice(DEAD), a_slice("h1")])
    assert kinds(outcomes) == ["failed", "written"]
    assert outcomes[0].error.startswith(f"{DEAD}: unreachable: ")


async def test_a_frozen_host_holds_up_no_change_of_the_others_and_catches_up_by_itself(ground: Ground) -> None:
    async with sshds(ground, GOOD, FROZEN) as made:
        rings: list[float] = []
        delivery = ground.delivery(
            timeout_s=patient(10), pace=AnsiblePace(), user=made[GOOD].user, identity_file=ground.folder / "user_key"
        )
        delivery.when_done(lambda: rings.append(time.monotonic()))
        made[FROZEN].signal_all(signal.SIGSTOP)
        for n in range(1, 4):
            body, told = b"[%s]" % (b" " * n), list[str]()
            while not ground.path(GOOD).exists() or ground.path(GOOD).read_bytes() != body:
                told.append(kinds(await delivery.deliver([a_slice(FROZEN, body, (1, n)), a_slice(GOOD, body, (1, n))]))[0])
                await asyncio.sleep(0.05)
            assert set(told) <= {"waiting", "failed"}
        assert rings, "it is told when a push has ended, or is due again"
        made[FROZEN].signal_all(signal.SIGCONT)
        slices = [a_slice(FROZEN, body, (1, n)), a_slice(GOOD, body, (1, n))]

        async def caught_up() -> bool:
            await delivery.deliver(slices)
            return ground.path(FROZEN).exists() and ground.path(FROZEN).read_bytes() == body

        await until(caught_up, "the newest slice", 60)
        await delivery.close()
        assert ground.left() == []


async def test_a_long_tmpdir_does_not_make_the_paths_of_sshs_sockets_too_long(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = ground.folder / ("x" * 120)
    long.mkdir()
    async with sshds(ground, GOOD) as made:  # first: ports are reserved in the folder for temporary files
        monkeypatch.setenv("TMPDIR", str(long))
        monkeypatch.setattr("tempfile.tempdir", None)
        delivery = ground.delivery(timeout_s=patient(20), user=made[GOOD].user, identity_file=ground.folder / "user_key")
        assert kinds(await delivery.deliver([a_slice(GOOD)])) == ["written"]
    assert list(long.glob("promring-*")) == []
    assert ground.left() == []


async def test_what_the_far_side_remarks_on_a_success_is_said_once(ground: Ground) -> None:
    stream = io.StringIO()
    log.configure("info", stream=stream)
    try:
        ground.path("h").parent.mkdir(parents=True)
        ground.path("h").parent.chmod(0o777)
        delivery = ground.delivery(timeout_s=patient(20), verify_s=0.0)
        assert kinds(await delivery.deliver([a_slice("h")])) == ["written"]
        assert kinds(await delivery.deliver([a_slice("h")])) == ["same"]
        assert stream.getvalue().count("msg=folder_writable_by_all") == 1
        assert f"path={ground.path('h')}" in stream.getvalue()
    finally:
        log.configure()


async def test_a_home_that_is_not_there_is_named_in_a_few_words(ground: Ground) -> None:
    ground.set_extra(ansible_connection="local", ansible_remote_tmp="/proc/no/tmp", dest_dir=f"{ground.folder}/sd")
    (outcome,) = await ground.delivery(timeout_s=patient(20)).deliver([a_slice("h")])
    assert outcome.error.startswith("h: ")
    assert "no temporary directory can be made there in /proc/no/tmp: set ansible_remote_tmp" in outcome.error
    assert len(outcome.error) < 200


async def test_variables_in_a_vault_are_read_with_its_password_file_and_never_repeated(ground: Ground) -> None:
    vault = find_program("ansible-vault")
    if vault is None:
        pytest.skip("ansible-vault is not here")
    password = ground.folder / "vault_password"
    password.write_text("opensesame\n")
    secret = "hunter2-in-the-vault"
    ground.set_extra(ansible_connection="local", dest_dir=f"{ground.folder}/h/sd", nobody_knows=secret)
    encrypt = [vault, "encrypt", "--vault-password-file", str(password), str(ground.extra)]
    await in_a_thread(lambda: subprocess.run(encrypt, check=True, capture_output=True))
    assert secret not in ground.extra.read_text()
    closed = ground.delivery(timeout_s=patient(20))
    (outcome,) = await closed.deliver([a_slice("h")])
    assert outcome.outcome == "unsent", "no password: our own trouble"
    (outcome,) = await ground.delivery(timeout_s=patient(20), vault_password_file=password).deliver([a_slice("h")])
    assert outcome.outcome == "written", outcome
    tells = ground.playbook(
        "- hosts: all\n  gather_facts: false\n  tasks:\n"
        "    - fail: {msg: 'it is {{ nobody_knows }}, {{ nobody_knows | length }}'}\n"
    )
    (outcome,) = await ground.delivery(tells, timeout_s=patient(20), vault_password_file=password).deliver([a_slice("h")])
    assert outcome.error == f"h: it is ***, {len(secret)}"


def test_a_playbook_is_tried_before_it_is_taken(ground: Ground) -> None:
    good = ground.playbook(f"- hosts: all\n  tasks:\n    - {INSTALL}\n")
    assert Run(None, patient(20)).why_not_runnable() == ""
    assert Run(good, patient(20), ground.extra).why_not_runnable() == ""
    assert "nonsense" in Run(ground.playbook("- hosts: all\n  tasks: [{nonsense: }]\n"), patient(20)).why_not_runnable()
    ground.extra.write_text(json.dumps({})[:-1])
    assert Run(None, patient(20), ground.extra).why_not_runnable() != ""
