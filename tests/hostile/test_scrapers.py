"""Scrapers that answer anything at all, against everything that asks a scraper: audit, probes, direct probes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap

import pytest

from promring.audit.look import Look
from promring.audit.settings import AuditKeys
from promring.audit.watch import Audit
from promring.config.scraper_api import PLAIN
from promring.core.coverage import Seen as Sighting
from promring.core.joined import FleetPool, Part
from promring.core.placement import Policy, place
from promring.core.ring import Ring
from promring.core.sight import Sight
from promring.membership import direct
from promring.membership.direct import DirectProbes
from promring.membership.probing import ProbeMembership
from promring.model import Answer, Known, Members, Placement, Reply, Scraper
from promring.telemetry import log
from tests.fakes.hostile import HostilePeer, Shape
from tests.hostile.drive import play_all, running
from tests.laws.strategies import pool_of
from tests.rows import Seen
from tests.sources import probing_every
from tests.waiting import until

TARGET = {
    "discoveredLabels": {"__address__": "t:1", "job": "x", "__promring_id__": "0123456789abcdef"},
    "labels": {"instance": "t:1"},
    "scrapePool": "x",
    "lastScrape": "2026-01-01T00:00:00Z",
    "health": "up",
}
TARGETS = Shape(
    b'{"status":"success","data":{"activeTargets":[',
    json.dumps(TARGET).encode(),
    b'],"droppedTargets":[]}}',
    keys=("discoveredLabels", "labels", "scrapePool", "lastScrape", "health"),
)


def scraper_at(peer: HostilePeer) -> Scraper:
    return Scraper(peer.address, peer.host, peer.port)


def auditing(placement: Placement, received: dict[str, Sighting], timeout_s: float = 1.0) -> Audit:
    def receive(sight: Sight) -> None:
        received.clear()
        received.update(sight.seen)

    settings, looks = AuditKeys(interval=0.05, timeout=timeout_s), {"x": Look("x", "x", 0, log.get())}
    return Audit(settings, PLAIN, looks, lambda: placement, lambda: (), receive, asyncio.Event(), None, log.get())


@pytest.mark.row(52, did="a scraper answers every hostile thing to the audit, another one is honest")
async def test_an_audit_outlives_whatever_a_scraper_answers_and_hides_nobody_else(seen: Seen) -> None:
    async with HostilePeer(TARGETS) as bad, HostilePeer(TARGETS) as good:
        members = tuple(sorted((scraper_at(bad), scraper_at(good))))
        placement, received = (
            place(FleetPool.of({"x": Part(pool_of(["t:1"]))}), Ring(members, 8), Policy(8)),
            dict[str, Sighting](),
        )
        audit = auditing(placement, received)
        failed = audit.looks["x"].failed
        async with running(audit.run()) as task:
            await until(lambda: bad.address in received and good.address in received, "both seen")
            seen(await play_all(bad, task, others=lambda: good.address in received and good.address not in failed))
            await until(lambda: bad.address in received and not failed, "believed when it is honest")


@pytest.mark.row(52, did="a scraper answers every hostile thing to its probe")
async def test_probes_outlive_whatever_a_scraper_answers(long: bool, seen: Seen) -> None:
    async with HostilePeer(TARGETS) as bad, HostilePeer(TARGETS) as good:
        answers: list[Answer[Members]] = []
        both = (scraper_at(bad), scraper_at(good))
        probes = ProbeMembership("s", both, probing_every(0.05, 1.0), log.get())

        def up() -> bool:
            newest = answers[-1]
            return isinstance(newest, Known) and both[1] in newest.value

        async with running(probes.run(answers.append)) as task:
            await until(lambda: bool(answers) and answers[-1] == Known(tuple(sorted(both))), "both up")
            seen(await play_all(bad, task, others=up, every=1 if long else 2))
            await until(lambda: answers[-1] == Known(tuple(sorted(both))), "both up again")


@pytest.mark.row(52, did="a suspected scraper answers every hostile thing to a direct probe")
async def test_direct_probes_outlive_whatever_a_scraper_answers(long: bool, seen: Seen) -> None:
    async with HostilePeer(TARGETS) as bad, HostilePeer(TARGETS) as good:
        changed, verdicts = asyncio.Event(), dict[str, Reply]()
        suspects = (scraper_at(bad), scraper_at(good))
        probes = DirectProbes("/", 1.0)
        work = probes.run(lambda: suspects, changed, lambda name, reply: verdicts.update({name: reply}))
        async with running(work) as task:
            await until(lambda: len(verdicts) == 2, "both alive")
            said = await play_all(
                bad, task, others=lambda: verdicts[good.address] is Reply.ANSWERS, nudge=changed.set, every=1 if long else 2
            )
            seen(said)
            await until(lambda: verdicts[bad.address] is Reply.ANSWERS, "alive again", 3 * direct.PAUSE_S + 30)


MEMORY = """
    import sys
    from pathlib import Path
    from promring.audit.active import AuditError, Told, seen_by_pool
    from promring.core.coverage import Index
    from promring.delivery.receiver import Envelope, RefusedError, check
    from promring.model import Generation
    from tests.laws.strategies import pool_of
    import hashlib

    kind, index = sys.argv[1], Index(pool_of(["t:1"]))
    entry = {"empty": b"{}", "labels": b'{"discoveredLabels":{"":""},"scrapePool":"x"}', "group": b'{"targets":[]}'}[kind]
    count = 8 * 1024 * 1024 // (len(entry) + 1)
    entries = (entry + b",") * count + entry
    body = b'{"status":"success","data":{"activeTargets":[' + entries + b"]}}" if kind != "group" else b"[" + entries + b"]"
    del entries


    def peak_mib():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = peak_mib()
    try:
        if kind == "group":
            check(Envelope(body, hashlib.sha256(body).hexdigest(), Generation(1, 1)))
        else:
            seen_by_pool(Told(body, 1.0), {"x": index}, 1.0)
    except (AuditError, RefusedError) as error:
        print(str(error)[:80], file=sys.stderr)
    print(peak_mib() - before)
"""


@pytest.mark.row(52, did="8 MB of entries that are as short as can be: in an answer to the audit, in a slice to a receiver")
@pytest.mark.parametrize("kind", ["empty", "labels", "group"])
def test_many_short_entries_take_a_bounded_amount_of_memory(kind: str, seen: Seen) -> None:
    """85 times the body before; measured in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEMORY), kind], capture_output=True, text=True, timeout=120, check=True
    )
    grew_mib = float(done.stdout)
    seen(f"{kind}: {grew_mib:.0f} MiB beside the answer")
    assert grew_mib < 100, done.stderr
