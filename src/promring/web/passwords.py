"""Checks of passwords against bcrypt hashes, bounded: each costs a tenth of a second of a core, and anybody may ask.

One check at a time, and as many that wait as ``WAITING_MOST``, of one address ``WAITING_ADDRESS_MOST``: who guesses cannot
keep others out. What was asked is remembered by its digest, right or wrong, and the same question at the same time is
asked once. Users and hashes do not change while the process lives.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Mapping

import bcrypt

from promring.web.envelope import ApiError
from promring.web.gate import Gate

REMEMBERED_MOST = 1000
WAITING_MOST, WAITING_ADDRESS_MOST = 32, 4


class Passwords:
    """``users``: a bcrypt hash for each name."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = users
        cost = max((int(hashed.split("$")[2]) for hashed in users.values()), default=10)
        self._nobody = f"$2b${cost:02}$" + "." * 53  # checked for unknown users, so that they take as long
        self._salt = os.urandom(16)
        self._right: dict[bytes, None] = {}
        self._wrong: dict[bytes, None] = {}
        self._asked: dict[bytes, asyncio.Task[bool]] = {}
        self._waiting: Counter[str] = Counter()
        self._gate = Gate("checks of passwords", at_once=1, waiting=WAITING_MOST)

    async def check(self, user: str, password: str, address: str) -> bool:
        """Whether it is the user's. Raises ``ApiError`` 503 or 429 when too many checks wait already."""
        text = f"{user}\0{password}".encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(self._salt + text).digest()
        if digest in self._right:
            return True
        if digest in self._wrong:
            return False
        asked = self._asked.get(digest)
        if asked is None:
            if self._waiting[address] >= WAITING_ADDRESS_MOST:
                raise ApiError(429, "busy", "too many passwords are being checked for this address", retry_after_s=2)
            self._waiting[address] += 1
            asked = asyncio.ensure_future(self._ask(digest, user, password, address))
            self._asked[digest] = asked
            asked.add_done_callback(lambda task: self._answered(digest, task))
        return await asyncio.shield(asked)

    async def _ask(self, digest: bytes, user: str, password: str, address: str) -> bool:
        try:
            hashed = self._users.get(user, self._nobody)
            given = password.encode("utf-8", "surrogatepass")[:72]
            same = await self._gate.run(lambda: bcrypt.checkpw(given, hashed.encode()))
        finally:
            self._waiting[address] -= 1
            self._waiting += Counter()  # forgets addresses at 0
        return same and user in self._users

    def _answered(self, digest: bytes, task: asyncio.Task[bool]) -> None:
        self._asked.pop(digest, None)
        if task.cancelled() or task.exception() is not None:
            return
        remembered = self._right if task.result() else self._wrong
        remembered[digest] = None
        while len(remembered) > REMEMBERED_MOST:
            del remembered[next(iter(remembered))]
