"""Delivery over ssh to real sshds, one address a host."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from testbed.sshd import SshdProcess, make_key

from promring.delivery import Outcome, receiver
from promring.delivery.ssh import SshDelivery, SshPace, SshSettings
from promring.demo.process import free_port
from promring.model import Generation, Scraper, Slice
from promring.telemetry import log
from tests.real.conftest import server
from tests.real.stage import SERVICE, stage
from tests.waiting import patient, slower, until

A, B, C = ADDRESSES = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
BODY = b'[{"targets":["a:1"]}]'
BIG_BYTES = 40_000_002
WAITS = SshPace(retry_first_s=0.0, wait_s=600.0, slow_wait_s=600.0)  # every call waits until each try has ended
QUICK = replace(WAITS, pause_s=2.0, recheck_s=0.0)  # and looks at the far side


class Fleet:
    """Three hosts, their folders and one known_hosts file. ``log`` has what promring said."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.folder, self.key, self.port = folder, make_key(folder / "user_key"), free_port()
        self.sshd = {a: SshdProcess(program, folder / a, self.key, address=a, port=self.port) for a in ADDRESSES}
        self.known_hosts = folder / "known_hosts"
        self.trust()
        self.log = io.StringIO()
        self.deliveries: list[SshDelivery] = []

    def trust(self, *, but: dict[str, str] | None = None) -> None:
        """Write known_hosts; ``but`` has other lines for some addresses."""
        lines = {a: s.known_hosts_line() for a, s in self.sshd.items()} | (but or {})
        self.known_hosts.write_text("".join(lines.values()))

    def delivery(
        self, pace: SshPace = QUICK, *, timeout_s: float | None = None, path: str = "", identity: Path | None = None
    ) -> SshDelivery:
        made = SshDelivery(
            SshSettings(
                host="{host}",
                port=self.port,
                user=self.sshd[A].user,
                path=path or f"{self.folder}/{{host}}/sd/{{scraper}}.json",
                identity_file=identity or self.key,
                known_hosts=self.known_hosts,
                timeout=float(timeout_s or patient(5)),
            ),
            log.get(),
            pace=pace,
        )
        self.deliveries.append(made)
        return made

    def path(self, address: str) -> Path:
        return self.folder / address / "sd" / f"{address}_9090.json"

    def left(self, address: str) -> list[str]:
        """The names in its folder, beside the slice, note and lock."""
        name = self.path(address).name
        usual = {name, f".{name}.promring", f".{name}.promring-lock"}
        return [p.name for p in self.path(address).parent.iterdir() if p.name not in usual]

    def logins(self, address: str) -> int:
        return self.sshd[address].log_lines("Accepted publickey")

    def connections(self, address: str) -> int:
        return self.sshd[address].log_lines("Connection from")

    def said(self, msg: str) -> int:
        return sum(f" msg={msg} " in line for line in self.log.getvalue().splitlines())


def a_slice(address: str, body: bytes = BODY, generation: tuple[int, int] = (1, 1), *, scraper: str = "") -> Slice:
    return Slice("x", Scraper(scraper or f"{address}:9090", address, 9090), Generation(*generation), body, 1)


def slices(body: bytes = BODY, generation: tuple[int, int] = (1, 1)) -> list[Slice]:
    return [a_slice(address, body, generation) for address in ADDRESSES]


def kinds(outcomes: list[Outcome]) -> list[str]:
    return [o.outcome for o in outcomes]


