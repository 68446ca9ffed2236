"""The receiver: whole or not at all, never back to an older generation."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promring.delivery import envelope as module
from promring.delivery.envelope import Envelope, RefusedError, held, install, note_of, parse_generation
from promring.model import Generation


def sealed(body: bytes, epoch: int = 1, n: int = 1) -> Envelope:
    return Envelope(body, hashlib.sha256(body).hexdigest(), Generation(epoch, n))


ONE, TWO = b'[{"targets":["a:1"]}]\n', b'[{"targets":["b:1"],"labels":{"x":"y"}}]\n'


def test_it_is_written_once_and_kept_and_put_back(tmp_path: Path) -> None:
    path = tmp_path / "sd" / "x.json"
    assert install(path, sealed(ONE))
    assert not install(path, sealed(ONE))
    assert held(path) == (Generation(1, 1), hashlib.sha256(ONE).hexdigest())
    path.write_bytes(b"by hand")
    assert install(path, sealed(ONE)), "the same generation mends the file"
    path.unlink()
    assert install(path, sealed(ONE))
    assert install(path, sealed(TWO, 1, 2))
    assert not install(path, sealed(TWO, 2, 1)), "a newer generation of the same bytes is noted only"
    assert held(path) == (Generation(2, 1), hashlib.sha256(TWO).hexdigest())
    assert sorted(p.name for p in path.parent.iterdir() if p.name.endswith(".json")) == ["x.json"]


@pytest.mark.parametrize(
    ("newer", "why"),
    [
        (sealed(ONE, 5, 1), "refuses the older 5.1"),
        (sealed(ONE, 4, 99), "refuses the older 4.99"),
        (sealed(ONE, 5, 2), "another slice of generation 5.2"),
        (Envelope(ONE, "0" * 64, Generation(9, 9)), "not those of the SHA-256"),
        (Envelope(ONE[:-5], hashlib.sha256(ONE).hexdigest(), Generation(9, 9)), "not those of the SHA-256"),
        (sealed(b"", 9, 9), "not a target list"),
        (sealed(b"{}", 9, 9), "not a target list"),
        (sealed(b'[{"targets":[5]}]', 9, 9), "not a target list"),
        (sealed(b'[{"tragets":[]}]', 9, 9), "not a target list"),
        (sealed(b"<html>", 9, 9), "not a target list"),
        (sealed(b"null", 9, 9), "not a target list"),
    ],
)
def test_what_is_refused_changes_nothing(tmp_path: Path, newer: Envelope, why: str) -> None:
    path = tmp_path / "x.json"
    install(path, sealed(TWO, 5, 2))
    with pytest.raises(RefusedError, match=why):
        install(path, newer)
    assert path.read_bytes() == TWO
    assert held(path) == (Generation(5, 2), hashlib.sha256(TWO).hexdigest())


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([ONE, TWO])), max_size=20))
def test_accepted_generations_only_climb(puts: list[tuple[int, int, bytes]]) -> None:
    """I7, I8: whatever comes in whatever order."""

    with tempfile.TemporaryDirectory() as folder:
        path, best = Path(folder, "x.json"), Generation(-1, -1)
        for epoch, n, body in puts:
            try:
                install(path, sealed(body, epoch, n))
            except RefusedError:
                assert (epoch, n) <= best
            else:
                assert (epoch, n) >= best
                best = Generation(epoch, n)
                assert path.read_bytes() == body


def test_a_damaged_note_is_as_none(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    install(path, sealed(TWO, 5, 2))
    for damaged in ("", "5.2", "x y", "5.2 a b", "\udcff"):
        note_of(path).write_bytes(damaged.encode("utf-8", "surrogateescape"))
        assert held(path) is None
    assert install(path, sealed(ONE, 1, 1))


def test_two_writers_wait_for_each_other_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    install(path, sealed(ONE))
    lock = os.open(path.with_name(".x.json.promring-lock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    monkeypatch.setattr(module, "LOCK_WAIT_S", 0.1)
    with pytest.raises(BlockingIOError):
        install(path, sealed(TWO, 1, 2))
    assert path.read_bytes() == ONE
    monkeypatch.setattr(module, "LOCK_WAIT_S", 5.0)
    threading.Timer(0.2, lambda: os.close(lock)).start()
    assert install(path, sealed(TWO, 1, 2))


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "1.2.3", "-1.2", "1.2 ", "a.b", "1" * 30 + ".1"])
def test_generations_are_read_strictly(text: str) -> None:
    with pytest.raises(ValueError, match="is not a generation"):
        parse_generation(text)
    assert parse_generation(str(Generation(12, 34))) == Generation(12, 34)
