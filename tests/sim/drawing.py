"""What a seed says of a fleet: its jobs, replicas, zones, weights, capacity, and where its lock is."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from tests.sim.jobs import NAMES, Job
from tests.sim.lockstores import CONSUL, ETCD, KUBERNETES
from tests.sim.wanted import Wanted

if TYPE_CHECKING:
    from tests.sim.fleet import Fleet

LOCKS = (CONSUL, CONSUL, ETCD, KUBERNETES)
FULL, FULL_AT_FIRST = 0.75, 0.6
"""Of what the scrapers have room for: sources grow until the scrapers are so full."""


def drawn(fleet: Fleet) -> Wanted:
    """How many jobs, how often each target is scraped, zones, weights, capacity."""
    rng, count = fleet.rng, fleet.rng.choice((1, 1, 2, 2, 3))
    sizes = ((30, 60), (0, 15)) if count == 1 else ((8, 25), (0, 8))
    jobs = {}
    for name in NAMES[: count + 1]:
        replicas = rng.choice((1, 1, 1, 2, 3))
        jobs[name] = Job.of(name, [rng.randint(*size) // (1 + replicas // 2) for size in sizes], replicas)
    zones, uneven = rng.choice((0, 0, 2, 3)), rng.random() < 0.3
    for number, scraper in enumerate(fleet.world.scrapers.values()):
        scraper.zone = "abc"[number % zones] if zones else ""
        scraper.weight = rng.choice((0.5, 1.0, 2.0)) if uneven else 1.0
        if fleet.membership.names_only:
            scraper.zone, scraper.weight = "", 1.0
    wanted = Wanted(jobs, set(NAMES[:count]), count > 1 or rng.random() < 0.5)
    wanted.load_factor = rng.choice((1.10, 1.10, 1.5))
    wanted.lock = random.Random(f"lock {fleet.seed}").choice(LOCKS) if fleet.size > 1 else ""
    wanted.check = fleet.world.traits.check
    if rng.random() < 0.33:
        wanted.capacity = math.ceil(wanted.load / (fleet.weight * FULL_AT_FIRST))
    return wanted
