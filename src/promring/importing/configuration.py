"""A configuration of Prometheus or vmagent: its jobs, wherever they stand, and its sections.

Refused, with every line that is at fault: what no Prometheus would take because of its shape (no mapping, a key twice, jobs
without a name or with the name of another). Everything else is carried.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from promring.discovery.globs import escaped, matching
from promring.importing import keys
from promring.importing.findings import Finding
from promring.importing.inside import leaves, names_url
from promring.importing.source import InputError, Node, Source, flat, get, is_merge, read_source, template, text_of, texts
from promring.runtime.redact import shown

_GLOB = re.compile(r"[*?\[]")
DEPTH_MOST = 8
"""Of what is looked through in a file that is no configuration."""
_MAPPINGS = frozenset(("basic_auth", "authorization", "oauth2", "tls_config", "params"))


@dataclass(frozen=True, eq=False)
class Job:
    """``node``: its item in the list, an alias maybe; ``number``: its place in its file's list."""

    name: str
    node: Node
    source: Source
    file_order: int
    number: int
    common: tuple[Node, ...] = ()
    """vmagent's rules for the targets of all jobs, under ``global``: they come before its own."""

    @property
    def where(self) -> str:
        return f"scrape_configs[{self.number}]({self.name})"

    @property
    def discoveries(self) -> list[str]:
        """Its keys that find targets and are not empty, as they are written."""
        pairs = flat(self.node).items()
        return [key for key, (_, value) in pairs if keys.is_discovery(key) and not value.is_null and value.real.items]

    def get(self, *path: str) -> Node | None:
        node: Node | None = self.node
        for key in path:
            node = get(node, key)
        return node

    def finding(self, code: str, what: str, done: str = "", node: Node | None = None, under: str = "") -> Finding:
        """``under``: the key path below the job; ``node``: where it is."""
        where = f"{self.where}.{under}" if under else self.where
        line = node.line if node is not None else self.node.line
        return Finding(self.file_order, line, code, self.source.name, where, what, done)


@dataclass
class Configuration:
    """``main``: the file that was named; ``included``: those of ``scrape_config_files``, by the name to write them under."""

    main: Source
    included: dict[str, Source] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    vmagent: bool = False
    """Whether it has keys that only vmagent knows."""

    @property
    def sources(self) -> list[Source]:
        return [self.main, *self.included.values()]

    def section(self, key: str) -> Node | None:
        return get(self.main.root, key)

    def finding(self, code: str, what: str, done: str = "", *, key: str = "") -> Finding:
        """About a top-level section."""
        node = self.section(key)
        return Finding(0, node.line if node is not None else 1, code, self.main.name, key, what, done)


def read_configuration(path: Path, order: int = 0) -> Configuration:
    """Raises ``InputError``; OSError when it cannot be read."""
    main = read_source(path)
    found = Configuration(main)
    problems: list[str] = []
    if what := _other_than_a_configuration(main.root):
        raise InputError([f"{main.name}:{main.root.line}: {what}"])
    _read_jobs(found, main, get(main.root, "scrape_configs"), order, problems)
    for number, source in enumerate(_included(found, order, problems), 1):
        listed = source.root if source.root.kind == "list" else get(source.root, "scrape_configs")
        if source.root.kind == "scalar" and not source.root.is_null:
            problems.append(f"{source.name}:{source.root.line}: must be a mapping with scrape_configs")
        _read_jobs(found, source, listed, order + number, problems)
        found.vmagent |= source.root.kind == "list"
    for source in found.sources:
        problems += _twice(source)
    problems += _same_names(found.jobs)
    if problems:
        raise InputError(problems)
    _unknown_keys(found, order)
    return found


def _other_than_a_configuration(root: Node) -> str:
    """What a file is where it is none; empty where it may be one."""
    if root.kind == "list" and any(get(item, "job_name") is not None for item in root.items):
        return "is a list of jobs; write scrape_configs: above it"
    if root.kind != "map":
        return "" if root.is_null else "must be a mapping with scrape_configs"
    there = {key for key in flat(root) if not key.startswith("x-")}
    known = there.intersection(keys.TOP)
    if not there or known & {"scrape_configs", "scrape_config_files"}:
        return ""
    if place := _place_of_jobs(root):
        return f"has its configuration in {place}; import that as a file of its own"
    if {"apiVersion", "kind"} <= flat(root).keys():
        return "is a manifest of Kubernetes; import the configuration in it, or the one that it makes"
    return "" if known else f"has none of the sections of a configuration: {', '.join(sorted(keys.TOP))}"


