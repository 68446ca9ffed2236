"""Which of several controllers leads.

A kind of lock is one file of its protocol's package: its settings (``LockSettings``) and its ``LockStore``; and one row in
``kinds.py``. The election itself (``loop.py``) is the same for all of them.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from contextlib import AbstractAsyncContextManager

from promring.config.kinds import Kind, Sections
from promring.election.store import LockStore


class LockSettings(Kind):
    """The settings of a kind of lock."""

    @property
    @abstractmethod
    def ttl_s(self) -> float:
        """A leader that gives no sign of life for so many seconds loses the lock."""

    @property
    def lease_most_s(self) -> float:
        """A leader leads for so many seconds at most after a sign of life, however long the TTL is."""
        return math.inf

    @abstractmethod
    def store(self, name: str, sections: Sections) -> AbstractAsyncContextManager[LockStore]:
        """The lock as the controller ``name`` sees it, by a connection of its own. Raises ``ConfigError`` for a bad file."""
