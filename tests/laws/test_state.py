"""Laws of the state file: what is loaded is what some save wrote, to the last byte, whatever is cut or damaged."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from promring.core.claims import Claims
from promring.core.plan import body_of
from promring.core.pool import pool_of
from promring.core.second_opinion import SecondOpinions, Sick
from promring.core.standing import History, Standing, State
from promring.core.trials import Trial
from promring.fleet.state import Memory, ServiceMemory
from promring.fleet.store import Store
from promring.fleet.stretches import Column, Rope, between, encoded, left_of, literal, of_lines, same_bytes
from promring.model import LONG_AGO, NEVER_ENDS, Failing, Generation, Scraper, Slice, TargetGroup, TargetPool
from promring.telemetry import log

NAMES = [f"10.0.0.{i}:9090" for i in range(6)]
SCRAPERS = {name: Scraper(name, name.partition(":")[0], 9090) for name in NAMES}
BULK = 400


@cache
def bulk() -> ServiceMemory:
    """What never changes, so that a change of the rest is a small part of the file."""
    pool = pool_of([TargetGroup.of([f"bulk-{i}:1" for i in range(BULK)], {"team": "everybody"})])
    body = body_of(pool, np.arange(BULK))
    slice_ = Slice("bulk", SCRAPERS[NAMES[0]], Generation(1, 1), body, BULK)
    return ServiceMemory({"s": pool}, {NAMES[0]: slice_}, {"s": 1.0})


def a_pool(rng: random.Random) -> TargetPool:
    addresses = rng.sample(range(60), rng.randrange(40))
    labels = [{"env": "a"}, {"env": "b"}, {}, {"__param_module": "x"}]
    return pool_of([TargetGroup.of([f"t{i}:1"], rng.choice(labels)) for i in addresses])


def a_service(name: str, old: ServiceMemory, generation: Generation, rng: random.Random) -> ServiceMemory:
    sources = {source: old.sources.get(source) or a_pool(rng) for source in rng.sample("rst", rng.randrange(1, 4))}
    sources[rng.choice(list(sources))] = a_pool(rng)
    pool = sources[next(iter(sources))]
    slices = {}
    for scraper in rng.sample(NAMES, rng.randrange(4)):
        rows = np.array(sorted(rng.sample(range(len(pool)), rng.randrange(len(pool) + 1))), dtype=np.intp)
        made = Slice(name, SCRAPERS[scraper], generation, body_of(pool, rows), len(rows))
        slices[scraper] = old.slices.get(scraper, made) if rng.random() < 0.3 else made
    return ServiceMemory(sources, slices, {source: rng.uniform(0, 9) for source in sources})


def a_memory(old: Memory, generation: Generation, rng: random.Random) -> Memory:
    """Some of ``old``, some new."""
    services = {"bulk": bulk(), **{name: old.of(name) for name in rng.sample("abc", 2)}}
    name = rng.choice("abc")
    services[name] = a_service(name, old.of(name), generation, rng)
    names = tuple(rng.sample(NAMES, rng.randrange(1, 6)))
    pairs = rng.sample([(i, j) for i in range(30) for j in range(len(names))], rng.randrange(30))
    until = np.array([rng.choice([NEVER_ENDS, NEVER_ENDS, rng.uniform(1e9, 2e9)]) for _ in pairs], dtype=np.float64)
    ids = np.array([i * 7919 for i, _ in pairs], dtype=np.uint64)
    numbers = np.array([j for _, j in pairs], dtype=np.int32)
    claims = Claims(names, ids, numbers, np.full(len(pairs), LONG_AGO), until)
    some = sorted(rng.sample(NAMES, 3))
    standings = {n: a_standing(SCRAPERS[n], rng) for n in some}
    panic, silent = (rng.choice([None, rng.uniform(0, 9)]) for _ in range(2))
    return Memory(
        tuple(SCRAPERS[n] for n in sorted(names)),
        services,
        generation,
        claims if rng.random() < 0.7 else old.claims,
        frozenset(rng.sample(NAMES, rng.randrange(3))),
        History(standings if rng.random() < 0.5 else dict(old.history.standings), panic, silent),
        rng.uniform(0, 9),
        rng.choice([(), (SCRAPERS[NAMES[1]],)]),
        frozenset({(s, 9090) for s in some[:2]}),
        old.catalogue or tuple(SCRAPERS[n] for n in some),
        opinions=an_opinion(rng) if rng.random() < 0.5 else old.opinions,
        undelivered=Failing.of(rng.sample(NAMES, rng.randrange(2)), [("a", n) for n in rng.sample(NAMES, rng.randrange(2))]),
    )


def a_standing(scraper: Scraper, rng: random.Random) -> Standing:
    joined, left, answered = (rng.choice([LONG_AGO, rng.uniform(0, 9)]) for _ in range(3))
    return Standing(scraper, rng.choice([*State]), rng.uniform(0, 9), joined, left, rng.randrange(3), answered)


def an_opinion(rng: random.Random) -> SecondOpinions:
    keys = rng.sample(range(2**64 - 40, 2**64), 4)
    sick = {name: Sick(rng.uniform(0, 9), 300.0, 4, 5, 3, 2) for name in rng.sample(NAMES, rng.randrange(2))}
    trials = {key: Trial(rng.choice(NAMES), 1.0, rng.randrange(3)) for key in keys[: rng.randrange(4)]}
    return SecondOpinions(trials=trials, again_at={keys[3]: (rng.uniform(0, 9), 600.0)}, scrapers=sick)


def opinion(one: SecondOpinions) -> tuple[object, ...]:
    """But that time stood still, and a trial begins anew."""
    trials = {key: (trial.scraper, trial.failed) for key, trial in one.trials.items()}
    sick = {name: replace(some, until=0.0) for name, some in one.scrapers.items()}
    return trials, {key: pause for key, (_, pause) in one.again_at.items()}, sick


def times(memory: Memory) -> list[float]:
    """Of who comes and goes, from one moment on; NaN: never."""
    history = memory.history
    found: list[float | None] = [history.panic_since, history.silent_since]
    for _, one in sorted(history.standings.items()):
        found += [one.since, one.joined_at, one.left_at]
    known = [at for at in found if at is not None and np.isfinite(at)]
    return [at - known[0] if at is not None and np.isfinite(at) else float("nan") for at in found]


def alike(one: Memory, other: Memory) -> bool:
    """But that time stood still between the two."""
    standings = [{n: (s.scraper, s.state, s.flaps) for n, s in m.history.standings.items()} for m in (one, other)]
    if standings[0] != standings[1] or not np.allclose(times(one), times(other), atol=1e-3, equal_nan=True):
        return False
    orders = [[(name, list(s.sources)) for name, s in m.services.items()] for m in (one, other)]
    timeless = [replace(m, history=History(), opinions=SecondOpinions()) for m in (one, other)]
    same = timeless[0] == timeless[1] and opinion(one.opinions) == opinion(other.opinions)
    if not same or orders[0] != orders[1]:
        return False
    ends = np.isfinite(one.claims.until)
    stood = one.claims.until[ends] - other.claims.until[ends]
    return not len(stood) or bool(np.ptp(stood) < 1e-3)


def told(saving: Coroutine[Any, Any, list[tuple[int, Memory]]]) -> list[tuple[int, Memory]]:
    """As ``asyncio.run``, which at its end makes a text of what it gives: of these memories that takes ten times as long."""
    found: list[tuple[int, Memory]] = []

    async def run() -> None:
        found.extend(await saving)

    asyncio.run(run())
    return found


def loaded(folder: Path) -> Memory:
    return Store(folder, "x", log.get()).load()


async def saved(folder: Path, steps: int, rng: random.Random, *, again: bool) -> list[tuple[int, Memory]]:
    """Each memory that was saved, with the end of its frame in the file as it is now. ``again``: by several processes."""
    store, path = Store(folder, "x", log.get()), folder / "x.state"
    memory, inode = Memory(), 0
    found: list[tuple[int, Memory]] = []
    for n in range(1, steps + 1):
        memory = a_memory(memory, Generation(1 + n // 4, n), rng)
        await store.save(memory)
        found = found if path.stat().st_ino == inode else []
        inode = path.stat().st_ino
        found.append((path.stat().st_size, memory))
        if again and rng.random() < 0.4:
            store = Store(folder, "x", log.get())
            memory = store.load()
            assert alike(memory, found[-1][1])
    return found


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 12), again=st.booleans())
def test_what_is_loaded_is_what_was_saved_last(seed: int, steps: int, again: bool) -> None:
    with TemporaryDirectory() as name:
        found = told(saved(Path(name), steps, random.Random(seed), again=again))
        assert alike(loaded(Path(name)), found[-1][1])
        assert not list(Path(name).glob("*.bad-*"))


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), where=st.floats(0, 1, exclude_max=True))
@example(seed=1, where=0.0)
def test_a_file_that_was_cut_at_any_byte_is_what_was_saved_last_before(seed: int, where: float) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "x.state"
        found = told(saved(Path(name), 8, random.Random(seed), again=False))
        content = path.read_bytes()
        ends = [size for size, _ in found]
        first = ends[0]
        at = int(where * len(content)) if seed % 2 else first + int(where * (len(content) - first + 1))
        path.write_bytes(content[:at])
        before = [memory for size, memory in found if size <= at]
        memory = loaded(Path(name))
        if not before:
            assert memory == Memory()
            return
        newest = max(memory.generation, before[-1].generation)
        assert alike(memory, replace(before[-1], generation=newest))
        assert newest in [m.generation for _, m in found[: len(before) + 1]], "its own, or that of the save that was cut"


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_file_with_a_flipped_bit_is_set_aside_or_loses_its_last_save_and_not_its_generation(
    seed: int, where: float, bit: int
) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "x.state"
        found = told(saved(Path(name), 6, random.Random(seed), again=False))
        content = bytearray(path.read_bytes())
        last = found[-2][0] if len(found) > 1 else 0
        at = int(where * len(content)) if seed % 2 else last + int(where * (len(content) - last))
        content[at] ^= 1 << bit
        path.write_bytes(content)
        memory = loaded(Path(name))
        if at < last or len(found) == 1:
            assert memory == Memory()
            assert list(Path(name).glob("*.bad-*"))
        else:
            assert alike(memory, replace(found[-2][1], generation=found[-1][1].generation))


# --- what two versions have in common --------------------------------------------------------------------------------

rows = st.lists(st.integers(0, 12), max_size=30)


@given(rows, rows)
def test_what_two_lists_of_rows_share_gives_the_new_one_with_what_is_left(old: list[int], new: list[int]) -> None:
    columns = [np.array(some, dtype=np.uint64) for some in (old, new)]
    olds, news = (list[Column]([column, (column % np.uint64(3)).astype(np.int32)]) for column in columns)
    found = between(olds, news)
    assert found is not None
    rest = literal(left_of(found * 8, 8 * len(new)), columns[1].tobytes())
    file = columns[0].tobytes() + rest
    rope = Rope.of(0, 8 * len(old)).patched(found * 8, 8 * len(old), len(rest))
    assert rope.read(lambda at, size: file[at : at + size]) == columns[1].tobytes()


@given(st.lists(st.integers(0, 200), unique=True), st.lists(st.integers(0, 200), unique=True))
def test_rows_that_stay_in_order_are_not_told_again(old: list[int], more: list[int]) -> None:
    """Few go and few come: no more is left than those that come."""
    kept, come = sorted(old), sorted(set(more) - set(old))[:3]
    new = sorted({*kept[1:], *come})
    found = between([np.array(kept, dtype=np.uint64)], [np.array(new, dtype=np.uint64)])
    assert found is not None
    assert int(np.diff(left_of(found, len(new))).sum()) == len(come)


lines = st.lists(st.sampled_from([b"one\n", b"two\n", b"three\n", b"\n", b"fo\rur\n", b"x"]), max_size=20).map(b"".join)


@given(st.lists(lines, min_size=1, max_size=6))
def test_versions_of_lines_come_back_through_each_other(versions: list[bytes]) -> None:
    file, rope = versions[0], Rope.of(0, len(versions[0]))
    for old, new in pairwise(versions):
        found = of_lines(old, new)
        assert found is not None
        assert same_bytes(found, old, new)
        rest = literal(left_of(found, len(new)), new)
        rope = rope.patched(found, len(file), len(rest))
        file += rest
        assert len(encoded(found)) == 24 * len(found)
    assert rope.read(lambda at, size: file[at : at + size]) == versions[-1]
