"""One parser and libFuzzer: what it begins with, how inputs are changed, what one of them may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import atheris

from fuzz.mutation import mutated, pumped
from fuzz.runs import KEPT

SAMPLE_EACH = 3
"""Of the remainders of a seed by four: it is odd, so that JSON is changed by value."""
INPUT_S_MAX, MEMORY_MB_MAX = 10, 1536
"""What one input may take: the parsers promise bounds, and this is how a broken one is seen."""


def load() -> None:
    """All parsers, made such that Atheris sees which way an input takes. It takes ten seconds of CPU."""
    with atheris.instrument_imports(include=["promring", "dns", "fuzz"]):
        import logging

        import structlog

        import fuzz.parsers  # noqa: F401 - for the next one who imports it
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def feed(name: str, until: float) -> None:
    """A parser of those that were loaded. libFuzzer ends the process. ``until``: by the monotonic clock, which all processes
    share.
    """
    from fuzz.harness import folder
    from fuzz.parsers import LENGTH_MAX, PARSERS

    one, kept = PARSERS[name], KEPT / name
    kept.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(one.samples):
        (kept / f"sample-{number}").write_bytes(sample)
    words = folder() / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in one.words))
    flags = {
        "max_total_time": max(1, round(until - time.monotonic())),  # 0 would be for ever
        "max_len": LENGTH_MAX,
        "timeout": INPUT_S_MAX,
        "rss_limit_mb": MEMORY_MB_MAX,
        "artifact_prefix": f"{KEPT}/{name}-",
        **({"dict": words} if one.words else {}),  # libFuzzer refuses an empty one
    }

    def changed(data: bytes) -> bytes:
        return bytes(atheris.Mutate(data, len(data)))  # another function once Fuzz() runs

    arguments = [name, *(f"-{key}={value}" for key, value in flags.items()), str(kept)]
    atheris.Setup(arguments, one.feed, custom_mutator=_mutator(changed, one.json, one.samples))
    atheris.Fuzz()


def _mutator(
    changed: Callable[[bytes], bytes], before: int | None, samples: Sequence[bytes]
) -> Callable[[bytes, int, int], bytes]:
    """Changes bytes as libFuzzer does (``changed``), or values of the JSON that begins behind ``before`` bytes; now and then
    it repeats some bytes. Every fourth time it begins with a sample again: where the decoder is C, libFuzzer sees no
    difference between a sample and ``{}``, keeps the shorter one, and no key of the sample would ever be tried.
    """

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        if seed % 4 == SAMPLE_EACH:
            data = samples[seed // 4 % len(samples)]
        if seed % 64 == 0:
            return pumped(data, seed, most)
        made = data[:before] + mutated(data[before:], seed) if seed % 2 and before is not None else data
        return made if made != data and len(made) <= most else changed(data)

    return mutate


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)
