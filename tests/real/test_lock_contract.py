"""What the election relies on of a store that can lock, on the one in memory and on every real one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from promring.election.store import LockState, LockStore
from promring.model import StoreError
from tests.real.lock_grounds import GROUNDS, Ground
from tests.waiting import until


@pytest.fixture(params=GROUNDS)
async def ground(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ground]:
    async with GROUNDS[request.param](tmp_path) as made:
        yield made


async def taken(store: LockStore, *, within_s: float = 5.0) -> LockState:
    """The lock, taken by ``store`` as soon as it is free."""
    seen = LockState()

    async def ours() -> bool:
        nonlocal seen
        seen = await store.read()
        if not seen.held:
            await store.take(seen)
            seen = await store.read()
        return seen.ours

    await until(ours, "the lock is taken", within_s)
    return seen


async def alive(store: LockStore, seconds: float) -> None:
    """Hold the lock so long, as the loop does."""
    until_at = time.monotonic() + seconds
    while time.monotonic() < until_at:
        seen = await store.read()
        assert seen.ours
        assert await store.renew(seen)
        await asyncio.sleep(0.1)


async def one_of_twenty_wins(ground: Ground) -> None:
    stores = [ground.candidate(f"{n}", "twenty") for n in range(20)]
    before = await asyncio.gather(*(store.read() for store in stores))
    assert not any(seen.held for seen in before)
    await asyncio.gather(*(store.take(seen) for store, seen in zip(stores, before, strict=True)))
    after = await asyncio.gather(*(store.read() for store in stores))
    assert sum(seen.ours for seen in after) == 1
    assert all(seen.held for seen in after)
    assert len({seen.token for seen in after}) == 1


async def a_holder_that_renews_keeps_it_beyond_its_ttl(ground: Ground) -> None:
    holder, other = ground.candidate("holder", "kept"), ground.candidate("other", "kept")
    token = (await taken(holder)).token
    await alive(holder, 1.5 * ground.ttl_s)
    seen = await other.read()
    assert (seen.held, seen.ours) == (True, False)
    assert seen.token >= token
    assert await other.take(seen), "it says why not"
    assert (await holder.read()).ours


async def a_frozen_holder_is_replaced_and_its_writes_are_refused(ground: Ground) -> None:
    frozen, second = ground.candidate("frozen", "frozen"), ground.candidate("second", "frozen")
    old = await taken(frozen)
    assert await frozen.renew(old, b"of the first")
    new = await taken(second, within_s=ground.free_within_s + 2)
    assert new.token > old.token
    assert new.note == b"of the first"
    assert await second.renew(new, b"of the second")
    assert not await frozen.renew(old, b"late"), "lost is an answer"
    seen = await frozen.read()
    assert (seen.held, seen.ours, seen.note) == (True, False, b"of the second")
    assert seen.token >= new.token
    await frozen.release(b"late")
    assert (await second.read()).note == b"of the second"
    assert (await second.read()).ours


async def a_release_frees_it_at_once_and_leaves_the_last_note(ground: Ground) -> None:
    first, second = ground.candidate("first", "released"), ground.candidate("second", "released")
    tokens = []
    for store, note in ((first, b"one"), (second, b"two"), (first, b"three")):
        seen = await taken(store)
        tokens.append(seen.token)
        await store.release(note)
        await until(lambda n=note, s=seen: _is(first, n, s), "the note of who released", 5)  # type: ignore[misc]
    assert tokens == sorted(set(tokens))


async def _is(store: LockStore, note: bytes, before: LockState) -> bool:
    seen = await store.read()
    return not seen.held and seen.note == note and seen.version != before.version


async def a_note_is_only_written_under_the_lock(ground: Ground) -> None:
    holder, other = ground.candidate("holder", "note"), ground.candidate("other", "note")
    free = await other.read()
    assert free.note is None
    assert not await other.renew(free, b"nobody's")
    held = await taken(holder)
    assert await holder.renew(held, b"the holder's")
    assert not await other.renew(await other.read(), b"another's")
    assert (await other.read()).note == b"the holder's"
    big = b"x" * 100_000
    assert await holder.renew(await holder.read(), big)
    assert (await other.read()).note == big


async def the_token_climbs_when_the_lock_is_deleted(ground: Ground) -> None:
    holder = ground.candidate("holder", "deleted")
    before = await taken(holder)
    await ground.delete("deleted")
    seen = await holder.read()
    assert not seen.ours
    assert not await holder.renew(before, b"late")
    after = await taken(holder, within_s=ground.free_within_s + 2)
    assert after.token > before.token


async def a_look_is_no_sign_of_life(ground: Ground) -> None:
    """Also of one who held the lock; and it makes nothing that could hold it."""
    stranger, holder, other = (ground.candidate(name, "looked") for name in ("stranger", "holder", "other"))
    assert await stranger.look() == LockState()
    held = await taken(holder)
    assert await holder.renew(held, b"note")
    seen = await stranger.look()
    assert (seen.held, seen.ours, seen.note) == (True, False, b"note")

    async def is_free() -> bool:
        await holder.look()
        await stranger.look()
        return not (await other.read()).held

    await until(is_free, "the lock ends although its holder looks", ground.free_within_s + 2)
    assert (await taken(other)).note == b"note"


SCENARIOS: list[Callable[[Ground], Awaitable[None]]] = [
    one_of_twenty_wins,
    a_holder_that_renews_keeps_it_beyond_its_ttl,
    a_frozen_holder_is_replaced_and_its_writes_are_refused,
    a_release_frees_it_at_once_and_leaves_the_last_note,
    a_note_is_only_written_under_the_lock,
    the_token_climbs_when_the_lock_is_deleted,
    a_look_is_no_sign_of_life,
]


@pytest.mark.row(
    62, "K12", did="a lock in each store: twenty want it at once, its holder freezes, somebody deletes it by hand"
)
async def test_the_store_keeps_the_contract(ground: Ground) -> None:
    """All at once, each with a lock of its own: most of it is waiting."""

    async def play(scenario: Callable[[Ground], Awaitable[None]]) -> None:
        try:
            await scenario(ground)
        except BaseException as error:
            error.add_note(f"in: {scenario.__name__}")
            raise

    async with asyncio.TaskGroup() as group:
        for scenario in SCENARIOS:
            group.create_task(play(scenario))


async def test_a_store_that_is_down_is_an_error_and_the_token_climbs_over_its_restart(ground: Ground) -> None:
    holder, other = ground.candidate("holder"), ground.candidate("other")
    before = await taken(holder)
    assert await holder.renew(before, b"note")
    before = await holder.read()
    await ground.down()
    started = time.monotonic()
    for ask in (
        holder.read,
        other.look,
        lambda: holder.renew(before, b"x"),
        other.read,
        lambda: other.take(LockState()),
        lambda: holder.release(b"x"),
    ):
        with pytest.raises(StoreError):
            await ask()
    assert time.monotonic() - started < 6 * ground.asked_s
    await ground.up()
    after = await taken(other, within_s=3 * ground.free_within_s + 5)
    assert after.token > before.token
    assert after.note == b"note"
    await ground.down()
    await ground.up(emptied=True)
    seen = await other.read()
    assert not seen.ours
    assert seen.note is None
    assert (await taken(holder, within_s=3 * ground.free_within_s + 5)).ours
