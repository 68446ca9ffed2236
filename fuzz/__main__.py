"""``make fuzz MINUTES=20 [ONLY=json_list,audit] [FUZZ_WORKERS=1]``: inputs by coverage (Atheris) for every parser in turn.

The inputs that reached new code are kept in ``.fuzz/NAME``, and the next run begins with them. An input that did not end as
it should is written beside that folder, and its path and traceback are printed. Once the defect is mended the input belongs
in ``fuzz/found/NAME``, where ``tests/unit/test_fuzz.py`` tries it. How the parsers share the minutes: ``runs``.
Exit status 1: there was such an input, or a parser was not fuzzed; 128 and a signal's number: that signal ended the run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from fuzz.mutation import mutated, pumped
from fuzz.runs import KEPT, Run, fuzzed

SAMPLE_EACH = 3
"""Of the remainders of a seed by four: it is odd, so that JSON is changed by value."""
INPUT_S_MAX, MEMORY_MB_MAX = 10, 1536
"""What one input may take: the parsers promise bounds, and this is how a broken one is seen."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("--minutes", type=float, default=20.0, help="of a clock, for all parsers together")
    parser.add_argument("--only", default="", help="parsers, with commas")
    parser.add_argument("--workers", type=int, default=1, help="parsers at a time")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--until", type=float, default=0.0, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        return _work(chosen.worker, chosen.until)
    from fuzz.parsers import PARSERS

    names = [name for name in chosen.only.split(",") if name] or list(PARSERS)
    if unknown := set(names) - PARSERS.keys():
        parser.error(f"no such parser: {', '.join(sorted(unknown))}")
    command = [sys.executable, "-m", "fuzz", "--worker"]
    look = [sys.executable, "-m", "fuzz.reach", "--short"]
    return fuzzed([Run(name, [*command, name], [*look, name]) for name in names], 60 * chosen.minutes, chosen.workers)


def _work(name: str, until: float) -> int:
    """In a process of its own: libFuzzer ends it. ``until``: by the monotonic clock, which all processes share."""
    import atheris

    with atheris.instrument_imports(include=["promring", "dns", "fuzz"]):
        import logging

        import structlog

        from fuzz.harness import folder
        from fuzz.parsers import LENGTH_MAX, PARSERS
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
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
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
