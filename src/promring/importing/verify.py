"""Proves with real Prometheus servers that a fleet of one, two or three scrapers scrapes what the old server did.

The old configuration runs, and beside it the new one on every scraper of a fleet of each size, with the slices that promring
makes; none of them scrapes or sends anything. The multiset of (job, URL, final labels) must be the same: for a job that is
shared that of all scrapers together, for a job that is left on every scraper that of each. The old job is taken without the
hashmod rules that were taken out.

The judge is never promring: what the Prometheus here cannot discover, a vmagent does where one is here; a job that nobody
here can judge is not proved, and said so.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from promring.build import build_sources, source_context
from promring.config.kinds import Shared
from promring.config.load import loads
from promring.config.settings import ShardService
from promring.core.fragment import newer_name
from promring.core.joined import FleetPool, FleetShares, Part, salt_of
from promring.core.placement import Policy, place
from promring.core.pool import merge_sources, pool_of
from promring.core.ring import Ring
from promring.discovery import Source
from promring.importing import programs, vmagent
from promring.importing.configuration import Job, global_of_vmagent, is_of_prometheus, rules_of
from promring.importing.convert import DISCOVERY, PROMRING, SCRAPERS, Converted, scraper_files
from promring.importing.findings import Finding
from promring.importing.inside import without_secrets
from promring.importing.programs import ProgramError, ask
from promring.importing.quiet import Listed, engine_text, lacking, quiet_text, read_again
from promring.importing.running import Seen, Targets, prometheus, settled_targets
from promring.importing.services import promring_text
from promring.importing.verdicts import Judged, Verdict
from promring.model import ConfigError, DiscoveryError, Scraper, TargetPool
from promring.rules import ranks_of
from promring.runtime.redact import shown

SIZES = (1, 2, 3)
SHOWN_MOST = 3
_ALL_IN_RELEASES = "not proved; a prometheus on PATH from the releases of its project has them all"


@dataclass
class Proof:
    """``program``: the Prometheus that ran, ``which``: its path and version; ``compared``: targets by job;
    ``discovered``: by which program, where it is another, by job; ``not_proved``: why, by job; ``findings``: what differs,
    or was not seen.
    """

    program: str
    which: str = ""
    compared: dict[str, int] = field(default_factory=dict)
    discovered: dict[str, str] = field(default_factory=dict)
    not_proved: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def leave(self, job: Job, why: str, done: str = "not proved") -> None:
        """Nobody here can judge this job."""
        if job.name not in self.not_proved:
            self.not_proved[job.name] = why
            self.findings.append(job.finding("PI034", why, done))


def verify(found: Converted) -> Proof:
    """Raises ``ProgramError``, ``StartError`` where no Prometheus runs here. Blocks for about half a minute."""
    program, lacks = _program(found)
    proof = Proof(program.name, programs.described(program))
    proof.findings += refused_files(found)
    with tempfile.TemporaryDirectory(prefix="promring-import-") as folder:
        asyncio.run(_Differential(found, program, lacks, Path(folder), proof).run())
    return proof


def _program(found: Converted) -> tuple[Path, set[str]]:
    """The Prometheus here that lacks the fewest of the discoveries; of equals the user's own, which is on PATH."""
    own, others = programs.here("prometheus", "prometheus3")
    found_here = [*own, *others]
    if not found_here:
        raise ProgramError("--verify: no Prometheus here (prometheus on PATH)")
    answers = [(path, ask(path, found.configuration.main.path)) for path in found_here]
    path, answer = min(answers, key=lambda one: one[1].rank)
    return path, answer.lacks


def refused_files(found: Converted) -> list[Finding]:
    """What programs say of the files, as they will lie. Raises ``ProgramError``."""
    findings, roots = [], [source.root for source in found.configuration.sources]
    with tempfile.TemporaryDirectory(prefix="promring-import-") as folder:
        for name, file in found.files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_bytes(file.content)
        for name in (SCRAPERS, DISCOVERY):
            if name not in found.files or (name == SCRAPERS and found.configuration.vmagent):
                continue
            answer = programs.verdict(Path(folder, name))
            refused = answer.refused if answer is not None else []
            by = answer.program if answer is not None else ""
            plain = [(line or 1, what.replace(f"parsing YAML file {folder}/{name}: ", "")) for line, what in refused]
            said = [(line, f"{by}: {without_secrets(what, roots)}") for line, what in plain]
            findings += [Finding(0, line, "PI035", name, "", what) for line, what in said]
    return findings


