"""The pushes of a fleet, as the Ansible deliveries of its services share them.

All deliveries with the same settings but for the file's name have one of these. What several of them ask for within
``GATHER_S`` is one run of ``ansible-playbook``, with all files of a host. A host is in one push at a moment.

Promises: hosts that failed are in pushes of their own; a host that fails is left alone for a while, for all services. Who
leaves ends the pushes that bring its slices, and the others' slices are pushed again.
Flow: ``ansible.AnsibleDelivery`` says what is due and reads how it ended; ``ansible_push`` is one push.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from promring.delivery import Leads
from promring.delivery.ansible_inventory import Host
from promring.delivery.ansible_push import AnsiblePace, Far, Load, Owner, Push, Sink
from promring.delivery.ansible_run import NOT_INSTALLED
from promring.delivery.receiver_sh import SdFile
from promring.model import Scraper, Slice
from promring.telemetry.log import Logger

if TYPE_CHECKING:
    from promring.delivery.ansible import AnsibleSettings

PUSHES_MOST, SLOW_PUSHES_MOST = 3, 1
"""At a moment; each takes a core for a second."""
GATHER_S = 0.02
_GROUPS = {"all", "ungrouped"}


class Due(NamedTuple):
    """A slice that is to be pushed."""

    far: Far
    sink: Sink
    slice: Slice


class AnsiblePushes:
    """``settings``: the file's name is each delivery's own."""

    def __init__(self, settings: AnsibleSettings, log: Logger, *, pace: AnsiblePace | None = None) -> None:
        self.settings, self.pace, self._log = settings, pace or AnsiblePace(), log
        self.crowded = set[Owner]()
        """For whom something is due, and there was no room for another push."""
        self._run = settings.run
        self._fars: weakref.WeakValueDictionary[tuple[str, str, int], Far] = weakref.WeakValueDictionary()
        self._pushes = set[Push]()
        self._owners = set[Owner]()
        self._asked: dict[Owner, tuple[Sequence[Due], Leads]] = {}
        self._gathering: asyncio.Task[None] | None = None
        self._said_missing = False

    def join(self, owner: Owner) -> None:
        self._owners.add(owner)

    def far(self, scraper: Scraper) -> Far:
        """Kept as long as somebody has it."""
        key = (scraper.id, scraper.host, scraper.port)
        far = self._fars.get(key)
        if far is None:
            far = self._fars[key] = Far(scraper)
        return far

    async def ask(self, owner: Owner, due: Sequence[Due], leads: Leads) -> None:
        """Begin to push that, together with what others ask for now."""
        self._asked[owner] = due, leads
        if self._gathering is None:
            self._gathering = asyncio.create_task(self._gather())
        await asyncio.wait([self._gathering])

    async def leave(self, owner: Owner) -> None:
        self._owners.discard(owner)
        await self.stop(owner)

    async def stop(self, owner: Owner) -> None:
        """Nobody writes its slices after this. Others whose slices were in the same pushes are told to ask again."""
        self._asked.pop(owner, None)
        self.crowded.discard(owner)
        if self._gathering is not None and not self._asked:
            self._gathering.cancel()
            self._gathering = None
        ending = {push: push.owners for push in self._pushes if owner in push.owners}
        tasks = [push.task for push in ending if push.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for other in {one for owners in ending.values() for one in owners if one is not owner}:
            other.wake()

    def under_way(self, owner: Owner) -> list[Push]:
        """Those that it has to do with and was not told of."""
        return [push for push in self._pushes if owner in push.owners and owner not in push.waiting]

    async def _gather(self) -> None:
        await asyncio.sleep(GATHER_S)
        self._gathering = None
        asked, self._asked = self._asked, {}
        self.crowded -= asked.keys()
        loads: dict[Far, list[Due]] = {}
        for due, _ in asked.values():
            for one in due:
                if one.far.push is None:  # else it waits until that push is through with it
                    loads.setdefault(one.far, []).append(one)
        leads = list(dict.fromkeys(leads for _, leads in asked.values()))
        for slow in (False, True):
            self._begin({far: due for far, due in loads.items() if far.slow is slow}, leads, slow=slow)

    def _begin(self, loads: Mapping[Far, Sequence[Due]], leads: Sequence[Leads], *, slow: bool) -> None:
        """A push for those that are well, or one for those that failed: who hangs may not take the others' turn."""
        running = [push for push in self._pushes if push.slow is slow]
        if loads and len(running) >= (SLOW_PUSHES_MOST if slow else PUSHES_MOST):
            self.crowded |= {one.sink.owner for due in loads.values() for one in due}
        elif loads:
            known = list(self._fars.values())
            names = dict(zip(known, inventory_names(far.scraper for far in known), strict=True))
            first = sorted(loads, key=lambda far: not any(one.sink.passed_over for one in loads[far]))  # who waited
            hosts = [self._host(names[far], far.scraper, loads[far]) for far in first]
            brings = {names[far]: Load(far, [(one.slice, one.sink) for one in loads[far]]) for far in first}
            push = Push(brings, slow=slow, pace=self.pace, log=self._log)
            push.task = asyncio.create_task(push.run(self._run, hosts, lambda: all(one() for one in leads)))
            self._pushes.add(push)
            push.task.add_done_callback(lambda task: self._ended(push, task))

    def _ended(self, push: Push, task: asyncio.Task[None]) -> None:
        self._pushes.discard(push)
        if task.cancelled():
            push.forget()  # it may not have begun
            return
        self._say_missing(push.trouble)
        for owner in push.waiting | self.crowded:
            owner.wake()

    def _host(self, name: str, scraper: Scraper, due: Sequence[Due]) -> Host:
        settings = self.settings
        variables: dict[str, str | int | bool | Sequence[str]] = {
            "ansible_host": scraper.host,
            "dest_dir": settings.dest_dir,
            "service_port": settings.service_port or scraper.port,
            "promring_reload": settings.reload,
        }
        if settings.user is not None:
            variables["ansible_user"] = settings.user
        if settings.identity_file is not None:
            variables["ansible_ssh_private_key_file"] = str(settings.identity_file)
        return Host(name, [SdFile.of(one.sink.name, one.slice) for one in due], variables, shared=len(self._owners) > 1)

    def _say_missing(self, trouble: str) -> None:
        missing = trouble == NOT_INSTALLED
        if missing and not self._said_missing:
            self._log.error("ansible_missing", error=trouble, note="install ansible-core beside promring or on PATH")
        self._said_missing = missing


def inventory_names(scrapers: Iterable[Scraper]) -> list[str]:
    """What each of different scrapers is called in the inventory: its host, as in the original; where that would be two,
    ``host_port``. In an address ``:`` becomes ``_``. Distinct, and none is the name of a group.
    """
    listed = list(scrapers)
    shared = Counter(s.host for s in listed)
    names, taken = dict[int, str](), set(_GROUPS)
    for index, scraper in sorted(enumerate(listed), key=lambda one: one[1]):
        name = scraper.host if shared[scraper.host] == 1 and ":" not in scraper.host else ""
        name = name if name and name not in taken else f"{scraper.host}_{scraper.port}".replace(":", "_")
        while name in taken:
            name += "_"
        taken.add(name)
        names[index] = name
    return [names[index] for index in range(len(listed))]
