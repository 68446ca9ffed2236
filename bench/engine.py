"""A Prometheus that discovers, with 200,000 targets of 15 labels in 50 scrape pools: what one answer of it costs promring.

The engine is the real one, in agent mode with ``scrape_interval: 100y``; the lists come to it by files. Beside the times of
answers: memory of this process above what it had before, and how late the event loop was, as in ``stall``. The yardstick is
``curl`` of the same answer to nowhere.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import psutil

from bench.report import console, table
from promring.demo.process import Process, find, free_port
from promring.discovery import SourceContext
from promring.discovery.polling import poll
from promring.discovery.prometheus import PrometheusSource, PrometheusTargets
from promring.model import Answer, DiscoveryError, Known, TargetPool
from promring.runtime.http_client import HttpError, new_session, request
from promring.runtime.redact import SecretUrl
from promring.runtime.threads import favour_the_loop
from promring.telemetry import log

TARGETS, POOLS, LABELS, ANSWERS, REPLACED, INTERVAL_S = 200_000, 50, 15, 2, 5, 30.0
APPLIED_S = 8.0
"""Prometheus applies what it discovered every 5 s."""
LOOKS_MOST = 20
PATIENCE_S = 300.0
MB = 1024 * 1024


def _write(path: Path, pool: int, changed: str = "", more: Sequence[str] = ()) -> None:
    each = TARGETS // POOLS
    groups = [
        {
            "targets": [f"10.{pool}.{i >> 8}.{i & 255}:9100"],
            "labels": {f"__meta_kubernetes_pod_label_{k}": f"value-{k}-{i}" for k in range(LABELS)},
        }
        for i in range(each)
    ]
    if changed:
        groups[0]["targets"] = [changed]
    groups += [{"targets": list(more), "labels": {}}]
    new = path.with_suffix(".new")
    new.write_text(json.dumps(groups))
    new.rename(path)


class _Watch:
    """Samples this process while something runs: memory, and how late the loop is."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.base_mb = self._process.memory_info().rss / MB
        self.most_mb = self.late_s = 0.0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        self.most_mb = self.late_s = 0.0
        task = asyncio.create_task(self._sample())
        try:
            yield
        finally:
            task.cancel()

    async def _sample(self) -> None:
        turn = 0
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            self.late_s = max(self.late_s, time.perf_counter() - before - 0.001)
            turn += 1
            if turn % 20 == 0:
                self.most_mb = max(self.most_mb, self.now_mb)

    @property
    def now_mb(self) -> float:
        return self._process.memory_info().rss / MB - self.base_mb


async def run() -> None:
    program = find("prometheus3") or find("prometheus")
    if program is None:
        console.print("engine: skipped, no Prometheus here")
        return
    favour_the_loop()
    with tempfile.TemporaryDirectory() as folder:
        await _run(program, Path(folder))


