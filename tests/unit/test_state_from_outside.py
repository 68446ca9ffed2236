"""A state file is something from outside, too: whatever stands in it, or in its place, promring starts and plans."""

from __future__ import annotations

import asyncio
import copy
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promring.core.evidence import Handover
from promring.fleet.journal import FIRST, MAGIC, STATE_BYTES_MAX, VERSION, end, header, new_name
from promring.fleet.state import Memory
from promring.fleet.store import Store
from promring.model import EPOCH_MOST, Generation
from promring.telemetry import log
from tests.rows import Seen
from tests.unit.test_reconcile import NAMES, A, B, Loop, begun


async def a_run(folder: Path, memory: Memory | None = None) -> None:
    """Two scrapers, then the second is drained: a hand-over is going on when it ends."""
    loop = Loop(folder, memory=memory, handover=Handover(30.0, confirm=True))
    await begun(loop, (A, B))
    loop.reconciler.drain(B.id)
    await loop.reconciler.cycle()
    assert {t for got in loop.sink.targets().values() for t in got} == set(NAMES)


def saved() -> dict[str, Any]:
    """What such a run leaves, as plain lists, dicts and bytes: the index of one frame of all, with the columns in it."""
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        asyncio.run(a_run(Path(first)))
        asyncio.run(Store(Path(second), "x", log.get()).save(Store(Path(first), "x", log.get()).load()))
        content = (Path(second) / "x.state").read_bytes()
    body = content.partition(b"\n")[2]
    size = int.from_bytes(body[:8], "little")
    state: dict[str, Any] = with_columns(msgspec.msgpack.decode(body[8 : 8 + size]), body[8 + size :])
    assert np.isfinite(np.frombuffer(state["claims"][4])).any()
    assert state["drained"]
    return state


def with_columns(value: Any, columns: bytes) -> Any:
    if isinstance(value, list):
        if value[:1] == ["part"]:
            return columns[value[1] : value[1] + value[2]]
        return [with_columns(one, columns) for one in value]
    return {key: with_columns(one, columns) for key, one in value.items()} if isinstance(value, dict) else value


def packed(state: Any) -> bytes:
    """The body of a frame of all, from what ``saved`` gives."""
    columns = bytearray()

    def without(value: Any) -> Any:
        if isinstance(value, bytes):
            columns.extend(value)
            return ["part", len(columns) - len(value), len(value)]
        if isinstance(value, list):
            return [without(one) for one in value]
        return {key: without(one) for key, one in value.items()} if isinstance(value, dict) else value

    index = msgspec.msgpack.encode(without(state))
    return len(index).to_bytes(8, "little") + index + bytes(columns)


STATE = saved()


def write(folder: Path, state: Any, version: int = VERSION) -> Path:
    """A state file with the right length and checksums."""
    path, body = folder / "x.state", packed(state)
    name, generation = new_name(), Generation(1, 1)
    line = header([body], generation, name, FIRST).replace(b"%s %d" % (MAGIC, VERSION), b"%s %d" % (MAGIC, version))
    path.write_bytes(line + body + end(generation, name))
    return path


def starts(folder: Path) -> Memory:
    """Start from what is there, plan, and end as a run does. The memory it started from."""
    memory = Store(folder, "x", log.get()).load()
    asyncio.run(a_run(folder, memory))
    return memory


def changed(where: str, change: Callable[[Any], Any]) -> Any:
    """The state with one value replaced; ``where`` as ``claims.1``."""
    state: Any = copy.deepcopy(STATE)
    *path, last = (int(part) if part.isdigit() else part for part in where.split("."))
    place = state
    for part in path:
        place = place[part]
    place[last] = change(place[last])
    return state


def words(kind: str, *values: float) -> bytes:
    return b"".join(struct.pack(kind, value) for value in values)


POOL, SLICES = "services.0.1.0.0.1", "services.0.1.1"
BAD = {
    "a claim of a scraper that is not there": ("claims.3", lambda b: words("<i", 99) + b[4:]),
    "a claim of scraper -1": ("claims.3", lambda b: words("<i", -1) + b[4:]),
    "an end of a claim that is not there": ("claims.4", lambda b: b + b[:8]),
    "an end at NaN": ("claims.4", lambda b: words("<d", float("nan")) + b[8:]),
    "an end in a million years": ("claims.4", lambda b: words("<d", 1e18) + b[8:]),
    "one name of the claims less": ("claims.0", lambda names: names[:1]),
    "no lengths": (f"{POOL}.4", lambda b: b""),
    "half a number of lengths": (f"{POOL}.4", lambda b: b[:-3]),
    "a length beyond the end": (f"{POOL}.4", lambda b: words("<q", 10**9) + b[8:]),
    "lengths that overflow": (f"{POOL}.4", lambda b: words("<q", 2**62, 2**62) + b[16:]),
    "a length below zero": (f"{POOL}.4", lambda b: words("<q", -5) + b[8:]),
    "a blob that is not JSON": (f"{POOL}.5", lambda b: b[:5] + b"\xff" + b[6:]),
    "one id less": (f"{POOL}.2", lambda b: b[8:]),
    "ids out of order": (f"{POOL}.2", lambda b: b[-8:] + b[8:]),
    "duplicates below zero": (f"{POOL}.6", lambda n: -1),
    "a column behind the end": (f"{POOL}.3", lambda b: ["part", 10**9, len(b)]),
    "a column before the beginning": (f"{POOL}.3", lambda b: ["part", -8, len(b)]),
    "a column without an end": (f"{POOL}.3", lambda b: ["part", 0, 2**62]),
    "a source as it was before": (POOL, lambda p: None),
    "an epoch that receivers do not read": ("generation.0", lambda n: EPOCH_MOST),
    "an epoch below zero": ("generation.0", lambda n: -1),
    "a slice from the future": (f"{SLICES}.0.1", lambda g: [g[0] + 5, 1]),
    "a slice that is not JSON": (f"{SLICES}.0.4", lambda b: b"[{"),
    "a slice that is another thing": (f"{SLICES}.0.4", lambda b: b'{"a":1}'),
    "a slice twice": (SLICES, lambda s: [*s, s[0]]),
    "a scraper twice": ("members", lambda m: [m[0], m[0]]),
    "scrapers out of order": ("members", lambda m: m[::-1]),
    "a weight of NaN": ("members.0.weight", lambda w: float("nan")),
    "a weight below zero": ("members.0.weight", lambda w: -1.0),
    "a port beyond all": ("members.0.port", lambda p: 70_000),
    "a scraper without a name": ("members.0.id", lambda t: ""),
    "known at NaN": ("members_at", lambda t: float("nan")),
    "known at infinity": ("services.0.1.3.s", lambda t: float("inf")),
    "a clock at infinity": ("clock", lambda t: float("inf")),
    "flaps below zero": ("standings.0.6", lambda n: -1),
    "joined NaN ago": ("standings.0.3", lambda t: float("nan")),
    "a standing that is none": ("standings.0.1", lambda state: "somewhere"),
    "a panic since infinity": ("panic_since", lambda t: float("inf")),
    "no answer since NaN": ("silent_since", lambda t: float("nan")),
    "another shape": ("members", lambda m: "all"),
}


