"""Target lists of odd text from a seed: what templates, hands, exports and half-finished edits write.

``ODD=3000 ODD_SEED=7 pytest tests/differential`` makes more, and others. ``generated`` draws well-formed values and dumps
them; here the *text* is put together, so that every way to write a value (quotes, blocks, anchors, tags, comments, odd
white space, escapes) stands beside every other.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

from tests.differential.odd_json import Json
from tests.differential.odd_words import BREAKS, many
from tests.differential.odd_yaml import Yaml

SEED = int(os.environ.get("ODD_SEED", "1"))
COUNT = int(os.environ.get("ODD", "500"))


def _damaged(text: str, rng: random.Random) -> str:
    """As an edit that went wrong leaves it."""
    lines = text.splitlines(keepends=True) or [""]
    at = rng.randrange(len(lines))
    ways: list[Callable[[], object]] = [
        lambda: lines.pop(at),
        lambda: lines.insert(at, lines[at]),
        lambda: lines.__setitem__(at, " " + lines[at]),
        lambda: lines.__setitem__(at, lines[at][1:]),
        lambda: lines.__setitem__(at, "\t" + lines[at]),
        lambda: lines.__setitem__(at, lines[at].rstrip("\n")),
        lambda: lines.__setitem__(
            at, lines[at].rstrip("\n") + rng.choice([" ", "\t", ",", ":", " #", "]", "}", '"', "'"]) + "\n"
        ),
        lambda: lines.__setitem__(at, lines[at][: rng.randint(0, len(lines[at]))]),
        lambda: lines.__setitem__(slice(at, None), []),
        lambda: lines.insert(
            at,
            rng.choice(
                many("\n ¦ # c\n ¦ ---\n ¦ ...\n ¦ - \n ¦   \n ¦ <<<<<<< HEAD\n ¦ =======\n ¦ {% if x %}\n ¦ \t\n ¦ %x\n")
            ),
        ),
    ]
    rng.choice(ways)()
    return "".join(lines)


def odd_lists(count: int = COUNT, seed: int = SEED) -> Iterator[tuple[str, bytes]]:
    """``count`` lists with the names of their files; the same ones for one ``seed``."""
    for number in range(count):
        rng = random.Random(f"{seed}-{number}")
        ending = rng.choice(["yml", "yml", "json"])
        text = (Yaml(rng) if ending == "yml" else Json(rng)).text()
        if rng.random() < 0.25:
            text = _damaged(text, rng)
        if text.startswith("[]") and ":" in text:
            continue  # see "Lists that nobody writes"
        if not text.strip():
            continue  # see "An empty YAML file"
        line_break = rng.choice(BREAKS)
        data = text.replace("\n", line_break).encode("utf-8", "surrogatepass")
        if rng.random() < 0.02:
            at = rng.randrange(len(data) + 1)
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + rng.randint(0, 1) :]
        yield f"odd-{seed}-{number}.{ending}", data
