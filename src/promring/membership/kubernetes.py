"""Membership from Kubernetes: the pods that a label selector selects, each probed beside what Kubernetes says of it.

| Kubernetes says | the scraper is |
|---|---|
| Ready | alive while it answers its probes |
| a time of deletion | drained: it gets nothing, and its targets move first; its probes tell when it is dead |
| not Ready, any more | dead |
| not Ready, never was | not listed yet |
| Pending, Failed, Succeeded, or deleted | dead at once: its address may be another pod's |
| gone without a time of deletion: its labels changed | kept as listed for ``keep``, then it leaves by a plan |
| nothing (the API server does not answer) | what it was, and its probes go on |

The identity of a scraper is the name of its pod, with the port: a pod of a StatefulSet that returns with another address is
the same scraper. One whose ``uid`` changed was restarted.

Not promised: that a pod is drained before it ends. It is told to end at the moment in which it gets its time of deletion, so
it needs a ``preStop`` hook that lasts as long as a hand-over (docs/kubernetes.md).
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field

from promring.config.kinds import Problem
from promring.config.node import Node, parse_weight
from promring.config.values import Interval, Port
from promring.kubernetes.access import DnsName, KubernetesSection
from promring.kubernetes.client import Client, connected
from promring.kubernetes.nodes import NodeZones
from promring.kubernetes.pods import Pod, PodWatch
from promring.membership import DirectCheck, MembershipContext, ScraperSettings
from promring.membership.listing import Heard, ListedMembership, Off
from promring.membership.probing import ProbeKeys
from promring.model import ConfigError, Members, Scraper
from promring.runtime.address import canonical_host

AGAIN_S = 5.0
"""After a kubeconfig that cannot be used."""
DELETED, RENEWED = "the pod was deleted", "the pod was made anew"
WEIGHT = "promring/weight"
"""Annotation of a pod."""
ZONE = "topology.kubernetes.io/zone"
NAMED_MOST = 10
_KEY = r"([A-Za-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_VALUE = r"[A-Za-z0-9._-]*"
_TERM = rf"!?{_KEY}|{_KEY}\s*(=|==|!=)\s*{_VALUE}|{_KEY}\s+(in|notin)\s+\(\s*{_VALUE}(\s*,\s*{_VALUE})*\s*\)"
SELECTOR = re.compile(rf"\s*({_TERM})\s*(,\s*({_TERM})\s*)*")
PORT_NAME = re.compile(r"[a-z0-9-]{1,15}")


def _selector(text: str) -> str:
    if not SELECTOR.fullmatch(text):
        raise ValueError(f"{text!r} is no label selector, such as app=prometheus,tier in (a, b)")
    return text


def _port(value: object) -> object:
    if isinstance(value, str) and not (PORT_NAME.fullmatch(value) and re.search("[a-z]", value)):
        raise ValueError(f"{value!r} is neither a number nor the name of a port")
    return value


LabelKey = Annotated[str, Field(pattern=rf"^{_KEY}$", max_length=317)]


class KubernetesScrapers(ScraperSettings):
    """``namespace``: absent, that of the kubeconfig's context or of promring's own pod; ``port``: its number, or its name in
    the pod; ``pod_zone_label``: of each pod; ``node_zone_label``: of the node that a pod runs on, which needs a right on
    nodes; both count where the fleet has ``zones``; ``keep``: so long a pod that is not selected any more, and lives, counts
    as listed; ``probe``: how each scraper is asked.
    """

    kind = "kubernetes"
    section = KubernetesSection
    names_scrapers = True

    namespace: DnsName | None = None
    selector: Annotated[str, Field(max_length=1024), AfterValidator(_selector)]
    port: Annotated[Port | str, BeforeValidator(_port)]
    pod_zone_label: LabelKey = ZONE
    node_zone_label: LabelKey | None = None
    keep: Interval = 30.0
    probe: ProbeKeys = ProbeKeys()

    def relations(self) -> Iterator[Problem]:
        for path, what in self.probe.problems():
            yield ("probe", *path), what

    @property
    def direct_check(self) -> DirectCheck:
        return DirectCheck(self.probe.path, self.probe.timeout)

    def finds_the_same(self, other: ScraperSettings) -> bool:
        same = isinstance(other, KubernetesScrapers) and other.selector == self.selector
        return same and isinstance(other, KubernetesScrapers) and other.namespace == self.namespace

    @property
    def said(self) -> str:
        where = f" of {self.namespace}" if self.namespace else ""
        return f"pods with {self.selector}{where} at port {self.port}"

    def membership(self, context: MembershipContext) -> ListedMembership:
        return ListedMembership.of(context, PodListing(self, context), self.probe)


class Reading(NamedTuple):
    """``restarted``: ids of pods of another uid than before under the same name. ``refused``: by id, pods that can be no
    scraper, and why.
    """

    members: Members
    off: Off
    restarted: frozenset[str]
    refused: Off


class Judged(NamedTuple):
    """A pod, and what it says. ``unready``: why it is not Ready; ``scraper``: what it is, or why it can be none."""

    pod: Pod
    zone: str
    id: str
    unready: str
    scraper: Scraper | str

    @property
    def uid(self) -> str:
        return self.pod.metadata.uid


class PodReader:
    """What the pods say about scrapers, one answer after the other. ``make``: a node as a scraper of the fleet; ``known``:
    ids of those that were scrapers before. No I/O.
    """

    def __init__(self, port: int | str, make: Callable[[Node], Scraper], known: Iterable[str]) -> None:
        self._port, self._make = port, make
        self._ready_once = set(known)
        """Ids. One that was never Ready is not listed, so that the plan does not reckon with it."""
        self._before: Mapping[str, Judged] = {}

    def read(self, pods: Mapping[str, Pod], zones: Mapping[str, str]) -> Reading:
        """Of all pods by name; ``zones``: of those that have one, by name."""
        before, judged = self._before, {name: self._judged(pod, zones.get(name, "")) for name, pod in pods.items()}
        deleted = {one.id: DELETED for name, one in before.items() if name not in pods and one.pod.is_leaving}
        unready = {one.id: one.unready for one in judged.values() if one.unready}
        self._ready_once = {one.id for one in judged.values() if not one.unready or one.id in self._ready_once}
        wanted = [one for one in judged.values() if one.pod.status.phase == "Running" and one.id in self._ready_once]
        refused = {one.id: one.scraper for one in wanted if isinstance(one.scraper, str)}
        listed = [(one.pod, one.scraper) for one in wanted if isinstance(one.scraper, Scraper)]
        refused |= _doubled(listed)
        members = sorted((scraper for _, scraper in listed if scraper.id not in refused), key=lambda s: s.id)
        renewed = {one.id for name, one in judged.items() if name in before and before[name].uid != one.uid}
        self._before = judged
        return Reading(tuple(members), deleted | unready | refused, frozenset(renewed), refused)

    def _judged(self, pod: Pod, zone: str) -> Judged:
        """The same object as long as nothing of it changes: of a thousand pods one changes at a time."""
        known = self._before.get(pod.name)
        if known is not None and known.pod is pod and known.zone == zone:
            return known
        try:
            scraper: Scraper | str = self._scraper(pod, zone)
        except ValueError as error:
            scraper = str(error)
        return Judged(pod, zone, self._make(Node(pod.name, pod.port(self._port) or 0)).id, pod.unready, scraper)

    def _scraper(self, pod: Pod, zone: str) -> Scraper:
        """Raises ValueError, which says what is wrong with the pod."""
        port, annotations = pod.port(self._port), pod.metadata.annotations or {}
        if port is None:
            raise ValueError(f"no container of the pod has a port with the name {self._port}")
        if not pod.status.ip:
            raise ValueError("the pod has no address")
        try:
            weight = parse_weight(annotations.get(WEIGHT, "1"))
        except ValueError as error:
            raise ValueError(f"annotation {WEIGHT}: {error}") from None
        scraper = self._make(Node(pod.name, port, zone, weight))
        return replace(scraper, host=canonical_host(pod.status.ip), draining=pod.is_leaving)


def _doubled(listed: Sequence[tuple[Pod, Scraper]]) -> dict[str, str]:
    """Those that have an address of another. The one that is Ready and not being deleted has it, where that is one."""
    count = Counter(scraper.address for _, scraper in listed)
    sound = Counter(scraper.address for pod, scraper in listed if not pod.unready and not pod.is_leaving)
    return {
        scraper.id: f"another pod has the address {scraper.address}, too"
        for pod, scraper in listed
        if count[scraper.address] > 1 and (sound[scraper.address] != 1 or pod.unready or pod.is_leaving)
    }


class PodListing:
    """The list of scrapers in a cluster. Opens a client of its own, and again when the section cannot be used."""

    def __init__(self, settings: KubernetesScrapers, context: MembershipContext) -> None:
        self.name, self.keep_s, self.may_be_short = settings.said, settings.keep, False
        self._settings, self._sections, self._log = settings, context.sections, context.log
        self._zoned = context.zone_label is not None
        known = {s.id for s in (*context.last, *context.catalogue)}
        self._reader = PodReader(settings.port, context.scraper, known)
        self._refused: Off = {}

    async def run(self, heard: Heard, failed: Callable[[str], None]) -> None:
        while True:
            try:
                async with connected(self._sections) as client:
                    await self._follow(client, heard, failed)
            except ConfigError as error:
                failed("; ".join(error.problems))
                await asyncio.sleep(AGAIN_S)

    async def _follow(self, client: Client, heard: Heard, failed: Callable[[str], None]) -> None:
        namespace = self._settings.namespace or client.access.namespace
        zones = NodeZones(client, self._settings.node_zone_label, self._log)

        async def hear(pods: Mapping[str, Pod]) -> None:
            self._hear(pods, await self._zones(pods, zones), heard, failed)

        await PodWatch(client, namespace, self._settings.selector, self._log).run(hear, failed)

    async def _zones(self, pods: Mapping[str, Pod], nodes: NodeZones) -> dict[str, str]:
        """By pod. Its own label goes first, as whoever wrote it knows more."""
        if not self._zoned:
            return {}
        label = self._settings.pod_zone_label
        own = {name: (pod.metadata.labels or {}).get(label, "") for name, pod in pods.items()}
        return {name: own[name] or await nodes.zone(pod.spec.node_name) for name, pod in pods.items()}

    def _hear(self, pods: Mapping[str, Pod], zones: Mapping[str, str], heard: Heard, failed: Callable[[str], None]) -> None:
        reading = self._reader.read(pods, zones)
        self._say_refused(reading.refused)
        if not reading.members:
            why = [f"{name}: {why}" for name, why in sorted(reading.off.items())[:NAMED_MOST]]
            failed(f"no pod with {self._settings.selector} is a scraper now{': ' if why else ''}{'; '.join(why)}")
            return
        if reading.restarted:  # what is known of the pod before says nothing about this one
            others = tuple(s for s in reading.members if s.id not in reading.restarted)
            heard(others, {**reading.off, **dict.fromkeys(reading.restarted, RENEWED)})
        heard(reading.members, reading.off)

    def _say_refused(self, refused: Off) -> None:
        """Once while it lasts."""
        for name, why in refused.items():
            if self._refused.get(name) != why:
                self._log.error("kubernetes_pod_refused", scraper=name, why=why)
        self._refused = refused
