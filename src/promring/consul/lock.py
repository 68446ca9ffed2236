"""One leader among several controllers, by a lock in Consul.

Each controller registers itself as the service ``promring`` with a TTL check that only it can keep passing, and has a
session bound to that check. Who acquires the key leads. The check fails ``check_ttl`` after the last sign of life, Consul
then frees the lock, and ``LOCK_DELAY_S`` later another may have it.

The lease is counted on our own clock from before the round that renewed it, and is shorter than the TTL: a round is a sign
of life to the agent and a consistent read that shows our session on the key, so an agent that is cut off from its servers
renews nothing. An epoch is above the key's LockIndex, above the last one written into the key, and above ours.

Promises: the lock is released when we stop; a lost lock is noticed within a third of the TTL, or when the lease ends. Not
promised: that a write on its way when the lease ends does not arrive; receivers refuse it by its epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from promring.consul.client import Client, Key
from promring.leadership import STEP, Leadership, boottime
from promring.log import Logger
from promring.model import ConsulError

SERVICE = "promring"
LOCK_DELAY_S = 1.0
MARGIN = 0.2
AGAIN_S = 0.25
RAISE_AGAIN_S = 30.0
SYNC_S = 3.0
GONE_AFTER = "1m"


class Shared(msgspec.Struct, forbid_unknown_fields=False):
    """What stands in the key."""

    leader: str = ""
    epoch: int = 0
    drained: dict[str, list[str]] = {}

    def who_is_drained(self) -> dict[str, frozenset[str]]:
        return {name: frozenset(ids) for name, ids in self.drained.items()}


@dataclass(frozen=True, slots=True)
class LockSettings:
    """``name``: of this controller, for people. Seconds."""

    key: str
    check_ttl_s: float
    name: str

    @property
    def round_s(self) -> float:
        """Between two signs of life."""
        return self.check_ttl_s / 3

    @property
    def lease_s(self) -> float:
        return self.check_ttl_s * (1 - MARGIN)


class ConsulLock:
    """Keeps ``leadership`` true. ``informed``: whether we know enough to lead; ``highest``: the highest epoch that we know;
    ``drained``: who is drained as far as we know, for the first one who leads.
    """

    def __init__(
        self,
        client: Client,
        settings: LockSettings,
        leadership: Leadership,
        *,
        informed: Callable[[], bool],
        highest: Callable[[], int],
        drained: Callable[[], Mapping[str, frozenset[str]]],
        log: Logger,
    ) -> None:
        self._client, self._settings, self._leadership, self._log = client, settings, leadership, log
        self._informed, self._highest, self._drained_here = informed, highest, drained
        self._id = f"{SERVICE}-{secrets.token_hex(8)}"
        self._session = ""
        self._shared: Shared | None = None
        """What stands in the key; None: nothing, or nothing of ours."""
        self._failing = ""
        self._raise_again_at = 0.0

    async def run(self) -> None:
        """For ever."""
        index: int | None = None
        while True:
            try:
                index = await self._round(index)
                if self._failing:
                    self._log.info("lock_answers_again", key=self._settings.key)
                self._failing = ""
            except ConsulError as error:
                if str(error) != self._failing:
                    self._log.warning("lock_gives_no_answer", key=self._settings.key, error=str(error))
                self._failing, index = str(error), None
                await asyncio.sleep(random.uniform(AGAIN_S, 2 * AGAIN_S))
            self._say_over()

    async def release(self) -> None:
        """Let another have it at once. Nothing is renewed afterwards."""
        held, self._leadership.lease_ends_at = self._leadership.leads(), 0.0
        try:
            if held and self._shared is not None:
                await self._client.release(self._settings.key, self._session, msgspec.json.encode(self._shared))
            if self._session:
                await self._client.destroy_session(self._session)
            await self._client.deregister(self._id)
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
        wait_s = self._settings.round_s if not leading and index is not None else 0.0
        key = await self._client.key(self._settings.key, index=index if wait_s else None, wait_s=wait_s)
        self._shared = _decode(key.value)
        if self._session and key.session == self._session:
            await self._renew(key, started)
            return None
        self._follow(key, led=leading)
        if not key.session and self._informed():
            await self._acquire(key)
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
        self._leadership.follow(leader, shared.epoch)
        if self._shared is not None:
            self._leadership.share_drained(shared.who_is_drained())

    async def _live(self) -> None:
        """A sign of life; what it is given for is made when it is not there (any more)."""
        if self._session and await self._client.check_passes(self._id):
            return
        self._session = ""
        await self._client.register(
            {
                "ID": self._id,
                "Name": SERVICE,
                "Meta": {"controller": self._settings.name},
                "Check": {
                    "TTL": f"{round(self._settings.check_ttl_s * 1000)}ms",
                    "Status": "passing",
                    "DeregisterCriticalServiceAfter": GONE_AFTER,
                },
            }
        )
        await self._client.check_passes(self._id)
        deadline = boottime() + SYNC_S
        while not self._session:
            try:
                self._session = await self._client.create_session(self._settings.name, self._id, LOCK_DELAY_S)
            except ConsulError:
                if boottime() > deadline:
                    raise
                await asyncio.sleep(AGAIN_S)  # the agent has not told the servers about the check yet

    async def _acquire(self, key: Key) -> None:
        """Try to have the key, with what stands in it. When somebody had it in between, what stood in it may be old: give it
        back and look again.
        """
        try:
            got = await self._client.acquire(self._settings.key, self._session, key.value)
        except ConsulError:
            self._session = ""  # a session that is no more answers 500 for ever
            raise
        if not got:
            await asyncio.sleep(AGAIN_S)  # the lock-delay, or somebody was faster
            return
        started = boottime()
        now = await self._client.key(self._settings.key)
        if now.session != self._session:
            return
        if now.lock_index != key.lock_index + 1:
            await self._client.release(self._settings.key, self._session, now.value)
            return
        known = self._shared.epoch if self._shared is not None else 0
        if self._shared is None:  # the first one who leads says what it knows
            self._leadership.share_drained(self._drained_here())
        await self._put(max(now.lock_index, known + STEP, self._highest() + STEP), started)
        self._log.info("lock_acquired", key=self._settings.key, epoch=self._leadership.epoch)

    async def _renew(self, key: Key, started: float) -> None:
        """The key shows our session: lead on; say what changed meanwhile, and put back what somebody else wrote there."""
        epoch = max(self._shared.epoch if self._shared is not None else 0, self._leadership.epoch)
        above = self._leadership.outranked_by
        if above >= epoch and started >= self._raise_again_at:
            self._raise_again_at = started + RAISE_AGAIN_S
            self._log.error(
                "epoch_raised", receivers_have=above, ours=epoch, note="is there a controller without this lock?"
            )
            epoch = max(above + STEP, key.lock_index)
        if self._shared != self._wanted(epoch):
            await self._put(epoch, started)
        else:
            self._leadership.lead(self._settings.name, epoch, started + self._settings.lease_s)
        await asyncio.sleep(self._settings.round_s)

    async def _put(self, epoch: int, started: float) -> None:
        """Write what all shall know, then lead with it."""
        shared = self._wanted(epoch)
        if not await self._client.acquire(self._settings.key, self._session, msgspec.json.encode(shared)):
            return  # lost in between: the next round sees it
        self._shared = shared
        self._leadership.lead(self._settings.name, epoch, started + self._settings.lease_s)

    def _wanted(self, epoch: int) -> Shared:
        drained = {name: sorted(ids) for name, ids in (self._leadership.drained or {}).items() if ids}
        return Shared(self._settings.name, epoch, drained)

    def _say_over(self) -> None:
        """The lease ended without an answer from Consul."""
        if self._leadership.lease_ends_at and not self._leadership.leads():
            self._log.warning("lease_over", key=self._settings.key, note="nothing is pushed until the lock is ours again")
            self._leadership.follow("", 0)


def _decode(value: bytes) -> Shared | None:
    """Something else in the key is overwritten by the next leader."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(value, type=Shared)
    return None
