"""What is known of something outside: an answer, an empty answer, none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known(Generic[T]):
    """An answer with something in it."""

    value: T


@dataclass(frozen=True, slots=True)
class Empty:
    """An answer, and it says: none. Never the same as no answer."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer. ``reason`` says why, in the words of the adapter that asked."""

    reason: str


@dataclass(frozen=True, slots=True)
class Waiting(Unknown):
    """No answer yet, and nothing is wrong: ``reason`` says for what is waited."""


Answer = Known[T] | Empty | Unknown


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """What is known of one thing: the newest answer, and the last one that had something in it.

    ``asked_at`` and ``good_at`` are wall-clock seconds; ``good_at`` is 0 while there never was a good answer.
    """

    newest: Answer[T]
    asked_at: float = 0.0
    good: Known[T] | None = None
    good_at: float = 0.0
    trouble: str = ""
    """What failed although there is an answer: it is whole, but partly from before."""
    fresh: Answer[T] | None = None
    """The last answer that was whole and of this run of the program, no failure and nothing remembered in it; None: there
    was none.
    """
    repeats: int = 0
    """How many fresh answers, not closer than a second, were equal to ``fresh``, the last ones in a row."""
    since: float = 0.0
    """Since when (monotonic seconds) they were. Time from a failure to the next fresh answer is left out."""

    @property
    def is_fresh(self) -> bool:
        """Whether the newest answer is one that may confirm something."""
        return self.fresh is not None and self.newest is self.fresh

    @property
    def stale(self) -> bool:
        """True when the last good value is not, or not wholly, what the newest answer says."""
        return not isinstance(self.newest, Known) or bool(self.trouble)