def _place_of_jobs(node: Node, path: str = "", depth: int = 0) -> str:
    """Where the jobs of a file that is no configuration stand: in a mapping, or in a text."""
    for key, (_, value) in flat(node).items() if depth < DEPTH_MOST else ():
        inner = f"{path}.{key}" if path else key
        if value.real.kind == "map":
            if found := inner if get(value, "scrape_configs") is not None else _place_of_jobs(value, inner, depth + 1):
                return found
        elif value.real.kind == "scalar" and re.search(
            r"^\s*(- )?(scrape_configs|job_name):", value.real.text, re.MULTILINE
        ):
            return inner
    return ""


def _read_jobs(found: Configuration, source: Source, listed: Node | None, order: int, problems: list[str]) -> None:
    if listed is None:
        return
    if listed.kind != "list":
        problems.append(f"{source.name}:{listed.line}: scrape_configs: must be a list of jobs")
        return
    section = found.section("global")
    common = tuple(_items(get(section, "relabel_configs"))) if section is not None else ()
    for number, item in enumerate(listed.items):
        where = f"{source.name}:{item.line}: scrape_configs[{number}]"
        if item.real.kind != "map":
            problems.append(f"{where}: must be a job, a mapping with job_name")
            continue
        name = get(item, "job_name")
        if name is None or not text_of(name):
            problems.append(f"{where}: job_name is missing")
            continue
        problems += [f"{where}: {what}" for what in _misshapen(item)]
        found.jobs.append(Job(name.text, item, source, order, number, common))


def _misshapen(item: Node) -> Iterator[str]:
    for key, (_, value) in flat(item).items():
        if keys.is_discovery(key) or key in ("relabel_configs", "metric_relabel_configs"):
            if not value.is_null and (value.real.kind != "list" or any(e.real.kind != "map" for e in value.real.items)):
                yield f"{key} must be a list of mappings"
        elif key in _MAPPINGS and not value.is_null and value.real.kind != "map":
            yield f"{key} must be a mapping"


def _included(found: Configuration, order: int, problems: list[str]) -> Iterator[Source]:
    """The files of ``scrape_config_files``, in the order in which Prometheus reads them."""
    listed = found.section("scrape_config_files")
    if listed is None:
        return
    base = found.main.path.absolute().parent
    for item in listed.items:
        pattern = text_of(item)
        if "://" in pattern:
            what = f"{shown(pattern)} is not read over the network"
            where = "scrape_config_files"
            found.findings.append(Finding(order, item.line, "PI028", found.main.name, where, what, "its jobs are not taken"))
            found.vmagent = True
            continue
        paths = sorted(map(str, matching(Path(escaped(str(base)), pattern))))
        if not paths:
            what = "no file has this name here" if _GLOB.search(pattern) is None else "no file matches here"
            code = "PI028" if _GLOB.search(pattern) is None else "PI045"
            done = "the jobs of such files would be on every scraper, each with all of their targets; import where they are"
            found.findings.append(
                Finding(order, item.line, code, found.main.name, "scrape_config_files", f"{pattern}: {what}", done)
            )
        for path in paths:
            relative = os.path.relpath(path, base)
            inside = not Path(pattern).is_absolute() and not relative.startswith("..")
            if any(Path(path).samefile(source.path) for source in found.included.values()):
                continue
            name = relative if inside else _name_for(path, found.included)
            if not inside:
                done = f"where its jobs are shared it is written as {name}, to be put there"
                where = "scrape_config_files"
                found.findings.append(Finding(order, item.line, "PI036", found.main.name, where, path, done))
            try:
                source = read_source(Path(path), str(found.main.path.parent / name) if inside else path)
            except OSError as error:
                problems.append(f"{path}:1: {error.strerror}")
                continue
            except InputError as error:
                problems += error.problems
                continue
            found.included[name] = source
            yield source


def _name_for(path: str, taken: Collection[str]) -> str:
    """Of a file that lies outside the configuration's folder, in the new one."""
    name, number = f"included/{Path(path).name}", 1
    while name in taken:
        number += 1
        name = f"included/{number}-{Path(path).name}"
    return name


def _twice(source: Source) -> Iterator[str]:
    """Keys that stand twice in one mapping."""
    for node in source.root.walk():
        seen: dict[str, int] = {}
        for key, _ in node.pairs:
            if key.kind != "scalar":
                yield f"{source.name}:{key.line}: a key must be a plain text{template(source.text)}"
            elif is_merge(key):
                continue
            elif key.real.text in seen:
                yield f"{source.name}:{key.line}: {key.real.text}: key is there twice, first on line {seen[key.real.text]}"
            else:
                seen[key.real.text] = key.line


