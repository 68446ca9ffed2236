"""``python -m bench [placement] [freshness] [failover]``: all of them unless some are named."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Callable, Coroutine

from bench import agents, failover, freshness, handover, placement, rest, scale, stall
from bench.report import console
from promring import log

BENCHES: dict[str, Callable[[], Coroutine[None, None, None]]] = {
    "placement": placement.run,
    "freshness": freshness.run,
    "stall": stall.run,
    "agents": agents.run,
    "handover": handover.run,
    "rest": rest.run,
    "scale": scale.run,
    "failover": failover.run,
}


def main() -> None:
    names = sys.argv[1:] or list(BENCHES)
    if unknown := [name for name in names if name not in BENCHES]:
        raise SystemExit(f"no bench {unknown[0]!r}; there is {', '.join(BENCHES)}")
    log.configure("error")
    console.print(f"bench: {', '.join(names)} on {platform.machine()}, Python {platform.python_version()}")
    for name in names:
        asyncio.run(BENCHES[name]())


main()
