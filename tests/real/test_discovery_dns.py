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

from promring.config.settings import ShardService
from promring.core.fragment import decode, fragments
from promring.core.pool import merge_sources, pool_of
from promring.demo.process import Process, free_port
from promring.discovery import Source, SourceContext
from promring.discovery.dns import DnsSource, DnsTargets
from promring.model import DiscoveryError, TargetPool
from promring.rules import ranks_of, sources_of
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
OF_OTHERS = ("job", "__scheme__", "__metrics_path__", "__scrape_interval__", "__scrape_timeout__", "__meta_filepath")
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
_A = {"names": ["a.test."], "type": "A", "port": 9100}
FILE = {"files": ["list.json"]}
MIXED: Mapping[str, dict[str, Any]] = {
    "dns beside a fixed list with the same target": {
        "dns_sd_configs": [_A],
        "static_configs": [{"targets": ["10.0.0.1:9100", "b:1"], "labels": {"team": "x"}}, {"targets": ["10.0.0.2:9100"]}],
    },
    "dns twice, with equal and with other labels": {
        "dns_sd_configs": [_A, _A, {**_A, "names": ["a.test"]}, {"names": ["_x._tcp.test."]}]
    },
    "dns of every type, a list and a file": {
        "file_sd_configs": [FILE],
        "dns_sd_configs": [
            *({"names": ["a.test."], "type": kind, "port": 1} for kind in ("A", "AAAA")),
            {"names": ["test."], "type": "MX", "port": 25},
        ],
        "static_configs": [{"targets": ["10.0.0.1:1"], "labels": {"team": "x"}}],
    },
    "one of two name servers' names fails, the file goes on": {
        "dns_sd_configs": [{**_A, "names": ["refused.test.", "a.test."]}],
        "file_sd_configs": [FILE],
    },
}
"""Jobs with several kinds of discovery."""
LIST = [{"targets": ["10.0.0.1:1", "c:1"], "labels": {"__meta_own": "y"}}, {"targets": ["10.0.0.1:9100"]}]


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
        """``folder``: where it is, and the files that jobs name."""
        self.url = f"http://127.0.0.1:{free_port()}"
        relabel = [{"action": "labelmap", "regex": "__meta_(.+)"}]
        config = {
            "global": {"scrape_interval": "100y"},
            "scrape_configs": [
                {
                    "job_name": name,
                    "relabel_configs": relabel,
                    **blocks,
                    "dns_sd_configs": [{**block, "refresh_interval": "1s"} for block in blocks["dns_sd_configs"]],
                }
                for name, blocks in jobs.items()
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


async def whatever_is_known(source: Source) -> TargetPool:
    try:
        return await source.fetch()
    except DiscoveryError as error:
        return error.pool or pool_of(())


async def ours(blocks: Mapping[str, Any], resolv_conf: Path) -> Targets:
    """What a job with these blocks has here. Each source has some; a busy machine may be too late for the time-outs of one
    turn.
    """
    fleet = {"scrapers": {"probe": {"nodes": ["s:1"]}}, "delivery": [{"http_sd": {}}]}
    targets = [{name: block} for name, block in blocks.items()]
    service = ShardService.model_validate({"name": "x", "targets": targets, **fleet})
    context = SourceContext(resolv_conf.parent)
    sources: dict[str, Source] = {}
    for name, part in sources_of(service).items():
        dns = DnsSource(part, resolv_conf=resolv_conf, patience_s=0) if isinstance(part, DnsTargets) else None
        sources[name] = dns or part.source(context)
    lists: dict[str, TargetPool] = {}

    async def some() -> bool:
        for name in sources.keys() - lists.keys():
            if len(pool := await whatever_is_known(sources[name])):
                lists[name] = pool
        return len(lists) == len(sources)

    await until(some, f"targets of {blocks}")
    pool = merge_sources(lists, ranks_of(service))
    return as_targets([{"__address__": one.address, **one.labels} for one in map(decode, fragments(pool))])


@pytest.mark.parametrize("name", ["prometheus", "prometheus3"])
async def test_targets_have_the_labels_of_real_prometheus(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        alone = {job: {"dns_sd_configs": [block]} for job, block in JOBS.items()}
        jobs = {job: of for job, of in {**alone, **MIXED}.items() if name == "prometheus3" or job not in NOT_IN_2}
        monkeypatch.chdir(tmp_path)  # where both look for their files
        Path("list.json").write_bytes(msgspec.json.encode(LIST))
        wanted = {job: await ours(blocks, resolv_conf) for job, blocks in jobs.items()}
        async with judged(program, tmp_path, resolv_conf, jobs) as judge:
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
