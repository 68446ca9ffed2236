"""A fleet: controllers, and perhaps agents, in a world; how it is built, driven and healed, and what it must come to."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from promring.model import NONE_FAILING
from tests.sim import membership
from tests.sim.controller import Agent, Controller
from tests.sim.drawing import FULL, drawn
from tests.sim.faketime import HERE
from tests.sim.jobs import Job, Source, targets_of
from tests.sim.lockstores import CONSUL, KUBECONFIG, Store
from tests.sim.scraper import Scraper
from tests.sim.traits import PORT, Traits, is_mixed
from tests.sim.world import World, Write

CONVERGE_S, SETTLES = 200.0, 4
"""The last fault may show only when all has converged; what comes of it may go on for so many waits."""
TOLD = int(os.environ.get("SIM_TOLD", "120"))
"""So many of the last events are shown of a run that failed."""

CONTROLLERS = (1, 2, 2, 3)
SCRAPERS = (4, 5, 5, 6, 8)
"""How many there are. A run costs in proportion to both: most fleets are small."""
MEANS = ("far", "file", "agent", "http_sd")
BYSTANDERS = ("bystander-0", "bystander-1")


class BrokenError(AssertionError):
    """An invariant does not hold."""

    def __init__(self, seed: int, what: str, trace: list[str]) -> None:
        super().__init__(what)
        self.seed, self.what, self.trace = seed, what, trace

    def __str__(self) -> str:
        again = f"seed {self.seed}: {self.what}\nalone: SIM_SEEDS={self.seed} pytest tests/sim/test_seeds.py"
        return "\n".join([again, *self.trace[-TOLD:]])


class Fleet:
    def __init__(self, seed: int, world: World) -> None:
        self.seed, self.world, self.rng = seed, world, random.Random(seed)
        self.means = MEANS[seed % len(MEANS)]
        self.fetched = self.means in ("agent", "http_sd")
        self.size = self.rng.choice(CONTROLLERS)
        self.membership = membership.drawn(self)
        self.registers = (self.rng.random() < 0.5) & isinstance(self.membership, membership.InConsul)
        """Whether promring registers the scrapers in Consul."""
        self.mixed = self.means == "http_sd" and is_mixed(seed)
        """Whether every other scraper reads a file, which the leader writes, and the others ask any controller."""
        world.furnish(self.rng.choice(SCRAPERS), Traits.drawn(self.rng, polls=self.means == "http_sd"), mixed=self.mixed)
        self.spread = self.rng.random() < 0.5
        """Whether scrapers that fetch their lists ask different controllers."""
        self.accompanied = self.rng.random() < 0.3
        """Whether there is another service."""
        self.agents: dict[str, Agent] = {}
        self.drained: set[str] = set()
        """Who shall be drained."""
        self.wanted = drawn(self)
        self.faults: list[str] = []
        self.lost_epochs = False
        """Whether Consul forgot which epoch was the last one."""
        self._background: list[asyncio.Task[None]] = []
        self._expected: tuple[object, dict[str, dict[str, bytes]]] | None = None

    def note(self, _: object, level: str, event: MutableMapping[str, Any]) -> Any:
        process = HERE.get()
        name = process.name if process else "-"
        fields = " ".join(f"{k}={v}" for k, v in event.items() if k not in ("event", "srv_name"))
        if event["event"] == "epoch_raised" and not self.lost_epochs:
            self.world.wrong("I7: somebody wrote in a higher epoch than the leader's")
        self.world.say(f"{name} {level} {event['event']} {fields}".replace(str(self.world.folder), ""))
        raise structlog.DropEvent

    # --- begin, end, time --------------------------------------------------------------------------------------------

    async def end(self) -> None:
        for controller in self.world.controllers.values():
            await controller.kill()
        for agent in self.agents.values():
            await agent.kill()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def weight(self) -> float:
        """Of all scrapers."""
        return sum(s.weight for s in self.world.scrapers.values())

    @property
    def room(self) -> float:
        """How much load there may be."""
        return self.wanted.capacity * self.weight if self.wanted.capacity else float("inf")

    def start(self) -> None:
        world, rng = self.world, self.rng
        world.ever = {t for job in self.wanted.jobs.values() for t in job.targets}
        if self.accompanied:
            sinks = world.folder / "others"
            world.bystanders = {f"{h}:{PORT}": Scraper(h, sinks / h) for h in BYSTANDERS}
            world.other_source = Source([f"n{n}.first.others:9100" for n in range(12)])
        world.lock = self.wanted.lock
        kubeconfig = world.folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(KUBECONFIG))
        self.wanted.kubeconfig = str(kubeconfig)
        self.configure()
        names = [f"controller-{n}" for n in range(self.size)]
        world.controllers = {name: Controller(name, world, self._config) for name in names}
        if not self.registers:
            self.membership.write()
        for controller in world.controllers.values():
            controller.start()
        if self.means == "agent":
            for scraper in world.scrapers.values():
                scraper.pulls = True
                self.agents[scraper.id] = Agent(scraper, names[:: rng.choice((1, -1))])
                self.agents[scraper.id].start()
        works = world.consul.run(), self._look_each_second(), world.pace.stand_still(world.controllers, self.agents)
        self._background = [asyncio.create_task(work) for work in works]
        if self.means == "http_sd":
            for number, scraper in enumerate(s for s in world.scrapers.values() if s.traits.poll_s):
                first = number % len(names) if self.spread else 0
                asked = [*names[first:], *names[:first]]
                for job in self.wanted.jobs:
                    self._background.append(scraper.process.start(world.network.polls(scraper, job, asked)))

    @property
    def _config(self) -> Path:
        return self.world.folder / "promring.yml"

    def configure(self) -> None:
        """Write down what is wanted: a controller that starts, or reloads, reads it."""
        world = self.world
        sink = str(world.folder / "sinks" / "{host}_{port}" / "{service}.json")
        means: dict[str, dict[str, Any]] = {"http_sd": {}, "file": {"path": sink}}
        delivery = [{name: one} for name, one in means.items() if self.mixed or (name == "http_sd") == self.fetched]
        others = {
            "name": "others",
            "scrapers": {"probe": {"nodes": list(world.bystanders), "path": "/-/healthy", "interval": "5s"}},
            "targets": [{"http": {"url": "http://cmdb/others", "refresh_interval": "5s"}}],
            "delivery": [{"file": {"path": str(world.folder / "others" / "{host}" / "{port}.json")}}],
        }
        scrapers = self.membership.settings(self.wanted.check)
        settings = self.wanted.settings(scrapers, delivery, [others] if self.accompanied else [])
        self._config.write_text(json.dumps(settings))
        world.jobs, world.fleet = {job.name: job for job in self.wanted.here}, self.wanted.fleet
        world.capacity = self.wanted.capacity

    async def reload(self) -> None:
        """After ``configure``: all controllers, one after the other."""
        self.configure()
        for controller in self.world.controllers.values():
            await controller.reload()
            await asyncio.sleep(self.rng.uniform(0.0, 1.0))

    async def _look_each_second(self) -> None:
        while await asyncio.sleep(1.0, result=True):
            self.world.look()
            self.membership.look()

    async def let_pass(self, seconds: float) -> None:
        """Let time go by, and see that nothing broke."""
        ends_at = self.world.now + seconds
        while self.world.now < ends_at:
            await asyncio.sleep(min(1.0, max(0.001, ends_at - self.world.now)))
            self._see()

    def _see(self) -> None:
        if self.world.broken:
            self.broken(self.world.broken[0])

    def broken(self, what: str) -> None:
        lock = f", lock in {self.wanted.lock}" if self.wanted.lock else ""
        lock += f", scrapers in {self.membership.kind}" if self.membership.kind != CONSUL else ""
        raise BrokenError(self.seed, f"{what} [{self.means}, {self.size} controllers{lock}]", self.world.trace)

    def say_fault(self, text: str) -> None:
        self.faults.append(text)
        self.world.say(f"FAULT {text}")

    # --- what must be true in the end --------------------------------------------------------------------------------

    def expected(self) -> dict[str, dict[str, bytes]]:
        """What each live scraper shall have, by job."""
        world = self.world
        listed, placed = self.membership.listed, self.membership.placed
        live = {s.id for s in listed.values() if s.answers and not s.hidden}
        weights = tuple(s.weight for s in world.scrapers.values())
        lists, drained = [list(s.targets) for s in world.sources.values()], self.drained | self.membership.drained
        wanted = self.wanted
        policy = str(replace(wanted, jobs={}, _pools={})), [j.replicas for j in wanted.here]
        of = placed.keys(), live, drained, weights, lists, policy
        if self._expected is None or self._expected[0] != of:
            self._expected = of, wanted.slices(placed, live, drained)
        return self._expected[1]

    def _apart(self) -> list[str]:
        """Who has, or scrapes, something else than is expected."""
        waiting = () if self.world.settled else self.world.bystanders.values()
        apart = [f"{s.id} has no slice" for s in waiting if not any(s.folder.glob("*.json"))]
        for name, bodies in self.expected().items():
            scraper = self.world.scrapers[name]
            if other := [job for job, body in bodies.items() if not self._holds(scraper, job, body)]:
                apart.append(f"{name} has another slice of {', '.join(other)}")
            elif scraper.scraped != {t for t in scraper.in_file if not scraper.traits.drops(t)}:
                apart.append(f"{name} does not scrape its slices")
        return apart

    def _holds(self, scraper: Scraper, job: str, body: bytes) -> bool:
        if scraper.traits.poll_s:
            since = scraper.fetched_at.get(job, 0.0)
            return sorted(scraper.of(job)) == sorted(targets_of(body)) and scraper.started_at < since
        file = scraper.file(job)
        return file.exists() and file.read_bytes() == body

    async def converged(self, when: str, within_s: float = CONVERGE_S) -> float:
        """I1, I5, I6, I12: within bounds every target is on the live scraper where the pure core puts it."""
        began = self.world.now
        within_s += (4 if within_s < CONVERGE_S else 8) * (self.world.traits.stage_s - 1.0)
        while apart := self._apart():
            await self.let_pass(1.0)
            self.drain()
            if self.world.now - began > within_s:
                self.broken(f"I12: not converged {within_s:g} s {when}: {'; '.join(apart[:3])}")
        self.world.settled = True
        self.world.say(f"converged {when}, after {self.world.now - began:.1f} s")
        return self.world.now - began

    async def quiet(self, when: str, seconds: float) -> None:
        """I9, I12: nothing is written, once what was under way is over; on busy machines a new leader's epoch is noted."""
        settles, ends_at = SETTLES, self.world.now + CONVERGE_S
        while settles > 0:
            waits, before = self._goes_without() and self.world.now < ends_at, len(self.world.writes)
            settles -= not waits
            await self.let_pass(45.0 if self.means == "agent" else 5.0 + self.world.traits.stage_s)
            if len(self.world.writes) == before and not self._holds_back() and not waits:
                break
        writes, notes = len(self.world.writes), self.world.notes
        await self.let_pass(seconds)
        if len(self.world.writes) > writes or (self.world.notes > notes and not self.world.pace.busy):
            self.broken(f"I12: not quiet {when}")

    def _holds_back(self) -> bool:
        """Whether somebody is yet to get a list, after a start without a state: by time at the latest."""
        found = (controller.fleet() for controller in self.world.controllers.values())
        return any(one.reconciler.moves.takeover.held_back.until for one in found if one)

    def _goes_without(self) -> bool:
        """Whether some controller places targets without a scraper that failed lately: it gets them back by time."""
        found = (controller.fleet() for controller in self.world.controllers.values())
        return any(one.reconciler.moves.failing != NONE_FAILING for one in found if one)

    async def no_write_in(self, seconds: float, while_: str, but: Collection[str] = ()) -> None:
        """I3, I11, I17: no sink gets other bytes, of the jobs that are not named. Who comes late gets what was in force."""
        before, ends_at, had = len(self.world.writes), self.world.now + seconds, self._in_force()
        while self.world.now < ends_at:
            await self.let_pass(1.0)
            counted = [w for w in self.world.writes[before:] if w.job not in but and not w.dropped]
            if written := [w for w in counted if not self._came_late(w, had)]:
                self.broken(f"I11: {written[-1].scraper} was written, {written[-1].job}, while {while_}")

    def _in_force(self) -> dict[tuple[str, str], list[bytes]]:
        """By scraper and job, of all controllers."""
        found: dict[tuple[str, str], list[bytes]] = {}
        for one in filter(None, (controller.fleet() for controller in self.world.controllers.values())):
            for slice_ in one.reconciler.memory.every_slice:
                found.setdefault((slice_.scraper.id, slice_.service), []).append(slice_.body)
        return found

    def _came_late(self, write: Write, had: Mapping[tuple[str, str], Sequence[bytes]]) -> bool:
        scraper = self.world.scrapers.get(write.scraper)
        if scraper is None or not scraper.traits.poll_s:
            return False
        bodies = had.get((write.scraper, write.job), ())
        return any(sorted(scraper.of(write.job)) == sorted(targets_of(body)) for body in bodies)

    def heal(self) -> None:
        """End every fault that has not ended by itself."""
        world = self.world
        for store in world.lock_stores.values():
            store.fault = ""
        world.network.heal()
        for job in self.wanted.jobs.values():
            for source in job.sources.values():
                source.mode = ""
        self.drained.clear()
        for scraper in world.scrapers.values():
            scraper.heal()
            if not scraper.up:
                self.restart(scraper)
        for controller in world.controllers.values():
            if controller.process.frozen:
                controller.process.thaw()
            if not controller.runs:
                controller.start()
        self.membership.heal()

    @property
    def lock_store(self) -> Store | None:
        """None: it is Consul, or there is none."""
        return self.world.lock_stores.get(self.wanted.lock)

    def restart(self, scraper: Scraper) -> None:
        """It may have a log to replay."""
        scraper.restart(self.world.now, self.rng.choice((0.0, 0.0, 10.0, 30.0, 60.0)))

    def drain(self) -> None:
        """A person asks whoever leads for what is wanted, and those again that refused a configuration."""
        for controller in self.world.controllers.values():
            controller.reload_again()
            for name in self.world.scrapers:
                controller.drain(name, back=name not in self.drained)

    def release(self, job: Job) -> bool:
        """A person asks whoever leads to believe what the sources of a job say. Whether anything was held."""
        for controller in self.world.controllers.values():
            fleet = controller.fleet()
            if fleet is not None and controller.leads and not controller.process.frozen:
                return bool(controller.process.run(lambda f=fleet: f.reconciler.release(job.name)))  # type: ignore[misc]
        return False

    def for_s(self, *choices: float) -> float:
        return self.rng.choice(choices) * self.rng.uniform(0.5, 1.5)

    def a_scraper(self) -> Scraper:
        return self.rng.choice(list(self.world.scrapers.values()))

    def a_lie(self) -> str:
        """vmagent has no limit of that kind."""
        return self.rng.choice(("still", "pool") if self.world.traits.server == "vmagent" else ("limited", "still", "pool"))

    def some_scrapers(self) -> list[Scraper]:
        return self.rng.sample(list(self.world.scrapers.values()), self.rng.randint(2, len(self.world.scrapers)))

    def a_source(self) -> Source:
        return self.rng.choice(list(self.world.sources.values()))

    def a_job(self) -> Job:
        return self.rng.choice(list(self.world.jobs.values()))

    def grow(self, job: Job) -> None:
        """New targets in its first source, as many as have a place: which one lacks it is for who came first."""
        number, more = len(self.world.ever), self.rng.randint(1, 30 // job.replicas)
        if self.wanted.load + more * job.replicas > FULL * self.room:
            return
        self.add(job, [f"n{n}.more{number}.{job.name}:9100" for n in range(more)])
        self.wanted.fit(job.sources["first"], more, self.world.scrapers)

    def add(self, job: Job, targets: list[str]) -> None:
        job.sources["first"].targets = [*job.sources["first"].targets, *targets]
        self.world.ever |= set(targets)

    def a_controller(self) -> Controller:
        """Rather the one who leads."""
        leaders = [c for c in self.world.controllers.values() if c.leads]
        return self.rng.choice(leaders or list(self.world.controllers.values()))
