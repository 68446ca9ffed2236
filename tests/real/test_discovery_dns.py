"""Targets from a name server, label by label what real Prometheus makes of it with the same ``resolv.conf``."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from testbed.sdoracle import Targets, as_targets

from promring.core.fragment import decode, fragments
from promring.core.pool import pool_of
from promring.demo.process import Process, free_port
from promring.discovery.dns import DnsSource, DnsTargets
from promring.model import DiscoveryError, TargetPool
from promring.runtime.http_client import HttpError, new_session, request
from tests.fakes.dns import NameServer
from tests.real.conftest import server
from tests.waiting import until

ZONE = {
    "a.test. A": ["10.0.0.1", "10.0.0.2"],
    "a.test. AAAA": ["fd00::1", "::ffff:10.9.9.9", "2001:db8:0:0:1:0:0:1"],
    "alias.test. CNAME": ["a.test."],
    "_x._tcp.test. SRV": ["0 0 80 Host-A.test.", "5 1 81 host-b.test."],
    "test. MX": ["10 Mail.test."],
    "test. NS": ["ns1.test.", "ns2.test."],
    "many.test. SRV": [f"0 0 {port} host-{port}.some.long.name.of.many.test." for port in range(1000, 1900)],
    "short.one.test. A": ["10.0.1.1"],
    "short.two.test. A": ["10.0.1.2"],
    "nodata.one.test. TXT": ["there"],
    "nodata.two.test. A": ["10.0.1.3"],
    "deep.er. A": ["10.0.1.4"],
    "deep.er.one.test. A": ["10.0.1.5"],
    "later.two.test. A": ["10.0.1.6"],
}
TROUBLE = {"refused.test.": "REFUSED", "broken.one.test.": "SERVFAIL"}
OF_OTHERS = ("job", "__scheme__", "__metrics_path__", "__scrape_interval__", "__scrape_timeout__")
JOBS: Mapping[str, dict[str, Any]] = {
    "a": {"type": "A", "port": 9100, "names": ["a.test."]},
    "aaaa": {"type": "AAAA", "port": 9100, "names": ["a.test"]},
    "lower": {"type": "a", "port": 1, "names": ["a.test."]},
    "srv": {"names": ["_x._tcp.test."]},
    "mx": {"type": "MX", "port": 25, "names": ["test."]},
    "ns": {"type": "NS", "port": 53, "names": ["test."]},
    "truncated": {"names": ["many.test."]},
    "search": {"type": "A", "port": 1, "names": ["short", "later"]},
    "no data ends the search": {"type": "A", "port": 1, "names": ["nodata", "a.test."]},
    "dots first": {"type": "A", "port": 1, "names": ["deep.er"]},
    "two names, one fails": {"type": "A", "port": 1, "names": ["refused.test.", "a.test."]},
    "broken once, known later": {"type": "A", "port": 1, "names": ["broken", "a.test."]},
    "unknown beside known": {"type": "A", "port": 1, "names": ["nowhere.test.", "a.test."]},
}
NOT_IN_2 = ("ns",)


class _Active(msgspec.Struct, rename="camel"):
    discovered_labels: dict[str, str]
    scrape_pool: str


class _Data(msgspec.Struct, rename="camel"):
    active_targets: list[_Active]


class _Answer(msgspec.Struct):
    data: _Data


class Judge(Process):
    """A Prometheus with a ``resolv.conf`` of its own, that lists targets and never scrapes them."""

    def __init__(self, program: Path, folder: Path, resolv_conf: Path, jobs: Mapping[str, dict[str, Any]]) -> None:
        folder.mkdir()
        self.url = f"http://127.0.0.1:{free_port()}"
        relabel = [{"action": "labelmap", "regex": "__meta_(.+)"}]
        config = {
            "global": {"scrape_interval": "100y"},
            "scrape_configs": [
                {
                    "job_name": name,
                    "relabel_configs": relabel,
                    "dns_sd_configs": [{**block, "refresh_interval": "1s"}],
                }
                for name, block in jobs.items()
            ],
        }
        (folder / "prometheus.yml").write_bytes(msgspec.json.encode(config))
        command = [
            str(program),
            f"--config.file={folder / 'prometheus.yml'}",
            "--enable-feature=agent" if program.name == "prometheus" else "--agent",
            f"--storage.agent.path={folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]
        script = f"mount --bind {shlex.quote(str(resolv_conf))} /etc/resolv.conf && exec {shlex.join(command)}"
        super().__init__(["unshare", "-m", "sh", "-c", script], folder / "log", {"GOMAXPROCS": "2"})

    async def targets(self) -> dict[str, Targets]:
        """By job."""
        try:
            async with new_session() as session:
                answer = await request(session, "GET", f"{self.url}/api/v1/targets?state=active", timeout_s=10)
        except HttpError:
            return {}
        if answer.status != 200:
            return {}
        found: dict[str, list[dict[str, str]]] = {}
        for one in msgspec.json.decode(answer.body, type=_Answer).data.active_targets:
            labels = {name: value for name, value in one.discovered_labels.items() if name not in OF_OTHERS}
            found.setdefault(one.scrape_pool, []).append(labels)
        return {job: as_targets(labels) for job, labels in found.items()}


@asynccontextmanager
async def judged(program: Path, folder: Path, resolv_conf: Path, jobs: Mapping[str, dict[str, Any]]) -> AsyncIterator[Judge]:
    judge = Judge(program, folder, resolv_conf, jobs)
    await judge.start()
    try:
        yield judge
    finally:
        await judge.stop()


async def whatever_is_known(source: DnsSource) -> TargetPool:
    try:
        return await source.fetch()
    except DiscoveryError as error:
        return error.pool or pool_of(())


async def ours(block: Mapping[str, Any], resolv_conf: Path) -> Targets:
    """Each block has some; a busy machine may be too late for the time-outs of one turn."""
    source = DnsSource(DnsTargets(**block), resolv_conf=resolv_conf, patience_s=0)
    pool = pool_of(())

    async def some() -> bool:
        nonlocal pool
        pool = await whatever_is_known(source)
        return len(pool) > 0

    await until(some, f"targets of {block}")
    return as_targets([{"__address__": one.address, **one.labels} for one in map(decode, fragments(pool))])


@pytest.mark.parametrize("name", ["prometheus", "prometheus3"])
async def test_targets_have_the_labels_of_real_prometheus(name: str, tmp_path: Path) -> None:
    program = server(name)
    if os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("a resolv.conf of its own needs root and unshare")
    resolv_conf = tmp_path / "resolv.conf"
    host = f"127.{random.randint(2, 250)}.{random.randint(1, 250)}.53"
    async with NameServer(ZONE, host=host, port=53) as names:
        names.trouble = dict(TROUBLE)
        resolv_conf.write_text(
            f"# ours\nsearch ignored.test\nnameserver {host}\nsearch one.test two.test.\noptions ndots:1\n"
        )
        jobs = {job: block for job, block in JOBS.items() if name == "prometheus3" or job not in NOT_IN_2}
        wanted = {job: await ours(block, resolv_conf) for job, block in jobs.items()}
        async with judged(program, tmp_path / "judge", resolv_conf, jobs) as judge:
            found: dict[str, Targets] = {}

            async def agree() -> bool:
                nonlocal found
                found = await judge.targets()
                return found == wanted

            with contextlib.suppress(AssertionError):
                await until(agree, "the same targets")
            for job, targets in wanted.items():
                theirs = found.get(job, frozenset())
                assert targets == theirs, (job, targets - theirs, theirs - targets)
