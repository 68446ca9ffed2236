"""One leader among several controllers: the lease, the epoch and the shared note, over any store that can lock.

A round reads the lock, which gives a sign of life. A controller that finds it free takes it and reads again. It leads when
the lock is shown as its own and the note with its new epoch is written. So an answer that is lost is no special case: the
next read tells.

The lease is counted on our own clock from before the round, and is shorter than the TTL. An epoch is above the token of the
lock, above the one in the note, and above every one that we know. It is written while we hold the lock and before we lead,
so nobody leads with an epoch that was another leader's.

Promises: the lock is released when we stop; one that is lost is noticed within a round, or when the lease ends.
Not promised: that there is never a moment with two leaders (a Consul agent that is stopped frees the lock before our lease
ends), nor that a write on its way when the lease ends does not arrive. Receivers refuse both by their epochs.
Flow: ``leadership.py`` is what this loop keeps true, ``store.py`` what it asks of a store.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from promring.election.leadership import STEP, Leadership
from promring.election.note import Note, decode
from promring.election.store import LockState, LockStore
from promring.model import StoreError
from promring.runtime.backoff import backoff_s
from promring.runtime.wording import wording
from promring.telemetry.log import Logger

MARGIN = 0.2
ROUND_MOST_S = 2.0
AGAIN_S = 0.25
RAISE_AGAIN_S = 30.0
RIGHTS_S = 60.0
"""So often it is asked whether a right was taken away that is not needed now."""
LAPSE_S = 60.0
PATIENCE_S = 15.0
"""The lock was free for so long: then a controller leads that knows less than another might."""
NOT_TAKEN_S = 5.0
SAID_MOST = 10
"""Reasons, by their wording, that are logged until the lock answers again."""


@dataclass(frozen=True, slots=True)
class Lease:
    """``name``: of this controller, for people. ``ttl_s``: after so long without a sign of life the store frees the lock.
    ``most_s``: where the store may free it earlier.
    """

    name: str
    ttl_s: float
    most_s: float = math.inf

    @property
    def lease_s(self) -> float:
        """So long we lead after a sign of life."""
        return min(self.most_s, self.ttl_s * (1 - MARGIN))

    @property
    def round_s(self) -> float:
        """Between two signs of life."""
        return min(ROUND_MOST_S, self.lease_s / 2.4)


class Election:
    """Keeps ``leadership`` true; its attributes are what it was given, and what was seen of the lock.

    ``informed``: whether we know as much as another controller may; ``highest``: the highest epoch that we know;
    ``drained``: who is drained as far as we know, for the first one who leads; ``lapsed`` is called when our lease ended
    although nobody took the lock from us.
    """

    def __init__(
        self,
        store: LockStore,
        lease: Lease,
        leadership: Leadership,
        *,
        informed: Callable[[], bool],
        highest: Callable[[], int],
        drained: Callable[[], Mapping[str, frozenset[str]]],
        log: Logger,
        lapsed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._lease, self._leadership = store, lease, leadership
        self._informed, self._highest, self._drained_here = informed, highest, drained
        self._log, self._lapsed = log.bind(key=store.key), lapsed
        self._reigns = False
        """Whether an epoch of ours stands in the note, since we took the lock."""
        self._note: Note | None = None
        """As read last; None: there is none of ours."""
        self._token = 0
        self._free_since: float | None = None
        self._tried = False
        """Whether the last round tried to take the lock."""
        self._raise_again_at = self._rights_at = self._lapse_at = 0.0
        self._said: set[str] = set()
        self._failures = 0
        self._said_not_taken = self._counted = False

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self._round()
                if self._failures:
                    self._log.info("lock_answers_again")
                self._failures, self._said = 0, set()
            except StoreError as error:
                await self._failed(str(error))
            self._say_over()

    async def release(self) -> None:
        """Let another have it at once. Nothing is renewed afterwards."""
        held, self._leadership.lease_ends_at = self._leadership.leads(), 0.0
        try:
            await self._store.release(self._wanted(self._leadership.epoch).encode() if held else None)
        except StoreError as error:
            self._log.warning("lock_not_released", error=str(error))
        else:
            self._log.info("lock_released", led=held)

    # --- one round ---------------------------------------------------------------------------------------------------

    async def _round(self) -> None:
        leading, started = self._leadership.leads(), self._now()
        waits, self._tried = not leading and not self._tried, False
        seen = await self._store.read(self._lease.round_s if waits else 0.0)
        self._note = decode(seen.note)
        self._compare(seen)
        if seen.ours:
            await (self._renew(seen, started) if self._reigns else self._begin(seen, started))
            return
        self._follow(seen, led=leading)
        if seen.held:
            await self._ask_rights(None)
            return
        if self._may_lead():
            await self._take(seen)
        else:
            await asyncio.sleep(AGAIN_S)

    def _follow(self, seen: LockState, *, led: bool) -> None:
        note = self._note or Note()
        leader = note.leader if seen.held else ""
        if led:
            self._log.warning("lock_lost", leader=leader)
        elif leader != self._leadership.leader:
            self._log.info("lock_held_by", leader=leader or "nobody")
        self._reigns = False
        self._free_since = None if seen.held else self._free_since or self._now()
        self._leadership.follow(leader, note.epoch)
        self._learn()

    def _learn(self) -> None:
        """What stands in the note, if there is one."""
        if self._note is not None:
            self._leadership.shared.hear(self._note.told)

    def _may_lead(self) -> bool:
        """Whoever knows everything; when the lock has been free for long, whoever there is."""
        return self._informed() or (self._free_since is not None and self._now() - self._free_since > PATIENCE_S)

    async def _take(self, seen: LockState) -> None:
        self._tried, self._reigns = True, False
        if why_not := await self._store.take(seen):
            self._say_not_taken(why_not)
            await asyncio.sleep(AGAIN_S)  # a lock-delay, or somebody was faster

    async def _begin(self, seen: LockState, started: float) -> None:
        """The lock is ours, and the epoch in the note is another leader's: write ours, then lead."""
        if self._note is None:  # the first one who leads says what it knows
            self._leadership.shared.drain_all(self._drained_here())
        self._learn()
        if await self._write(seen, self._next_epoch(seen), started):
            self._log.info("lock_acquired", epoch=self._leadership.epoch)
        else:
            await asyncio.sleep(AGAIN_S)  # the next read tells; a store that says "ours" and takes nothing is not flooded

    async def _renew(self, seen: LockState, started: float) -> None:
        """Lead on; say what changed meanwhile, and put back what somebody else wrote into the note."""
        epoch = max(self._note.epoch if self._note is not None else 0, self._leadership.epoch)
        above = self._leadership.outranked_by
        if above >= epoch and started >= self._raise_again_at:
            self._raise_again_at = started + RAISE_AGAIN_S
            self._log.error("epoch_raised", receivers_have=above, ours=epoch, note="does another write without this lock?")
            epoch = max(above + STEP, seen.token)
        if not await self._write(seen, epoch, started):
            await asyncio.sleep(AGAIN_S)
            return
        if self._now() - started < self._lease.round_s / 2:
            await self._ask_rights(self._note)
        # a store that answers slowly has had most of the round: the next one has to end before the lease does
        await self._leadership.wait_for_news(max(AGAIN_S, started + self._lease.round_s - self._now()))

    async def _write(self, seen: LockState, epoch: int, started: float) -> bool:
        """Renew the lock, with what all shall know, and lead from then on. False: it was lost; the next round follows."""
        note = self._wanted(epoch)
        if not await self._store.renew(seen, None if note == self._note else note.encode()):
            return False
        self._say_lapsed()
        self._note, self._reigns, self._free_since, self._said_not_taken = note, True, None, False
        self._leadership.shared.written(note.told)
        self._leadership.lead(self._lease.name, epoch, started + self._lease.lease_s)
        return True

    async def _ask_rights(self, note: Note | None) -> None:
        """Now and then: what is lost already, and would be found out only when it is needed. ``note``: as the holder."""
        if self._now() < self._rights_at:
            return
        self._rights_at = self._now() + RIGHTS_S
        try:
            async with asyncio.timeout(self._lease.round_s / 2):
                lacking = await self._store.lacks(None if note is None else note.encode())
        except (StoreError, TimeoutError):  # the next round tells
            return
        before, self._leadership.lacking = self._leadership.lacking, lacking
        if lacking and wording(lacking) != wording(before):
            self._log.error("lock_right_missing", error=lacking, note="the lock goes on until it needs that right")
        elif before and not lacking:
            self._log.info("lock_right_back")

    def _next_epoch(self, seen: LockState) -> int:
        """Above all that are known; without a note, receivers may know one of a controller without a lock."""
        known = int(time.time()) if self._note is None else self._note.epoch + STEP
        return max(seen.token + 1, known, self._highest() + STEP)

    def _wanted(self, epoch: int) -> Note:
        return Note.of(self._lease.name, epoch, self._leadership.shared.to_tell())

    def _now(self) -> float:
        return self._leadership.clock()

    # --- say ---------------------------------------------------------------------------------------------------------

    async def _failed(self, why: str) -> None:
        if (words := wording(why)) not in self._said and len(self._said) < SAID_MOST:
            self._said.add(words)
            self._log.warning("lock_gives_no_answer", error=why)
        self._failures += 1
        await asyncio.sleep(backoff_s(self._failures, 2 * AGAIN_S, self._lease.round_s))

    def _compare(self, seen: LockState) -> None:
        """Tokens climb, unless the store lost its data or the lock was removed. The epochs climb anyway."""
        if not seen.held:
            return
        if seen.token < self._token:
            self._log.warning("lock_token_went_back", token=seen.token, before=self._token, note="epochs go on climbing")
        self._token = seen.token

    def _say_not_taken(self, why: str) -> None:
        """Once, when it takes longer than a lock-delay and a race do: then it is something else, such as a missing right."""
        if self._free_since is None or self._now() - self._free_since < NOT_TAKEN_S or self._said_not_taken:
            return
        self._said_not_taken = True
        self._log.warning("lock_not_acquired", error=why)

    def _say_lapsed(self) -> None:
        """The lease ended before the answer came that renews it; a line a minute."""
        ended_at = self._leadership.lease_ends_at
        if not ended_at or self._leadership.leads():
            return
        self._lapsed()
        self._counted = True
        if self._now() >= self._lapse_at:
            self._lapse_at = self._now() + LAPSE_S
            note = "the store of the lock answers too slowly: nothing is pushed in such times"
            self._log.warning("lease_lapsed", for_s=round(self._now() - ended_at, 1), note=note)

    def _say_over(self) -> None:
        """The lease ended without an answer of the store."""
        counted, self._counted = self._counted, False
        if self._leadership.lease_ends_at and not self._leadership.leads():
            if not counted:  # else it was over, renewed too late, and is over again: one lapse
                self._lapsed()
            self._log.warning("lease_over", note="nothing is pushed until the lock is ours again")
            self._leadership.follow("", 0)