@pytest.mark.row(45, did="each value of a state file with the right checksum made impossible")
@pytest.mark.parametrize("what", BAD)
def test_a_state_that_cannot_be_true_is_set_aside_and_promring_starts(tmp_path: Path, what: str, seen: Seen) -> None:
    write(tmp_path, changed(*BAD[what]))
    assert starts(tmp_path) == Memory()
    assert len(list(tmp_path.glob("x.state.bad-*"))) == 1
    assert starts(tmp_path) != Memory(), "what the run without it left is good"
    seen("set aside, and started without it")


def test_a_state_that_can_be_true_is_taken(tmp_path: Path) -> None:
    write(tmp_path, STATE)
    memory = starts(tmp_path)
    assert (len(memory.members), set(memory.drained), memory.claims.held > 0) == (2, {B.id}, True)
    assert not list(tmp_path.glob("x.state.bad-*"))


numbers = st.one_of(
    st.sampled_from([0, -1, 1, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, EPOCH_MOST]),
    st.floats(),
    st.integers(-(2**63), 2**64 - 1),
)
anything = st.one_of(
    numbers,
    st.none(),
    st.booleans(),
    st.text(max_size=9),
    st.binary(max_size=40),
    st.just([]),
    st.just({}),
    st.lists(numbers, max_size=3),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list, dict and key of it."""
    found = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(found):
        yield value, key
        yield from places(inner)


def damaged(data: st.DataObject, old: Any) -> Any:
    """Something like ``old``, or anything else."""
    if isinstance(old, bytes) and len(old) >= 8 and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(old) - 1))
        word = data.draw(st.one_of(st.binary(min_size=8, max_size=8), st.floats().map(lambda x: struct.pack("<d", x))))
        return data.draw(st.sampled_from([old[:at], old[at:], old[:at] + word + old[at + 8 :], old + word, old * 2]))
    if isinstance(old, list) and old and data.draw(st.booleans()):
        return data.draw(st.sampled_from([old[1:], old[::-1], old + old, old[:1] * 3]))
    return data.draw(anything)


@pytest.mark.row(45, did="values of a state file with the right checksum replaced at random")
@settings(max_examples=60)
@given(data=st.data())
def test_whatever_a_state_says_promring_starts_and_plans(data: st.DataObject) -> None:
    state: Any = copy.deepcopy(STATE)
    for _ in range(data.draw(st.integers(1, 3))):
        where, key = data.draw(st.sampled_from(list(places(state))))
        where[key] = damaged(data, where[key])
    with TemporaryDirectory() as name:
        write(Path(name), state, data.draw(st.sampled_from([VERSION, VERSION - 1])))
        starts(Path(name))


def put_a_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_a_folder(path: Path) -> None:
    path.mkdir()


def put_a_folder_that_is_not_empty(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


def put_a_huge_one(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(STATE_BYTES_MAX + 1)


def put_a_sparse_one_with_a_header(path: Path) -> None:
    with open(path, "wb") as file:
        line = header([b""], Generation(1, 1), new_name(), FIRST)
        file.write(line)
        file.truncate(len(line) + (64 << 20))


def put_a_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_a_link_to_itself(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.row(45, did="a pipe, a folder, a device, 1 GB of nothing in the place of the state file")
@pytest.mark.parametrize(
    "put",
    [
        put_a_pipe,
        put_a_folder,
        put_a_folder_that_is_not_empty,
        put_a_huge_one,
        put_a_sparse_one_with_a_header,
        put_a_link_to_a_device,
        put_a_link_to_itself,
    ],
)
def test_what_is_no_file_in_the_place_of_the_state_does_not_hold_a_start_up(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    put(tmp_path / "x.state")
    assert starts(tmp_path) == Memory()
    assert starts(tmp_path) != Memory(), "the state can be saved again"
