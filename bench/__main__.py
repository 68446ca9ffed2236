"""``python -m bench [placement] [freshness] [failover] …``: all of them unless some are named, but for ``moves``.

That one takes 25 minutes: ``python -m bench moves [--quick] [--only WORD …] [--json FILE]``.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
from collections.abc import Callable, Coroutine
from pathlib import Path

from bench import (
    agents,
    allocator,
    churn,
    comparison,
    engine,
    failover,
    freshness,
    handover,
    lists,
    load,
    loads,
    memory,
    movement,
    moves,
    opinions,
    page,
    placement,
    rest,
    scale,
    services,
    stall,
    stall_large,
    state,
)
from bench.report import console
from promring.telemetry import log

BENCHES: dict[str, Callable[[], Coroutine[None, None, None]]] = {
    "placement": placement.run,
    "movement": movement.run,
    "loads": loads.run,
    "lists": lists.run,
    "freshness": freshness.run,
    "stall": stall.run,
    "stall_large": stall_large.run,
    "agents": agents.run,
    "engine": engine.run,
    "handover": handover.run,
    "rest": rest.run,
    "scale": scale.run,
    "services": services.run,
    "churn": churn.run,
    "state": state.run,
    "memory": memory.run,
    "failover": failover.run,
    "comparison": comparison.run,
    "allocator": allocator.run,
    "load": load.run,
    "load_large": load.run_large,
    "opinions": opinions.run,
    "page": page.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", choices=[*BENCHES, "moves", []])
    parser.add_argument("--quick", action="store_true", help="moves: a few of them, three minutes")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="moves: courses whose name has one of these")
    parser.add_argument("--json", type=Path, default=moves.FILE, help="moves: where the rows go, too")
    chosen = parser.parse_args()
    names = chosen.names or list(BENCHES)
    log.configure("error")
    console.print(f"bench: {', '.join(names)} on {platform.machine()}, Python {platform.python_version()}")
    for name in names:
        if name == "moves":
            asyncio.run(moves.run(quick=chosen.quick, only=chosen.only, file=chosen.json))
        else:
            asyncio.run(BENCHES[name]())


if __name__ == "__main__":
    main()
