"""The contract of receivers over a real sshd and through a real Ansible: all cases at once. See ``tests/receivers.py``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Generator, Mapping
from pathlib import Path

import asyncssh
import pytest

from promring.delivery.ansible_inventory import Host
from promring.delivery.ansible_run import Run, Told, find_program
from promring.delivery.receiver_sh import Answer
from promring.delivery.ssh_push import FarError, Work, push
from tests.real.test_ssh import A, fleet
from tests.receivers import CASES, Case, Offer, a_full_or_read_only_disk_leaves_the_old_slice, file_of, word_of
from tests.rows import Seen
from tests.waiting import patient

CHANNELS = 6
Receive = Callable[[Mapping[str, Offer]], Awaitable[Mapping[str, str]]]
"""Offers of several cases, by name; what was said of each."""


async def play_all(folder: Path, receive: Receive, cases: Mapping[str, Case] = CASES) -> int:
    """Each case in a folder of its own; how many slices were offered."""
    playing: dict[str, Generator[Offer, str, None]] = {}
    for number, (name, case) in enumerate(cases.items()):
        (place := folder / str(number)).mkdir()
        playing[name] = case(place / "sd" / "x.json")
    offers = {name: next(case) for name, case in playing.items()}
    count = 0
    try:
        while offers:
            count += len(offers)
            said = await receive(offers)
            offers = {name: more for name, word in said.items() if (more := next_of(playing[name], name, word))}
    finally:
        for one in playing.values():
            one.close()
    return count


def next_of(case: Generator[Offer, str, None], name: str, said: str) -> Offer | None:
    try:
        return case.send(said)
    except StopIteration:
        return None
    except AssertionError as error:
        raise AssertionError(f"{name}: after {said!r}: {error}") from error


@pytest.mark.row("A12", "A13", 36, did="every case of the contract of receivers, over a real sshd")
async def test_the_receiver_keeps_its_contract_over_a_real_sshd(tmp_path: Path, seen: Seen) -> None:
    cases = {name: case for name, case in CASES.items() if case is not a_full_or_read_only_disk_leaves_the_old_slice}
    # that sshd has mounts of its own: ``test_ssh`` has the full disk
    async with fleet(tmp_path) as f:
        options = asyncssh.SSHClientConnectionOptions(
            username=f.sshd[A].user, client_keys=[str(f.key)], known_hosts=str(f.known_hosts), config=None
        )
        async with asyncssh.connect(A, f.port, options=options) as connection:
            room = asyncio.Semaphore(CHANNELS)

            async def put(sent: Offer) -> str:
                try:
                    async with room, asyncio.timeout(patient(20)):
                        return await push(connection, Work(str(sent.path), sent.envelope), patient(20))
                except FarError as error:
                    return f"error {error}" if error.have is None else f"refused {error.have}"

            async def receive(offers: Mapping[str, Offer]) -> Mapping[str, str]:
                return dict(zip(offers, await asyncio.gather(*map(put, offers.values())), strict=True))

            count = await play_all(tmp_path, receive, cases)
    seen(f"{len(cases)} cases, {count} slices: as the contract says")


@pytest.mark.row("A12", "A13", did="every case of the contract of receivers, through a real ansible-playbook")
async def test_the_receiver_keeps_its_contract_through_a_real_ansible(tmp_path: Path, seen: Seen) -> None:
    if find_program() is None:
        pytest.skip("ansible-playbook is not here; pip install ansible-core")
    run = Run(None, patient(60))
    usual: dict[str, str | int] = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "service_port": 9090,
    }

    async def receive(offers: Mapping[str, Offer]) -> Mapping[str, str]:
        said: dict[str, str] = {}

        def heard(told: Told) -> None:
            if told.file == 0 and told.result not in ("at", "remark"):
                said[told.host] = word_of(Answer(0, told.result, told.why))

        hosts = [
            Host(name, [file_of(sent)], {**usual, "dest_dir": str(sent.path.parent), "promring_reload": False})
            for name, sent in offers.items()
        ]
        report = await asyncio.to_thread(run, hosts, lambda: False, heard)
        assert said.keys() == offers.keys(), report
        return said

    count = await play_all(tmp_path, receive)
    seen(f"{len(CASES)} cases, {count} slices: as the contract says")
