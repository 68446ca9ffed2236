"""One leader among several controllers, by a lock in Consul.

Each controller registers itself as the service ``promring`` with a TTL check that only it can keep passing, and has a
session bound to that check. Who locks the key with its session leads. Consul frees it ``check_ttl`` after the last sign of
life, or at once when the agent that has the check leaves or dies, and after ``LOCK_DELAY_S`` another may have it.

A round is a sign of life to the agent and then a consistent read that shows our session on the key: an agent that is cut off
from its servers renews nothing. The lease is counted on our own clock from before the round, and is shorter than the TTL and
than ``LEASE_MOST_S``. An epoch is above the key's LockIndex, above the last one in the key, and above ours; it is written in
the transaction that locks the key, so nobody leads with an epoch that was somebody else's.

Promises: the lock is released when we stop; one that is lost is noticed within a third of the TTL, or when the lease ends.
Not promised: that there is never a moment with two leaders (an agent that is stopped frees the lock before our lease ends),
nor that a write on its way when the lease ends does not arrive; receivers refuse both by their epochs.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated

import msgspec
from pydantic import AfterValidator, Field

from promring.config.values import Interval
from promring.consul.access import ConsulSection
from promring.consul.client import LOCK_DEADLINE_S, Client, Key, connected, key_write
from promring.election import LockContext, LockSettings
from promring.election.leadership import STEP, Leadership, boottime
from promring.model import EPOCH_FOLLOWED_MOST, ConsulError, LetGo, ListMark
from promring.runtime.backoff import backoff_s
from promring.telemetry.log import Logger

SERVICE = "promring"
LOCK_DELAY_S = 1.0
LEASE_MOST_S = 4.0
MARGIN = 0.2
AGAIN_S = 0.25
SYNC_S = 3.0
RAISE_AGAIN_S = 30.0
PATIENCE_S = 15.0
NOT_ACQUIRED_S = 5.0
SAID_MOST = 10
"""Reasons that are logged until the lock answers again."""
GONE_AFTER = "1m"


class Shared(msgspec.Struct):
    """What stands in the key."""

    leader: str = ""
    epoch: Annotated[int, msgspec.Meta(ge=0, lt=EPOCH_FOLLOWED_MOST)] = 0
    drained: dict[str, list[str]] = {}
    """By each service that the leader knows; an empty list: nobody."""
    lists: dict[str, dict[str, ListMark]] = {}
    released: dict[str, tuple[LetGo, ...]] = {}

    def who_is_drained(self) -> dict[str, frozenset[str]]:
        return {name: frozenset(ids) for name, ids in self.drained.items()}


LOCK_TTL_LEAST_S, LOCK_TTL_MOST_S = 2.0, 60.0


def _lock_ttl(value: float) -> float:
    if not LOCK_TTL_LEAST_S <= value <= LOCK_TTL_MOST_S:
        raise ValueError(f"must be from {LOCK_TTL_LEAST_S:g}s to {LOCK_TTL_MOST_S:g}s")
    return value


class ConsulLockSettings(LockSettings):
    """``key``: who holds it leads; ``check_ttl``: a leader that gives no sign of life for so long is followed by another."""

    kind = "consul"
    section = ConsulSection

    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")] = "promring/leader"
    check_ttl: Annotated[Interval, AfterValidator(_lock_ttl)] = 5.0

    @property
    def lease_s(self) -> float:
        return min(LEASE_MOST_S, self.check_ttl * (1 - MARGIN))

    @property
    def round_s(self) -> float:
        """Between two signs of life."""
        return self.lease_s / 2.4

    @contextlib.asynccontextmanager
    async def lock(self, context: LockContext) -> AsyncIterator[ConsulLock]:
        async with connected(context.sections) as client:
            yield ConsulLock(
                client,
                self,
                context.leadership,
                name=context.name,
                informed=context.informed,
                highest=context.highest,
                drained=context.drained,
                log=context.log,
            )


class ConsulLock:
    """Keeps ``leadership`` true. ``informed``: whether we know as much as another controller may; ``highest``: the highest
    epoch that we know; ``drained``: who is drained as far as we know, for the first one who leads; ``name``: of
    this controller.
    """

    def __init__(
        self,
        client: Client,
        settings: ConsulLockSettings,
        leadership: Leadership,
        *,
        name: str,
        informed: Callable[[], bool],
        highest: Callable[[], int],
        drained: Callable[[], Mapping[str, frozenset[str]]],
        log: Logger,
    ) -> None:
        self._client, self._settings, self._leadership, self._log = client, settings, leadership, log
        self._name = name
        self._informed, self._highest, self._drained_here = informed, highest, drained
        self._id = self._session = ""
        self._reigns = False
        """Whether our session has locked the key with an epoch of ours."""
        self._shared: Shared | None = None
        """What stands in the key; None: nothing, or nothing of ours."""
        self._free_since: float | None = None
        self._failures = 0
        self._said: set[str] = set()
        self._said_not_acquired = False
        self._raise_again_at = 0.0

    async def run(self) -> None:
        """For ever."""
        index: int | None = None
        while True:
            try:
                index = await self._round(index)
                if self._failures:
                    self._log.info("lock_answers_again", key=self._settings.key)
                self._failures, self._said = 0, set()
            except ConsulError as error:
                index = None
                await self._failed(str(error))
            self._say_over()

    async def release(self) -> None:
        """Let another have it at once. Nothing is renewed afterwards."""
        held, self._leadership.lease_ends_at = self._leadership.leads(), 0.0
        try:
            if held:
                value = msgspec.json.encode(self._wanted(self._leadership.epoch))
                await self._client.release(self._settings.key, self._session, value)
            await self._end_session()
        except ConsulError as error:
            self._log.warning("lock_not_released", key=self._settings.key, error=str(error))
        else:
            self._log.info("lock_released", key=self._settings.key, led=held)

    # --- one round ---------------------------------------------------------------------------------------------------

    async def _round(self, index: int | None) -> int | None:
        """Give a sign of life, look at the key, take it when it is free. The index to wait with the next time."""
        leading = self._leadership.leads()
        started = boottime()
        await self._live()
        waits = index is not None and not leading
        key = await self._client.key(
            self._settings.key, index=index if waits else None, wait_s=self._settings.round_s if waits else 0.0
        )
        self._shared = _decode(key.value)
        if key.session == self._session:
            await (self._renew(key, started) if self._reigns else self._begin(key))
            return None
        self._follow(key, led=leading)
        if not key.session and self._may_lead():
            await self._acquire(key, started)
            return None
        if not key.session:
            await asyncio.sleep(AGAIN_S)
        return key.index

    def _follow(self, key: Key, *, led: bool) -> None:
        shared = self._shared or Shared()
        leader = shared.leader if key.session else ""
        if led:
            self._log.warning("lock_lost", key=self._settings.key, leader=leader)
        elif leader != self._leadership.leader:
            self._log.info("lock_held_by", key=self._settings.key, leader=leader or "nobody")
        self._reigns = False
        self._free_since = None if key.session else self._free_since or boottime()
        self._leadership.follow(leader, shared.epoch)
        if self._shared is not None:
            self._leadership.share_drained(shared.who_is_drained())
            self._leadership.share_lists(shared.lists)
            self._leadership.share_released(shared.released)

    def _may_lead(self) -> bool:
        """Whoever knows everything; when the key has been free for long, whoever there is."""
        return self._informed() or (self._free_since is not None and boottime() - self._free_since > PATIENCE_S)

    async def _live(self) -> None:
        """A sign of life. A session that cannot get one any more is replaced."""
        if self._session and await self._client.check_passes(self._id, SERVICE):
            return
        await self._end_session()
        name = f"{SERVICE}-{secrets.token_hex(8)}"  # never one again: a session that was not ended ends with its check
        check = {
            "TTL": f"{round(self._settings.check_ttl * 1000)}ms",
            "Status": "passing",
            "DeregisterCriticalServiceAfter": GONE_AFTER,
        }
        definition = {"ID": name, "Name": SERVICE, "Meta": {"controller": self._name}, "Check": check}
        await self._client.register(definition, deadline_s=LOCK_DEADLINE_S)
        self._id = name
        await self._client.check_passes(self._id, SERVICE)
        deadline = boottime() + SYNC_S
        while not self._session:
            try:
                self._session = await self._client.create_session(self._name, self._id, LOCK_DELAY_S)
            except ConsulError as error:
                if boottime() > deadline or error.status == 403:
                    raise
                await asyncio.sleep(AGAIN_S)  # the agent has not told the servers about the check yet

    async def _end_session(self) -> None:
        """Raises ConsulError; then it ends with its check, which nobody keeps passing any more."""
        session, service_id = self._session, self._id
        self._session, self._id, self._reigns = "", "", False
        if session:
            await self._client.destroy_session(session)
        if service_id:
            await self._client.deregister(service_id, SERVICE)

    async def _acquire(self, key: Key, started: float) -> None:
        """Lock the key, with a new epoch in it, if it still is what we read."""
        if self._shared is None:  # the first one who leads says what it knows
            self._leadership.share_drained(self._drained_here())
        shared = self._wanted(self._next_epoch(key))
        why_not = await self._client.acquire(self._settings.key, key, self._session, msgspec.json.encode(shared))
        if "session" in why_not:
            await self._end_session()
            raise ConsulError(f"the session is no more: {why_not}")
        if why_not:
            self._say_not_acquired(why_not)
            await asyncio.sleep(AGAIN_S)  # the lock-delay, or somebody was faster
            return
        self._lead(shared, started)
        self._log.info("lock_acquired", key=self._settings.key, epoch=shared.epoch)

    async def _begin(self, key: Key) -> None:
        """The key is ours, but no answer told us so: whose epoch stands in it is not known."""
        await self._put(self._next_epoch(key), boottime())
        self._log.info("lock_acquired", key=self._settings.key, epoch=self._leadership.epoch)

    async def _renew(self, key: Key, started: float) -> None:
        """The key shows our session: lead on; say what changed meanwhile, and put back what somebody else wrote there."""
        epoch = max(self._shared.epoch if self._shared is not None else 0, self._leadership.epoch)
        above = self._leadership.outranked_by
        if above >= epoch and started >= self._raise_again_at:
            self._raise_again_at = started + RAISE_AGAIN_S
            self._log.error("epoch_raised", receivers_have=above, ours=epoch, note="does another write without this lock?")
            epoch = max(above + STEP, key.lock_index)
        if self._shared != self._wanted(epoch):
            await self._put(epoch, started)
        else:
            self._leadership.lead(self._name, epoch, started + self._settings.lease_s)
        await self._leadership.wait_for_news(self._settings.round_s)

    async def _put(self, epoch: int, started: float) -> None:
        """Write what all shall know, then lead with it."""
        shared = self._wanted(epoch)
        if await self._client.change(self._settings.key, self._session, msgspec.json.encode(shared)):
            self._lead(shared, started)  # else it was lost in between: the next round sees it

    def _lead(self, shared: Shared, started: float) -> None:
        self._shared, self._reigns, self._free_since, self._said_not_acquired = shared, True, None, False
        self._leadership.lead(self._name, shared.epoch, started + self._settings.lease_s)

    def _next_epoch(self, key: Key) -> int:
        """Above all that are known; when the key says none, receivers may know one of a controller without a lock."""
        known = int(time.time()) if self._shared is None else self._shared.epoch + STEP
        return max(key.lock_index + 1, known, self._highest() + STEP)

    def _wanted(self, epoch: int) -> Shared:
        drained = {name: sorted(ids) for name, ids in (self._leadership.drained or {}).items()}
        lists = {service: dict(marks) for service, marks in self._leadership.lists.items()}
        self._leadership.forget_released()
        return Shared(self._name, epoch, drained, lists, dict(self._leadership.released))

    # --- say ---------------------------------------------------------------------------------------------------------

    async def _failed(self, why: str) -> None:
        if why not in self._said and len(self._said) < SAID_MOST:
            self._said.add(why)
            self._log.warning("lock_gives_no_answer", key=self._settings.key, error=why)
        self._failures += 1
        await asyncio.sleep(backoff_s(self._failures, 2 * AGAIN_S, self._settings.round_s))

    def _say_not_acquired(self, why: str) -> None:
        """Once, when it takes longer than a lock-delay and a race do: then it is something else, such as a missing right."""
        if self._free_since is None or boottime() - self._free_since < NOT_ACQUIRED_S or self._said_not_acquired:
            return
        self._said_not_acquired = True
        rule = key_write(self._settings.key)
        self._log.warning("lock_not_acquired", key=self._settings.key, error=f"{why}; the token must have: {rule}")

    def _say_over(self) -> None:
        """The lease ended without an answer from Consul."""
        if self._leadership.lease_ends_at and not self._leadership.leads():
            self._log.warning("lease_over", key=self._settings.key, note="nothing is pushed until the lock is ours again")
            self._leadership.follow("", 0)


def _decode(value: bytes) -> Shared | None:
    """Something else in the key is overwritten by the next leader."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(value, type=Shared)
    return None
