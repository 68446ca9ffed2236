"""Delivery over ssh to hosts as they are out there: slow, frozen, behind jump hosts, with certificates, without a shell."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from testbed.sshd import make_key

from promring.delivery import Outcome
from promring.delivery.ssh import SshDelivery, SshPace, SshSettings
from promring.runtime.resolver import Names, Resolver
from promring.telemetry import log
from tests.real.test_ssh import BODY, QUICK, A, B, C, Fleet, a_slice, fleet, kinds, slices
from tests.waiting import patient, slower, until

OLD, NEW, NEWEST = BODY, b"[]", b"[ ]"


def delivery_of(f: Fleet, *, pace: SshPace | None = None, resolver: Resolver | None = None, **changes: Any) -> SshDelivery:
    plain = SshSettings(
        host="{host}",
        port=f.port,
        user=f.sshd[A].user,
        path=f"{f.folder}/{{host}}/sd/{{scraper}}.json",
        identity_file=f.key,
        known_hosts=f.known_hosts,
        timeout=patient(5),
    )
    made = SshDelivery(plain.model_copy(update=changes), log.get(), pace=pace or QUICK, resolver=resolver)
    f.deliveries.append(made)
    return made


async def reconfigured(f: Fleet, address: str, *lines: str) -> None:
    """Its sshd, started again with more settings."""
    sshd = f.sshd[address]
    await sshd.stop()
    with (f.folder / address / "sshd_config").open("a") as config:
        config.write("".join(f"{line}\n" for line in lines))
    await sshd.start()
    await sshd.until(sshd.is_ready, "sshd", 20)


async def all_have(body: bytes, delivery: SshDelivery, fence: tuple[int, int] = (1, 1), *, first: int = 0) -> list[Outcome]:
    """Deliver until everybody has it, from the ``first`` on: a busy machine may take longer than one delivery waits."""
    outcomes: list[Outcome] = []

    async def delivered() -> bool:
        nonlocal outcomes
        outcomes = await delivery.deliver(slices(body, fence))
        return set(kinds(outcomes)[first:]) <= {"written", "same"}

    await until(delivered, f"everybody has {body!r}")
    return outcomes


class Bell:
    def __init__(self) -> None:
        self.rings = 0

    def __call__(self) -> None:
        self.rings += 1


# --- slow and frozen hosts ---------------------------------------------------------------------------------------------


@pytest.mark.row(34, did="one host frozen while slices change: the others have each change, it catches up by itself")
async def test_a_frozen_host_holds_up_no_change_and_catches_up_with_the_newest_by_itself(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        delivery, bell = delivery_of(f, pace=SshPace(recheck_s=0.0), timeout_s=patient(20)), Bell()
        await all_have(OLD, delivery)
        delivery.when_done(bell)
        f.sshd[A].signal_all(signal.SIGSTOP)
        for n, body in enumerate((NEW, NEWEST), 2):
            outcomes = await all_have(body, delivery, (1, n), first=1)
            assert outcomes[0].outcome == "waiting"
            assert outcomes[0].error == f"{A}:{f.path(A)}: asking takes long"
            await until(lambda body=body: all(f.path(a).read_bytes() == body for a in (B, C)), "the others")  # type: ignore[misc]
        bell.rings = 0
        await asyncio.sleep(0.2)
        assert f.path(A).read_bytes() == OLD
        assert bell.rings == 0, "only the frozen one is waited for, and does not wake the loop"
        f.sshd[A].signal_all(signal.SIGCONT)
        await until(lambda: bell.rings > 0, "its try has ended")
        await until(lambda: caught_up(delivery, f), "the newest, not the one that was wanted when the try began")


async def caught_up(delivery: SshDelivery, f: Fleet) -> bool:
    await delivery.deliver(slices(NEWEST, (1, 3)))
    return f.path(A).read_bytes() == NEWEST


async def test_a_host_that_fails_is_left_alone_for_longer_each_time_and_told_once_a_try(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        await f.sshd[A].kill()
        delivery, bell = delivery_of(f, pace=SshPace(retry_first_s=0.3, slow_wait_s=600, wait_s=600)), Bell()
        delivery.when_done(bell)
        told: list[str] = []
        started = time.monotonic()
        while time.monotonic() - started < 2.5:
            told.append(kinds(await delivery.deliver(slices()))[0])
            await asyncio.sleep(0.01)
        assert set(told) == {"failed", "waiting"}
        assert 2 <= told.count("failed") <= 5, "0.3, 0.6, 1.2 s and up to half of it less"
        assert bell.rings >= 2, "it wakes the loop when a host is due again"


async def test_who_does_not_lead_any_more_writes_nothing_when_a_frozen_host_thaws(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        delivery, bell, leads = delivery_of(f, pace=SshPace(recheck_s=0.0), timeout_s=patient(30)), Bell(), [True]
        await all_have(OLD, delivery)
        delivery.when_done(bell)
        f.sshd[A].signal_all(signal.SIGSTOP)
        outcomes = await delivery.deliver(slices(NEW, (1, 2)), lambda: leads[0])
        assert outcomes[0].outcome == "waiting"
        leads[0] = False
        f.sshd[A].signal_all(signal.SIGCONT)
        await until(lambda: bell.rings > 0, "its try has ended")

        async def withheld() -> bool:
            return kinds(await delivery.deliver(slices(NEW, (1, 2)), lambda: leads[0]))[0] == "withheld"

        await until(withheld, "it is told that nobody leads")
        assert f.path(A).read_bytes() == OLD


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_nothing_goes_on_in_the_background_after_the_end(tmp_path: Path, how: str) -> None:
    async with fleet(tmp_path) as f:
        delivery = delivery_of(f, pace=SshPace(recheck_s=0.0), timeout_s=60.0)
        await all_have(OLD, delivery)
        before = asyncio.all_tasks()
        f.sshd[A].signal_all(signal.SIGSTOP)
        assert kinds(await delivery.deliver(slices(NEW, (1, 2))))[0] == "waiting"
        started = time.monotonic()
        if how == "closed":
            await delivery.close()
        else:
            again = asyncio.create_task(delivery.deliver(slices(NEW, (1, 3))))
            await asyncio.sleep(0.02)
            again.cancel()
            await asyncio.wait([again])
        assert time.monotonic() - started < 5 * slower()
        assert {t for t in asyncio.all_tasks() - before if "_try" in repr(t)} == set()
        f.sshd[A].signal_all(signal.SIGCONT)
        await asyncio.sleep(0.5)
        assert f.path(A).read_bytes() == OLD


async def test_a_host_that_answers_between_half_of_the_time_and_all_of_it_does_not_flap(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        deadline_s = patient(3)
        await reconfigured(f, A, f'ForceCommand sleep {0.65 * deadline_s}; eval "$SSH_ORIGINAL_COMMAND"')
        delivery = delivery_of(f, timeout_s=deadline_s)
        for n in range(1, 5):
            (outcome,) = await delivery.deliver([a_slice(A, b"[%s]" % (b" " * n), (1, n))])
            assert outcome.outcome == "written", (n, outcome)


# --- names -----------------------------------------------------------------------------------------------------------


class Zone:
    """Names as a resolver finds them: ``hangs…`` hang, ``gone…`` are not there, others are loopback addresses."""

    def __init__(self, **addresses: str) -> None:
        self._addresses, self.thaw = addresses, threading.Event()

    def look_up(self, name: str, *_: object, **__: object) -> list[Any]:
        if name.startswith("hangs"):
            self.thaw.wait(600)
        if name not in self._addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self._addresses[name], 0))]


async def test_names_whose_look_up_hangs_or_that_are_gone_cost_their_own_hosts_only_and_kill_nobody(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        zone = Zone(one=A, two=B, three=C)
        for name, address in (("one", A), ("two", B), ("three", C)):
            (tmp_path / name).mkdir()
            with f.known_hosts.open("a") as known:
                known.write(f.sshd[address].known_hosts_line().replace(address, name))
        deadline_s = patient(3)
        delivery = delivery_of(f, resolver=Resolver(Names(zone.look_up)), pace=SshPace(), timeout_s=deadline_s)
        names = [*(f"hangs{n}" for n in range(60)), "gone", "one", "two", "three"]
        try:
            kinds_of = dict.fromkeys(names, "")
            began = time.monotonic()
            while [kinds_of[name] for name in names[-3:]] != ["written"] * 3:
                assert time.monotonic() - began < 7 * deadline_s * slower(), kinds_of
                for name, outcome in zip(names, await delivery.deliver([a_slice(n) for n in names]), strict=True):
                    kinds_of[name] = outcome.outcome if kinds_of[name] != "written" else "written"
            seen: dict[str, str] = {}
            while len(seen) < 61:
                for outcome in await delivery.deliver([a_slice(n) for n in names]):
                    assert outcome.outcome != "failed", outcome
                    if outcome.outcome == "unsent":
                        seen[outcome.scraper] = outcome.error
                assert time.monotonic() - began < 20 * deadline_s * slower(), "a few at a time, each for one deadline"
                await asyncio.sleep(0.1)
            assert "looking up its name took more than" in seen["hangs1:9090"]
            assert "its name cannot be resolved: Name or service not known" in seen["gone:9090"]
        finally:
            zone.thaw.set()


# --- keys, certificates, jump hosts ----------------------------------------------------------------------------------


async def test_one_bad_line_of_known_hosts_costs_no_host_and_is_named_once(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        f.known_hosts.write_bytes(b"garbage\n@odd x y z\n\xff\xfe\n" + f.known_hosts.read_bytes() + b"half ssh-ed25519 AAA")
        delivery = delivery_of(f)
        for n in (1, 2):
            assert set(kinds(await delivery.deliver(slices(OLD, (1, n))))) <= {"written", "same"}
        assert f.said("known_hosts_lines_skipped") == 1


def certify(ca: Path, key: Path, *more: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-s", ca, "-I", "promring", *more, f"{key}.pub"], check=True, capture_output=True)
    return key.with_name(f"{key.name}-cert.pub")


async def test_a_user_certificate_beside_the_key_lets_us_in_and_one_that_is_over_is_our_trouble(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        ca, key = make_key(tmp_path / "ca"), make_key(tmp_path / "own")
        (tmp_path / A / "authorized_keys").write_text("")
        await reconfigured(f, A, f"TrustedUserCAKeys {ca}.pub")
        delivery = delivery_of(f, identity_file=key, pace=replace(QUICK, pause_s=0.0))
        (outcome,) = await delivery.deliver([a_slice(A)])
        assert (outcome.outcome, "it refuses the user" in outcome.error) == ("failed", True)
        beside = certify(ca, key, "-n", f.sshd[A].user, "-V", "-2d:-1d")
        (outcome,) = await delivery.deliver([a_slice(A)])
        assert (outcome.outcome, outcome.error.endswith(f"{beside}: Certificate expired")) == ("unsent", True)
        certify(ca, key, "-n", f.sshd[A].user)
        assert kinds(await delivery.deliver([a_slice(A)])) == ["written"]
        elsewhere = beside.rename(tmp_path / "elsewhere-cert.pub")
        named = delivery_of(f, identity_file=key, certificate_file=elsewhere)
        assert kinds(await named.deliver([a_slice(A)])) == ["same"]
        other = delivery_of(f, certificate_file=elsewhere)
        (outcome,) = await other.deliver([a_slice(A)])
        assert "it is the certificate of another key" in outcome.error


async def test_hosts_behind_two_jump_hosts_are_reached_and_every_host_key_is_checked(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        user = f.sshd[A].user
        hops = tuple(f"{user}@{a}:{f.port}" for a in (A, B))
        delivery = delivery_of(f, proxy_jump=hops)
        for n in (1, 2, 3):
            assert kinds(await delivery.deliver([a_slice(C, b"[%s]" % (b" " * n), (1, n))])) == ["written"]
        assert [f.logins(a) for a in (A, B, C)] == [1, 1, 1]
        wrong = make_key(tmp_path / "wrong")
        for address, kind in ((B, "unsent"), (C, "failed")):
            f.trust(but={address: f.sshd[address].known_hosts_line(wrong)})
            (outcome,) = await delivery_of(f, proxy_jump=hops).deliver([a_slice(C, NEW, (2, 1))])
            assert (outcome.outcome, "its host key is not the one in" in outcome.error) == (kind, True), outcome
            assert outcome.error.startswith(f"{C}:{f.path(C)}: {'jump host ' if address == B else 'its'}")


@pytest.mark.parametrize("how", ["frozen", "dead"])
async def test_a_jump_host_that_is_gone_is_no_death_of_those_behind_it(tmp_path: Path, how: str) -> None:
    async with fleet(tmp_path) as f:
        hops = (f"{A}:{f.port}",)
        delivery = delivery_of(f, proxy_jump=hops, timeout=patient(4))
        both = [a_slice(B), a_slice(C)]
        assert kinds(await delivery.deliver(both)) == ["written"] * 2
        await f.sshd[A].kill() if how == "dead" else f.sshd[A].signal_all(signal.SIGSTOP)
        told = [kinds(await delivery.deliver([a_slice(B, NEW, (1, 2)), a_slice(C, NEW, (1, 2))])) for _ in range(5)]
        assert all(kind in ("unsent", "failed") for row in told for kind in row)
        assert sum("failed" in row for row in told) < 3, told
        assert told[-1] == ["unsent", "unsent"]
        if how == "dead":
            await f.sshd[A].start()
        f.sshd[A].signal_all(signal.SIGCONT)
        await until(lambda: is_done(delivery), "reached again", 20)


async def is_done(delivery: SshDelivery) -> bool:
    outcomes = await delivery.deliver([a_slice(B, NEW, (1, 2)), a_slice(C, NEW, (1, 2))])
    return set(kinds(outcomes)) <= {"written", "same"}


# --- what is over there ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["csh", "tcsh", "fish", "bash"])
async def test_another_login_shell_is_no_trouble(tmp_path: Path, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not here")
    async with fleet(tmp_path) as f:
        await reconfigured(f, A, f'ForceCommand {shell} -c "$SSH_ORIGINAL_COMMAND"')
        path = f"{tmp_path}/it's !a $HOME/{{scraper}}.json"
        delivery = delivery_of(f, path=path)
        big = b"[" + b" " * 300_000 + b"]"
        assert kinds(await delivery.deliver([a_slice(A, big)])) == ["written"]
        assert kinds(await delivery.deliver([a_slice(A, big)])) == ["same"]
        assert (tmp_path / "it's !a $HOME" / f"{A}_9090.json").read_bytes() == big


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (("Subsystem sftp internal-sftp", "ForceCommand internal-sftp"), "sftp works there, but promring needs a shell"),
        (("ForceCommand echo This account is not available; exit 1",), "ended with status 1: This account is not available"),
    ],
)
async def test_a_host_without_a_shell_is_named_so(tmp_path: Path, lines: tuple[str, ...], why: str) -> None:
    async with fleet(tmp_path) as f:
        await reconfigured(f, A, *lines)
        (outcome,) = await delivery_of(f).deliver([a_slice(A)])
        assert outcome.outcome == "failed"
        assert why in outcome.error
