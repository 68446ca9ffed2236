"""Every parser that reads what another program wrote, as a function of bytes that ends in a defined way.

Owns: for each parser what it is fed with, which errors are its answer to nonsense, and what must be true of what it takes.
Anything else that is raised is a defect. Flow: ``__main__`` feeds a parser with what Atheris makes; the test of the same
table (``tests/unit/test_fuzz.py``) with its samples, damaged, and with each input in ``found`` that was a defect once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import zlib
from functools import cache
from pathlib import Path

import dns.exception
import msgspec

from fuzz import answers, files, samples, stores
from fuzz.harness import JSON_WORDS, YAML_WORDS, Parser, folder, now, result, scraper
from promring.audit.active import seen_by_pool, with_dropped
from promring.audit.answers import AuditError, Told
from promring.config.load import loads
from promring.core.coverage import Index
from promring.core.pool import pool_of
from promring.delivery.bundle import BundleError, opened, unpacked
from promring.delivery.receiver import Envelope, RefusedError, check, noted
from promring.discovery.consul_labels import Query, pool_of_instances, services_of
from promring.discovery.dns_rules import groups_of
from promring.discovery.engine_config import jobs_of
from promring.discovery.engine_pools import EnginePools
from promring.discovery.groups import Refusals, from_json, from_yaml, read_pool
from promring.fleet.store import Store
from promring.importing.configuration import read_configuration
from promring.importing.convert import SCRAPERS, convert
from promring.importing.services import Layout
from promring.importing.source import InputError
from promring.importing.verdicts import Wishes
from promring.membership.file import ListError, read_list
from promring.model import (
    ConfigError,
    DiscoveryError,
    TargetGroup,
    TargetPool,
)
from promring.runtime.dns_client import PARSE_BESIDE_BYTES, parsed
from promring.runtime.dns_names import parse_resolv_conf, query
from promring.telemetry import log

FOUND = Path(__file__).parent / "found"
LENGTH_MAX = 16 * 1024
"""Of an input. Longer ones are for the tests of limits; here they only make each run slow."""


# --- configuration ---------------------------------------------------------------------------------------------------


def configuration(data: bytes) -> None:
    result(lambda: loads(data, base=folder()), ConfigError)


def scraper_list(data: bytes) -> None:
    members = result(lambda: read_list(data, Path("/list.yml"), scraper), ListError)
    assert members is None or len({one.id for one in members}) == len(members) > 0


def imported(data: bytes) -> None:
    """What is written is read again without a complaint, with as many jobs."""
    path = folder() / "prometheus.yml"
    path.write_bytes(data)
    found = result(lambda: read_configuration(path), InputError)
    if found is None:
        return
    made = result(lambda: convert([found], Wishes(), Layout()), InputError)
    if made is not None:
        path.write_bytes(made.files[SCRAPERS].content)
        assert len(read_configuration(path).jobs) == len(found.jobs)


def engine_configuration(data: bytes) -> None:
    result(lambda: jobs_of(data.decode("utf-8", "replace")), ValueError)


# --- lists of targets ------------------------------------------------------------------------------------------------


def json_list(data: bytes) -> None:
    """A list in pieces is the list as a whole."""
    whole, pieces = (result(lambda size=size: _pool(data, size), DiscoveryError) for size in (2**20, 24))  # type: ignore[misc]
    assert whole == pieces, "the list in pieces is another one"
    _check_pool(whole)


def yaml_list(data: bytes) -> None:
    pool = result(lambda: read_pool(from_yaml(data, "list"), "list", size_bytes=len(data)), DiscoveryError)
    _check_pool(pool)


def consul_source(data: bytes) -> None:
    result(lambda: services_of(data, (), ("a",)), ValueError)
    _check_pool(result(lambda: pool_of_instances(data, Query("s", "dc1"), "consul"), DiscoveryError))


def dns_answer(data: bytes) -> None:
    """As ``runtime/dns_client`` and the source take it. The first byte chooses what was asked for."""
    kind = ("A", "AAAA", "SRV", "MX", "NS")[data[0] % 5] if data else "A"
    question = query("a.example.", kind, edns=False)
    body = question.to_wire()[:2] + data[1:]
    run = now if len(body) <= PARSE_BESIDE_BYTES else asyncio.run
    answer = result(lambda: run(parsed(question, body)), dns.exception.DNSException, ValueError)
    if answer is not None:
        refusals = Refusals()
        _check_pool(read_pool(groups_of(answer, "a.example.", 9, refusals), "dns", refusals=refusals))


def resolv_conf(data: bytes) -> None:
    parse_resolv_conf(data.decode("utf-8", "replace"))


def engine_targets(data: bytes) -> None:
    """In chunks of a length that the first byte says; a second reading of the same answer changes nothing."""
    pools, size, body = EnginePools("engine"), 1 + (data[0] if data else 0), data[1:]
    if result(lambda: _read_engine(pools, body, size), DiscoveryError) is None:
        return
    first = dict(pools.pools)
    for pool in first.values():
        _check_pool(pool)
    _read_engine(pools, body, 7)
    assert all(pools.pools[name] is pool for name, pool in first.items()), "the same answer made another pool"


def _read_engine(pools: EnginePools, body: bytes, size: int) -> bool:
    reading = pools.begin({})
    for at in range(0, len(body), size):
        reading.feed(body[at : at + size])
    reading.end()
    return True


# --- slices ----------------------------------------------------------------------------------------------------------


def audit(data: bytes) -> None:
    index, told = Index(_known()), Told(data, 1e9)
    found = result(lambda: seen_by_pool(told, {"job": index}, 1.0), AuditError)
    seen = found["job"] if found else None
    if seen is not None and not isinstance(seen, AuditError):
        result(lambda: with_dropped(seen, told, "job", index), AuditError)


def agent_answer(data: bytes) -> None:
    """What passes the receiver's check is a list that discovery takes, too. Also with lengths and digests that fit."""
    for answer in (data, fitting(data)):
        _agent_answer(answer)


