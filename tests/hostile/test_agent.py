"""Controllers that answer anything at all to the agent, and what hostile files beside a slice do to whoever receives it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from promring.agent import poller as module
from promring.agent.asking import AgentSettings
from promring.agent.metrics import AgentMetrics
from promring.agent.poller import Poller
from promring.delivery.bundle import CONTENT_TYPE, HAVE
from promring.delivery.receiver import Envelope, install, note_of
from promring.model import Generation
from promring.telemetry import log
from tests.fakes.hostile import HostilePeer, Shape, bodies, plain
from tests.hostile.drive import play_all, running
from tests.rows import Seen
from tests.waiting import until

BODY = b'[{"targets":["a:1"]}]\n'
DIGEST = hashlib.sha256(BODY).hexdigest()
HEADERS = {"Content-Type": CONTENT_TYPE}


def listed(generation: str = "1.1", *, sent: bool = True) -> bytes:
    one = {"service": "x", "generation": generation, "sha256": DIGEST} | ({"sent": len(BODY)} if sent else {})
    return json.dumps(one).encode()


SLICES = Shape(
    b'{"slices":[',
    listed(),
    b'],"named":1}\n' + BODY,
    HEADERS,
    keys=("service", "generation", "sha256", "follows", "sent", "gzip"),
)


def waits(head: bytes) -> bytes | None:
    """A controller: the slice at once, and nothing for whoever has it."""
    return None if HAVE.lower().encode() in head.lower() else plain(SLICES.body(SLICES.good), HEADERS)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promring.agent.asking.ANSWER_S", 0.7)  # seconds instead of minutes: the constants only
    for name, value in (("BACKOFF_MOST_S", 0.3), ("RATE_PER_S", 100.0)):
        monkeypatch.setattr(module, name, value)


def agent(tmp_path: Path, peer: HostilePeer, wait_s: float = 0.3) -> Poller:
    settings = AgentSettings([f"http://{peer.address}"], "s:1", tmp_path, wait_s=wait_s)
    return Poller(settings, AgentMetrics(), log.get())


@pytest.mark.row(52, 39, did="a controller answers every hostile thing to an agent")
async def test_an_agent_outlives_whatever_a_controller_answers_and_its_file_stays(
    tmp_path: Path, long: bool, seen: Seen, quick: None
) -> None:
    async with HostilePeer(SLICES) as peer:
        peer.honest = waits
        poller, file = agent(tmp_path, peer), tmp_path / "x.json"
        async with running(poller.run()) as task:
            await until(file.exists, "the slice")
            seen(await play_all(peer, task, kept=lambda: file.read_bytes() == BODY, slow_s=0.2, every=1 if long else 2))
        assert file.read_bytes() == BODY


LIST = Shape(b"[", b'{"targets":["a:1"]}', b"]\n", keys=("targets", "labels"))


@pytest.mark.row(52, 39, did="a controller sends hostile lists to an agent, each with its right length and digest")
async def test_an_agent_takes_no_list_that_a_scraper_cannot_read_whatever_its_digest(
    tmp_path: Path, seen: Seen, quick: None
) -> None:
    lies = {name: body for name, body in bodies(LIST).items() if len(body) < 1_000_000}
    async with HostilePeer(SLICES) as peer:
        peer.honest = waits
        poller, file = agent(tmp_path, peer), tmp_path / "x.json"
        async with running(poller.run()) as task:
            await until(file.exists, "the slice")
            for n, (name, body) in enumerate(lies.items(), 2):
                digest = hashlib.sha256(body).hexdigest()
                said = {"service": "x", "generation": f"1.{n}", "sha256": digest, "sent": len(body)}
                peer.play(name, b'{"slices":[' + json.dumps(said).encode() + b"]}\n" + body)
                await until(lambda: peer.served > 0, name, 60)
                await asyncio.sleep(0.05)
                assert not task.done(), name
                assert isinstance(json.loads(file.read_bytes()), list), name
    seen(f"{len(lies)} lists, agent alive, its file is a list")


def rising() -> object:
    """The same bytes under a generation that rises with each answer."""
    count = 0

    def answer(_: bytes) -> bytes:
        nonlocal count
        count += 1
        return plain(SLICES.body(listed(f"1.{count}")), HEADERS)

    return answer


@pytest.mark.row(52, 39, did="a controller, or a proxy, answers each long poll of an agent at once")
@pytest.mark.parametrize("kind", ["nothing new", "the same slice", "a new generation", "500"])
async def test_an_agent_asks_rarely_whoever_answers_its_long_polls_at_once(tmp_path: Path, kind: str, seen: Seen) -> None:
    async with HostilePeer(SLICES) as peer:
        poller = agent(tmp_path, peer, wait_s=30.0)
        async with running(poller.run()):
            await until(lambda: poller.has_slice, "the slice")
            if kind == "a new generation":
                peer.honest = rising()  # type: ignore[assignment]
            elif kind == "nothing new":
                peer.honest = lambda _: plain(SLICES.body(listed(sent=False)).removesuffix(BODY), HEADERS)
            elif kind == "500":
                peer.honest = lambda _: plain(b"no", {}, "500 No")
            began, before = time.monotonic(), peer.good_served
            await asyncio.sleep(3)
            asked, took_s = peer.good_served - before, time.monotonic() - began
            seen(f"{kind} at once: {asked} requests in {took_s:.0f} s")
            assert asked <= module.BURST + module.RATE_PER_S * took_s + 1


def sparse(path: Path) -> None:
    """A terabyte of zeros that takes no room."""
    path.touch()
    os.truncate(path, 10**12)


HOSTILE_NOTES = {
    "a FIFO": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a dangling symlink": lambda path: path.symlink_to("/nowhere/at/all"),
    "a symlink to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.row(52, 54, "A13", did="the note beside a slice is a FIFO, device, folder or symlink")
@pytest.mark.parametrize("kind", HOSTILE_NOTES)
def test_a_hostile_note_is_an_error_at_once_and_the_slice_stays(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.json"
    first = Envelope(BODY, DIGEST, Generation(1, 1))
    install(path, first)
    note = note_of(path)
    note.unlink()
    HOSTILE_NOTES[kind](note)  # type: ignore[operator]
    newer = BODY.replace(b"a:1", b"b:1")
    with pytest.raises(OSError, match=r"regular|larger|[Ss]ymbolic|directory"):
        install(path, Envelope(newer, hashlib.sha256(newer).hexdigest(), Generation(1, 2)))
    assert path.read_bytes() == BODY


@pytest.mark.row(52, 54, did="the note beside a slice is binary, empty, deep or a rogue's")
@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"[" * 4000, b"1.1", b"9" * 400 + b".1 x", b"\0 \0"])
def test_a_damaged_note_is_as_none(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x.json"
    note_of(path).write_bytes(text)
    assert install(path, Envelope(BODY, DIGEST, Generation(1, 1)))


@pytest.mark.row(52, 54, did="the note beside a slice, or what stands where the slice shall be, is a terabyte long")
@pytest.mark.parametrize("where", [note_of, Path], ids=["note", "slice"])
def test_a_terabyte_in_the_place_of_a_note_or_a_slice_is_replaced(tmp_path: Path, where: Callable[[Path], Path]) -> None:
    path = tmp_path / "x.json"
    sparse(where(path))
    assert install(path, Envelope(BODY, DIGEST, Generation(1, 1)))
    assert path.read_bytes() == BODY
    assert note_of(path).read_text().startswith("1.1 ")


@pytest.mark.row(52, 54, did="what stands where the slice shall be is a FIFO")
def test_a_fifo_in_the_place_of_the_slice_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    os.mkfifo(path)
    with pytest.raises(OSError, match=f"{path} is a FIFO"):
        install(path, Envelope(BODY, DIGEST, Generation(1, 1)))
