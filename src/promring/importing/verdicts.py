"""What becomes of each job: one of four verdicts, with its reason, and what there is to say about it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum

from promring.core.fragment import ID_LABEL
from promring.importing import keys
from promring.importing.asked import findings_of_discoveries
from promring.importing.configuration import Job, action_of, all_rules_of, is_of_prometheus, metric_rules_of, sources_of
from promring.importing.equal import made_equal
from promring.importing.findings import Finding
from promring.importing.hashmod import Shard, Trouble, shards_of
from promring.importing.inside import (
    OWN_NAME,
    PER_SERVER,
    Leaf,
    copied_secrets,
    host_of,
    is_loopback,
    leaves,
    names_url,
    placeholders,
    relative_paths,
)
from promring.importing.loopback import own_targets
from promring.importing.native import Native, native
from promring.importing.piece import Piece
from promring.importing.regex import matches
from promring.importing.source import Node, flat, get, text_of

SLICE_LABELS = {"file": "__meta_filepath", "http": "__meta_url"}
"""The label that Prometheus sets itself on what it reads from a file or a URL, whatever the list says."""
OWN_LABELS = {"file_sd_configs": "__meta_filepath", "http_sd_configs": "__meta_url"}
"""The label that a Prometheus, and not promring, sets on the targets of this discovery."""
DROPPING = frozenset(("keep", "drop", "keepequal", "dropequal", "keep_if_equal", "drop_if_equal"))
"""Actions of relabelling by which a target may go."""
DONE_WITH = {"PI005": "left on every scraper; make two jobs of it", "PI006": "left on every scraper"}
_SIGNED = re.compile(r"(?i)(x-amz-|x-goog-)?(sig(nature)?|sign|expires?|expiry|nonce|timestamp|ts|date|security-token)")


class Verdict(Enum):
    NATIVE = "sharded natively"
    DISCOVERY = "sharded through discovery"
    KEPT = "left on every scraper"
    NOT_TAKEN = "not taken"

    @property
    def sharded(self) -> bool:
        return self in (Verdict.NATIVE, Verdict.DISCOVERY)


@dataclass(frozen=True)
class Wishes:
    """What the user says: jobs to share, or to leave on every scraper, in any case; how slices come to the scrapers."""

    shard: Collection[str] = ()
    keep: Collection[str] = ()
    by: str = "file"


@dataclass(frozen=True)
class Judged:
    """A job with its verdict. ``blocks``: its discoveries as promring has them; ``shards``: rules that are taken out."""

    job: Job
    verdict: Verdict
    why: str = ""
    blocks: tuple[Piece, ...] = ()
    shards: tuple[Shard, ...] = ()
    hash_labels: tuple[str, ...] = ()

    @property
    def cut_rules(self) -> set[int]:
        return {number for shard in self.shards for number in shard.rules}

    @property
    def drops(self) -> int:
        """How many of the rules that stay may drop targets."""
        return sum(number not in self.cut_rules for number, _ in _dropping_rules(self.job))


def judge(job: Job, wishes: Wishes) -> tuple[Judged, list[Finding]]:
    """Raises ``InputError`` where what is written cannot be carried."""
    found = list(_copied(job))
    judged, why = _verdict(job, wishes)
    found += why
    found += _taken_out(judged)
    if judged.verdict.sharded:
        found += _said_of(judged, wishes)
    return judged, found


def _copied(job: Job) -> Iterator[Finding]:
    for leaf in copied_secrets(job.node):
        done = "carried as it is; put the secret there"
        yield job.finding("PI002", f"{keys.COPIED_SECRET} stands for a secret", done, leaf.node, leaf.path)


def _verdict(job: Job, wishes: Wishes) -> tuple[Judged, list[Finding]]:
    shards = shards_of(job)
    troubles = [one for one in shards if isinstance(one, Trouble)]
    plain = () if troubles else tuple(one for one in shards if isinstance(one, Shard))
    if job.name in wishes.keep:
        judged, said = _kept(job, "asked for with --keep", "PI006", plain)
        return judged, [*said, *_troubled(job, troubles)]
    if not job.discoveries:
        return _kept(job, "it has no targets", "PI006", plain)
    if only := [
        *sorted(keys.VMAGENT_DISCOVERIES.intersection(job.discoveries)),
        *_keys_of_vmagent(job),
        *_lists_by_url(job),
    ]:
        why = f"{only[0]} is vmagent's alone"
        said = [job.finding("PI024", why, "left on every scraper as it is")]
        return Judged(job, Verdict.NOT_TAKEN, why, shards=plain), [*said, *_troubled(job, troubles)]
    if troubles:
        return Judged(job, Verdict.NOT_TAKEN, troubles[0].what), _troubled(job, troubles)
    why, code = ("", "") if job.name in wishes.shard else _per_server(job)
    if why:
        return _kept(job, why, code, plain)
    return _sharded(job, plain)


def _lists_by_url(job: Job) -> list[str]:
    """Files that are URLs, which vmagent reads as it reads files: of any type, in JSON or YAML."""
    return [f"a URL in file_sd_configs{leaf.path}" for leaf in _below(job, "file_sd_configs") if names_url(leaf)]


def _troubled(job: Job, troubles: Collection[Trouble]) -> list[Finding]:
    done = "the job is left on every scraper as it is"
    return [_of_rule(job, "PI003", one.what, done, one.node, one.number) for one in troubles]


def _keys_of_vmagent(job: Job) -> list[str]:
    """Of its discoveries."""
    return [
        f"{kind}[{number}].{key}"
        for kind in job.discoveries
        for number, item in enumerate(_items(job, kind))
        for key in flat(item)
        if key in keys.VMAGENT_JOB and key not in keys.JOB
    ]


def _kept(job: Job, why: str, code: str, shards: tuple[Shard, ...]) -> tuple[Judged, list[Finding]]:
    return Judged(job, Verdict.KEPT, why, shards=shards), [job.finding(code, why, DONE_WITH[code])]


def _sharded(job: Job, shards: tuple[Shard, ...]) -> tuple[Judged, list[Finding]]:
    found: Native = native(job)
    labels = ("__address__",) if _signed(job) else ()
    equal = made_equal(job) if found.blocks else ""
    if found.blocks and not equal:
        return Judged(job, Verdict.NATIVE, "", found.blocks, shards, labels), []
    why = f"relabelling makes one target of {equal}" if equal else found.why
    said = [job.finding("PI007", why, "found by the Prometheus that discovers")]
    return Judged(job, Verdict.DISCOVERY, why, (), shards, labels), said


def _per_server(job: Job) -> tuple[str, str]:
    """Why the job means something else on every server, and the code of the finding; else empty."""
    paths = [job.get("metrics_path"), *(get(get(group, "labels"), "__metrics_path__") for group in _groups(job))]
    paths += [
        get(rule, "replacement") for _, rule in _rules(job) if text_of(get(rule, "target_label")) == "__metrics_path__"
    ]
    if any(text_of(path).rstrip("/").endswith("/federate") for path in paths):
        return "it federates from other servers", "PI006"
    if any(_names_the_server(leaf) for kind in job.discoveries if kind != "static_configs" for leaf in _below(job, kind)):
        return "it finds the targets of the node that the server runs on", "PI006"
    if any(OWN_NAME.search(leaf.node.real.text) for _, rule in _dropping_rules(job) for leaf in leaves(rule)):
        return "it keeps or drops targets by the name of the server itself", "PI006"
    own = own_targets(job)
    if not own.shown:
        return "", ""
    why = f"{own.shown} is the server itself"
    return (why, "PI006") if own.all else (f"{why}, other targets are not", "PI005")


def _names_the_server(leaf: Leaf) -> bool:
    """Whether a discovery finds what is on the server's own node only; whom it asks may be there, too, and know all."""
    text = leaf.node.real.text
    return any(place in text for place in PER_SERVER) or (leaf.key not in keys.SERVERS and OWN_NAME.search(text) is not None)


