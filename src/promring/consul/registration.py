"""Registers the configured scrapers with Consul when the service has no instance there, with an HTTP check.

Promises: nothing is registered with an agent of another datacenter than the one that is read, where it would never be seen;
what promring registered is registered again when Consul forgets it (a restart without its data), and with our
agent when the agent it was registered with dies, for a dead agent's instances are critical whatever they do; instances
that others registered are never touched, replaced or removed; a configured node is added only to a service that is empty,
or that promring registered, as far as that was seen since the start: else it is named. A node that was alive in the last
good answer is registered as passing, so an amnesiac Consul does not make a living scraper look dead for one check interval;
any other starts as critical.
Credentials of ``scraper_api`` are in the check's headers. When they change, or when nobody knows which ones are registered
(after a start), a scraper is registered again; no metadata and no log line has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promring.config.scraper_api import PLAIN, ScraperApi
from promring.consul.client import Client, HealthEntry
from promring.consul.instances import FILTERED, MARK, READ_RULES
from promring.consul.rights import Right
from promring.model import ConsulError, join_host_port
from promring.runtime.text import few
from promring.runtime.unforeseen import Lasting
from promring.telemetry.log import Logger

CHECK = "promring_check"
LOOK_S = 5.0
RETRY_S = 1.0
INVISIBLE_S = 60.0
INVISIBLE_LOOKS = 3
NAMED_MOST = 10
LEFT = "others registered this service, so the configured ones are not added: register them there, or deregister theirs"

Node = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Registration:
    """What to register. Times in seconds. ``nodes`` with the metadata of each; ``api``: how a scraper is asked;
    ``tls_skip_verify``: Consul does not verify, even if promring does.
    """

    service: str
    nodes: Mapping[Node, Mapping[str, str]]
    check_path: str
    check_interval_s: float
    check_timeout_s: float
    managed: frozenset[str] = frozenset()
    """Names of metadata that are the configuration's: one that it does not give is taken away."""
    api: ScraperApi = PLAIN
    tls_skip_verify: bool = False

    @property
    def check(self) -> str:
        """The check in words, to tell whether the registered one is another."""
        times = f"every {self.check_interval_s:g}s within {self.check_timeout_s:g}s"
        said = {**self._tls, **({"Header": self.api.header_names} if self.api.header_names else {})}
        more = f"{json.dumps(said)} " if said else ""
        scheme = "" if self.api.scheme == "http" else "https "
        return f"{scheme}{self.api.path_prefix}{self.check_path} {more}{times}"

    @property
    def _tls(self) -> dict[str, bool | str]:
        """Keys of Consul's check. Consul 1.8 refuses the name as unknown, so it is said only where it is needed."""
        files = self.api.tls_files
        if files is None:
            return {}
        if self.tls_skip_verify or files.insecure_skip_verify:
            return {"TLSSkipVerify": True}
        return {"TLSServerName": files.server_name} if files.server_name else {}

    def metadata(self, node: Node) -> dict[str, str]:
        return {**self.nodes[node], **MARK, CHECK: self.check}

    def is_met_by(self, node: Node, registered: Mapping[str, str]) -> bool:
        """Whether ``registered`` metadata says what is wanted; others may have added to it."""
        if node not in self.nodes:
            return False
        ours = {*self.managed, *MARK, CHECK}
        return {n: v for n, v in registered.items() if n in ours} == self.metadata(node)

    def definition(self, node: Node, headers: Mapping[str, str], *, alive: bool) -> dict[str, Any]:
        """``headers``: what the check says, such as credentials."""
        host, port = node
        said = {"Header": {name: [value] for name, value in headers.items()}} if headers else {}
        return {
            "ID": f"{self.service}-{host}-{port}",
            "Name": self.service,
            "Address": host,
            "Port": port,
            "Meta": self.metadata(node),
            "Check": {
                "HTTP": str(self.api.url(join_host_port(host, port), self.check_path)),
                **self._tls,
                **said,
                "Interval": f"{round(self.check_interval_s * 1000)}ms",
                "Timeout": f"{round(self.check_timeout_s * 1000)}ms",
                "Status": "passing" if alive else "critical",
            },
        }


