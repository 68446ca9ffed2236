"""A process that saves and delivers until it is killed: what ``test_torn`` kills, traces and injects errors into.

It starts once and forks a child for each ``begin``, so a kill costs milliseconds instead of an interpreter. Orders and
answers are JSON packets on a socket: the syscalls that are counted, failed and killed at are those of files alone.
Every list that is ever made is known from its generation (``body_of``), so a reader can tell a whole one from any other.
Not promised: what a power cut leaves; the page cache outlives a kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import importlib
import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from promring.core.pool import pool_of
from promring.delivery.file import FileDelivery
from promring.fleet.state import Memory, ServiceMemory
from promring.fleet.store import Store
from promring.model import Generation, Scraper, Slice, TargetGroup
from promring.telemetry import log

ROOT = Path(__file__).parents[2]
SCRAPERS = tuple(Scraper(f"10.0.0.{i}:9090", f"10.0.0.{i}", 9090) for i in range(1, 5))
SERVICE = "node"
PACKET_BYTES_MAX = 65536
ANSWER_S = 30.0


def count_of(generation: Generation, index: int) -> int:
    """How many targets scraper ``index`` has in ``generation``."""
    return 1500 + (generation.n * 577 + index * 131) % 2000


@functools.lru_cache(maxsize=32)
def body_of(generation: Generation, index: int) -> bytes:
    """The list of scraper ``index`` in ``generation``: 150 to 350 kB, of one length for one ``n``, each line marked."""
    mark = b"%08d.%08d/%d" % (generation.epoch, generation.n, index)
    return _unmarked(count_of(generation, index)).replace(b"MARK", mark)


@functools.lru_cache(maxsize=256)
def _unmarked(count: int) -> bytes:
    line = b'{"targets":["10.1.%d.%d:9100"],"labels":{"job":"node","made":"MARK","zone":"eu-west-1a"}}'
    return b"[%s]\n" % b",\n".join(line % divmod(i, 250) for i in range(count))


def slices_of(generation: Generation, count: int = len(SCRAPERS)) -> list[Slice]:
    return [
        Slice(SERVICE, s, generation, body_of(generation, i), count_of(generation, i))
        for i, s in enumerate(SCRAPERS[:count])
    ]


def memory_of(generation: Generation, count: int = len(SCRAPERS)) -> Memory:
    pool = pool_of((TargetGroup.of([f"t{i}:1" for i in range(100)], {"made": str(generation)}),))
    slices = {s.scraper.id: s for s in slices_of(generation, count)}
    return Memory(SCRAPERS[:count], {SERVICE: ServiceMemory({"file:x": pool}, slices)}, generation)


def changed_of(generation: Generation, count: int = len(SCRAPERS)) -> Memory:
    """As of generation 1.1, but for the label of one target of a hundred, and the generation of one slice."""
    before = memory_of(Generation(1, 1), count).of(SERVICE)
    groups = (
        TargetGroup.of([f"t{i}:1" for i in range(99)], {"made": "1.1"}),
        TargetGroup.of(["t99:1"], {"made": str(generation)}),
    )
    slices = {**before.slices, SCRAPERS[0].id: replace(before.slices[SCRAPERS[0].id], generation=generation)}
    return Memory(SCRAPERS[:count], {SERVICE: ServiceMemory({"file:x": pool_of(groups)}, slices)}, generation)


def path_of(folder: Path, scraper: Scraper) -> Path:
    return folder / "out" / f"{scraper.id.replace(':', '_')}.json"


class Writer:
    """The process, seen from the test. At exit it and its child are gone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.child = 0
        """The process to kill; 0: none."""

    def __enter__(self) -> Writer:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(ANSWER_S)
        with theirs:
            arguments = [sys.executable, "-m", "tests.real.torn_writer", str(self._folder), str(theirs.fileno())]
            self._process = subprocess.Popen(arguments, cwd=ROOT, pass_fds=[theirs.fileno()])
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.child:
                self.kill()
        finally:
            self._socket.close()
            self._process.kill()
            self._process.wait()

    def begin(self, *, user: int = 0) -> int:
        """Fork a child, of another user if told. Returns its process id."""
        self.child = int(self.ask(user=user)["pid"])
        return self.child

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give an order and wait for its answer, which is ``ended`` when the child was killed meanwhile."""
        self.tell(**order)
        return self._answer()

    def tell(self, **order: Any) -> None:
        self._socket.send(json.dumps(order).encode())

    def kill(self) -> int:
        """kill -9 of the child."""
        os.kill(self.child, signal.SIGKILL)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end of the child; how it ended, negative for a signal."""
        while "ended" not in (answer := self._answer()):
            pass
        return int(answer["ended"])

    def once(self, **order: Any) -> dict[str, Any]:
        """One order to a child of its own that ends after it."""
        self.begin()
        answer = self.ask(**order)
        self.tell(do="end")
        assert self.ended() == 0
        return answer

    def _answer(self) -> dict[str, Any]:
        packet = self._socket.recv(PACKET_BYTES_MAX)
        assert packet, "the writer ended"
        answer: dict[str, Any] = json.loads(packet)
        if "ended" in answer:
            self.child = 0
        return answer


