"""Every parser that ``make fuzz`` feeds takes its samples, and each input that was a defect once ends as it should."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz.mutation import mutated
from fuzz.parsers import FOUND, PARSERS

CHANGES = 60


def inputs() -> list[Path]:
    return sorted(path for path in FOUND.glob("*/*") if path.is_file())


def damaged(sample: bytes, rng: random.Random) -> bytes:
    """With a piece that is left out, doubled or other bytes."""
    at, end = sorted(rng.randrange(len(sample) + 1) for _ in "ab")
    return sample[:at] + rng.choice([b"", 2 * sample[at:end], rng.randbytes(end - at)[:40]]) + sample[end:]


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_ends_as_it_should_whatever_is_done_to_what_others_write(name: str) -> None:
    one, rng = PARSERS[name], random.Random(name)
    for sample in one.samples:
        one.feed(sample)
        for number in range(CHANGES):
            one.feed(damaged(sample, rng))
            if one.json is not None:
                one.feed(sample[: one.json] + mutated(sample[one.json :], number))


@pytest.mark.parametrize("path", inputs(), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_fuzzing_found_once_ends_as_it_should(path: Path) -> None:
    PARSERS[path.parent.name].feed(path.read_bytes())


def test_every_found_input_belongs_to_a_parser() -> None:
    assert {path.parent.name for path in inputs()} <= PARSERS.keys()
