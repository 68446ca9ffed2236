"""The services of one fleet over ssh to real sshds: one connection a host, and trouble that stays where it is."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from promring.delivery import Outcome
from promring.delivery.ssh import SshDelivery, SshHosts, SshPace, SshSettings
from promring.model import Slice
from promring.telemetry import log
from tests.real.test_ssh import QUICK, A, B, Fleet, a_slice, fleet, kinds, stamp
from tests.real.test_ssh_world import Bell, reconfigured
from tests.waiting import patient, slower, until

THREE = ("node", "db", "web")
HANGS = """ForceCommand read -r first; case $first in */hangs/*) exec sleep 600;; esac; (echo "$first"; cat) | sh -s"""


class Services:
    """Deliveries of several services that share their hosts, each with a folder of its own on every host."""

    def __init__(self, f: Fleet, names: Sequence[str] = THREE, *, pace: SshPace = QUICK, timeout_s: float = 5.0) -> None:
        self.folder = f.folder
        self.settings = SshSettings(
            host="{host}",
            port=f.port,
            user=f.sshd[A].user,
            path=f"{f.folder}/{{host}}/sd/{{service}}/{{scraper}}.json",
            identity_file=f.key,
            known_hosts=f.known_hosts,
            timeout=patient(timeout_s),
        )
        self.hosts = SshHosts(self.settings, log.get(), pace=pace)
        self.bells = {name: Bell() for name in names}
        self.deliveries = {name: SshDelivery(self.settings, log.get(), hosts=self.hosts) for name in names}
        for name, delivery in self.deliveries.items():
            delivery.when_done(self.bells[name])
        f.deliveries += self.deliveries.values()

    def path(self, name: str, address: str) -> Path:
        return self.folder / address / "sd" / name / f"{address}_9090.json"

    def slices(self, name: str, n: int, hosts: Sequence[str]) -> list[Slice]:
        return [replace(a_slice(host, b"[%s]" % (b" " * n), (1, n)), service=name) for host in hosts]

    async def told(self, *hosts: str, **generations: int) -> dict[str, list[Outcome]]:
        """To each service that is named, at once; to A and B unless said. The outcomes by service."""
        told = await asyncio.gather(
            *(self.deliveries[name].deliver(self.slices(name, n, hosts or (A, B))) for name, n in generations.items())
        )
        return dict(zip(generations, told, strict=True))

    async def deliver(self, *hosts: str, **generations: int) -> dict[str, list[str]]:
        return {name: kinds(outcomes) for name, outcomes in (await self.told(*hosts, **generations)).items()}


async def test_three_services_share_one_connection_to_each_host(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        services, before = Services(f), [f.connections(a) for a in (A, B)]
        written, same = ["written"] * 2, ["same"] * 2
        assert await services.deliver(node=1, db=1, web=1) == {"node": written, "db": written, "web": written}
        stamps = {name: stamp(services.path(name, A)) for name in ("node", "web")}
        assert await services.deliver(node=1, db=2, web=1) == {"node": same, "db": written, "web": same}
        assert {name: stamp(services.path(name, A)) for name in ("node", "web")} == stamps
        assert services.path("db", B).read_bytes() == b"[  ]"
        assert await services.deliver(node=2, web=2) == {"node": written, "web": written}, "one that is doubted: nothing"
        assert services.path("db", B).read_bytes() == b"[  ]"
        assert [f.logins(a) for a in (A, B)] == [1, 1]
        assert [f.connections(a) - n for a, n in zip((A, B), before, strict=True)] == [1, 1]


async def test_many_services_are_written_over_one_connection_in_a_moment(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        names = [f"s{n}" for n in range(40)]
        services = Services(f, names, timeout_s=20)
        began = time.monotonic()
        told = await services.deliver(**dict.fromkeys(names, 1))
        assert time.monotonic() - began < 15 * slower()
        assert told == {name: ["written"] * 2 for name in names}
        assert [f.logins(a) for a in (A, B)] == [1, 1]


async def test_one_host_that_is_down_fails_for_each_service_and_holds_up_none(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        services = Services(f, pace=replace(QUICK, wait_s=1.0 * slower(), slow_wait_s=0.1), timeout_s=3)
        await services.deliver(node=1, db=1, web=1)
        f.sshd[B].signal_all(signal.SIGSTOP)
        began = time.monotonic()
        told = await services.deliver(node=2, db=2, web=2)
        assert time.monotonic() - began < 2 * slower(), "the cycle does not wait for it"
        assert told == {name: ["written", "waiting"] for name in THREE}
        await until(lambda: all(bell.rings for bell in services.bells.values()), "its try has ended", 20)
        outcomes = await services.told(node=2, db=2, web=2)
        assert {name: kinds(one)[1] for name, one in outcomes.items()} == dict.fromkeys(THREE, "failed")
        path = services.path("db", B)
        assert outcomes["db"][1].error == f"{B}:{path}: connecting took more than {services.settings.timeout:g} s"
        f.sshd[B].signal_all(signal.SIGCONT)
        told_b = dict.fromkeys(THREE, "")

        async def all_there() -> bool:
            for name, one in (await services.deliver(node=2, db=2, web=2)).items():
                told_b[name] = one[1]
            return set(told_b.values()) <= {"written", "same"}

        await until(all_there, "it catches up for all services", 30)
        assert all(services.path(name, B).read_bytes() == b"[  ]" for name in THREE)
        assert f.logins(A) == 1


async def test_a_file_that_hangs_or_cannot_be_written_costs_its_own_service_alone(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        await reconfigured(f, A, HANGS)
        names = ("hangs", "bad", "good", "well")
        services = Services(f, names, pace=SshPace(wait_s=2.0 * slower(), retry_first_s=0.2), timeout_s=3)
        services.path("bad", A).mkdir(parents=True)
        seen = {name: set[str]() for name in names}
        for n in range(1, 9):
            began = time.monotonic()
            told = await services.deliver(A, hangs=n, bad=n, good=n, well=n)
            assert told["good"] == told["well"] == ["written"], (n, told)
            assert time.monotonic() - began < 4 * slower()
            for name, one in told.items():
                seen[name] |= set(one)
            await asyncio.sleep(0.2)
        assert seen["bad"] <= {"failed", "waiting"}
        assert services.bells["hangs"].rings > 0 or "failed" not in seen["hangs"]

        async def has_failed() -> bool:
            (outcome,) = (await services.told(A, hangs=8))["hangs"]
            seen["hangs"].add(outcome.outcome)
            assert outcome.outcome == "waiting" or "took more than" in outcome.error
            return "failed" in seen["hangs"]

        await until(has_failed, "its push has ended", 20)
        assert seen["hangs"] == {"waiting", "failed"}


async def test_a_host_that_allows_one_channel_takes_the_files_one_after_the_other(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        await reconfigured(f, A, "MaxSessions 1")
        names = [f"s{n}" for n in range(8)]
        services = Services(f, names, timeout_s=10)
        for n in (1, 2):
            told = dict.fromkeys(names, "")
            while set(told.values()) - {"written", "same"}:
                for name, (one,) in (await services.deliver(A, **dict.fromkeys(names, n))).items():
                    assert one != "failed"
                    told[name] = one
        assert all(services.path(name, A).read_bytes() == b"[  ]" for name in names)


async def test_who_ends_leaves_the_others_alone_and_the_last_one_closes_the_connections(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        services = Services(f)
        await services.deliver(node=1, db=1, web=1)
        sending = asyncio.create_task(services.deliver(node=2, db=2))
        await asyncio.sleep(0)
        await services.deliveries["web"].close()
        assert await sending == {"node": ["written"] * 2, "db": ["written"] * 2}
        cancelled = asyncio.create_task(services.deliver(node=3))
        going_on = asyncio.create_task(services.deliver(db=3))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert await going_on == {"db": ["written"] * 2}
        assert [f.logins(a) for a in (A, B)] == [1, 1]
        await services.deliveries["node"].close()
        assert all(f.sshd[a].sessions() for a in (A, B))
        await services.deliveries["db"].close()
        await until(lambda: not any(f.sshd[a].sessions() for a in (A, B)), "the connections are closed", 5)


async def test_a_connection_that_was_lost_is_replaced_once_for_all_services(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        services = Services(f, timeout_s=4)
        await services.deliver(node=1, db=1, web=1)
        f.sshd[A].cut_sessions()
        for pid in f.sshd[B].sessions():
            os.kill(pid, signal.SIGSTOP)  # the session, not the listener
        written = ["written"] * 2
        assert await services.deliver(node=2, db=2, web=2) == dict.fromkeys(THREE, written)
        assert [f.logins(a) for a in (A, B)] == [2, 2]


@pytest.mark.row(35, did="another host key, and several services on that host")
async def test_a_wrong_host_key_is_said_once_for_all_services(tmp_path: Path) -> None:
    async with fleet(tmp_path) as f:
        f.trust(but={A: ""})
        services, before = Services(f, pace=replace(QUICK, pause_s=60.0)), f.connections(A)
        for n in (1, 2, 3):
            told = await services.deliver(node=n, db=n, web=n)
            assert told == {name: ["failed", "written"] for name in THREE}
        assert f.connections(A) - before == 1
        assert f.said("ssh_host_untrusted") == 1