@dataclass
class _Differential:
    found: Converted
    program: Path
    lacks: set[str]
    folder: Path
    proof: Proof
    newer_names: dict[str, str] = field(default_factory=dict)
    """By service: a label name of its slices that Prometheus takes since 3."""

    async def run(self) -> None:
        wanted = [judged for judged in self.found.jobs if self._is_compared(judged)]
        listed = await self._listed(wanted)
        wanted = [judged for judged in wanted if judged.job.name not in self.proof.not_proved]
        cut = {judged.job.name: judged.cut_rules for judged in wanted}
        old = quiet_text(self.found.configuration, [judged.job for judged in wanted], cut, listed, self.lacks)
        async with AsyncExitStack() as stack:
            before = await stack.enter_async_context(prometheus(self.program, self.folder / "old", old))
            engine = await self._engine(stack)
            expected = (await settled_targets([before, *([engine] if engine else [])]))[0]
            pools = await self._pools(engine, wanted)
            if pools is None:
                return
            wanted = [judged for judged in wanted if judged.job.name not in self.proof.not_proved]
            seen = await asyncio.gather(*(self._shards(stack, pools, wanted, expected, size) for size in SIZES))
        for judged in wanted:
            self._compare(judged, expected, dict(zip(SIZES, seen, strict=True)))

    def _is_compared(self, judged: Judged) -> bool:
        job = judged.job
        if job.source not in self.found.configuration.sources:
            self.proof.not_proved[job.name] = judged.why
            return False
        if not all(map(is_of_prometheus, rules_of(job))) or "relabel_configs" in global_of_vmagent(self.found.configuration):
            self.proof.leave(job, "its relabelling is vmagent's")
        elif (kinds := lacking(job, self.lacks)) and not (kinds <= vmagent.KINDS and judged.verdict is Verdict.NATIVE):
            self.proof.leave(
                job, f"{self.proof.program} here was built without {', '.join(sorted(kinds))}", _ALL_IN_RELEASES
            )
        return job.name not in self.proof.not_proved

    def _lacks(self, kinds: Collection[str]) -> str:
        return f"{self.proof.program} here was built without {', '.join(sorted(kinds))}"

    async def _listed(self, wanted: Sequence[Judged]) -> dict[str, Listed]:
        """Targets of jobs that vmagent must discover."""
        jobs = {judged.job.name: (judged.job, kinds) for judged in wanted if (kinds := lacking(judged.job, self.lacks))}
        if not jobs:
            return {}
        listed, refused = await vmagent.discovered(jobs, self.folder / vmagent.NAME)
        for name, why in refused.items():
            job, kinds = jobs[name]
            self.proof.leave(job, f"{self._lacks(kinds)}; {why}", _ALL_IN_RELEASES)
        self.proof.discovered = dict.fromkeys(listed, vmagent.NAME)
        return listed

    async def _engine(self, stack: AsyncExitStack) -> str:
        """The URL of the Prometheus that discovers; empty where none is needed."""
        file = self.found.files.get(DISCOVERY)
        if file is None:
            return ""
        text = engine_text(file.content.decode(), self.lacks)
        return await stack.enter_async_context(prometheus(self.program, self.folder / "engine", text))

    async def _pools(self, engine: str, wanted: Sequence[Judged]) -> dict[str, TargetPool] | None:
        """What promring's own sources find, by service; None where it cannot be read."""
        found = self.found
        layout = replace(found.layout, discovery_url=engine or found.layout.discovery_url)
        text = promring_text(found.jobs, found.names, layout)
        try:
            settings = loads(text, name=PROMRING, base=self.folder) if found.names else None
        except ConfigError as error:
            self.proof.findings += [Finding(0, 1, "PI035", PROMRING, "", problem) for problem in error.problems]
            return None
        if settings is None:
            return {}
        jobs = {found.names[judged.job.name]: judged.job for judged in wanted if judged.verdict.sharded}
        context = replace(source_context(settings, self.folder / PROMRING, Shared()), once=True)
        services = [service for service in settings.shard_services if service.name in jobs]
        sources = [build_sources(service, context) for service in services]  # all: one reading of the engine is for all
        pairs = zip(services, sources, strict=True)
        return {service.name: await self._pool(service, built, jobs[service.name]) for service, built in pairs}

    async def _pool(self, service: ShardService, sources: Mapping[str, Source], job: Job) -> TargetPool:
        lists = {}
        for name, source in sources.items():
            try:
                lists[name] = await source.fetch()
            except DiscoveryError as error:
                self.proof.leave(job, f"promring has no answer: {error}")
        return merge_sources(lists, ranks_of(service), service.placement.hash_labels) if lists else pool_of(())

    async def _shards(
        self, stack: AsyncExitStack, pools: Mapping[str, TargetPool], wanted: Sequence[Judged], expected: Targets, size: int
    ) -> list[Targets]:
        """What each scraper of a fleet of ``size`` has."""
        bodies = _slices(pools, size)
        self.newer_names |= {name: newer for one in bodies for name, body in one.items() if (newer := newer_name(body))}
        names = {judged.job.name for judged in wanted}
        urls = []
        for number in range(size):
            folder = self.folder / f"{size}-{number}"
            (folder / "slices").mkdir(parents=True)
            for service, body in bodies[number].items():
                (folder / "slices" / f"{service}.json").write_bytes(body)
            layout = replace(self.found.layout, slices=str(folder / "slices"), http_sd="")
            files = {name: file.content for name, file in scraper_files(self.found, layout)[0].items()}
            jobs = [job for job in read_again(self.found.configuration, files, SCRAPERS) if job.name in names]
            text = quiet_text(self.found.configuration, jobs, {}, lacks=self.lacks)
            urls.append(await stack.enter_async_context(prometheus(self.program, folder, text)))
        return await settled_targets(urls, lambda seen: not any(_differs(judged, expected, seen) for judged in wanted))

    def _compare(self, judged: Judged, expected: Targets, seen: Mapping[int, Sequence[Targets]]) -> None:
        job = judged.job
        old = expected.get(job.name, Counter())
        self.proof.compared[job.name] = old.total()
        for size, scrapers in seen.items():
            if difference := _differs(judged, expected, scrapers):
                what = f"{size} scraper{'s' * (size > 1)}: {difference}"
                self.proof.findings.append(job.finding("PI033", what, self._to_do(judged)))
                return

    def _to_do(self, judged: Judged) -> str:
        """Where the targets of a job differ: what may be the cause."""
        name = self.newer_names.get(self.found.names.get(judged.job.name, ""), "")
        if name and programs.version(self.program)[1] < programs.UTF8_SINCE:
            return f"{self.proof.which} refuses a list with the label name {name!r}: say label_names: legacy of the service"
        return "see what its source and its relabelling say"


