"""A scraper that is healthy but cannot be given its slice: row 17 of the failure list."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from testbed.sshd import SshdProcess, make_key

from promring.demo.process import free_port
from tests.real.conftest import server
from tests.real.stage import BELIEVED, Stage, stage, write_targets
from tests.rows import Seen
from tests.waiting import until

HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")


@dataclass
class Hosts:
    """Three hosts, a Prometheus and an sshd on each; the first two are running. ``sshd`` is that of the last."""

    s: Stage
    sshd: SshdProcess

    def orphans(self, among: list[str]) -> set[str]:
        """Those of ``among`` that are in nobody's slice."""
        return set(among) - {a for addresses in self.s.slices().values() for a in addresses}


@asynccontextmanager
async def hosts(folder: Path, consul: Path, prometheus: Path, *, running: int, timeout: str = "1s") -> AsyncIterator[Hosts]:
    key, port = make_key(folder / "user_key"), free_port()
    made = [SshdProcess(server("sshd"), folder / f"sshd-{h}", key, address=h, port=port) for h in HOSTS]
    (folder / "known_hosts").write_text("".join(x.known_hosts_line() for x in made))
    ssh = {
        "host": "{host}",
        "port": port,
        "user": made[0].user,
        "path": str(folder / "stage/out/{service}/{scraper}.json"),
        "identity_file": str(key),
        "known_hosts": str(folder / "known_hosts"),
        "timeout": timeout,
    }
    (folder / "stage").mkdir()
    try:
        for sshd in made:
            await sshd.start()
        for sshd in made:
            await sshd.until(sshd.is_ready, "sshd", 10)
        options: dict[str, Any] = {"delivery": [{"ssh": ssh}], "guard": BELIEVED, "handover": {"overlap": "1s"}}
        async with stage(folder / "stage", consul, prometheus, hosts=HOSTS, running=running, http_sd=0, **options) as s:
            s.allowed |= {"delivery_failed", "scraper_undeliverable"}
            yield Hosts(s, made[-1])
    finally:
        for sshd in made:
            sshd.signal_all(signal.SIGCONT)
            await sshd.stop()


@pytest.mark.row(17, did="a third Prometheus joins while its sshd is killed, or frozen")
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_who_cannot_be_given_its_slice_takes_nothing_from_anybody(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, how: str, seen: Seen
) -> None:
    async with hosts(tmp_path, consul_program, prometheus_program, running=2) as h:
        s, (*able, joining) = h.s, h.s.scrapers
        before = {x.id: s.slice_of(x) for x in able}
        if how == "killed":
            await h.sshd.kill()
        else:
            h.sshd.signal_all(signal.SIGSTOP)
        await joining.start()
        moments = 0
        while not s.controller.log_lines("scraper_undeliverable"):
            assert h.orphans(s.farm.addresses) == set(), "what it shall get stays where it was"
            moments += 1
            assert moments < 3000, "after some tries it counts as dead"
            await asyncio.sleep(0.01)
        assert s.controller.log_lines("node_update_reshard")[-1].count("new_num=3") == 1, "it is healthy and in the ring"
        await until(lambda: {x.id: s.slice_of(x) for x in able} == before, "the two have what they had")
        assert not s.path_of(joining).exists()
        await s.scraped_by_now()

        h.sshd.signal_all(signal.SIGCONT)
        if how == "killed":
            await h.sshd.start()
        await until(lambda: s.placed_on(*s.scrapers), "it has its share when it can be reached", 90)
        await s.scraped_by_now()
        seen(f"looked {moments} times until it counted as dead: every target in a slice; its share after sshd was back")


@pytest.mark.row(17, did="sshd of one of three killed, then 60 new targets")
async def test_new_targets_go_to_those_that_can_be_given_them(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with hosts(tmp_path, consul_program, prometheus_program, running=3) as h:
        s, (*able, cut) = h.s, h.s.scrapers
        had = s.slice_of(cut)
        await h.sshd.kill()
        new = [f"127.0.1.{n}:9100" for n in range(60)]
        write_targets(s.folder, [*s.farm.addresses, *new])
        took = await until(lambda: h.orphans(new) == set(), "all new ones are in a slice", 60)
        assert {a for x in able for a in s.slice_of(x)} >= set(new)
        assert s.slice_of(cut) == had, "what it has, it goes on scraping"
        assert h.orphans(s.farm.addresses) == set()
        await s.scraped_by_now()
        await h.sshd.start()
        await until(
            lambda: (
                sorted(a for x in s.scrapers for a in s.slice_of(x)) == sorted([*s.farm.addresses, *new])
                and bool(set(s.slice_of(cut)) & set(new))
            ),
            "each with one owner, it among them",
            90,
        )
        seen(f"all new targets in slices of the other two after {took:.1f} s")


@pytest.mark.row(34, did="sshd of one of three frozen for longer than the test, then target changes")
async def test_while_one_host_is_frozen_the_others_have_each_change_and_it_catches_up_by_itself(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with hosts(tmp_path, consul_program, prometheus_program, running=3, timeout="10m") as h:
        s, (*able, frozen) = h.s, h.s.scrapers
        had, took, new = s.slice_of(frozen), list[float](), list[str]()
        h.sshd.signal_all(signal.SIGSTOP)
        for change in (1, 2, 3):
            added = {f"127.0.{change}.{n}:9100" for n in range(60)}
            new += sorted(added)
            write_targets(s.folder, [*s.farm.addresses, *new])

            def has_some(added: set[str] = added) -> bool:
                return all(len(added & set(s.slice_of(x))) > 5 for x in able)

            took.append(await until(has_some, "both others have their part of this change", 20))
        assert s.slice_of(frozen) == had
        assert not s.controller.log_lines("scraper_undeliverable"), "it is waiting, not dead"
        h.sshd.signal_all(signal.SIGCONT)
        wanted = sorted([*s.farm.addresses, *new])
        await until(lambda: sorted(a for x in s.scrapers for a in s.slice_of(x)) == wanted, "it has the newest", 90)
        seen(f"the other two had each of three changes after at most {max(took):.1f} s; it, when it was thawed")