def fitting(data: bytes) -> bytes:
    """The slices that are sent share what is behind the list, in equal parts, and the list says so."""
    first, _, rest = data.partition(b"\n")
    try:
        listing = json.loads(first)
        sent = [one for one in listing["slices"] if one.get("sent") is not None]
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return data
    bodies = [rest[i * len(rest) // len(sent) : (i + 1) * len(rest) // len(sent)] for i in range(len(sent))]
    for one, body in zip(sent, bodies, strict=True):
        with contextlib.suppress(zlib.error):
            one["sha256"] = hashlib.sha256(zlib.decompress(body, 31) if one.get("gzip") else body).hexdigest()
        one["sent"] = len(body)
    return json.dumps(listing).encode() + b"\n" + rest


def _agent_answer(data: bytes) -> None:
    found = result(lambda: opened(data), BundleError)
    for listed in found[0].slices if found else ():
        body = found[1].get(listed.service, b"") if found else b""
        plain = result(lambda body=body: unpacked(body, 2**20), BundleError) if listed.gzip else body  # type: ignore[misc]
        sealed = result(lambda listed=listed, plain=plain: listed.sealed(plain or b""), RefusedError)  # type: ignore[misc]
        if sealed is not None and result(lambda sealed=sealed: _passes(sealed), RefusedError):  # type: ignore[misc]
            read_pool(from_json(sealed.body, "slice"), "slice", size_bytes=len(sealed.body))


def _passes(envelope: Envelope) -> bool:
    check(envelope)
    return True


def receiver_note(data: bytes) -> None:
    """A note that is understood is written as the same note. A digest that is none is kept: its generation still counts."""
    path = folder() / "slice.json"
    (folder() / ".slice.json.promring").write_bytes(data)
    found = noted(path)
    if found is not None and found.sha256.isascii():
        (folder() / ".slice.json.promring").write_bytes(found.line())
        assert noted(path) == found


# --- state -----------------------------------------------------------------------------------------------------------


def state_file(data: bytes) -> None:
    _load(data)


def state_record(data: bytes) -> None:
    """A body of a frame that is sound to its digest: what a save never wrote, or another version did."""
    _load(samples.framed(data))


def _load(content: bytes) -> None:
    """``load`` never raises. What it believes can be saved, and is the same then."""
    place = folder() / "state"
    place.mkdir(exist_ok=True)
    for path in place.iterdir():
        path.unlink()
    (place / "fleet.state").write_bytes(content)
    memory = Store(place, "fleet", log.get()).load()
    if memory.services:
        asyncio.run(Store(place, "fleet", log.get()).save(memory))
        again = Store(place, "fleet", log.get()).load()
        assert again.services == memory.services, "what was loaded is another state once it was saved"


# --- what the parsers share ------------------------------------------------------------------------------------------


def _pool(data: bytes, piece_bytes: int) -> TargetPool:
    return read_pool(from_json(data, "list", piece_bytes), "list", size_bytes=len(data))


def _check_pool(pool: TargetPool | None) -> None:
    """Its fragments, as a list, are the same pool: so a slice of it says what the source said."""
    if pool is not None:
        body = b"[" + pool.blob.rstrip(b",\n") + b"]"
        assert len(msgspec.json.decode(body)) == len(pool)


@cache
def _known() -> TargetPool:
    return pool_of([TargetGroup.of(["a:1", "b:1"], {"x": "1"})])


PARSERS: dict[str, Parser] = {
    "configuration": Parser(
        configuration,
        (samples.CONFIGURATION,),
        (*YAML_WORDS, b"consul", b"dns", b"ssh", b"ansible", b"loads", b"zone_label"),
    ),
    "scraper_list": Parser(scraper_list, (samples.SCRAPER_LIST,), YAML_WORDS),
    "imported": Parser(
        imported,
        (samples.PROMETHEUS,),
        (*YAML_WORDS, b"_sd_configs: ", b"hashmod", b"scrape_config_files", b"authorization"),
    ),
    "engine_configuration": Parser(engine_configuration, (samples.PROMETHEUS,), YAML_WORDS),
    "json_list": Parser(
        json_list, (samples.JSON_LIST, samples.SLICE), (*JSON_WORDS, b"targets", b"labels", b"__address__"), json=0
    ),
    "yaml_list": Parser(yaml_list, (samples.YAML_LIST, samples.JSON_LIST), (*YAML_WORDS, b"targets: ", b"labels: ")),
    "consul_source": Parser(consul_source, (samples.INSTANCES, samples.CATALOGUE), JSON_WORDS, json=0),
    "dns_answer": Parser(dns_answer, (samples.DNS_A, samples.DNS_SRV), (b"\xc0\x0c", b"\x00\x01\x00\x01", b"\x00\x29")),
    "resolv_conf": Parser(
        resolv_conf, (samples.RESOLV_CONF,), (b"nameserver ", b"search ", b"options ndots:", b"domain ", b"%eth0")
    ),
    "engine_targets": Parser(engine_targets, (b"\x40" + samples.TARGETS, b"\x05" + samples.TARGETS), JSON_WORDS, json=1),
    "consul_instances": Parser(
        stores.consul_instances, (samples.INSTANCES,), (*JSON_WORDS, b"Service", b"Weights", b"serfHealth"), json=0
    ),
    "kubernetes_lease": Parser(
        stores.kubernetes_lease, (samples.LEASE,), (*JSON_WORDS, b"holderIdentity", b"promring/note"), json=0
    ),
    "kubernetes_pods": Parser(
        stores.kubernetes_pods, (samples.PODS,), (*JSON_WORDS, b"\n\n", b"deletionTimestamp", b"podIP"), json=0
    ),
    "etcd_answer": Parser(
        stores.etcd_answer, (samples.ETCD, samples.ETCD_OURS), (*JSON_WORDS, b"response_range", b"mod_revision"), json=0
    ),
    "lock_note": Parser(stores.lock_note, (samples.NOTE,), JSON_WORDS, json=0),
    "audit": Parser(
        audit, (samples.TARGETS,), (*JSON_WORDS, b"__promring_id__", b"activeTargets", b"droppedTargets"), json=0
    ),
    "agent_answer": Parser(
        agent_answer,
        (samples.BUNDLE, samples.BUNDLES),
        (*JSON_WORDS, b"gzip", b"follows", b"without", b"targets", b"labels"),
        json=0,
    ),
    "receiver_note": Parser(receiver_note, (samples.RECEIVER_NOTE,), (b".", b" ", b"\n")),
    **answers.PARSERS,
    **files.PARSERS,
    "state_file": Parser(state_file, (samples.STATE,), (b"promring-state", b"promring-saved")),
    "state_record": Parser(state_record, (samples.RECORD,), (b"part", b"\xc0")),
}
"""By the name that ``make fuzz ONLY=`` takes, which is that of its folder in ``found``, too."""
