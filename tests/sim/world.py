"""The world around the controllers: scrapers with their disks, sources, Consul, the network; and what must always be true.

Everything here is a fake but the receiver of a slice, which is ``delivery.receiver`` on a real folder. ``World.broken``
collects what must not happen, as it happens.
"""

from __future__ import annotations

import errno
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from promring.consul.lock import LEASE_MOST_S
from promring.delivery import receiver
from promring.delivery.receiver import Envelope
from promring.model import Generation, Slice
from tests.sim.consul import Consul
from tests.sim.faketime import HERE, Clock, FakeLoop, Process
from tests.sim.jobs import Job, Source, job_of, targets_of
from tests.sim.lockstores import ETCD, KUBERNETES, Etcd, Kubernetes
from tests.sim.network import Network
from tests.sim.pace import Pace
from tests.sim.proof import Claims, Heirs, Moves, Off
from tests.sim.scraper import Scraper
from tests.sim.traits import PORT, Traits
from tests.sim.wanted import OVERLAP_S

if TYPE_CHECKING:
    from tests.sim.controller import Controller
    from tests.sim.pods import Pods

RECENT_S = 20.0
"""What befell a scraper so long ago may not have been known when something was decided."""


NOTHING = Generation(0, 0), ""


class Write(NamedTuple):
    """``dropped``: only targets that relabelling drops came or went, which are tried elsewhere now and then."""

    at: float
    scraper: str
    job: str
    dropped: bool


@dataclass
class Given:
    """What a controller gives one scraper: ``since`` when it is in the plan, if not from its start; the slice's digest; its
    targets, since when.
    """

    since: float
    digest: str = ""
    targets: dict[str, float] = field(default_factory=dict)


