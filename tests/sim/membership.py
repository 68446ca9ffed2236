"""Where the scrapers of a fleet are listed: in Consul, a file, a name in DNS, Kubernetes' pods or the configuration; what
befalls that list; and a scraper that a person takes out of it.

Consul tells who lives, too, and Kubernetes whose pod is Ready; with the others promring's own probes alone do.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from promring.membership import dns as names
from promring.runtime.dns_client import NoAnswerError
from promring.runtime.dns_names import Resolving
from tests.sim.faketime import HERE, within
from tests.sim.lockstores import CONSUL, KUBERNETES
from tests.sim.pods import Pods
from tests.sim.scraper import Scraper
from tests.sim.traits import PORT

if TYPE_CHECKING:
    from tests.sim.fleet import Fleet

FIRST_DRAWN = 10_000
"""The seeds before that have Consul: they are the runs that they were."""
FILE, DNS, CONFIGURATION = "file", "dns", "probe"
NAME = "scrapers.mon.svc."
DNS_KEEP_S, PODS_KEEP_S = 20.0, 10.0


class Membership:
    """Where the scrapers of a fleet are listed. ``out``: ids of scrapers that a person took out of the list; ``fault``: what
    is wrong with the list now, empty: nothing.
    """

    kind: ClassVar[str]
    faults: ClassVar[tuple[str, ...]] = ()
    keep_s = 0.0
    """So long a scraper that is not listed any more counts as listed."""
    probes_alone = True
    """Whether nobody but promring looks who lives."""
    names_only = False
    """Whether zones and weights are not in the list."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.world = fleet, fleet.world
        self.out: set[str] = set()
        self.died_out: set[str] = set()
        """Ids of scrapers that were taken out and died within ``keep_s``: they count as listed for ten minutes."""
        self.fault = ""
        self.world.hides = self.refuses_probe

    @property
    def host(self) -> str:
        """Whom a controller asks for it; empty: nobody."""
        return ""

    @property
    def listed(self) -> dict[str, Scraper]:
        return {s.id: s for s in self.world.scrapers.values() if s.id not in self.out}

    @property
    def placed(self) -> dict[str, Scraper]:
        """Who has a place in the plan, alive or not."""
        return {s.id: s for s in self.world.scrapers.values() if s.id not in self.out - self.died_out}

    def settings(self, check: str) -> dict[str, Any]:
        """What the configuration says of it. ``check``: the path of the probes."""
        return {self.kind: self._where() | {"probe": _probe(check)}}

    def _where(self) -> dict[str, Any]:
        raise NotImplementedError

    def set_fault(self, fault: str) -> None:
        self.fault = fault
        self.write()

    def write(self) -> None:
        """The list, or its fault, is another one."""

    async def changed(self) -> None:
        """A person changed a weight, or took somebody out."""
        self.write()

    def heal(self) -> None:
        self.put_in()
        self.set_fault("")

    def refuses_probe(self, scraper: Scraper, path: str) -> bool:
        """Whether a hidden scraper refuses promring's own probe. Where others check it, only their checks fail."""
        return self.probes_alone and scraper.hidden and path == scraper.traits.check

    # --- what befalls it ---------------------------------------------------------------------------------------------

    def fail(self, rng: Random) -> str:
        """It cannot be read, or says what is no list."""
        self.set_fault(rng.choice(self.faults))
        return f"the list of scrapers: {self.fault}"

    async def is_lost(self, after_s: float) -> None:
        """For so long, and it is there again as it was."""
        self.set_fault(self.faults[0])
        await asyncio.sleep(after_s)
        self.set_fault("")

    def is_behind(self, answers: int = 1) -> None:
        """It says something that changes nothing."""
        del answers
        self.write()

    def look(self) -> None:
        """Once a second."""

    @property
    def drained(self) -> set[str]:
        """Whom the list drains."""
        return set()

    def put_in(self) -> None:
        """Whoever was taken out."""
        self.out.clear()
        self.died_out.clear()

    def replacements(self) -> list[tuple[Any, str, Any]]:
        """What stands in the place of something in promring."""
        return []


class InConsul(Membership):
    kind = CONSUL
    probes_alone = False
    faults = ("down", "hang", "status 500", "hidden", "empty")

    @property
    def host(self) -> str:
        return CONSUL

    @property
    def registered(self) -> bool:
        """Whether promring registers them."""
        return self.fleet.registers

    def settings(self, check: str) -> dict[str, Any]:
        register = {"register": {"nodes": _nodes(self.world.scrapers), "check": _probe(check)}} if self.registered else {}
        return {self.kind: {"service": "scrapers"} | register}

    def set_fault(self, fault: str) -> None:
        self.world.consul.set_fault(fault)

    def fail(self, rng: Random) -> str:
        self.set_fault(rng.choice(self.faults))
        return f"consul {self.world.consul.fault}"

    async def is_lost(self, after_s: float) -> None:
        self.fleet.lost_epochs = True
        self.world.consul.forget()
        if not self.registered:
            await asyncio.sleep(after_s)
            self.write()

    def is_behind(self, answers: int = 1) -> None:
        self.world.consul.lag(answers)

    def write(self) -> None:
        """Somebody else registers the scrapers."""
        for scraper in self.world.scrapers.values():
            self.world.consul.register(
                {
                    "ID": scraper.host,
                    "Name": "scrapers",
                    "Address": scraper.host,
                    "Port": PORT,
                    "Meta": {"zone": scraper.zone, "promring_weight": f"{scraper.weight:g}"},
                    "Check": {"HTTP": f"http://{scraper.id}{scraper.traits.check}", "Interval": "1s", "Status": "passing"},
                }
            )

    async def changed(self) -> None:
        if self.registered:
            await self.fleet.reload()
        else:
            self.write()

    def heal(self) -> None:
        consul = self.world.consul
        if consul.fault:
            consul.set_fault("")
        consul.lags, consul.unseen = 0, set()
        if not self.registered and {s.host for s in self.world.scrapers.values()} - consul.entries.keys():
            self.write()