# --- the process itself ----------------------------------------------------------------------------------------------


class Child:
    """What a forked child does."""

    def __init__(self, folder: Path, orders: socket.socket) -> None:
        self._orders, self._log = orders, io.StringIO()
        log.configure("debug", stream=self._log)
        self._delivery = FileDelivery(f"{folder}/out/{{scraper}}.json", log.get())
        self._store = Store(folder / "state", SERVICE, log.get())

    def run(self) -> None:
        while (packet := self._orders.recv(PACKET_BYTES_MAX)) and (order := json.loads(packet))["do"] != "end":
            answer = getattr(self, order["do"])(**{k: v for k, v in order.items() if k != "do"})
            self._send({**answer, "log": self._log.getvalue()})

    def deliver(self, generation: list[int], count: int) -> dict[str, Any]:
        return self._deliver(slices_of(Generation(*generation), count))

    def save(self, generation: list[int], count: int) -> dict[str, Any]:
        try:
            asyncio.run(self._store.save(memory_of(Generation(*generation), count)))
        except OSError as error:
            return {"error": str(error)}
        return {"error": ""}

    def append(self, generation: list[int], count: int) -> dict[str, Any]:
        """A save that is a small part of what is there."""
        try:
            asyncio.run(self._store.save(changed_of(Generation(*generation), count)))
        except OSError as error:
            return {"error": str(error)}
        return {"error": ""}

    def load(self) -> dict[str, Any]:
        return {"generation": self._store.load().generation}

    def resume(self) -> dict[str, Any]:
        """The first cycle of a start: it delivers what the memory holds."""
        memory = self._store.load()
        return self._deliver(memory.every_slice) | {"generation": memory.generation}

    def endless(self, epoch: int) -> dict[str, Any]:
        """A start, then one cycle after the other, each with a list of its own."""
        self._send(self.resume())
        for n in itertools.count(1):
            memory = memory_of(Generation(epoch, n))
            asyncio.run(self._store.save(memory))
            self._deliver(memory.every_slice)
        raise AssertionError

    def _deliver(self, slices: list[Slice]) -> dict[str, Any]:
        return {"outcomes": asyncio.run(self._delivery.deliver(slices))}

    def _send(self, answer: dict[str, Any]) -> None:
        self._orders.send(json.dumps(answer).encode())


def _fork(orders: socket.socket, folder: Path, user: int) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if user:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            _die_with_parent()  # last: another user begins without it
            orders.send(json.dumps({"pid": os.getpid()}).encode())
            Child(folder, orders).run()
            status = 0
        finally:
            os._exit(status)
    _, ended = os.waitpid(pid, 0)
    orders.send(json.dumps({"ended": os.waitstatus_to_exitcode(ended)}).encode())


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _orders(channel: socket.socket) -> Iterator[dict[str, Any]]:
    while packet := channel.recv(PACKET_BYTES_MAX):
        yield json.loads(packet)


def main(folder: str, descriptor: str) -> None:
    _die_with_parent()
    log.configure("debug", stream=io.StringIO())  # loads what a child would load while its calls are counted
    log.get().info("ready")
    importlib.import_module("numpy.ma")  # numpy loads it when it first sorts out what is unique
    for index in range(len(SCRAPERS)):
        body_of(Generation(1, 1), index)  # and what makes the lists of the first generation
    with contextlib.suppress(ConnectionError), socket.socket(fileno=int(descriptor)) as channel:
        for order in _orders(channel):
            if "user" in order:  # else it was for a child that was killed before it read it
                _fork(channel, Path(folder), order["user"])


if __name__ == "__main__":
    main(*sys.argv[1:])