class Registrar:
    """Keeps one registration true. Half of its attributes are what it was given, half what Consul said last."""

    def __init__(
        self,
        client: Client,
        registration: Registration,
        alive: Callable[[], frozenset[Node]],
        settle: Callable[[frozenset[Node]], None],
        leads: Callable[[], bool],
        log: Logger,
    ) -> None:
        """``alive`` says who lived last; ``settle`` is told, before they are registered, whom of them Consul forgot;
        ``leads``: whether it is us who registers.
        """
        self._client = client
        self._registration = registration
        self._alive = alive
        self._settle = settle
        self._leads = leads
        self._log = log
        self._looked = asyncio.Event()
        self._was_ours = False
        """Whether promring was seen to have registered some of the service, by this process or one before a reload."""
        self._left: list[Node] = []
        self._registered: list[Node] = []
        self._invisible = 0
        self._extra: list[str] = []
        self._own_datacenter = ""
        self._departing: Callable[[], frozenset[Node]] = frozenset
        self._gone: Callable[[], frozenset[Node]] = frozenset
        self._of_others: Callable[[Collection[Node]], None] = lambda _: None
        self._deregistered: set[str] = set()
        self._headers: dict[Node, dict[str, str]] = {}
        """What each check that this process registered says."""

    def deregister(
        self,
        departing: Callable[[], frozenset[Node]],
        gone: Callable[[], frozenset[Node]],
        of_others: Callable[[Collection[Node]], None],
    ) -> None:
        """Of those that are configured no more: whom to leave alone for now, and whom to deregister where promring, through
        this agent, registered them. ``of_others`` is told who is there because somebody else registered it.
        """
        self._departing, self._gone, self._of_others = departing, gone, of_others

    def go_on_from(self, before: Registrar) -> None:
        """Of the same service, before a reload."""
        self._was_ours = before._was_ours

    def look_now(self) -> None:
        """The watch saw an empty service: do not wait for the next look."""
        self._looked.set()

    async def run(self) -> None:
        """For ever: look what is missing, register it."""
        name, failing, lasting = self._registration.service, "", Lasting()
        while True:
            self._looked.clear()
            pause_s, failure = LOOK_S if self._leads() else RETRY_S, ""  # whoever gets the lock registers at once
            try:
                if failure := await self._refusal():
                    pause_s = INVISIBLE_S
                elif await self._once() >= INVISIBLE_LOOKS:
                    failure = f"registered, but not to be seen: {READ_RULES.format(service=name)}"
                    pause_s = INVISIBLE_S  # registering again and again would reset the checks each time
            except Exception as error:  # nothing that Consul says may end the process: logged, and tried again
                failure = str(error) if isinstance(error, ConsulError) else f"{type(error).__name__}: {error}"
                pause_s, self._invisible = RETRY_S, 0
            if failure and lasting.is_news(name, failure, begins=not failing):
                self._log.error("register_failed", srv_name=name, error=failure)
            failing = failure
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await (asyncio.Event() if pause_s == INVISIBLE_S else self._looked).wait()

    async def _refusal(self) -> str:
        """Why nothing must be registered with our agent, or an empty text: an agent registers in its own datacenter."""
        read_in = self._client.access.datacenter
        if not read_in or not self._leads():
            return ""
        own = self._own_datacenter = self._own_datacenter or await self._client.own_datacenter()
        if own == read_in.lower():
            return ""
        if not own:
            return (
                f"nothing is registered: consul.datacenter is {read_in}, and the token may not read in which one the agent "
                'registers; it must have agent (of the agent\'s node) read, or node_prefix "" read'
            )
        return (
            f"nothing is registered: {self._client.where} is an agent of datacenter {own} and registers there only, but "
            f"scrapers are read in {read_in} (consul.datacenter); use an agent of {read_in}"
        )

    async def _once(self) -> int:
        """Register what is missing. How many times running the very nodes of the time before were missing again."""
        found = await self._client.instances(self._registration.service)
        if found.filtered:
            raise ConsulError(FILTERED.format(service=self._registration.service))
        entries = found.entries
        headers = await self._registration.api.credentials()
        self._was_ours |= any(entry.is_ours for entry in entries)
        nodes = missing(self._registration, entries, was_ours=self._was_ours)
        if self._leads():
            outdated = self._outdated(entries, headers)
            nodes += [node for node in outdated if node not in nodes]
        if not self._leads():
            self._settle(self._alive() & frozenset(nodes))  # whoever leads registers them: they will come back one by one
            return 0
        self._say_left(entries)
        self._say_extra(entries)  # first: what is deregistered is soon not known any more
        await self._deregister(entries)
        self._invisible = self._invisible + 1 if nodes and nodes == self._registered else 0
        self._registered = []
        self._settle(self._alive() & frozenset(nodes))
        results = await asyncio.gather(*(self._register(node, headers) for node in nodes), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        self._registered = nodes
        return self._invisible

    def _outdated(self, entries: Sequence[HealthEntry], headers: Mapping[str, str]) -> list[Node]:
        """Scrapers that promring registered and whose check has other headers, or nobody knows which."""
        ours = {_place(entry) for entry in entries if entry.is_ours}
        return [node for node in self._registration.nodes if node in ours and self._headers.get(node, {}) != headers]

    def _say_left(self, entries: Sequence[HealthEntry]) -> None:
        """Configured scrapers that are not registered, since the service has instances and none of them is promring's."""
        left = [] if self._was_ours else left_to_others(self._registration.nodes, entries)
        if left and left != self._left:
            self._log.warning("register_left_to_others", srv_name=self._registration.service, nodes=_few(left), note=LEFT)
        self._left = left

    def _say_extra(self, entries: Sequence[HealthEntry]) -> None:
        """What promring registered once and is not configured any more stays a scraper until somebody deregisters it."""
        known = {*self._registration.nodes, *self._departing(), *self._gone()}
        extra = sorted(e.service.id for e in entries if e.is_ours and _place(e) not in known)
        if extra and extra != self._extra:
            undo = "; ".join(f"consul services deregister -id={service_id}" for service_id in extra)
            self._log.warning("registered_but_not_configured", srv_name=self._registration.service, undo=undo)
        self._extra = extra

    async def _deregister(self, entries: Sequence[HealthEntry]) -> None:
        gone, name = self._gone() - self._registration.nodes.keys(), self._registration.service
        self._of_others({_place(entry) for entry in entries if not entry.is_ours} & gone)
        for entry in entries:
            if entry.is_ours and _place(entry) in gone:
                await self._client.deregister(entry.service.id, name)
                if entry.service.id not in self._deregistered:  # one of another agent stays, and is named as extra
                    self._log.info("deregister_service", srv_name=name, node=join_host_port(*_place(entry)))
                self._deregistered.add(entry.service.id)
        self._deregistered &= {entry.service.id for entry in entries}

    async def _register(self, node: Node, headers: Mapping[str, str]) -> None:
        alive = node in self._alive()
        await self._client.register(self._registration.definition(node, headers, alive=alive))
        self._headers[node], self._was_ours = dict(headers), True
        self._log.info(
            "register_service", srv_name=self._registration.service, node=join_host_port(*node), assumed_alive=alive
        )


def missing(wanted: Registration, entries: Sequence[HealthEntry], *, was_ours: bool = False) -> list[Node]:
    """The nodes to register: all when the service has none; when promring registered some of it, now or before
    (``was_ours``), the absent ones, those with another check, zone or weight, and those that were registered with an agent
    that is dead.
    """
    ours = [entry for entry in entries if entry.is_ours]
    if entries and not ours and not was_ours:
        return []
    as_wanted = {place for e in ours if not e.node_is_dead and wanted.is_met_by(place := _place(e), e.service.meta or {})}
    of_others = {_place(e) for e in entries if not e.is_ours}
    present = as_wanted | of_others
    return [node for node in wanted.nodes if node not in present]


def left_to_others(wanted: Collection[Node], entries: Sequence[HealthEntry]) -> list[Node]:
    """Those of ``wanted`` that are not there and that nobody registers, as all instances are of others."""
    if not entries or any(entry.is_ours for entry in entries):
        return []
    return sorted(set(wanted) - {_place(entry) for entry in entries})


def _few(nodes: Sequence[Node]) -> str:
    return few([join_host_port(*node) for node in nodes], NAMED_MOST)


def _place(entry: HealthEntry) -> Node:
    """In its one spelling; what is no address is none of the wanted ones."""
    try:
        return entry.place()
    except ValueError:
        return "", 0


async def said_of_left(client: Client, service: str, wanted: Collection[Node]) -> str:
    """Which of ``wanted`` a run does not register, and why; empty: none. Raises ``ConsulError``."""
    left = left_to_others(wanted, (await client.instances(service)).entries) if wanted else []
    return f"{_few(left)}: not in Consul's {service}, and {LEFT}" if left else ""


async def is_free(client: Client, service: str) -> bool:
    """Whether Consul has no instance of ``service`` yet, so that a run registers the configured ones.

    Until then a token with all rights may see nothing at all in Consul, as one without any: Consul is asked for them.
    Raises ``ConsulError`` when the token may not register them.
    """
    found = await client.instances(service)
    if found.entries or found.broken or found.filtered:
        return False
    named = await client.services()
    if service in named:
        return False
    try:
        node = (await client.agent()).node
    except ConsulError:
        node = ""
    needed = [Right("service", "read", service), Right("service", "write", service), Right("node", "read", node)]
    try:
        lacking = await client.lacking(needed)
    except ConsulError:  # no public part of its API: it may change
        lacking = None
    if lacking:
        rules = " and ".join(map(str, lacking))
        raise ConsulError(f"{client.where}: none is registered yet, and a run could not do it: the token must have {rules}")
    return bool(named) or lacking is not None