def stamp(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


@asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[Fleet]:
    made = Fleet(server("sshd"), folder)
    log.configure("debug", stream=made.log)
    try:
        for sshd in made.sshd.values():
            await sshd.start()
        for sshd in made.sshd.values():
            await sshd.until(sshd.is_ready, "sshd", 10)
        yield made
    finally:
        for delivery in made.deliveries:
            await delivery.close()
        for sshd in made.sshd.values():
            sshd.signal_all(signal.SIGCONT)
            await sshd.stop()
        log.configure()
        await asyncio.sleep(0.05)  # transports close one turn of the loop later


async def test_slices_are_written_once_over_one_kept_connection_a_host(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        delivery = f.delivery()
        assert kinds(await delivery.deliver(slices())) == ["written"] * 3
        stamps = {a: stamp(f.path(a)) for a in ADDRESSES}
        assert all(f.path(a).read_bytes() == BODY for a in ADDRESSES)
        for n in (1, 1, 2):
            assert kinds(await delivery.deliver(slices(generation=(1, n)))) == ["same"] * 3
        assert {a: stamp(f.path(a)) for a in ADDRESSES} == stamps
        assert receiver.held(f.path(A)) == ((1, 2), a_slice(A).sha256)
        assert kinds(await delivery.deliver(slices(b"[]", (1, 3)))) == ["written"] * 3
        assert [f.logins(a) for a in ADDRESSES] == [1, 1, 1]
        assert [f.left(a) for a in ADDRESSES] == [[], [], []]
        for old in ((1, 2), (0, 99)):
            outcomes = await delivery.deliver(slices(BODY, old))
            assert kinds(outcomes) == ["refused"] * 3
            assert outcomes[0].error == f"{A}:{f.path(A)}: has generation 1.3, refuses the older {old[0]}.{old[1]}"
        (outcome,) = await delivery.deliver([a_slice(A, BODY, (1, 3))])
        assert outcome.error == f"{A}:{f.path(A)}: has another slice of generation 1.3"
        assert all(f.path(a).read_bytes() == b"[]" for a in ADDRESSES)


async def test_a_slice_that_is_known_to_be_there_costs_nothing_and_is_looked_at_again_in_time(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        delivery = f.delivery(replace(WAITS, recheck_s=1.0))
        await delivery.deliver(slices())
        f.sshd[A].signal_all(signal.SIGSTOP)
        assert kinds(await delivery.deliver(slices())) == ["same"] * 3
        f.sshd[A].signal_all(signal.SIGCONT)
        f.path(A).write_text("[]")
        f.path(B).unlink()
        assert kinds(await delivery.deliver(slices())) == ["same"] * 3
        await asyncio.sleep(1)
        assert kinds(await delivery.deliver(slices())) == ["written", "written", "same"]
        assert f.path(A).read_bytes() == f.path(B).read_bytes() == BODY
        assert f.said("slice_put_back") == 2


@pytest.mark.row(34, did="one host refuses, one freezes, one is cut off")
async def test_hosts_that_refuse_freeze_or_are_cut_off_do_not_hold_up_the_others(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        deadline_s = patient(2)
        delivery = f.delivery(timeout_s=deadline_s)
        await delivery.deliver(slices())
        nobody = "127.0.0.9"
        f.sshd[A].signal_all(signal.SIGSTOP)
        await f.sshd[B].kill()
        started = time.monotonic()
        done = asyncio.create_task(delivery.deliver([*slices(b"[]", (1, 2)), a_slice(nobody)]))
        took = await until(lambda: f.path(C).exists() and f.path(C).read_bytes() == b"[]", "the one that is well", 2)
        outcomes = await done
        assert took < slower()
        assert 1.9 < time.monotonic() - started < 5 * slower()
        assert kinds(outcomes) == ["failed", "failed", "written", "failed"]
        assert outcomes[0].error == f"{A}:{f.path(A)}: connecting took more than {deadline_s:g} s"
        assert outcomes[1].error == f"{B}:{f.path(B)}: cannot connect: Connection refused"
        assert outcomes[3].error == f"{nobody}:{f.path(nobody)}: cannot connect: Connection refused"
        assert f.path(A).read_bytes() == BODY
        f.sshd[A].signal_all(signal.SIGCONT)
        await f.sshd[B].start()
        await f.sshd[B].until(f.sshd[B].is_ready, "sshd", 10)
        assert set(kinds(await delivery.deliver(slices(b"[]", (1, 2))))) <= {"same", "written"}
        assert all(f.path(a).read_bytes() == b"[]" for a in ADDRESSES)


async def test_a_frozen_host_that_was_never_reached_ends_at_the_deadline(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        f.sshd[A].signal_all(signal.SIGSTOP)
        started = time.monotonic()
        outcomes = await f.delivery(timeout_s=patient(1)).deliver(slices())
        assert 0.9 < time.monotonic() - started < 4 * slower()
        assert kinds(outcomes) == ["failed", "written", "written"]


async def test_a_kept_connection_that_broke_or_hangs_is_replaced_once(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        delivery = f.delivery(timeout_s=patient(3))
        await delivery.deliver(slices())
        f.sshd[A].cut_sessions()
        for pid in f.sshd[B].sessions():
            os.kill(pid, signal.SIGSTOP)  # the session, not the listener
        started = time.monotonic()
        assert kinds(await delivery.deliver(slices(b"[]", (1, 2)))) == ["written"] * 3
        assert time.monotonic() - started < 6 * slower()
        assert [f.logins(a) for a in ADDRESSES] == [2, 2, 1]


def big_list() -> bytes:
    """Not a constant: each worker of the tests would hold it, all the while."""
    return b"[%s]" % (b" " * (BIG_BYTES - 2))


async def uploading(f: Fleet, address: str) -> None:
    """Until the far side is in the middle of taking a big slice."""

    def some() -> bool:
        new = list(f.path(address).parent.glob(".*.promring-tmp"))
        return any(0 < p.stat().st_size < BIG_BYTES for p in new if p.exists())

    await until(some, "in the middle")


@pytest.mark.row(34, did="a connection cut in the middle of a slice")
async def test_a_connection_cut_in_the_middle_of_a_slice_leaves_the_old_one(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        delivery = f.delivery(timeout_s=patient(10))
        await delivery.deliver(slices())
        fresh, big = f.delivery(timeout_s=patient(10)), big_list()
        sending = asyncio.create_task(fresh.deliver([a_slice(A, big, (1, 2)), a_slice(B, b"[]", (1, 2))]))
        await uploading(f, A)
        f.sshd[A].cut_sessions()
        outcomes = await sending
        assert kinds(outcomes) == ["failed", "written"]
        assert "connection lost" in outcomes[0].error
        await until(lambda: not f.left(A), "the temporary is gone")
        assert f.path(A).read_bytes() == BODY
        assert kinds(await fresh.deliver([a_slice(A, big, (1, 2))])) == ["written"]
        assert f.path(A).read_bytes() == big


@pytest.mark.parametrize("big", [True, False])
async def test_a_cancelled_delivery_ends_at_once_and_leaves_whole_slices(tmp_path: Path, big: bool) -> None:
    async with fleet(tmp_path) as f:
        delivery = f.delivery(timeout_s=patient(10))
        await delivery.deliver(slices())
        for n in range(2, 4 if big else 12):
            new = big_list() if big else b"[%s]" % (b" " * n)
            old = f.path(A).read_bytes()
            sending = asyncio.create_task(delivery.deliver(slices(new, (1, n))))
            await uploading(f, A) if big else await asyncio.sleep(0.01 * n)
            started = time.monotonic()
            sending.cancel()
            await asyncio.wait([sending])
            assert sending.cancelled() or not big
            assert time.monotonic() - started < 5 * slower()
            await until(lambda: not any(f.left(a) for a in ADDRESSES), "nothing is left")
            assert f.path(A).read_bytes() == old if big else f.path(A).read_bytes() in (old, new)
        assert "failed" not in kinds(await delivery.deliver(slices(b"[]", (2, 1))))
        assert f.path(A).read_bytes() == b"[]"


async def repeatedly(delivery: SshDelivery, seconds: float) -> list[Outcome]:
    """Deliver again and again, as a loop that retries does."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        outcomes = await delivery.deliver(slices())
        await asyncio.sleep(0.05)
    return outcomes


@pytest.mark.row(35, did="another host key than the known one")
@pytest.mark.parametrize("how", ["changed", "unknown", "another kind"])
async def test_a_wrong_host_key_is_permanent_said_once_and_not_asked_again_before_the_pause(
    tmp_path: Path, how: str
) -> None:
    async with fleet(tmp_path) as f:
        wrong = f.sshd[A].known_hosts_line(make_key(tmp_path / "wrong")) if how == "changed" else ""
        if how == "another kind":
            wrong = f.sshd[A].known_hosts_line(make_key(tmp_path / "ecdsa", "ecdsa"))
        f.trust(but={A: wrong})
        before = f.connections(A)
        delivery = f.delivery()
        outcomes = await repeatedly(delivery, 1.2)
        assert kinds(outcomes) == ["failed", "same", "same"]
        assert outcomes[0].error.startswith(f"{A}:{f.path(A)}: ")
        said = "it has no host key in" if how == "unknown" else "its host key is not the one in"
        assert f"{said} {f.known_hosts}" in outcomes[0].error
        assert f.connections(A) - before == 1, outcomes
        assert not f.path(A).exists()
        await repeatedly(delivery, 2.2)
        assert f.connections(A) - before == 2
        assert f.said("ssh_host_untrusted") == 1
        f.trust()
        await until(lambda: kinds_of(delivery), "right again", 5)
        assert f.path(A).read_bytes() == BODY
        assert f.said("ssh_host_trusted_again") == 1
        assert f.connections(A) - before == 3


async def kinds_of(delivery: SshDelivery) -> bool:
    return set(kinds(await delivery.deliver(slices()))) <= {"written", "same"}


async def test_a_refused_user_key_is_permanent_and_never_another_key_is_tried(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        wrong = make_key(tmp_path / "wrong")
        before = f.connections(A)
        delivery = f.delivery(identity=wrong)
        outcomes = await repeatedly(delivery, 1.0)
        assert kinds(outcomes) == ["failed"] * 3
        assert outcomes[0].error == f"{A}:{f.path(A)}: it refuses the user {f.sshd[A].user} with {wrong}"
        assert f.connections(A) - before == 1, outcomes
        assert f.sshd[A].log_lines("Failed publickey") <= 1
        assert f.logins(A) == 0
        wrong.write_bytes(f.key.read_bytes())
        await until(lambda: kinds_of(delivery), "right again", 5)
        assert f.said("ssh_host_untrusted") == 3


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small tmpfs cannot be mounted: this needs root and CAP_SYS_ADMIN")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.row(36, did="the far disk is full")
async def test_a_full_far_disk_keeps_the_old_slice_and_nothing_is_left_over(tmp_path: Path) -> None:
    with full_disk(tmp_path / A / "sd"):
        async with fleet(tmp_path) as f:
            delivery = f.delivery(timeout_s=30)
            assert kinds(await delivery.deliver(slices())) == ["written"] * 3
            outcomes = await delivery.deliver(slices(b"[%s]" % (b" " * 100_000), (1, 2)))
            assert kinds(outcomes) == ["failed", "written", "written"]
            assert outcomes[0].error.startswith(f"{A}:{f.path(A)}: ")
            assert "No space left on device" in outcomes[0].error
            assert f.path(A).read_bytes() == BODY
            assert f.left(A) == []
            outcomes = await delivery.deliver(slices(b"[%s]" % (b" " * 40_000_000), (1, 3)))
            assert kinds(outcomes) == ["failed", "written", "written"]
            assert "No space left on device" in outcomes[0].error
            assert kinds(await delivery.deliver(slices(b"[]", (1, 4)))) == ["written"] * 3
            assert f.logins(A) == 1, "a full disk is no reason to connect again"


@pytest.mark.row("A3", "A4", did="scrapers whose names are options, commands and paths, pushed to by ssh")
async def test_hostile_names_run_nothing_and_keep_to_their_folder(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        names = [
            "-oProxyCommand=touch pwned",
            "$(touch pwned)",
            "a b",
            "../../x",
            "'; touch pwned; '",
            "`touch pwned`",
            "-rf",
        ]
        delivery = f.delivery(path=f"{tmp_path}/it's $(touch pwned)/{{service}}/{{scraper}}.json")
        outcomes = await delivery.deliver([a_slice(A, scraper=name) for name in names])
        assert kinds(outcomes) == ["written"] * len(names)
        made = list((tmp_path / "it's $(touch pwned)" / "x").glob("[!.]*.json"))
        assert len(made) == len(names)
        outcomes = await delivery.deliver(
            [
                a_slice(host, scraper=host)
                for host in ("-oProxyCommand=touch pwned", "-l root", f"{A} touch", "$(touch pwned)")
            ]
        )
        assert kinds(outcomes) == ["failed"] * 4
        assert all(o.error.endswith(": not a host name") for o in outcomes)
        homes = [tmp_path, Path.home(), Path.cwd(), *(tmp_path / a for a in ADDRESSES)]
        assert not [p for home in homes for p in home.glob("*pwned*") if p.name == "pwned"]


async def test_idle_connections_end(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        delivery = f.delivery(replace(QUICK, idle_s=0.5))
        assert kinds(await delivery.deliver(slices())) == ["written"] * 3
        await until(lambda: not any(f.sshd[a].sessions() for a in ADDRESSES), "closed", 5)
        assert kinds(await delivery.deliver(slices())) == ["same"] * 3
        await delivery.deliver([a_slice(A)])
        await until(lambda: not f.sshd[B].sessions(), "a host without a slice is left", 5)


async def test_a_connection_that_is_used_for_longer_than_an_idle_one_may_be_kept_ends_too(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        await f.delivery(replace(QUICK, idle_s=0.01)).deliver(slices())
        await until(lambda: not any(f.sshd[a].sessions() for a in ADDRESSES), "closed", 5)


async def test_promring_serves_real_prometheus_servers_over_ssh(
    tmp_path: Path, consul_program: Path, prometheus_program: Path
) -> None:
    key = make_key(tmp_path / "user_key")
    sshd = SshdProcess(server("sshd"), tmp_path / "sshd", key)
    (tmp_path / "known_hosts").write_text(sshd.known_hosts_line())
    await sshd.start()
    try:
        await sshd.until(sshd.is_ready, "sshd", 10)
        ssh = {
            "port": sshd.port,
            "user": sshd.user,
            "path": str(tmp_path / "stage/out/{service}/{scraper}.json"),
            "identity_file": str(key),
            "known_hosts": str(tmp_path / "known_hosts"),
            "timeout": "3s",
        }
        (tmp_path / "stage").mkdir()
        async with stage(
            tmp_path / "stage", consul_program, prometheus_program, http_sd=0, count=30, delivery=[{"ssh": ssh}]
        ) as s:
            s.allowed |= {"delivery_failed", "scraper_undeliverable"}
            await s.scraped_by_now()
            stamps = s.stamps()
            await asyncio.sleep(5)  # cycles, and nothing to do
            assert s.stamps() == stamps
            assert sshd.log_lines("Accepted publickey") == 1
            killed, *rest = s.scrapers
            await killed.kill()
            await until(lambda: s.placed_on(*rest), "the others have its targets", 20)
            await s.scraped_by_now()
            await sshd.kill()
            await killed.start()
            await until(lambda: "msg=delivery_failed" in s.controller.log_file.read_text(), "said", 20)
            assert json.loads(s.path_of(rest[0]).read_bytes())
            await s.scraped_by_now()
            await sshd.start()
            await until(lambda: s.placed_on(*s.scrapers), "home again", 60)
            await s.scraped_by_now()
            assert (s.folder / "out" / SERVICE).is_dir()
            assert not list((s.folder / "out" / SERVICE).glob(".*promring-tmp"))
    finally:
        await sshd.stop()
