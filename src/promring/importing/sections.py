"""What there is to say about everything but the jobs: it is copied, and may mean something else on several servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from promring.importing import keys
from promring.importing.configuration import Configuration, Job
from promring.importing.findings import Finding
from promring.importing.inside import Leaf, copied_secrets, host_of, is_loopback, leaves, relative_paths
from promring.importing.loopback import short_names
from promring.importing.source import Node, flat, get
from promring.runtime.text import few

_SENDING = ("remote_write", "remote_read", "alerting", "tracing")
_ASKED = keys.SERVERS | keys.THROUGH | {"targets"}
_REPLICA = ("replica", "__replica__", "prometheus_replica", "_replica_")


def findings_of_sections(
    configuration: Configuration, shared: Sequence[Job], written: Sequence[str] = ()
) -> Iterator[Finding]:
    """``shared``: the jobs whose discovery goes from the scrapers' files; ``written``: included files that are new."""
    root = configuration.main.root
    there = [key for key, (_, value) in flat(root).items() if key in keys.TOP and not value.is_null]
    copied = [key for key in there if key not in ("scrape_configs", "scrape_config_files")]
    if copied:
        yield configuration.finding("PI009", f"{', '.join(copied)}: copied unchanged", key="")
    for key, (_, value) in flat(root).items():
        if key == "scrape_configs":
            continue
        for leaf in copied_secrets(value):
            where = f"{key}{'' if leaf.path.startswith('[') or not leaf.path else '.'}{leaf.path}"
            what, done = f"{keys.COPIED_SECRET} stands for a secret", "carried as it is; put the secret there"
            yield Finding(0, leaf.node.line, "PI002", configuration.main.name, where, what, done)
    yield from _paths(configuration, shared, written)
    if shared:
        yield from _meanings(configuration)
        yield from _own_machines(configuration)
        yield from _short_names(configuration, shared)


def _own_machines(configuration: Configuration) -> Iterator[Finding]:
    """What each scraper asks, sends to, or goes through, on its own machine."""
    done = "every scraper must have it there, or name another machine"
    for key, (_, value) in flat(configuration.main.root).items():
        for leaf in leaves(value, key) if key in _SENDING else ():
            text = leaf.node.real.text
            if leaf.key in _ASKED and (text.startswith("unix:") or is_loopback(text)):
                what = f"{_host(text)} is the machine of each scraper"
                yield Finding(0, leaf.node.line, "PI043", configuration.main.name, leaf.path, what, done)
    for job in configuration.jobs:
        for leaf in leaves(job.node):
            text = leaf.node.real.text
            if leaf.key in keys.THROUGH and is_loopback(text) and not leaf.path.startswith(tuple(job.discoveries)):
                yield job.finding("PI043", f"{_host(text)} is the machine of each scraper", done, leaf.node, leaf.path)


def _host(text: str) -> str:
    return text if text.startswith("unix:") else host_of(text)


def _short_names(configuration: Configuration, shared: Sequence[Job]) -> Iterator[Finding]:
    """Hosts that may be another one on each scraper."""
    names = sorted({name for job in shared for name in short_names(job)})
    if names:
        what = f"names without a domain are scraped: {few(names, 5)}"
        done = "every scraper must find the same by them; --keep the jobs of containers that are beside each of them"
        yield configuration.finding("PI044", what, done, key="scrape_configs")


def _paths(configuration: Configuration, shared: Sequence[Job], written: Sequence[str]) -> Iterator[Finding]:
    for order, source in enumerate(configuration.sources):
        gone = tuple(f"[{job.number}].{key}" for job in shared if job.source is source for key in job.discoveries)
        found = [
            leaf
            for key, (_, value) in flat(source.root).items()
            for leaf in _relative(key, value.real)
            if key != "scrape_configs" or not leaf.path.startswith(gone)
        ]
        if found:
            shown = few(sorted({leaf.node.real.text for leaf in found}), 5)
            what = f"relative paths stay as they are: {shown}"
            done = "prometheus.yml goes where the old one was, and every scraper must have these files"
            if written and source is configuration.main:
                done += f"; {', '.join(written)} as {'it is' if len(written) == 1 else 'they are'} written now"
            yield Finding(order, found[0].node.line, "PI013", source.name, "", what, done)


def _relative(key: str, value: Node) -> list[Leaf]:
    if key in ("rule_files", "scrape_config_files"):
        named = [leaf for leaf in leaves(value, key, "files") if not leaf.node.is_null]
        return [leaf for leaf in named if not leaf.node.real.text.startswith(("/", "http"))]
    return relative_paths(value)


def _meanings(configuration: Configuration) -> Iterator[Finding]:
    if configuration.section("rule_files") is not None:
        what = "rules are evaluated on every scraper, over its own series only"
        done = "copied; evaluate what sums over scrapers where all series are (Thanos, Mimir, VictoriaMetrics)"
        yield configuration.finding("PI010", what, done, key="rule_files")
    labels = configuration.section("global")
    limit = get(labels, "target_limit")
    if limit is not None and limit.text != "0":
        what = f"target_limit {limit.text} counts the targets that one scraper has of a job"
        yield Finding(0, limit.line, "PI029", configuration.main.name, "global.target_limit", what)
    pair = flat(labels).get("external_labels") if labels is not None else None
    names = list(flat(pair[1])) if pair is not None and pair[1].real.kind == "map" else []
    if not names and not any(configuration.section(key) is not None for key in ("remote_write", "rule_files", "alerting")):
        return
    done = "give each scraper one of its own, such as shard"
    replica = [name for name in names if name.lower() in _REPLICA]
    if replica:
        done += f"; {replica[0]} marks copies of the same series, which the scrapers of a fleet are not"
    line = pair[0].line if pair is not None else labels.line if labels is not None else 1
    what = f"external_labels ({', '.join(names)}) are the same on every scraper" if names else "there are no external_labels"
    yield Finding(0, line, "PI011", configuration.main.name, "global.external_labels", what, done)