class World:
    def __init__(self, loop: FakeLoop, rng: random.Random, folder: Path, *, pace: Pace, strict: bool) -> None:
        self.loop, self.rng, self.folder = loop, rng, folder
        self.clock, self.pace = Clock(loop), pace
        self.traits = Traits()
        self.scrapers: dict[str, Scraper] = {}
        self.bystanders: dict[str, Scraper] = {}
        """Of another service; nothing befalls them."""
        self.settled = False
        """Whether the bystanders have what they shall have."""
        self.jobs: dict[str, Job] = {}
        """Those that are configured, of the fleet that is looked at."""
        self.fleet = ""
        """Its name."""
        self.capacity: int | None = None
        """How much load a scraper of weight 1 may have."""
        self.other_source = Source([])
        self.network = Network(self)
        self.consul = Consul(loop.time, self.network.passes)
        self.lock_stores = {ETCD: Etcd(loop.time), KUBERNETES: Kubernetes(loop.time)}
        self.lock = ""
        """Which store the controllers have the lock in, if they have one."""
        self.pods: Pods | None = None
        """Where the scrapers are pods."""
        self.hides: Callable[[Scraper, str], bool] = lambda _, __: False
        """Whether a scraper is hidden from who asks it for this path."""
        self.controllers: dict[str, Controller] = {}
        self.cut_off: set[tuple[str, str]] = set()
        """Who does not reach whom."""
        self.denied: set[tuple[str, str]] = set()
        """Who lacks which right; see ``rights``."""
        self.broken: list[str] = []
        self.trace: list[str] = []
        self.writes: list[Write] = []
        """When which sink's bytes changed."""
        self.notes = 0
        """How often a receiver noted a generation."""
        self.strict = strict
        """Whether known weaknesses count, too; see ``weak``."""
        self.takes: list[tuple[float, str, int]] = []
        """When which scraper got a list without so many of the targets that it had, which are still listed."""
        self.moves, self.claims = Moves(self), Claims(self)
        self._made: dict[tuple[str, str, str, Generation], tuple[Process, float]] = {}
        """Who made which slice, and when: job, scraper, digest, generation."""
        self._given: dict[tuple[Process, str], dict[str, Given]] = {}
        """What each controller gives of a job to each scraper of its plan."""
        self._came: dict[tuple[Process, str, str], float] = {}
        """When a controller last took a scraper into its plan of a job."""
        self.forgot_at: dict[str, float] = {}
        """When each controller last lost its state; once it has a plan again, since when it has one."""
        self.forgetful: set[str] = set()
        """Controllers that have had no plan since they lost their state."""
        self.short_at = float("-inf")
        """When a source last said less than there is."""
        self._pusher: tuple[Process | None, float] = (None, 0.0)
        """Who pushes, and since when."""
        self.ever: set[str] = set()
        """Every target that was ever listed."""

    @property
    def locked(self) -> bool:
        """Whether the controllers have a lock."""
        return bool(self.lock)

    @property
    def now(self) -> float:
        return self.loop.time()

    def say(self, text: str) -> None:
        self.trace.append(f"{self.now - 1000:9.3f}  {text}")

    def wrong(self, text: str) -> None:
        self.say(f"BROKEN {text}")
        self.broken.append(text)

    def furnish(self, scrapers: int, traits: Traits, *, mixed: bool = False) -> None:
        """With so many scrapers, which have that in common; ``mixed``: but that every other one reads files."""
        self.traits = traits
        sinks = self.folder / "sinks"
        for number, host in enumerate(f"scraper-{n}" for n in range(scrapers)):
            theirs = replace(traits, poll_s=0.0) if mixed and number % 2 == 0 else traits
            self.scrapers[f"{host}:{PORT}"] = Scraper(host, sinks / f"{host}_{PORT}", theirs)

    def anybody(self, name: str) -> Scraper:
        return self.scrapers.get(name) or self.bystanders[name]

    @property
    def sources(self) -> dict[str, Source]:
        return {f"{job.name}/{name}": source for job in self.jobs.values() for name, source in job.sources.items()}

    def truth(self) -> set[str]:
        """What the sources list, of all jobs."""
        return set().union(*(source.targets for job in self.jobs.values() for source in job.sources.values()))

    def given(self, job: str) -> set[str]:
        """What of a job is in the newest plan of who leads."""
        found: set[str] = set()
        for controller in self.controllers.values():
            if controller.leads:
                given = self._given.get((controller.process, job), {})
                found |= {t for one in given.values() for t in one.targets}
        return found

    def forget(self, job: str) -> None:
        """It is in no configuration any more: what was planned of it says nothing when it comes back."""
        self._given = {key: given for key, given in self._given.items() if key[1] != job}

    # --- receivers ---------------------------------------------------------------------------------------------------

    def made(self, slices: Sequence[Slice]) -> None:
        """A controller put these in force."""
        process = HERE.get()
        assert process is not None
        if not slices or slices[0].service not in self.jobs:
            return
        if process.name in self.forgetful:
            self.forgetful.discard(process.name)
            self.forgot_at[process.name] = self.now
        job = slices[0].service
        before = self._given.get((process, job), {})
        self._given[process, job] = {}
        for one in slices:
            self._made.setdefault((job, one.scraper.id, one.sha256, one.generation), (process, self.now))
            given = before.get(one.scraper.id) or Given(self.now if before else float("-inf"))
            self._came[process, job, one.scraper.id] = given.since
            if given.digest != one.sha256:
                given = Given(given.since, one.sha256, {t: given.targets.get(t, self.now) for t in targets_of(one.body)})
            self._given[process, job][one.scraper.id] = given
        for name, now in self._given[process, job].items():
            if (had := before.get(name)) is not None and had is not now:
                scraper, gone = self.scrapers[name], had.targets.keys() - now.targets.keys()
                self.moves.gives(
                    process.name, scraper, now.targets, gone, self._heirs(process, job, scraper) if gone else {}
                )

    def pushes(self) -> None:
        """A controller begins to write. It may, as long as it was told less than a lease ago that it has the lock."""
        process = HERE.get()
        assert process is not None
        if self._pusher[0] is not process:
            self._pusher = process, self.now
        store = self.lock_stores.get(self.lock, self.consul)
        told_at = store.confirmed_at.get(process.name, float("-inf"))
        if self.locked and self.now - told_at > LEASE_MOST_S + 0.001:
            self.wrong(f"lease: {process.name} pushes {self.now - told_at:.1f} s after it last heard that it leads")

    def install(self, real: Callable[..., None]) -> Callable[..., None]:
        """Looks at what ``disk.install`` leaves behind."""

        def install(path: Path, body: bytes, **options: int) -> None:
            everybody = [*self.scrapers.values(), *self.bystanders.values()]
            scraper = next((s for s in everybody if path.parent == s.folder), None)
            if scraper is None:
                real(path, body, **options)
                return
            process = HERE.get()
            if process is not None and process.name in self.controllers:
                self.pushes()
            if any(f"{job}.json" in path.name for job in scraper.refuses):
                raise OSError(errno.EACCES, "Permission denied", str(path))
            if scraper.disk == "full":
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            real(path, body, **options)
            if scraper.id in self.bystanders:
                self._bystander_has(scraper, body)
            elif path.suffix == ".json" and path.stem in self.jobs:
                if not scraper.traits.poll_s:  # who asks for its list reads no file
                    self._installed(scraper, path.stem)
            else:
                self.notes += 1

        return install

    def _bystander_has(self, scraper: Scraper, body: bytes) -> None:
        """I17: whatever befalls others, its slice stays."""
        if self.settled and body.startswith(b"["):
            self.wrong(f"I17: {scraper.id}, of a service that nothing befalls, has another slice")

    def _installed(self, scraper: Scraper, job: str) -> None:
        note = receiver.noted(scraper.file(job))
        assert note is not None
        if note.rank[0] < (term := scraper.term.get(job, 0)):
            self.wrong(f"I7: {scraper.id} went from term {term} to {note.rank[0]}")
        scraper.term[job] = note.rank[0]
        self.has(scraper, job, scraper.file(job).read_bytes(), (note.generation, note.sha256))

    def has(self, scraper: Scraper, job: str, body: bytes, have: tuple[Generation, str], *, fetched: bool = False) -> None:
        """It has another list: I7, I8; and I3: no target is taken from the only one who has it (``Moves``)."""
        generation, sha256 = have
        before = scraper.accepted.get(job, NOTHING)
        if fetched and have == before:
            return
        made = self._made.get((job, scraper.id, sha256, generation))
        if made is None or not Envelope(body, sha256, generation).is_whole():
            self.wrong(f"I8: {scraper.id} has {len(body)} bytes of {job} that are no slice that was made, as {generation}")
            return
        older = generation < before[0] or (generation == before[0] and sha256 != before[1])
        if older and not fetched and not scraper.pulls:  # an agent may go back in a term, and who fetches has no fence
            self.wrong(f"I7: {scraper.id} went from {before[0]} to {generation} of {job}")
        if sha256 != before[1] or not fetched:
            changed = scraper.of(job).keys() ^ set(targets_of(body))
            dropped = bool(changed) and all(map(self.traits.drops, changed))
            self.writes.append(Write(self.now, scraper.id, job, dropped))
        maker = made[0]
        if maker is not scraper.maker.get(job):
            scraper.maker[job], scraper.maker_since[job] = maker, self.now
        scraper.accepted[job] = have
        self._lists(scraper, job, set(targets_of(body)), made, str(generation))

    def _lists(self, scraper: Scraper, job: str, now: set[str], made: tuple[Process, float], generation: str) -> None:
        """Its list of a job is another one."""
        if strange := now - self.ever:
            self.wrong(f"I8: {scraper.id} got {len(strange)} targets that nobody listed")
        if strange := {t for t in now if job_of(t) != job}:
            self.wrong(f"I8: {scraper.id} got {len(strange)} targets of another job as {job}")
        (maker, made_at), had = made, scraper.of(job)
        taken = (had.keys() - now) & self.truth()
        others_of_it = {t: since for t, since in scraper.in_file.items() if t not in had}
        scraper.in_file = others_of_it | {t: had.get(t, self.now) for t in sorted(now)}
        if taken:
            off = Off(made_at, made_at, self._full(scraper, maker))
            self.moves.taken_off(maker.name, scraper, taken, off, self._heirs(maker, job, scraper))
        self.moves.has(scraper, now)
        self.say(f"{scraper.id} has {generation} of {maker.name}: {job}, {len(now)} targets, {len(taken)} taken")
        if taken:
            self.takes.append((self.now, scraper.id, len(taken)))
        others = {t for s in self.scrapers.values() if s is not scraper for t in s.in_file}
        lost = [t for t in sorted(taken - others) if not self.weak(scraper, t, made_at) and not self.traits.drops(t)]
        if scraper.answers and lost and scraper.has_list(job):
            self.moves.lost.append((self.now, scraper, lost))

    def _heirs(self, maker: Process, job: str, scraper: Scraper) -> dict[str, Heirs]:
        """Who has each target in the plan of that controller, but this scraper; since before it started, if so."""
        found: dict[str, Heirs] = {}
        for name, given in self._given.get((maker, job), {}).items():
            if name != scraper.id:
                heir = self.scrapers[name]
                for target, since in given.targets.items():
                    found[target] = (*found.get(target, ()), (heir, min(since, heir.in_file.get(target, since))))
        return found

    def weak(self, scraper: Scraper, target: str, decided: float) -> bool:
        """Whether this is known to be weak, which counts when ``strict``: a scraper that comes back is given its list with
        only one of those that had a target before holding on; who begins to lead may have an older list of a source that
        fails, without this target; who comes for its list has lately come to another controller, which sees other things;
        and a single controller that lost its state believes a source that says less just then.
        """
        job = job_of(target)
        maker, comes = scraper.maker.get(job), scraper.pulls or bool(scraper.traits.poll_s)
        if self._full(scraper, maker):
            return True  # the survivors are full: what has no room is scraped by nobody
        if maker is None or self.strict:
            return False
        gives = self._given.get((maker, job), {})
        began = [self._came.get((maker, job, scraper.id), float("-inf"))]
        if not self.locked and decided - self.short_at < OVERLAP_S:
            began.append(self.forgot_at.get(maker.name, float("-inf")))
        if self.locked and comes:
            began.append(scraper.maker_since.get(job, float("-inf")))
            if self.pace.busy and any(s.maker.get(job) is not maker for s in self.scrapers.values() if s.maker.get(job)):
                return True  # controllers that are late see other things for longer than that
        elif self.locked and not any(target in given.targets for given in gives.values()):
            began.append(self._pusher[1])
        return any(decided - at < OVERLAP_S for at in began)

    def _full(self, scraper: Scraper, maker: Process | None) -> bool:
        """By what it has, or by what that controller gives it of all jobs: it may not have come yet for all of its lists."""
        if not self.capacity:
            return False
        given = (some.get(scraper.id) for (who, job), some in self._given.items() if who is maker and job in self.jobs)
        has = max(len(scraper.in_file), sum(len(one.targets) for one in given if one))
        return has >= math.floor(self.capacity * scraper.weight)

    def look(self) -> None:
        """Once a second: the scrapers load their lists and ask their targets. I2: what one of them drops, another one
        scrapes. I16, I18.
        """
        for scraper in self.scrapers.values():
            scraper.note_troubles(self.now)
        for scraper in self.scrapers.values():
            if scraper.answers:
                found = scraper.look(self.now, self.jobs)
                self.moves.looked(scraper, found, self.now)
                for target in sorted(self.truth().intersection(found.dropped)) if found.dropped else ():
                    decided = self.moves.off(scraper, target).decided  # it may come for its list, and apply it, much later
                    if not self._may_drop(scraper, target) and not self.weak(scraper, target, decided):
                        self.wrong(f"I2: {scraper.id} drops {target}, and nobody else scrapes it")
        self.moves.see(self.now)
        self.claims.see(self.now)

    def _may_drop(self, scraper: Scraper, target: str) -> bool:
        """Whether somebody else has it, and scrapes it, or did until a moment ago."""
        for other in self.scrapers.values():
            if other is scraper or target not in other.in_file:
                continue
            if target in other.scraped or other.was_ill(target, self.now - RECENT_S - self.traits.poll_s):
                return True
        return False