def _slices(pools: Mapping[str, TargetPool], size: int) -> list[dict[str, bytes]]:
    """Of each scraper of a fleet of ``size``, by service."""
    scrapers = tuple(Scraper(f"scraper-{n}:9090", f"scraper-{n}", 9090) for n in range(size))
    joined = FleetPool.of({name: Part(pool, 1, salt_of("main", name)) for name, pool in pools.items()})
    if not len(joined):
        return [dict.fromkeys(pools, b"[]\n") for _ in scrapers]
    placement = place(joined, Ring(scrapers, 512), Policy())
    made = FleetShares(placement)
    return [{name: made.body(n, name) for name in pools} for n in range(size)]


def _differs(judged: Judged, expected: Targets, scrapers: Sequence[Targets]) -> str:
    """How the targets of a job differ from the old ones; empty where they do not."""
    name = judged.job.name
    old = expected.get(name, Counter())
    parts = [targets.get(name, Counter()) for targets in scrapers]
    together: Counter[Seen] = Counter()
    for part in parts:
        together.update(part)
    sides = [together] if judged.verdict.sharded else parts
    return next((_difference(old, new) for new in sides if new != old), "")


def _difference(old: Counter[Seen], new: Counter[Seen]) -> str:
    """In words, without what may be secret in a URL."""
    lost, gained = old - new, new - old
    parts = []
    for word, some in (("lost", lost), ("new", gained)):
        if some:
            names = [f"{shown(seen.url)} {dict(seen.labels)}" for seen in list(some)[:SHOWN_MOST]]
            parts.append(f"{some.total()} {word}: {'; '.join(names)}")
    return ", ".join(parts)