def _rules(job: Job) -> list[tuple[int, Node]]:
    """With their numbers in the job; those for all jobs have numbers below 0."""
    return list(enumerate(all_rules_of(job), -len(job.common)))


def _dropping_rules(job: Job) -> list[tuple[int, Node]]:
    return [(number, rule) for number, rule in _rules(job) if action_of(rule) in DROPPING]


def _of_rule(job: Job, code: str, what: str, done: str, node: Node, number: int, more: str = "") -> Finding:
    """About a rule, or what is in it at ``more``."""
    if number < 0:
        return job.finding(code, f"global.relabel_configs[{number + len(job.common)}]{more}: {what}", done)
    return job.finding(code, what, done, node, f"relabel_configs[{number}]{more}")


def _groups(job: Job) -> list[Node]:
    listed = job.get("static_configs")
    return listed.items if listed is not None else []


def _below(job: Job, key: str) -> list[Leaf]:
    node = job.get(key)
    return list(leaves(node)) if node is not None else []


def _signed(job: Job) -> list[str]:
    params = job.get("params")
    return [key.real.text for key, _ in params.pairs if _SIGNED.fullmatch(key.real.text)] if params is not None else []


def _taken_out(judged: Judged) -> Iterator[Finding]:
    now = "promring shares the targets now" if judged.verdict.sharded else "every scraper has all of its targets now"
    for shard in judged.shards:
        what = f"shard {shard.shard} of {shard.modulus} by hashmod"
        under = f"relabel_configs[{shard.rules[0]}]"
        yield judged.job.finding("PI004", what, f"both rules taken out, {now}", under=under)


