"""Every parser that ``make fuzz`` feeds takes its samples, and each input that was a defect once ends as it should."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fuzz import samples
from fuzz.mutation import mutated, pumped
from fuzz.parsers import FOUND, LENGTH_MAX, PARSERS, fitting

from promring.config.load import loads
from promring.delivery.bundle import opened
from promring.discovery.groups import from_json, read_pool

CHANGES, PUMPED = 60, 4


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
            if number < PUMPED:
                one.feed(pumped(sample, number, LENGTH_MAX))
            if one.json is not None:
                one.feed(sample[: one.json] + mutated(sample[one.json :], number))


@pytest.mark.parametrize("path", inputs(), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_fuzzing_found_once_ends_as_it_should(path: Path) -> None:
    PARSERS[path.parent.name].feed(path.read_bytes())


def test_fuzzing_begins_with_what_is_taken() -> None:
    """A sample that is refused leads nowhere: the one of the configuration once had keys that there are not any more."""
    assert len(loads(samples.CONFIGURATION, base=Path("/")).shard_services) == 2
    _, slices = opened(fitting(samples.BUNDLES))
    assert [len(read_pool(from_json(body, "s"), "s", size_bytes=len(body))) for body in slices.values()] == [1, 1]


def test_every_found_input_belongs_to_a_parser() -> None:
    assert {path.parent.name for path in inputs()} <= PARSERS.keys()
