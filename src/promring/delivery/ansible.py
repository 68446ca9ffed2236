"""Slices by Ansible, the original program's way: one run of ``ansible-playbook`` brings everything that changed.

A playbook gets, for each host, the original's variables ``src_sd_file_name`` (the slice, a file on the controller),
``dest_sd_file_name`` and ``service_port``, and ``dest_dir``, ``promring_sha256``, ``promring_generation`` and
``promring_reload``. The one that comes along (``ansible_files/deliver.yml``) installs a slice whole or not at all, refuses
older generations and changes only what differs; what another one does is its author's.

Promises: hosts run beside each other, one that hangs or fails costs only itself: ``deliver`` does not wait long for it, it
is in no other push meanwhile, and what failed has pushes of its own, with back-off. A host that a push did not come to is
``waiting``. What was delivered is not pushed again but every 10 minutes, to put back what was changed by hand; a push ends
at its time-out, or when we do not lead any more, and leaves no process. Trouble on our own side (no Ansible, no key, a
playbook that is none) is ``unsent``.
Not promised: a change made by hand is seen before the next such push.
Flow: ``ansible_run`` is the run itself, ``ansible_push`` one push and what it makes of each scraper.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from promring.delivery import Leads, Outcome, always
from promring.delivery.ansible_push import AnsiblePace, Push, Sink
from promring.delivery.ansible_run import NOT_INSTALLED, Host, Run
from promring.log import Logger
from promring.model import Slice

PUSHES_MOST, SLOW_PUSHES_MOST = 3, 1
"""At a moment; each takes a core for a second."""
NEWS_S = 0.5
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+")
_GROUPS = {"all", "ungrouped"}


@dataclass(frozen=True, slots=True)
class AnsibleSettings:
    """``playbook`` None: the one that comes with promring. ``timeout_s`` is for one push to all hosts together."""

    playbook: Path | None = None
    dest_sd_file_name: str = "file_sd_by_promring.json"
    dest_dir: str = "/opt/app/prometheus/sd"
    service_port: int | None = None
    reload: bool = False
    user: str | None = None
    identity_file: Path | None = None
    extra_vars_file: Path | None = None
    timeout_s: float = 10.0
    vault_password_file: Path | None = None

    @property
    def run(self) -> Run:
        files = (self.identity_file,) if self.identity_file is not None else ()
        return Run(self.playbook, self.timeout_s, self.extra_vars_file, self.vault_password_file, files)


class AnsibleDelivery:
    means = "ansible"
    pulled = False

    def __init__(self, settings: AnsibleSettings, log: Logger, *, pace: AnsiblePace | None = None) -> None:
        self._settings, self._log, self._pace = settings, log, pace or AnsiblePace()
        self._run = settings.run
        self._known: dict[str, Sink] = {}
        self._pushes: dict[asyncio.Task[None], Push] = {}
        self._ring: Callable[[], None] = lambda: None
        self._again: asyncio.TimerHandle | None = None
        self._said_missing = False
        self._crowded = False
        """Something is due, and there was no room for another push."""

    def when_done(self, ring: Callable[[], None]) -> None:
        self._ring = ring

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        self._known = {s.scraper.id: self._known.get(s.scraper.id) or Sink() for s in slices}
        if self._again is not None:
            self._again.cancel()
        refused = self._refused(slices)
        due = [s for s in slices if s.scraper.id not in refused and self._is_due(s)]
        withheld = set[str]()
        try:
            if due and leads():
                self._begin(due, inventory_names(slices), leads)
            elif due:
                withheld = {s.scraper.id for s in due}
            await self._wait()
        except asyncio.CancelledError:
            await self._stop()
            raise
        outcomes = [self._outcome(s, refused.get(s.scraper.id, ""), withheld=s.scraper.id in withheld) for s in slices]
        self._wake_later()
        return outcomes

    async def close(self) -> None:
        self._ring = lambda: None
        if self._again is not None:
            self._again.cancel()
        await self._stop()

    async def _stop(self) -> None:
        """Nobody writes after this."""
        pushes = list(self._pushes)
        for task in pushes:
            task.cancel()
        if pushes:
            await asyncio.wait(pushes)

    # --- when ----------------------------------------------------------------------------------------------------------

    def _begin(self, due: Sequence[Slice], names: Mapping[str, str], leads: Leads) -> None:
        """A push for those that are well, and one for those that failed: who hangs may not take the others' turn."""
        self._crowded = False
        for slow in (False, True):
            group = [s for s in due if self._known[s.scraper.id].slow is slow]
            running = [push for push in self._pushes.values() if push.slow is slow]
            if group and len(running) >= (SLOW_PUSHES_MOST if slow else PUSHES_MOST):
                self._crowded = True
            elif group:
                hosts = {names[s.scraper.id]: (s, self._known[s.scraper.id]) for s in sorted(group, key=self._turn)}
                push = Push(hosts, slow=slow, pace=self._pace, log=self._log, news=self._news_soon)
                running_hosts = [self._host(s, name) for name, (s, _) in hosts.items()]
                task = asyncio.create_task(push.run(self._run, running_hosts, leads))
                self._pushes[task] = push
                task.add_done_callback(self._ended)

    def _turn(self, slice_: Slice) -> bool:
        """Who waited goes first."""
        return not self._known[slice_.scraper.id].passed_over

    def _ended(self, task: asyncio.Task[None]) -> None:
        push = self._pushes.pop(task)
        if not task.cancelled():
            self._say_missing(push.trouble)
            if push.told_waiting or self._crowded:
                self._ring()

    async def _wait(self) -> None:
        """Until all that are well are heard of, but not long; hardly at all for those that failed."""
        for slow, wait_s in ((False, self._pace.wait_s), (True, self._pace.slow_wait_s)):
            if tasks := [t for t, push in self._pushes.items() if push.slow is slow and not push.told_waiting]:
                await asyncio.wait(tasks, timeout=wait_s)

    def _news_soon(self) -> None:
        """Something was heard of one that was told to be waiting: ring, but not for each of many."""
        if self._again is None or self._again.cancelled() or self._again.when() > asyncio.get_running_loop().time() + NEWS_S:
            self._wake_in(NEWS_S)

    def _wake_later(self) -> None:
        now = time.monotonic()
        due = [k.retry_at for k in self._known.values() if k.retry_at > now and k.push is None]
        if not self._crowded and any(k.passed_over and k.push is None for k in self._known.values()):
            due.append(now)
        if due:
            self._wake_in(min(due) - now)

    def _wake_in(self, seconds: float) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(seconds, self._ring)

    # --- what ----------------------------------------------------------------------------------------------------------

    def _outcome(self, slice_: Slice, refused: str, *, withheld: bool) -> Outcome:
        """How its push ended, once; then whether it is there."""
        scraper, known = slice_.scraper, self._known[slice_.scraper.id]
        if refused:
            return Outcome(scraper.id, "failed", refused)
        if (told := known.take_result(slice_)) is not None:
            return told
        if known.has(slice_):
            return Outcome(scraper.id, "same")
        if withheld:
            return Outcome(scraper.id, "withheld")
        if known.push is not None:
            known.push.told_waiting = True
        return Outcome(scraper.id, "waiting", known.error or f"{scraper.host}: its push has not ended")

    def _is_due(self, slice_: Slice) -> bool:
        known, now = self._known[slice_.scraper.id], time.monotonic()
        return known.push is None and known.retry_at <= now and not known.is_sure_of(slice_, now)

    def _refused(self, slices: Sequence[Slice]) -> dict[str, str]:
        """Scrapers that get nothing, and why: no plain host, or the file on that host is another scraper's."""
        refused, taken = {}, dict[str, str]()
        own = self._settings.playbook is None and self._settings.extra_vars_file is None
        for scraper in (s.scraper for s in slices):
            if not is_plain_host(scraper.host):
                refused[scraper.id] = f"{scraper.host[:100]!r} is not a plain host name or address"
            elif own and (first := taken.setdefault(scraper.host, scraper.id)) != scraper.id:
                path = f"{self._settings.dest_dir}/{self._settings.dest_sd_file_name}"
                refused[scraper.id] = f"{scraper.host}: {path} there is the file of {first}"
        return refused

    def _host(self, slice_: Slice, name: str) -> Host:
        settings, scraper = self._settings, slice_.scraper
        variables: dict[str, str | int | bool] = {
            "ansible_host": scraper.host,
            "dest_sd_file_name": settings.dest_sd_file_name,
            "dest_dir": settings.dest_dir,
            "service_port": settings.service_port or scraper.port,
            "promring_sha256": slice_.sha256,
            "promring_generation": str(slice_.generation),
            "promring_reload": settings.reload,
        }
        if settings.user is not None:
            variables["ansible_user"] = settings.user
        if settings.identity_file is not None:
            variables["ansible_ssh_private_key_file"] = str(settings.identity_file)
        return Host(name, settings.dest_sd_file_name, slice_.body, variables)

    def _say_missing(self, trouble: str) -> None:
        missing = trouble == NOT_INSTALLED
        if missing and not self._said_missing:
            self._log.error("ansible_missing", error=trouble, note="install ansible-core beside promring or on PATH")
        self._said_missing = missing


def is_plain_host(host: str) -> bool:
    """A host name or an address, and nothing that an inventory, a template or an option could be made of."""
    if _NAME.fullmatch(host):
        return True
    try:
        return bool(_IPV6.fullmatch(host)) and ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def inventory_names(slices: Sequence[Slice]) -> dict[str, str]:
    """What each scraper is called in the inventory: its host, as in the original; where that would be two, ``host_port``.

    In an address ``:`` becomes ``_``. Distinct, and none is the name of a group.
    """
    shared = Counter(s.scraper.host for s in slices)
    names, taken = dict[str, str](), set(_GROUPS)
    for scraper in sorted(s.scraper for s in slices):
        name = scraper.host if shared[scraper.host] == 1 and ":" not in scraper.host else ""
        name = name if name and name not in taken else f"{scraper.host}_{scraper.port}".replace(":", "_")
        while name in taken:
            name += "_"
        taken.add(name)
        names[scraper.id] = name
    return names
