"""The Python receiver and ``receiver.sh`` beside one model: two writers, lost answers, deliveries that come again and in any
order, a disk that is full, a crash between the note and the slice.
"""

from __future__ import annotations

import hashlib
import resource
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from promring.delivery.receiver import Note, note_of, noted
from promring.model import Generation
from tests.receivers import ONE, SHELLS, TWO, Offer, asked, here, offer

BODIES = [b"[]", ONE, TWO]
NUMBERS = st.integers(0, 3)
NO_ROOM = "ulimit -f 0; exec sh -s"
"""No file may have a byte: as on a disk that is full."""


def here_without_room(sent: Offer) -> str:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        return here(sent)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class Delivering(RuleBasedStateMachine):
    """The model: the note and the bytes that are there. ``receive``: the receiver; ``squeezed``: the same without room."""

    receive: Callable[[Offer], str]
    squeezed: Callable[[Offer], str]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "slice.json")
        self.note: Note | None = None
        self.body: bytes | None = None
        self.sent: list[Offer] = []

    def teardown(self) -> None:
        self.folder.cleanup()

    def _take(self, one: Offer) -> str:
        """What a receiver must answer; the model takes it."""
        if (
            self.note is not None
            and (one.generation, one.sha256) != self.note[:2]
            and one.generation <= self.note.generation
        ):
            return f"refused {self.note.generation}"
        said = "same" if self.body == one.body else "written"
        self.note, self.body = one.envelope.note, one.body
        return said

    def _there(self) -> bytes | None:
        return self.path.read_bytes() if self.path.exists() else None

    def _offer(self, epoch: int, n: int, body: bytes) -> Offer:
        one = offer(self.path, body, epoch, n)
        self.sent.append(one)
        return one

    @rule(epoch=NUMBERS, n=NUMBERS, body=st.sampled_from(BODIES))
    def put(self, epoch: int, n: int, body: bytes) -> None:
        one = self._offer(epoch, n, body)
        assert self.receive(one) == self._take(one)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 20))
    def an_earlier_delivery_comes_again(self, which: int) -> None:
        one = self.sent[which % len(self.sent)]
        assert self.receive(one) == self._take(one)

    @rule(epoch=NUMBERS, n=NUMBERS, body=st.sampled_from(BODIES))
    def the_answer_is_lost_and_the_sender_tries_again(self, epoch: int, n: int, body: bytes) -> None:
        one = self._offer(epoch, n, body)
        self.receive(one)
        self._take(one)
        assert self.receive(one) == self._take(one)

    @rule(epochs=st.tuples(NUMBERS, NUMBERS), n=NUMBERS, bodies=st.tuples(*2 * [st.sampled_from(BODIES)]))
    def two_write_at_once(self, epochs: tuple[int, int], n: int, bodies: tuple[bytes, bytes]) -> None:
        both = [self._offer(epoch, n, body) for epoch, body in zip(epochs, bodies, strict=True)]
        before, ways = (self.note, self.body), []
        for order in ((0, 1), (1, 0)):
            self.note, self.body = before
            said = {i: self._take(both[i]) for i in order}
            ways.append(([said[0], said[1]], self.note, self.body))
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(self.receive, both))
        have = noted(self.path), self._there()
        fitting = [way for way in ways if have == way[1:] and all(map(self._may_say, answers, way[0]))]
        assert fitting, f"{answers} and {have} are of neither order: {ways}"
        _, self.note, self.body = fitting[0]

    @staticmethod
    def _may_say(answer: str, wanted: str) -> bool:
        """Who looks what is there before the other one has written the same bytes writes them again."""
        return answer == wanted or (answer, wanted) == ("written", "same")

    @rule(epoch=NUMBERS, n=NUMBERS, body=st.sampled_from(BODIES))
    def the_disk_is_full(self, epoch: int, n: int, body: bytes) -> None:
        one, before = self._offer(epoch, n, body), (self.note, self.body)
        wanted = self._take(one)
        if (self.note, self.body) != before:
            self.note, self.body = before
            wanted = "error"
        assert self.squeezed(one).startswith(wanted)

    @rule(body=st.sampled_from(BODIES), part=st.integers(0, 40))
    def only_a_part_arrives(self, body: bytes, part: int) -> None:
        if part < len(body):
            assert self.receive(offer(self.path, body[:part], 9, 9, whole=body)).startswith("error ")

    @precondition(lambda self: self.note is not None)
    @rule(body=st.sampled_from(BODIES))
    def it_is_killed_between_note_and_slice(self, body: bytes) -> None:
        assert self.note is not None
        newer = Generation(self.note.generation.epoch, self.note.generation.n + 1)
        self.note = Note(newer, hashlib.sha256(body).hexdigest())
        note_of(self.path).write_bytes(self.note.line())
        (self.path.parent / f".{self.path.name}.promring-tmp-x").write_bytes(body[:5])
        self.sent.append(Offer(self.path, body, self.note.sha256, newer))

    @rule(text=st.sampled_from([b"", b"x", b"\xff", b"1.1"]))
    def the_note_is_damaged(self, text: bytes) -> None:
        note_of(self.path).write_bytes(text)
        self.note = None

    @rule(text=st.sampled_from([None, b"", b"by hand", *BODIES]))
    def somebody_changes_the_slice(self, text: bytes | None) -> None:
        self.path.unlink(missing_ok=True)
        if text is not None:
            self.path.write_bytes(text)
        self.body = text

    @invariant()
    def note_and_slice_are_what_was_taken(self) -> None:
        assert noted(self.path) == self.note
        assert self._there() == self.body


def holds(examples: int, receive: Callable[[Offer], str], squeezed: Callable[[Offer], str]) -> None:
    machine = type("One", (Delivering,), {"receive": staticmethod(receive), "squeezed": staticmethod(squeezed)})
    few = settings(max_examples=examples, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine, settings=few)


def test_the_python_receiver_is_the_model() -> None:
    holds(25, here, here_without_room)


@pytest.mark.parametrize("shell", [name for name in SHELLS if name != "busybox"])
def test_receiver_sh_is_the_same_model(shell: str) -> None:
    holds(4, lambda sent: asked([*SHELLS[shell], "-s"], sent), lambda sent: asked(["/bin/sh", "-c", NO_ROOM], sent))
