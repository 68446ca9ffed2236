"""Odd lists by the hundred thousand, through promring and through Prometheus' own decoder (``scripts/build-sdoracle``).

``make lists MINUTES=10 [SEED=7] [WORKERS=2]``. A list of which the two make different things is made shorter for as long as
they do, and printed; what ``docs/compatibility.md`` names is no difference. What was found belongs in ``corpus``.
Exit status 1: there were differences; 2: the program is not here.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import time
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import count

from testbed.sdoracle import ListOracle, Targets

from promring.core.fragment import ID_LABEL
from promring.demo.process import find
from promring.discovery.list_file import is_empty
from tests.differential.odd import odd_lists
from tests.differential.odd_words import ESCAPES, HEADS, ODD_NAMES, TAILS, WORDS
from tests.differential.readings import passing, read, shown, targets_of

AT_A_TIME = 1000
EMPTY_FIRST = re.compile(r"(\ufeff|---|%YAML [^\n]*|[&!]\S+|#[^\n]*|\s)*\[\s*\]")
"""An empty list in brackets, and what may stand before it."""
TWO_MARKS = tuple((2 * "\ufeff").encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be"))
NOT_SKIPPED = re.compile(
    "(?<=[]\n\r\x85\u2028]) *[\\[{]|[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
SIGNS = [*"{}[],::?-\"'\n\n  \t#&*!|>%@\\\r0", "null", "<<", "targets", "labels"]
PIECES = [one.encode("utf-8", "surrogatepass") for one in (*SIGNS * 4, *WORDS, *HEADS, *TAILS, *ESCAPES, *ODD_NAMES)]


@dataclass(frozen=True)
class Difference:
    text: bytes
    ending: str
    theirs: str
    ours: str


def mangled(text: bytes, rng: random.Random) -> bytes:
    """With one to three small changes, anywhere."""
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randint(0, len(text)), rng.choice((0, 0, 1, 1, 2, 5, 20))
        other = rng.randint(0, len(text))
        put = rng.choice((b"", rng.choice(PIECES), rng.choice(PIECES), text[other : other + length]))
        text = text[:at] + put + text[at + length * rng.randint(0, 1) :]
    return text


def lists(seed: int, number: int) -> Iterator[tuple[str, bytes]]:
    """Ending and text of ``number`` lists, the same for one seed; every other one is mangled."""
    rng = random.Random(seed)
    for name, written in odd_lists(number, seed):
        text = written
        ending = name.rpartition(".")[2]
        if rng.random() < 0.5:
            text = mangled(text, rng)
        if ending == "yml" and rng.random() < 0.05:
            text = text.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-16-be")))
            text = text if text.startswith(BOM_UTF16_LE) else BOM_UTF16_BE + text
            text = mangled(text, rng) if rng.random() < 0.3 else text
        yield ending, text


def compared(oracle: ListOracle, ending: str, text: bytes) -> tuple[Targets | None, Targets | None]:
    """What Prometheus and promring make of a list; None: refused. Both None, too, where the difference is documented."""
    if text.startswith(TWO_MARKS):
        return None, None
    read_by_them, pool = oracle.read(ending, text), read(f"list.{ending}", text)
    ours = None if pool is None else targets_of(pool)
    if isinstance(read_by_them, str):
        replaced = ours is not None and "is not a valid label name" in read_by_them
        return (None, None) if replaced else (None, ours)
    theirs = frozenset(frozenset(label for label in target if label[0] != ID_LABEL) for target in read_by_them)
    documented = ours == passing(theirs) or (ours is None and ending == "yml" and _may_refuse(text, theirs))
    return (None, None) if documented else (theirs, ours)


def _may_refuse(text: bytes, theirs: Targets) -> bool:
    """Whether ``docs/compatibility.md`` says that promring refuses such a list, which Prometheus takes: an empty file,
    ``[]`` with something behind it, and a list that is good up to a bracket, or a byte that is no YAML, behind its end.
    """
    if is_empty(text):
        return True
    utf16 = text.startswith((BOM_UTF16_BE, BOM_UTF16_LE))
    said = text.decode("utf-16" if utf16 else "utf-8", "replace")
    if EMPTY_FIRST.match(said) and not theirs:
        return True
    odd = NOT_SKIPPED.search(said.replace("\ufffd", "\0"))
    ends = [match.end() for match in re.finditer("[]\n\r\x85\u2028]|^", said)] if odd else []
    parts = (read("list.yml", said[:end].encode()) for end in ends if odd and end <= odd.start())
    return any(part is not None and targets_of(part) == passing(theirs) for part in parts)


def shorter(text: bytes, differs: Callable[[bytes], bool]) -> bytes:
    """A part of ``text`` that differs, too, from which no piece can be taken away."""
    length = max(1, len(text) // 2)
    while length:
        at = 0
        while at < len(text):
            less = text[:at] + text[at + length :]
            if differs(less):
                text = less
            else:
                at += length
        length //= 2
    return text


def differences(oracle: ListOracle, seed: int, number: int = AT_A_TIME) -> Iterator[Difference]:
    for ending, text in lists(seed, number):
        theirs, ours = compared(oracle, ending, text)
        if theirs == ours:
            continue

        def differs(less: bytes, ending: str = ending, kind: tuple[bool, bool] = (theirs is None, ours is None)) -> bool:
            one, other = compared(oracle, ending, less)
            return one != other and (one is None, other is None) == kind

        short = shorter(text, differs)
        yield Difference(short, ending, *map(shown, compared(oracle, ending, short)))


def searched(seed: int) -> list[Difference]:
    program = find("sdoracle")
    assert program is not None
    with ListOracle(program) as oracle:
        return list(differences(oracle, seed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0, help="of the first thousand lists")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    wanted = parser.parse_args()
    if find("sdoracle") is None:
        print("lists: sdoracle is not here; make sdoracle builds it (needs Go)")
        return 2
    ends_at, seeds, done, found = time.monotonic() + 60 * wanted.minutes, count(wanted.seed), 0, set[Difference]()
    with ProcessPoolExecutor(wanted.workers) as pool:
        running: set[Future[list[Difference]]] = {pool.submit(searched, next(seeds)) for _ in range(2 * wanted.workers)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                done += AT_A_TIME
                for one in set(future.result()) - found:
                    found.add(one)
                    print(f"{one.ending} {one.text!r}\n  Prometheus {one.theirs}\n  promring   {one.ours}", flush=True)
            if time.monotonic() < ends_at:
                running |= {pool.submit(searched, next(seeds)) for _ in finished}
    print(f"lists: {done} lists from seed {wanted.seed} on, {len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
