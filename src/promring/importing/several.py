"""Several inputs, one a server of the old fleet: where they say the same but for shard and replica, they are one.

The first input is what is converted. What another one has besides, or has differently, is named, without its values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from promring.importing.configuration import Configuration, Job
from promring.importing.findings import Finding
from promring.importing.hashmod import Shard, shards_of
from promring.importing.source import Value, value_of
from promring.importing.verdicts import Judged
from promring.runtime.text import few

SHOWN_MOST = 5


def differences(inputs: Sequence[Configuration], judged: Sequence[Judged]) -> tuple[list[Finding], list[Job]]:
    """Also the jobs that only later inputs have. ``judged``: the jobs of the first one."""
    first = inputs[0]
    found: list[Finding] = []
    alone: list[Job] = []
    ours = {one.job.name: one for one in judged}
    for other in inputs[1:]:
        theirs = {job.name: job for job in other.jobs}
        for job in other.jobs:
            if job.name in ours:
                found += _of_job(ours[job.name], job)
            elif job.name not in {one.name for one in alone}:
                alone.append(job)
                found.append(job.finding("PI022", f"{first.main.name} has no such job", "not taken"))
        found += [
            job.finding("PI022", f"{other.main.name} has no such job", "taken for all scrapers")
            for job in first.jobs
            if job.name not in theirs
        ]
        found += _of_sections(first, other)
    return found, alone


def _of_job(judged: Judged, other: Job) -> Iterator[Finding]:
    """Only what is taken out of a job may differ."""
    ours = judged.job
    a, b = (_without_shard(job) if judged.shards else value_of(job.node) for job in (ours, other))
    if a == b:
        mine, their = _shards(ours), _shards(other)
        if mine != their:
            done = "one service" if judged.verdict.sharded else "one job, on every scraper"
            yield other.finding("PI023", f"shard {', '.join(their)}, in {ours.source.name} {', '.join(mine)}", done)
        return
    shown = few(list(changed_paths(a, b)), SHOWN_MOST)
    at = f"{ours.source.name}:{ours.node.line}"
    yield other.finding("PI021", f"differs from {at} in {shown}", f"that of {ours.source.name} is used")


def _shards(job: Job) -> list[str]:
    return [f"{one.shard} of {one.modulus}" for one in shards_of(job) if isinstance(one, Shard)]


def _without_shard(job: Job) -> Value:
    """What the job says, but for the value that its shards keep."""
    keeps = {one.rules[1] for one in shards_of(job) if isinstance(one, Shard)}
    value = value_of(job.node)
    if not keeps:
        return value
    pairs = dict(value[1:])
    rules = enumerate(pairs["relabel_configs"][1:])
    pairs["relabel_configs"] = ("list", *(_without_regex(rule) if n in keeps else rule for n, rule in rules))
    return ("map", *sorted(pairs.items()))


def _without_regex(rule: Value) -> Value:
    return ("map", *((key, value) for key, value in rule[1:] if key != "regex"))


def _of_sections(first: Configuration, other: Configuration) -> Iterator[Finding]:
    a, b = (dict(value_of(one.main.root)[1:]) for one in (first, other))
    for key in sorted((a.keys() | b.keys()) - {"scrape_configs"}):
        if a.get(key) == b.get(key):
            continue
        paths = list(changed_paths(a.get(key, ("map",)), b.get(key, ("map",)), key))
        labels = [path for path in paths if path.startswith("global.external_labels")]
        if labels:
            what = f"differs from {first.main.name} in {', '.join(labels[:SHOWN_MOST])}"
            yield other.finding("PI023", what, f"those of {first.main.name} are written; put each one's own back", key=key)
        rest = [path for path in paths if path not in labels]
        if rest:
            what = f"differs from {first.main.name} in {', '.join(rest[:SHOWN_MOST])}"
            yield other.finding("PI022", what, f"that of {first.main.name} is used", key=key)


def changed_paths(a: Value, b: Value, path: str = "") -> Iterator[str]:
    """The key paths at which two values differ."""
    if a == b:
        return
    if a[0] == b[0] == "map":
        ours, theirs = dict(a[1:]), dict(b[1:])
        for key in sorted(ours.keys() | theirs.keys()):
            inner = f"{path}.{key}" if path else str(key)
            if key in ours and key in theirs:
                yield from changed_paths(ours[key], theirs[key], inner)
            else:
                yield inner
    elif a[0] == b[0] == "list" and len(a) == len(b):
        for number, (one, other) in enumerate(zip(a[1:], b[1:], strict=True)):
            yield from changed_paths(one, other, f"{path}[{number}]")
    else:
        yield path or "its value"