# --- what there is to say about a job that is shared -------------------------------------------------------------------


def _said_of(judged: Judged, wishes: Wishes) -> Iterator[Finding]:
    job = judged.job
    if judged.drops:
        yield job.finding("PI014", f"{judged.drops} of its rules may drop targets", _who_drops(judged))
    limit = job.get("target_limit")
    if limit is not None and text_of(limit) != "0":
        yield job.finding(
            "PI029", f"target_limit {text_of(limit)} counts the targets of one scraper", "", limit, "target_limit"
        )
    if judged.hash_labels:
        what = f"the parameter {_signed(job)[0]} looks signed"
        yield job.finding("PI027", what, "hash_labels: [__address__] is set", job.get("params"), "params")
    for number, rule in enumerate(metric_rules_of(job)):
        if action_of(rule) == "hashmod":
            under = f"metric_relabel_configs[{number}]"
            yield job.finding("PI038", "hashmod of series", "carried as it is", rule, under)
    yield from _relabelling(judged, wishes)
    yield from _sources(judged)


def _who_drops(judged: Judged) -> str:
    if judged.verdict is Verdict.NATIVE:
        return "promring shares them before"
    if not judged.job.common and all(is_of_prometheus(rule) for _, rule in _rules(judged.job)):
        return "discovery.yml drops them before that"
    return "promring shares them before, discovery.yml has none of its rules"


def _relabelling(judged: Judged, wishes: Wishes) -> Iterator[Finding]:
    job, lost = judged.job, {SLICE_LABELS[wishes.by]: "is the slice's own on the scrapers"}
    if judged.verdict is Verdict.NATIVE:
        lost |= {
            name: "promring does not hand on" for kind, name in OWN_LABELS.items() if job.get(kind) and name not in lost
        }
    lost[ID_LABEL] = "is the slice's own on the scrapers"
    for number, rule in _rules(job):
        for label, why in lost.items():
            mapped = action_of(rule) == "labelmap" and matches(text_of(get(rule, "regex")) or "(.*)", label) is not False
            if label not in sources_of(rule) and not mapped:
                continue
            what = f"reads {label}, which {why}"
            yield _of_rule(job, "PI015", what, "carried as it is", rule, number)
            break
        to = text_of(get(rule, "replacement"))
        own = OWN_NAME.search(to)
        if text_of(get(rule, "target_label")) == "__address__" and (own or is_loopback(to)):
            what = f"every scrape goes to {own[0] if own else host_of(to)}"
            yield _of_rule(job, "PI016", what, "every scraper must have that exporter", rule, number)


def _sources(judged: Judged) -> Iterator[Finding]:
    who = "promring" if judged.verdict is Verdict.NATIVE else "the Prometheus that discovers"
    yield from findings_of_discoveries(judged.job, who)
    yield from _places(judged)
    if judged.verdict is Verdict.NATIVE:
        yield from _places_in_rules(judged)


def _items(job: Job, key: str) -> list[Node]:
    node = job.get(key)
    return node.items if node is not None else []


def _places_in_rules(judged: Judged) -> Iterator[Finding]:
    """Place-holders by whose value the scrapers drop targets that promring gives to them."""
    for number, rule in _dropping_rules(judged.job):
        for leaf in placeholders(rule) if number not in judged.cut_rules else ():
            what, done = "a place-holder in a rule that drops targets", "carried as it is; write its value there"
            yield _of_rule(judged.job, "PI019", what, done, leaf.node, number, f".{leaf.path}")


def _places(judged: Judged) -> Iterator[Finding]:
    """Place-holders and relative paths in what promring, or the Prometheus that discovers, reads."""
    job = judged.job
    native_keys = ["job_name", *job.discoveries] if judged.verdict is Verdict.NATIVE else [""]
    for key in native_keys:
        node = job.get(key) if key else job.node
        assert node is not None  # a discovery of the job
        cut = {f"relabel_configs[{number}].regex" for number in judged.cut_rules}
        for leaf in placeholders(node):
            if leaf.path not in cut:
                done = "carried as it is; write its value there"
                yield job.finding("PI019", "a place-holder that nobody replaces", done, leaf.node, f"{key}{leaf.path}")
        for leaf in leaves(node):
            if keys.is_path(leaf.key) and keys.is_of_windows(leaf.node.real.text):
                done = "carried as it is; put the file on the new machine, and write its path there"
                yield job.finding("PI037", "a path of Windows", done, leaf.node, f"{key}{leaf.path}")
        for leaf in relative_paths(node):
            yield job.finding("PI012", "a relative path", "absolute in the new file", leaf.node, f"{key}{leaf.path}")