class InFile(Membership):
    kind = FILE
    faults = ("gone", "no list", "cut", "nobody", "nothing")

    def _where(self) -> dict[str, Any]:
        return {"path": str(self.world.folder / "scrapers.json")}

    def write(self) -> None:
        path, body = self.world.folder / "scrapers.json", json.dumps(_nodes(self.listed))
        match self.fault:
            case "gone":
                path.unlink(missing_ok=True)
            case "no list":
                path.write_text('{"scrapers": 3}')
            case "cut":
                path.write_text(body[: len(body) // 2])
            case "nobody":
                path.write_text("[]")
            case "nothing":
                path.write_text("")
            case _:
                path.write_text(body)


class InDns(Membership):
    """The records come in another order each time, and with a fault of that kind only some of them do."""

    kind = DNS
    faults = ("servfail", "nxdomain", "nodata", "hang", "short")
    keep_s = DNS_KEEP_S
    names_only = True

    @property
    def host(self) -> str:
        return DNS

    def _where(self) -> dict[str, Any]:
        return {"name": NAME, "refresh_interval": "2s", "keep": f"{DNS_KEEP_S:g}s"}

    def replacements(self) -> list[tuple[Any, str, Any]]:
        return [(names, "NameClient", lambda: NameClient(self))]


class NameClient:
    """In the place of ``runtime.dns_client.NameClient``."""

    why_none = "no name server"

    def __init__(self, names: InDns) -> None:
        self._names = names
        self._rng = Random(f"names {names.fleet.seed}")

    async def resolving(self) -> Resolving:
        return Resolving(("10.0.0.10",))

    async def search(self, name: str, type_: str, _: Resolving) -> dns.message.Message | None:
        process = HERE.get()
        assert process is not None
        await asyncio.sleep(self._rng.uniform(0.0005, 0.005))
        fault = self._names.fault
        if fault == "hang" or (process.name, DNS) in self._names.world.cut_off:
            try:
                await within(2.0, asyncio.Event().wait())
            except TimeoutError:
                raise NoAnswerError(f"{name} {type_}: 10.0.0.10: no answer within 2 s") from None
        if fault == "servfail":
            raise NoAnswerError(f"{name} {type_}: 10.0.0.10: SERVFAIL")
        if fault == "nxdomain":
            return None
        hosts = [s.host for s in self._names.listed.values()]
        hosts = self._rng.sample(hosts, {"nodata": 0, "short": len(hosts) // 2}.get(fault, len(hosts)))
        answer = dns.message.make_response(dns.message.make_query(name, type_))
        if hosts:
            records = [f"0 0 {PORT} {host}." for host in hosts]
            answer.answer.append(dns.rrset.from_text_list(name, 30, "IN", type_, records))
        return answer


class InKubernetes(Membership):
    """Pods, whose readiness the kubelet looks at each second."""

    kind = KUBERNETES
    probes_alone = False
    faults = ("down", "hang", "status 500", "status 403", "gone", "deaf")
    keep_s = PODS_KEEP_S

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self.pods = self.world.pods = Pods(self.world.loop.time)
        self.leaving: set[str] = set()
        """Pods that are being deleted, and live."""

    @property
    def drained(self) -> set[str]:
        return self.leaving

    @property
    def host(self) -> str:
        return KUBERNETES

    def _where(self) -> dict[str, Any]:
        return {"selector": "app=prometheus", "port": PORT, "keep": f"{PODS_KEEP_S:g}s"}

    def set_fault(self, fault: str) -> None:
        self.fault = fault
        self.pods.set_fault(fault)
        self.write()

    def write(self) -> None:
        self.pods.show(self.listed.values(), self.world.network.passes, self.leaving)

    def look(self) -> None:
        self.write()

    async def is_lost(self, after_s: float) -> None:
        """What happened before now cannot be watched."""
        self.pods.compact()

    def is_behind(self, answers: int = 1) -> None:
        self.pods.cut()


class InConfiguration(Membership):
    kind = CONFIGURATION

    def settings(self, check: str) -> dict[str, Any]:
        return {self.kind: {"nodes": _nodes(self.listed)} | _probe(check)}

    def fail(self, rng: Random) -> str:
        return "nothing befalls the configuration"

    async def is_lost(self, after_s: float) -> None:
        await self.fleet.reload()

    async def changed(self) -> None:
        await self.fleet.reload()

    def heal(self) -> None:
        """Who took somebody out puts it in again."""


KINDS: Mapping[str, type[Membership]] = {one.kind: one for one in (InConsul, InFile, InDns, InKubernetes, InConfiguration)}


def drawn(fleet: Fleet) -> Membership:
    """``SIM_MEMBERSHIP=file`` makes it that of every seed."""
    kind = os.environ.get("SIM_MEMBERSHIP") or CONSUL
    if kind == CONSUL and fleet.seed >= FIRST_DRAWN:
        kind = Random(f"membership {fleet.seed}").choice((CONSUL, CONSUL, CONSUL, FILE, DNS, KUBERNETES, CONFIGURATION))
    return KINDS[kind](fleet)


def _nodes(scrapers: Mapping[str, Scraper]) -> Sequence[dict[str, Any]]:
    return [{"address": s.id, "zone": s.zone, "weight": s.weight} for s in scrapers.values()]


def _probe(path: str) -> dict[str, Any]:
    return {"path": path, "interval": "1s", "timeout": "500ms"}