async def _run(program: Path, folder: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    jobs = [{"job_name": f"job{i}", "file_sd_configs": [{"files": [f"{folder}/{i}/list.json"]}]} for i in range(POOLS)]
    for i in range(POOLS):  # a folder each: Prometheus reads all files of a folder again when one changes
        (folder / str(i)).mkdir()
        _write(folder / str(i) / "list.json", i)
    (folder / "prometheus.yml").write_text(json.dumps({"global": {"scrape_interval": "100y"}, "scrape_configs": jobs}))
    engine = Process(
        [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            "--agent" if program.name == "prometheus3" else "--enable-feature=agent",
            f"--storage.agent.path={folder / 'data'}",
            f"--web.listen-address={url.removeprefix('http://')}",
        ],
        folder / "log",
    )
    await engine.start()
    try:
        await _until_listed(url)
        console.print(f"engine: {psutil.Process(engine.pid).memory_info().rss / MB:.0f} MB for {TARGETS} targets")
        await _measure(url, folder)
    finally:
        await engine.stop()


async def _until_listed(url: str, first: int = TARGETS // POOLS) -> None:
    """Until the engine lists all targets, as it counts them itself; ``first``: how many in the first pool."""
    deadline = time.monotonic() + PATIENCE_S
    wanted = TARGETS // POOLS
    while time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        try:
            async with new_session() as session:
                metrics = (await request(session, "GET", f"{url}/metrics", timeout_s=30)).body
        except HttpError:
            continue
        counted = b'prometheus_target_scrape_pool_targets{scrape_job="%b"} %d\n'
        if all(counted % (b"job%d" % n, first if n == 0 else wanted) in metrics for n in range(POOLS)):
            return
    raise TimeoutError("the engine does not list all targets")


async def _measure(url: str, folder: Path) -> None:
    context = SourceContext(Path())
    gc.collect()
    sources = [
        PrometheusTargets(url=SecretUrl(url), scrape_pool=f"job{i}", interval=INTERVAL_S, timeout=120.0).source(context)
        for i in range(POOLS)
    ]
    watch = _Watch()
    async with watch.watching():
        first_s = await _answer(sources)
    listed = len(sources[0].last)
    memory = f"{watch.most_mb:.0f} MB at most, then {watch.now_mb:.0f} MB"
    console.print(f"first answer: {first_s:.2f} s, {memory}; loop {watch.late_s * 1000:.0f} ms late")
    assert listed == TARGETS // POOLS
    yardstick, same, stalls, changed, cpu = [], [], [], [], []
    for _ in range(ANSWERS):
        began = time.perf_counter()
        await asyncio.to_thread(subprocess.run, ["curl", "-s", "-o", "/dev/null", f"{url}/api/v1/targets"], check=True)
        yardstick.append(time.perf_counter() - began)
        async with watch.watching():
            same.append(await _answer(sources))
        stalls.append(watch.late_s)
    for turn in range(ANSWERS):
        address = f"10.255.0.{turn}:1"
        await asyncio.to_thread(_write, folder / "0" / "list.json", 0, address)
        await asyncio.sleep(APPLIED_S)
        for _ in range(LOOKS_MOST):
            spent = time.process_time()
            async with watch.watching():
                took = await _answer(sources)
            spent = time.process_time() - spent
            stalls.append(watch.late_s)
            if address.encode() in sources[0].last.blob:
                changed.append(took)
                cpu.append(spent)
                break
    came, later = await _additions(url, folder, sources)
    replaced = await _replaced(url, folder)
    rows = [
        ("the answer to nowhere, by curl", yardstick, ""),
        ("an answer in which nothing changed", same, ""),
        ("an answer in which one target of one pool changed", changed, "1, with the request"),
        ("the same in seconds of CPU here", cpu, ""),
        ("one target more is applied in one pool, until its source has it", came, "1"),
        ("the same until all sources have their answers", later, ""),
        (
            f"a target is replaced by another one in the engine's file, until its source has it, {REPLACED} times",
            replaced,
            "31",
        ),
        ("the event loop is late", stalls, "0.15"),
    ]
    table(f"{TARGETS} targets, {LABELS} labels, {POOLS} pools", rows)
    console.print(f"memory above the start: {watch.now_mb:.0f} MB, {watch.now_mb * MB / TARGETS:.0f} bytes a target")


async def _additions(url: str, folder: Path, sources: list[PrometheusSource]) -> tuple[list[float], list[float]]:
    """The seconds from the moment in which the engine counts one target more in the first pool: until its source has it, and
    until all sources have an answer.
    """
    came, later = [], []
    for turn in range(1, ANSWERS + 1):
        more = [f"10.255.1.{number}:1" for number in range(turn)]
        await asyncio.to_thread(_write, folder / "0" / "list.json", 0, "", more)
        await _until_listed(url, first=TARGETS // POOLS + turn)
        began = time.perf_counter()
        others = asyncio.gather(*(source.fetch() for source in sources[1:]))
        while more[-1].encode() not in (await sources[0].fetch()).blob:
            pass
        came.append(time.perf_counter() - began)
        await others
        later.append(time.perf_counter() - began)
    return came, later


async def _replaced(url: str, folder: Path) -> list[float]:
    """The seconds from a write of a list with as many targets as before until the source of that pool has it, while all
    sources are asked as promring asks them.
    """
    context = SourceContext(Path())
    last: dict[int, Answer[TargetPool]] = {}
    took = []
    async with asyncio.TaskGroup() as group:
        polls = []
        for i in range(POOLS):
            wanted = PrometheusTargets(url=SecretUrl(url), scrape_pool=f"job{i}", interval=INTERVAL_S, timeout=120.0)
            publish = partial(_publish, last, i)
            polls.append(group.create_task(poll(f"job{i}", wanted.source(context), publish, lambda _: None, log.get())))
        while len(last) < POOLS or not all(isinstance(one, Known) for one in last.values()):  # noqa: ASYNC110 - a bench
            await asyncio.sleep(0.1)
        for turn in range(REPLACED):
            await asyncio.sleep(random.uniform(1, INTERVAL_S / 2))
            address = f"10.255.2.{turn}:1"
            await asyncio.to_thread(_write, folder / "1" / "list.json", 1, address)
            began = time.perf_counter()
            while not (isinstance(now := last[1], Known) and address.encode() in now.value.blob):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            took.append(time.perf_counter() - began)
        for task in polls:
            task.cancel()
    return took


def _publish(last: dict[int, Answer[TargetPool]], i: int, answer: Answer[TargetPool], *_: object) -> None:
    last[i] = answer


async def _answer(sources: list[PrometheusSource]) -> float:
    """All sources take the next answer; the seconds until all have it."""
    began = time.perf_counter()
    while True:
        try:
            await asyncio.gather(*(source.fetch() for source in sources))
        except DiscoveryError as error:
            if "may not have discovered" not in str(error):
                raise
            await asyncio.sleep(1)
            began = time.perf_counter()
            continue
        return time.perf_counter() - began
