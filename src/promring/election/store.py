"""What the election asks of a store that can lock: Consul, etcd, a Kubernetes Lease.

A store keeps one lock and one note. The lock has at most one holder and ends by itself when the holder gives no sign of life
for the TTL. The note outlives the holder. Only the holder may write it.

Every implementation promises, and ``tests/real/test_lock_contract.py`` checks:

- Of candidates that take a free lock at the same time at most one gets it.
- Each holder has a higher token than every holder before it, over release, expiry, deletion of the lock and a restart of the
  store. Only a store that lost its data may begin again.
- A write of a candidate that holds the lock no longer changes nothing.
- "Not yours" is an answer. No usable answer is ``StoreError``: then nobody knows whether a write was carried out, and the
  next read tells.

Not promised: that a holder notices at once that its lock ended. ``election/loop.py`` counts its own lease for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

CALL_LEAST_S, CALL_MOST_S, CALL_SHARE = 1.3, 5.0, 0.24


def call_s(ttl_s: float) -> float:
    """Seconds that a request may take, to a store that keeps the lock for its whole TTL: a longer one is for slow stores."""
    return min(CALL_MOST_S, max(CALL_LEAST_S, CALL_SHARE * ttl_s))


@dataclass(frozen=True, slots=True)
class LockState:
    """The lock as the store's servers agreed on it."""

    held: bool = False
    """Whether anybody holds it."""
    ours: bool = False
    """Whether that is the candidate that read it."""
    token: int = 0
    """The fencing token of the holder: above that of every holder before, and never falling while it holds the lock."""
    note: bytes | None = None
    """None: there is none. An empty one is none."""
    version: int = 0
    """For the store: ``take`` and ``renew`` fail when the lock or the note has another one by now."""


class LockStore(Protocol):
    """The lock, as one candidate sees it. All calls end within a few seconds."""

    @property
    def key(self) -> str:
        """The name of the lock in the store, for people."""

    async def read(self, wait_s: float = 0.0) -> LockState:
        """Give a sign of life, then read. ``wait_s``: the answer may take so long, and comes when something changed.

        A lock that is read as ours lasts at least one TTL from the beginning of this call. Stores whose sign of life is a
        write to the lock itself promise that for ``renew`` only, which the loop calls directly after this.
        """

    async def look(self) -> LockState:
        """As ``read``, and no sign of life: it changes nothing, for one who does not want the lock."""

    async def take(self, seen: LockState) -> str:
        """Take the lock, which was free as ``seen``. The note stays. Why not, in words; empty: it is ours."""

    async def renew(self, seen: LockState, note: bytes | None = None) -> bool:
        """Go on holding the lock, which was ours as ``seen``, and write ``note`` unless it is None. False: it is lost."""

    async def lacks(self, note: bytes | None) -> str:
        """What this candidate may not do any more and will need, such as a right that was taken away; empty: nothing that is
        known. Changes nothing. ``note``: what it wrote last, as the holder.
        """

    async def release(self, note: bytes | None) -> None:
        """Sign off. With a ``note``: as the holder, which writes it last and frees the lock for the next at once."""
