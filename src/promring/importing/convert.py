"""From configurations to the texts of a sharded fleet, and all that there is to say about them. Writes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from promring.importing.configuration import Configuration
from promring.importing.discovering import discovering_text
from promring.importing.findings import ERROR, Finding, ordered
from promring.importing.inside import has_secret
from promring.importing.native import refusals
from promring.importing.scrapers import Change, rewrite
from promring.importing.sections import findings_of_sections
from promring.importing.services import Layout, promring_text, service_names
from promring.importing.several import differences
from promring.importing.source import flat, parse_source
from promring.importing.verdicts import Judged, Verdict, Wishes, judge
from promring.runtime.address import canonical_id

PROMRING, DISCOVERY, SCRAPERS = "promring.yml", "discovery.yml", "prometheus.yml"
PRIVATE, PUBLIC = 0o600, 0o644
PATH_OF_NEW = Path("/")


@dataclass(frozen=True)
class File:
    """``mode``: for its owner alone where a secret stands in it."""

    content: bytes
    mode: int


@dataclass
class Converted:
    """``jobs``: every job of every input, each once; ``names``: the service of each job that is shared."""

    configuration: Configuration
    jobs: list[Judged]
    names: dict[str, str]
    layout: Layout
    files: dict[str, File] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return not any(finding.level == ERROR for finding in self.findings)

    @property
    def included(self) -> list[str]:
        """The files of ``scrape_config_files`` that are written."""
        return [name for name in self.configuration.included if name in self.files]

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many jobs have each verdict; the sum is the number of jobs."""
        counted = Counter(judged.verdict for judged in self.jobs)
        return {verdict: counted[verdict] for verdict in Verdict}


def convert(inputs: Sequence[Configuration], wishes: Wishes, layout: Layout) -> Converted:
    """The first of ``inputs`` is converted, the others are compared with it. Raises ``InputError``."""
    first = inputs[0]
    findings = [*(f for one in inputs for f in one.findings)]
    jobs = []
    for job in first.jobs:
        judged, said = judge(job, wishes)
        jobs.append(judged)
        findings += [*said, *_comments_lost(judged)]
    names, renamed = service_names(jobs)
    others, alone = differences(inputs, jobs)
    jobs += [Judged(job, Verdict.NOT_TAKEN, f"only {job.source.name} has it") for job in alone]
    found = Converted(first, jobs, names, layout)
    shared = [judged.job for judged in jobs if judged.job.name in names]
    found.files, said = scraper_files(found, layout)
    findings += [*renamed, *others, *findings_of_sections(first, shared, found.included), *said]
    findings += _others(found)
    private = sorted(name for name, file in found.files.items() if file.mode == PRIVATE)
    if private:
        done = f"{', '.join(private)} can be read by the owner only"
        findings.append(first.finding("PI020", "secrets stand in the configuration", done))
    found.findings = ordered(findings)
    return found


def _comments_lost(judged: Judged) -> Iterator[Finding]:
    """Of discoveries that are only in promring.yml from now on."""
    job = judged.job
    for kind, block in zip(job.discoveries, judged.blocks, strict=False):
        node = flat(job.node)[kind][1].real
        if block.written_out and "#" in job.source.text[node.start : node.end]:
            done = f"its comments are not in {PROMRING}"
            yield job.finding("PI026", "aliases or merges are in the way", done, node, kind)


def scraper_files(found: Converted, layout: Layout) -> tuple[dict[str, File], list[Finding]]:
    """prometheus.yml and what it includes, with slices where ``layout`` says. Raises ``InputError``."""
    files: dict[str, File] = {}
    findings: list[Finding] = []
    configuration = found.configuration
    for name, source in {SCRAPERS: configuration.main, **configuration.included}.items():
        there = [judged for judged in found.jobs if judged.job.source is source]
        changes: dict[int, Change] = {}
        for judged in there:
            discovery = ""
            if judged.verdict.sharded:
                service, folder = found.names[judged.job.name], str(Path(name).parent)
                discovery = layout.discovery_of(service, folder=folder, vmagent=configuration.vmagent)
            if discovery or judged.cut_rules:
                changes[judged.job.number] = Change(discovery, frozenset(judged.cut_rules))
        written = rewrite(source, changes)
        for judged in there:
            if written.whole or judged.job.number in written.written_out:
                where = "the whole file" if written.whole else "the job"
                findings.append(judged.job.finding("PI026", "aliases or merges are in the way", f"{where} is written out"))
        if name == SCRAPERS or changes:
            if source.wide:
                findings.append(Finding(len(files), 1, "PI041", source.name, "", "it is in UTF-16", "written in UTF-8"))
            files[name] = File(source.encoded(written.text), PRIVATE if has_secret(source.root) else PUBLIC)
    return files, findings


def _others(found: Converted) -> list[Finding]:
    """Write promring.yml, and discovery.yml where it is needed."""
    configuration, layout = found.configuration, found.layout
    if not found.names:
        return [configuration.finding("PI031", "no job is shared", f"{PROMRING} is not written", key="scrape_configs")]
    text = promring_text(found.jobs, found.names, layout)
    found.files[PROMRING] = _file(text, PROMRING)
    findings = [Finding(0, 1, "PI035", PROMRING, "", f"promring check: {refusal}") for refusal in refusals(text)]
    if not layout.scrapers:
        findings.append(configuration.finding("PI030", "the scrapers are not named", f"write them into {PROMRING}"))
    discovered = [judged for judged in found.jobs if judged.verdict is Verdict.DISCOVERY]
    if discovered:
        text, said = discovering_text(discovered, vmagent=configuration.vmagent)
        findings += said
        found.files[DISCOVERY] = _file(text, DISCOVERY)
        if canonical_id(layout.discoverer) in map(canonical_id, layout.scrapers):
            what = f"{layout.discoverer} is a scraper, and the Prometheus that discovers, too"
            findings.append(configuration.finding("PI039", what, "give that one another port, with --discovery-url"))
    return findings


def _file(text: str, name: str) -> File:
    """What was composed, read once more."""
    source = parse_source(text.encode(), PATH_OF_NEW / name, name)
    return File(text.encode(), PRIVATE if has_secret(source.root) else PUBLIC)
