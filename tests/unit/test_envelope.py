"""What the Python receiver takes for a slice. Its contract with the others is in ``test_receivers``."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from promring.delivery.receiver import Envelope, RefusedError, held, install, parse_generation
from promring.model import Generation


def sealed(body: bytes, epoch: int = 1, n: int = 1) -> Envelope:
    return Envelope(body, hashlib.sha256(body).hexdigest(), Generation(epoch, n))


ONE, TWO = b'[{"targets":["a:1"]}]\n', b'[{"targets":["b:1"],"labels":{"x":"y"}}]\n'


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
        (sealed(b'[{"targets":["a:1"],"labels":{"":"1"}}]', 9, 9), "not a target list: .*'' is not a label name"),
    ],
)
def test_what_is_refused_changes_nothing(tmp_path: Path, newer: Envelope, why: str) -> None:
    path = tmp_path / "x.json"
    install(path, sealed(TWO, 5, 2))
    with pytest.raises(RefusedError, match=why):
        install(path, newer)
    assert path.read_bytes() == TWO
    assert held(path) == (Generation(5, 2), hashlib.sha256(TWO).hexdigest())


@pytest.mark.parametrize("text", ["", "1", "1.", ".1", "1.2.3", "-1.2", "1.2 ", "a.b", "1" * 30 + ".1"])
def test_generations_are_read_strictly(text: str) -> None:
    with pytest.raises(ValueError, match="is not a generation"):
        parse_generation(text)
    assert parse_generation(str(Generation(12, 34))) == Generation(12, 34)
