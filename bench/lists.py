"""A list in JSON, from its bytes to a pool: microseconds of processor time a target. 800,000 targets with six labels.

The yardstick is msgspec, which decodes the same bytes to the same groups and makes nothing of them.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import msgspec

from bench.report import console
from promring.discovery.groups import Reader
from promring.discovery.json_list import Group
from promring.runtime.threads import favour_the_loop

TARGETS, TURNS = 800_000, 3
LABELS = {"env": "production", "region": "eu", "team": "platform", "job": "node", "rack": "r1"}


async def run() -> None:
    favour_the_loop()
    for each, asked in ((1, " (asked: <= 3)"), (20, "")):
        text = _text(each)
        first, again, bare = [], [], []
        for _ in range(TURNS):
            reader = Reader()
            bare.append(_cpu_s(lambda text=text: msgspec.json.decode(text, type=list[Group])))  # type: ignore[misc]
            first.append(_cpu_s(lambda text=text, reader=reader: reader.read(text, "list")))  # type: ignore[misc]
            again.append(_cpu_s(lambda text=text, reader=reader: reader.read(text, "list")))  # type: ignore[misc]
        ratio = statistics.median(again) / statistics.median(first)
        console.print(
            f"lists, {TARGETS} targets, {each} a group, {len(text) // 10**6} MB: {_each_us(first)} us of processor time"
            f" a target{asked}; decoded by msgspec alone {_each_us(bare)}; the same bytes again {ratio:.3f} of the first"
            " time (asked: <= 0.05)"
        )


def _text(each: int) -> bytes:
    groups = (
        {
            "targets": [f"10.{i // 62500}.{i // 250 % 250}.{i % 250}:{9100 + n}" for n in range(each)],
            "labels": {**LABELS, "host": f"h{i}"},
        }
        for i in range(TARGETS // each)
    )
    return b"[" + b", ".join(json.dumps(group).encode() for group in groups) + b"]"


def _cpu_s(work: Callable[[], object]) -> float:
    started = time.process_time()
    made = work()
    took = time.process_time() - started
    del made
    return took


def _each_us(took: list[float]) -> str:
    return f"{statistics.median(took) / TARGETS * 1e6:.2f}"