def _same_names(jobs: list[Job]) -> Iterator[str]:
    first: dict[str, Job] = {}
    for job in jobs:
        other = first.setdefault(job.name, job)
        if other is not job:
            at = f"{other.source.name}:{other.node.line}"
            yield f"{job.source.name}:{job.node.line}: {job.where}: a job of this name is there already, {at}"


def _unknown_keys(found: Configuration, order: int) -> None:
    done = "carried as it is"
    found.vmagent |= bool(global_of_vmagent(found)) or any(map(_is_of_vmagent, found.jobs))
    for key, (node, _) in flat(found.main.root).items():
        if key in keys.TOP:
            continue
        if key.startswith("x-"):
            found.vmagent = True  # a holder of anchors, which vmagent takes
            continue
        near = keys.nearest(key, keys.TOP)
        found.findings.append(Finding(order, node.line, "PI001", found.main.name, key, f"unknown key{near}", done))
    section = found.section("global")
    for key, (node, _) in flat(section).items() if section is not None else ():
        if key not in keys.GLOBAL:
            near = keys.nearest(key, keys.GLOBAL)
            found.findings.append(
                Finding(order, node.line, "PI001", found.main.name, f"global.{key}", f"unknown key{near}", done)
            )
    for job in found.jobs:
        for key, (node, _) in flat(job.node).items():
            if key in keys.VMAGENT_JOB:
                found.vmagent = True
            elif key not in keys.JOB:
                near = keys.nearest(key, keys.JOB | keys.VMAGENT_JOB)
                found.findings.append(job.finding("PI001", f"unknown key{near}", done, node, key))
        for number, rule in enumerate(rules_of(job)):
            for key, (node, _) in flat(rule).items():
                if key not in keys.RELABEL | keys.VMAGENT_RELABEL:
                    near = keys.nearest(key, keys.RELABEL)
                    under = f"relabel_configs[{number}].{key}"
                    found.findings.append(job.finding("PI001", f"unknown key{near}", done, node, under))


def global_of_vmagent(found: Configuration) -> list[str]:
    """Which keys of ``global`` only vmagent has."""
    section = found.section("global")
    return sorted(keys.VMAGENT_GLOBAL & flat(section).keys()) if section is not None and section.kind == "map" else []


def _is_of_vmagent(job: Job) -> bool:
    """Whether a job has rules, or files, that Prometheus would not take."""
    listed = job.get("file_sd_configs")
    by_url = listed is not None and any(map(names_url, leaves(listed)))
    return by_url or any(map(_only_vmagents, [*rules_of(job), *metric_rules_of(job)]))


def _only_vmagents(rule: Node) -> bool:
    regex = get(rule, "regex")
    several = regex is not None and regex.kind != "scalar"
    return several or action_of(rule) in keys.VMAGENT_ACTIONS or bool(keys.VMAGENT_RELABEL & flat(rule).keys())


def jobs_of(source: Source, order: int) -> list[Job]:
    """Of one file that was read already. Raises ``InputError``."""
    found, problems = Configuration(source), list[str]()
    listed = source.root if source.root.kind == "list" else get(source.root, "scrape_configs")
    _read_jobs(found, source, listed, order, problems)
    if problems:
        raise InputError(problems)
    return found.jobs


def rules_of(job: Job) -> list[Node]:
    """Its relabelling rules, of what aliases stand for."""
    return _items(job.get("relabel_configs"))


def all_rules_of(job: Job) -> list[Node]:
    """The rules that its targets go through, those for all jobs too, in order."""
    return [*job.common, *rules_of(job)]


def metric_rules_of(job: Job) -> list[Node]:
    """Its rules for series, likewise."""
    return _items(job.get("metric_relabel_configs"))


def _items(rules: Node | None) -> list[Node]:
    return [item.real for item in rules.items] if rules is not None else []


def action_of(rule: Node) -> str:
    return text_of(get(rule, "action")).lower() or "replace"


def sources_of(rule: Node) -> list[str]:
    return texts(get(rule, "source_labels"))


def is_of_prometheus(rule: Node) -> bool:
    """Whether Prometheus takes this rule, too, and not only vmagent."""
    regex = get(rule, "regex")
    plain = action_of(rule) in keys.ACTIONS and not keys.VMAGENT_RELABEL & flat(rule).keys()
    return plain and (regex is None or regex.kind == "scalar")
