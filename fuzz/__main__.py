"""``make fuzz MINUTES=20 [ONLY=json_list]``: coverage-guided inputs (Atheris) for every parser in turn.

The inputs that reached new code are kept in ``.fuzz/NAME``, and the next run begins with them. An input that did not end as
it should is written beside that folder, and its path and traceback are printed. Once the defect is mended the input belongs
in ``fuzz/found/NAME``, where ``tests/unit/test_fuzz.py`` tries it.
Exit status 1: there was one.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import atheris

from fuzz.mutation import mutated, pumped

KEPT = Path(".fuzz")
SAMPLE_EACH = 3
"""Of the remainders of a seed by four: it is odd, so that JSON is changed by value."""
INPUT_S_MAX, MEMORY_MB_MAX = 10, 1536
"""What one input may take: the parsers promise bounds, and this is how a broken one is seen."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--worker", default="")
    chosen = parser.parse_args()
    if chosen.worker:
        return _work(chosen.worker, 60 * chosen.minutes)
    from fuzz.parsers import PARSERS

    names = [name for name in PARSERS if chosen.only in ("", name)]
    return max(_run(name, chosen.minutes / len(names)) for name in names)


def _run(name: str, minutes: float) -> int:
    began = time.monotonic()
    command = [sys.executable, "-m", "fuzz", "--worker", name, "--minutes", str(minutes)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    status = next((line for line in reversed(lines) if re.match(r"#\d+\s", line)), "")
    print(f"{name:22} {time.monotonic() - began:5.0f} s  {' '.join(status.split())}", flush=True)
    if done.returncode:
        print("\n".join([done.stdout[-6000:], *lines[-40:]]), flush=True)
    return int(bool(done.returncode))


def _work(name: str, seconds: float) -> int:
    """In a process of its own: libFuzzer ends it."""
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
        "max_total_time": round(seconds),
        "max_len": LENGTH_MAX,
        "timeout": INPUT_S_MAX,
        "rss_limit_mb": MEMORY_MB_MAX,
        "artifact_prefix": f"{KEPT}/{name}-",
        **({"dict": words} if one.words else {}),  # libFuzzer refuses an empty one
    }
    arguments = [name, *(f"-{key}={value}" for key, value in flags.items()), str(kept)]
    atheris.Setup(arguments, one.feed, custom_mutator=_mutator(one.json, one.samples))
    atheris.Fuzz()
    return 0


def _mutator(before: int | None, samples: Sequence[bytes]) -> Callable[[bytes, int, int], bytes]:
    """Changes bytes as libFuzzer does, or values of the JSON that begins behind ``before`` bytes; now and then it repeats
    some bytes. Every fourth time it begins with a sample again: where the decoder is C, libFuzzer sees no difference between
    a sample and ``{}``, keeps the shorter one, and no key of the sample would ever be tried.
    """

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        if seed % 4 == SAMPLE_EACH:
            data = samples[seed // 4 % len(samples)]
        if seed % 64 == 0:
            return pumped(data, seed, most)
        made = data[:before] + mutated(data[before:], seed) if seed % 2 and before is not None else data
        return made if made != data and len(made) <= most else bytes(atheris.Mutate(data, len(data)))

    return mutate


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
