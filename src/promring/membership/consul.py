"""Membership from Consul: the health watch, and the registration beside it when the configuration has one.

When Consul forgot its catalogue, the scrapers come back one by one as they are registered again, by us, another controller
or themselves. After an empty answer one that lacks some of those before it is ``Unknown``, not "they died", until all are
back or ``SETTLE_S`` has passed; so is the first answer after none, if some are not in the catalogue any more.

A scraper that Consul cannot tell about, because the agent beside promring that checks it is dead, is asked directly until
Consul can.

Flow: ``consul/watch.py`` finds the live instances, this hands them to the loop; an empty service wakes the registrar.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from promring.config.kinds import Problem
from promring.config.node import Node, Nodes, parse_weight
from promring.config.scraper_api import ScraperApi
from promring.config.values import HttpPath, Interval, Model, Name
from promring.consul.access import ConsulSection
from promring.consul.catalogue import Catalogue, MakeScraper
from promring.consul.client import Client
from promring.consul.instances import WEIGHT
from promring.consul.registration import Node as HostPort
from promring.consul.registration import Registrar, Registration, is_free, said_of_left
from promring.consul.watch import SILENT_S, HealthWatch
from promring.membership import DirectCheck, Membership, MembershipContext, Observed, Publish, ScraperSettings
from promring.membership.direct import DirectProbes
from promring.membership.listed import Listed
from promring.membership.probing import ProbeKeys, ProbeMembership
from promring.membership.settling import Settling
from promring.model import (
    WEIGHT_MOST,
    Answer,
    Empty,
    Known,
    Members,
    NodeState,
    Reply,
    Scraper,
    Unknown,
    Waiting,
    join_host_port,
)
from promring.runtime.unforeseen import kept_alive
from promring.telemetry.log import Logger

SETTLE_S = 15.0
SEEN_MAX = 1000
"""Scrapers that are not in Consul any more, and are still shown."""
WEIGHTS_SAID_MOST = 1000
NO_CERTIFICATE = (
    "the check that Consul makes cannot show this certificate: set enable_agent_tls_for_checks on Consul's agents, with a "
    "certificate that the scrapers take, and say register.check.agent_tls: true; or let somebody else register the scrapers"
)
NO_AUTHORITY = (
    "the check that Consul makes does not know this authority: give it to the machines of Consul's agents, or to the agents "
    "(enable_agent_tls_for_checks), and say register.check.agent_tls: true; or say register.check.tls_skip_verify: true, "
    "and Consul verifies nothing"
)
NOT_LISTED = "not in Consul"
NOT_YET = "none is registered in Consul yet: promring run registers them"


class RegisterCheck(Model):
    """The HTTP check that Consul makes of a scraper that promring registers. ``agent_tls``: Consul's agents have the
    authorities and the certificate that it needs; ``tls_skip_verify``: Consul does not verify, even if promring does.
    """

    path: HttpPath = "/-/ready"
    interval: Interval = 5.0
    timeout: Interval = 2.0
    agent_tls: bool = False
    tls_skip_verify: bool = False


class Register(Model):
    """What promring registers where Consul has no instance of the service."""

    nodes: Nodes
    check: RegisterCheck = RegisterCheck()


class ConsulScrapers(ScraperSettings):
    """The instances of ``service``. ``warning``: what a scraper is whose check warns."""

    kind = "consul"
    section = ConsulSection
    watches_max = 180  # Consul refuses more than 200 connections from one address, and each watch holds one

    service: Name
    warning: Literal["alive", "dead"] = "alive"
    register_: Annotated[Register | None, Field(alias="register")] = None

    def relations(self) -> Iterator[Problem]:
        if self.register_ is not None and self.register_.check.timeout > self.register_.check.interval:
            yield ("register", "check", "timeout"), "must not be longer than interval"

    def unable(self, api: ScraperApi) -> Iterator[Problem]:
        if self.register_ is None:
            return
        check, at = self.register_.check, ("scrapers", "consul", "register", "check")
        if check.tls_skip_verify and check.agent_tls:
            yield (*at, "tls_skip_verify"), "goes not with agent_tls, by which Consul's agents verify"
        if api.scheme == "http" and (check.tls_skip_verify or check.agent_tls):
            yield (*at, "agent_tls" if check.agent_tls else "tls_skip_verify"), "needs scraper_api.scheme: https"
        files = api.tls_files
        if files is None or check.agent_tls:
            return
        tls = ("scraper_api", "tls" if api.tls else "tls_config")
        if files.cert_file is not None:
            yield (*tls, "cert_file"), NO_CERTIFICATE
        if files.ca_file is not None and not (check.tls_skip_verify or files.insecure_skip_verify):
            yield (*tls, "ca_file"), NO_AUTHORITY

    @property
    def listed(self) -> Sequence[Node]:
        return self.register_.nodes if self.register_ else ()

    @property
    def listed_at(self) -> tuple[str, ...]:
        return ("register", "nodes")

    @property
    def registers(self) -> bool:
        return self.register_ is not None

    async def observing(self, context: MembershipContext) -> Observed:
        assert context.consul is not None
        if self.register_ is None or not await is_free(context.consul, self.service):
            left = await said_of_left(context.consul, self.service, [(node.host, node.port) for node in self.listed])
            return Observed(self.model_copy(update={"register_": None}).membership(context), left)
        check, asked = self.register_.check, tuple(map(context.scraper, self.listed))
        probe = ProbeKeys(path=check.path, interval=check.interval, timeout=check.timeout)
        return Observed(ProbeMembership(context.name, asked, probe, context.log, context.api), NOT_YET)

    @property
    def direct_check(self) -> DirectCheck:
        check = self.register_.check if self.register_ else RegisterCheck()
        return DirectCheck(check.path, check.timeout)

    def finds_the_same(self, other: ScraperSettings) -> bool:
        return isinstance(other, ConsulScrapers) and other.service == self.service

    def lines_name(self, fleet: str) -> str:
        return self.service

    @property
    def said(self) -> str:
        return f"Consul's {self.service}"

    def membership(self, context: MembershipContext) -> ConsulMembership:
        assert context.consul is not None  # the supervisor makes a client when a fleet needs one
        catalogue = Catalogue(_scraper_maker(context), warning_is_dead=self.warning == "dead", weight_most=WEIGHT_MOST)
        watch = HealthWatch(context.consul, self.service, catalogue, context.log)
        return ConsulMembership(
            context.consul,
            watch,
            self._registration(context.zone_label, context.api),
            context.log,
            context.last,
            context.leads,
            probes=DirectProbes(*self.direct_check, context.log, api=context.api),
            catalogue=context.catalogue,
        )

    def _registration(self, zone_label: str | None, api: ScraperApi) -> Registration | None:
        if self.register_ is None:
            return None
        check = self.register_.check
        nodes = {(node.host, node.port): _metadata(node, zone_label) for node in self.register_.nodes}
        managed = frozenset({WEIGHT, *([zone_label] if zone_label else [])})
        how = check.path, check.interval, check.timeout
        return Registration(self.service, nodes, *how, managed, api, check.tls_skip_verify)


def _scraper_maker(context: MembershipContext) -> MakeScraper:
    """Zone and weight are metadata of the instance, or of its node."""
    label = context.zone_label
    said: dict[HostPort, str] = {}

    def make(node: HostPort, metadata: Mapping[str, str]) -> Scraper:
        zone = metadata.get(label, "") if label else ""
        try:
            weight = parse_weight(metadata.get(WEIGHT, "1"))
        except ValueError as error:
            if said.get(node) != str(error) and len(said) < WEIGHTS_SAID_MOST:  # once, not at each answer
                said[node] = str(error)
                context.log.error("consul_weight_ignored", node=join_host_port(*node), error=str(error), goes_on="weight 1")
            weight = 1.0
        return context.scraper(Node(*node, zone, weight))

    return make


def _metadata(node: Node, zone_label: str | None) -> dict[str, str]:
    zone = {zone_label: node.zone} if zone_label and node.zone else {}
    return zone | ({WEIGHT: f"{node.weight:g}"} if node.weight != 1 else {})


class ConsulMembership:
    """The live instances of one Consul service. ``last``: who lived before, ``catalogue``: who was listed; ``probes``: how
    to ask those that Consul cannot tell about.
    """

    def __init__(
        self,
        client: Client,
        watch: HealthWatch,
        registration: Registration | None,
        log: Logger,
        last: Members = (),
        leads: Callable[[], bool] = lambda: True,
        settle_s: float = SETTLE_S,
        probes: DirectProbes | None = None,
        silent_s: float = SILENT_S,
        catalogue: Members = (),
    ) -> None:
        self._silent_s, self._settle_s, self._log = silent_s, settle_s, log
        self._watch, self._probes = watch, probes
        self._registrar = None
        if registration is not None:
            self._registrar = Registrar(client, registration, lambda: _nodes(self._last), self._settle, leads, log)
            watch.catalogue.as_wanted = registration.is_met_by
        configured = [watch.catalogue.scraper_at(node) for node in registration.nodes] if registration else []
        watch.catalogue.lived(last)
        self._seen = dict.fromkeys(s.id for s in (*configured, *last))
        self._newest: Answer[Members] = Unknown("not asked yet")
        self._known: dict[str, NodeState] = {}  # what was last known of each
        self._last = last
        self._listed = Listed((*configured, *last, *catalogue))
        self._dismissed: Callable[[], Collection[str]] = lambda: ()
        self._settling = Settling(self._settled)
        self._publish: Publish = lambda _: None

    def deregister(
        self,
        departing: Callable[[], Members],
        gone: Callable[[], Members],
        of_others: Callable[[Collection[HostPort]], None],
    ) -> None:
        """``departing`` still work; ``gone`` shall leave Consul; ``of_others`` hears which of them others registered."""
        self._dismissed = lambda: {s.id for s in (*departing(), *gone())}
        if self._registrar is not None:
            self._registrar.deregister(lambda: _nodes(departing()), lambda: _nodes(gone()), of_others)

    def go_on_from(self, before: Membership) -> None:
        if not isinstance(before, ConsulMembership) or before._watch.service != self._watch.service:
            return
        self._listed.go_on_from(before._listed)
        self._watch.answered_at = before._watch.answered_at
        self._settling.go_on_from(before._settling)
        if self._registrar is not None and before._registrar is not None:
            self._registrar.go_on_from(before._registrar)

    async def run(self, publish: Publish) -> None:
        self._publish = publish
        try:
            async with asyncio.TaskGroup() as group:
                watch, registrar, probes = self._watch, self._registrar, self._probes
                watching = kept_alive(
                    "consul watch",
                    lambda: watch.run(self._hand_on),
                    self._log,
                    unknown=lambda why: self._hand_on(Unknown(why)),
                )
                group.create_task(watching)
                if registrar is not None:
                    group.create_task(kept_alive("consul registration", registrar.run, self._log))
                if probes is not None:
                    asked = probes.run(lambda: watch.catalogue.unsure, watch.catalogue.unsure_changed, self._put_probed)
                    group.create_task(asked)
        finally:
            self._settling.stop()  # a membership after a reload may go on with it

    def nodes(self) -> list[NodeState]:
        if isinstance(self._newest, Unknown):  # why is a fact about Consul, and no scraper's fault
            known = [(name, self._known.get(name)) for name in sorted(self._seen)]
            return [NodeState(n, "unknown", one.reason, one.state) if one else NodeState(n, "unknown") for n, one in known]
        up = {s.id for s in self._newest.value} if isinstance(self._newest, Known) else set()
        why = self._watch.catalogue.why
        return [
            NodeState(name, "up", why.get(name, "")) if name in up else NodeState(name, "down", why.get(name, NOT_LISTED))
            for name in sorted(self._seen)
        ]

    def _put_probed(self, scraper: str, reply: Reply) -> None:
        self._watch.put_probed(scraper, alive=reply is Reply.ANSWERS)

    def listed(self) -> Members:
        return self._listed.members

    def silent(self) -> str:
        """Why the last answer is too old to go by, or an empty text."""
        since = time.monotonic() - self._watch.answered_at
        if since <= self._silent_s:
            return ""
        reason = f": {self._newest.reason}" if isinstance(self._newest, Unknown) else ""
        return f"no answer about the scrapers for {since:.0f} s{reason}; the last good state is served"

    def _hand_on(self, answer: Answer[Members]) -> None:
        if isinstance(answer, Unknown) and not isinstance(self._newest, Unknown):
            self._known = {node.id: node for node in self.nodes()}
        answers_again = isinstance(answer, Known) and isinstance(self._newest, Unknown) and bool(self._known)
        self._newest = answer
        if not isinstance(answer, Unknown):
            self._note_seen()
        if isinstance(answer, Empty):
            self._settle(_nodes(self._last))
            if self._registrar is not None:
                self._registrar.look_now()
        if isinstance(answer, Known):
            self._listed.heard(self._watch.catalogue.listed, self._dismissed())
            if answers_again:  # it may have lost its catalogue, and some are registered again
                self._settle(_nodes(self._last) - _nodes(self._watch.catalogue.listed))
            if lost := self._settling.nodes - _nodes(answer.value):
                names = ", ".join(join_host_port(*node) for node in sorted(lost))
                self._publish(Waiting(f"not in Consul any more, waited for {self._settle_s:g} s at most: {names}"))
                return
            self._settling.end()
            self._last = answer.value
        self._publish(answer)

    def _note_seen(self) -> None:
        """Who is in Consul is shown, also one that never lived since we began; of those that left it the last ones."""
        there = dict.fromkeys(s.id for s in self._watch.catalogue.listed)
        self._seen |= there
        gone = [name for name in self._seen if name not in there]
        for name in gone[: max(0, len(gone) - SEEN_MAX)]:
            del self._seen[name]

    def _settle(self, forgotten: frozenset[HostPort]) -> None:
        """All of these went at once: wait for all of them, for ``settle_s`` from the first."""
        self._settling.wait_for(forgotten, self._settle_s)

    def _settled(self) -> None:
        """Whoever is not back by now did die."""
        self._settling.end()
        if isinstance(self._newest, Known):
            self._hand_on(self._newest)


def _nodes(members: Members) -> frozenset[HostPort]:
    return frozenset((s.host, s.port) for s in members)
