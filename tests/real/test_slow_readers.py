"""Scrapers that look at their lists seldom, and at nothing between: hand-overs wait for them."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from tests.real.conftest import server
from tests.real.moving import Job, Kind, lab
from tests.rows import Seen
from tests.waiting import until

NO_WATCH = ["unshare", "--user", "--map-root-user", "sh", "-c"]
NO_WATCH += ['echo 0 > /proc/sys/user/max_inotify_watches && exec "$@"', "sh"]
"""In a user namespace, which has inotify watches of its own."""
SELDOM = "10s"
JOB = "node"


def needs_user_namespaces() -> None:
    if subprocess.run([*NO_WATCH, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespaces on this machine")


@pytest.mark.row(
    49, 50, did=f"a drain to a Prometheus without inotify watches, and to a vmagent, that read files each {SELDOM}"
)
async def test_a_drain_waits_for_who_reads_its_list_seldom(tmp_path: Path, seen: Seen) -> None:
    needs_user_namespaces()
    prometheus = server("prometheus")
    kinds = [Kind(prometheus), Kind(prometheus), Kind(server("vmagent"), check=SELDOM)]
    async with lab(
        tmp_path, kinds, [Job(JOB, interval_s=3.0, service={"handover": {"overlap": "1s"}})], running=0, start=False
    ) as fleet:
        drained, unwatched, _ = fleet.scrapers
        unwatched.arguments[:0] = NO_WATCH
        scraped = fleet.scrape_job(fleet.jobs[JOB], unwatched)
        scraped["file_sd_configs"][0]["refresh_interval"] = SELDOM
        unwatched.configure([scraped])
        await asyncio.gather(*map(fleet.start, fleet.scrapers))
        fleet.controller.configure(fleet.config())
        await fleet.controller.start()
        await fleet.controller.until(lambda: fleet.controller.is_ready(fleet.session), "promring")
        await fleet.quiet()
        assert "Error adding file watch" in unwatched.log_tail(50)
        moved, since = fleet.slice_of(JOB, drained), time.monotonic()
        await fleet.drain(drained, [JOB])

        took = await until(lambda: not fleet.slice_of(JOB, drained), "all of its targets have left", 60)
        await fleet.quiet()
        found = fleet.tally(JOB, since)
        assert found.missed == 0, found
    seen(f"{len(moved)} targets left after {took:.0f} s; 0 of {found.expected} scrapes missed")
