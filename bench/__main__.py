"""``python -m bench [failover] [freshness]``: all of them unless some are named."""

from __future__ import annotations

import asyncio
import platform
import sys

from bench import failover, freshness
from bench.report import console
from promring import log

BENCHES = {"freshness": freshness.run, "failover": failover.run}


def main() -> None:
    names = sys.argv[1:] or list(BENCHES)
    if unknown := [name for name in names if name not in BENCHES]:
        raise SystemExit(f"no bench {unknown[0]!r}; there is {', '.join(BENCHES)}")
    log.configure("error")
    console.print(f"bench: {', '.join(names)} on {platform.machine()}, Python {platform.python_version()}")
    for name in names:
        asyncio.run(BENCHES[name]())


main()
