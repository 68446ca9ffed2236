"""Slices by Ansible, the original program's way: one run of ``ansible-playbook`` brings everything that changed.

The playbook that comes along (``ansible_files/deliver.yml``) installs slices whole or not at all, refuses older generations
and changes only what differs. One run of it brings the slices of all services of a fleet (``ansible_pushes``). A playbook of
one's own has a run for each service. It gets, for each host, the original's variables ``src_sd_file_name`` (the slice, a
file on the controller), ``dest_sd_file_name`` and ``service_port``, and ``dest_dir``, ``promring_sha256``,
``promring_generation`` and ``promring_reload``; what it does is its author's.

Promises: hosts run beside each other, one that hangs or fails costs only itself: ``deliver`` does not wait long for it, it
is in no other push meanwhile, and what failed has pushes of its own, with back-off. A host that a push did not come to is
``waiting``. What was delivered is not pushed again but every 10 minutes, to put back what was changed by hand; a push ends
at its time-out, or when we do not lead any more, and leaves no process. Trouble on our own side (no Ansible, no key, a
playbook that is none) is ``unsent``.
Not promised: a change made by hand is seen before the next such push.
Flow: ``ansible_run`` is the run itself, ``ansible_push`` one push and what it makes of each slice.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated

from pydantic import Field

from promring.config.kinds import Problem
from promring.config.values import AbsolutePath, Interval, Port, UserName, key_of_file
from promring.delivery import Leads, Names, Outcome, Place, always
from promring.delivery.ansible_push import AnsiblePace, Far, Sink
from promring.delivery.ansible_pushes import AnsiblePushes, Due, inventory_names
from promring.delivery.ansible_run import NOT_INSTALLED, VARS_BYTES_MAX, Run, find_program
from promring.delivery.settings import DeliveryContext, DeliverySettings
from promring.model import Scraper, Slice
from promring.runtime import regular
from promring.runtime.paths import of_service
from promring.telemetry.log import Logger

__all__ = ["AnsibleDelivery", "AnsiblePushes", "AnsibleSettings", "inventory_names", "is_plain_host"]
NEWS_S = 0.5
SSH_PORT = 22
_NAMES_FILE = re.compile(r"""^[{\s]*["']?dest_sd_file_name["']?\s*:|,\s*"dest_sd_file_name"\s*:""", re.MULTILINE)
"""In YAML or JSON. It may be broken: Ansible says so."""
SD_FILE_NAME = r"^([A-Za-z0-9]|\{fleet\}|\{service\})([A-Za-z0-9._-]|\{fleet\}|\{service\})*\.(json|yml|yaml)$"
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]+")


class AnsibleSettings(DeliverySettings):
    """``playbook`` None: the one that comes with promring. ``timeout`` is for one push to all hosts together."""

    kind = "ansible"
    path_at = ("dest_sd_file_name",)
    trial_runs = True

    playbook: AbsolutePath | None = None
    dest_sd_file_name: Annotated[str, Field(pattern=SD_FILE_NAME)] = "file_sd_by_promring.json"
    dest_dir: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]*$")] = "/opt/app/prometheus/sd"
    service_port: Port | None = None
    reload: bool = False
    user: UserName | None = None
    identity_file: AbsolutePath | None = None
    extra_vars_file: AbsolutePath | None = None
    vault_password_file: AbsolutePath | None = None
    timeout: Interval = 10.0

    @property
    def run(self) -> Run:
        files = (self.identity_file,) if self.identity_file is not None else ()
        return Run(self.playbook, self.timeout, self.extra_vars_file, self.vault_password_file, files)

    @property
    def overridden_by(self) -> str:
        return str(self.extra_vars_file or "")

    def file(self, names: Names, scraper: Scraper) -> str:
        return f"{self.dest_dir.rstrip('/')}/{of_service(self.dest_sd_file_name, *names)}"

    def place(self, names: Names, scraper: Scraper) -> Place | None:
        if self.playbook is not None or self.extra_vars_file is not None:
            return None
        return Place(scraper.host.lower(), SSH_PORT, os.path.normpath(self.file(names, scraper)))

    def claim(self, names: Names, anybody: Scraper) -> Place | None:
        if self.playbook is None and self.extra_vars_file is not None:
            # the variables may say another folder, for all services of the fleet: the names of their files must differ
            name = of_service(self.dest_sd_file_name, *names)
            return Place(f"fleet {names.fleet}", 0, f"{self.extra_vars_file}/{name}")
        return self.place(names, anybody)

    def delivery(self, context: DeliveryContext) -> AnsibleDelivery:
        """Pushes are shared by all services with equal settings; a playbook of one's own gets one slice a host."""
        name = of_service(self.dest_sd_file_name, *context.names)
        settings, way = (self.model_copy(update={"dest_sd_file_name": text}) for text in (name, ""))
        if self.playbook is not None:
            return AnsibleDelivery(settings, context.log)
        pushes = context.shared.one(AnsiblePushes, way, lambda: AnsiblePushes(way, context.fleet_log))
        return AnsibleDelivery(settings, context.log, pushes=pushes)

    def shared_by(self, services: int) -> Iterator[Problem]:
        """Extra variables that give one file name to the slices of several services: no host could take them. Variables in a
        vault are read by Ansible alone; the receiver refuses the slices then.
        """
        if services < 2 or self.playbook is not None or self.extra_vars_file is None:
            return
        with contextlib.suppress(OSError):  # said before
            if _NAMES_FILE.search(regular.read(self.extra_vars_file, VARS_BYTES_MAX).decode("utf-8", "replace")):
                yield ("extra_vars_file",), f"sets dest_sd_file_name, and {services} services have files there"

    def trial(self, names: Names, scrapers: Iterable[Scraper]) -> Iterator[Problem]:
        if find_program() is None:
            yield (), NOT_INSTALLED
        elif why := self.run.why_not_runnable():
            keys = ("playbook", "identity_file", "vault_password_file", "extra_vars_file")
            yield (key_of_file(self, why, keys),), why


class AnsibleDelivery:
    """``pushes``: those that it shares with others; None: its own."""

    means = "ansible"
    pulled = False

    def __init__(
        self, settings: AnsibleSettings, log: Logger, *, pushes: AnsiblePushes | None = None, pace: AnsiblePace | None = None
    ) -> None:
        self._settings = settings
        self._pushes = pushes or AnsiblePushes(settings, log, pace=pace)
        self._pushes.join(self)
        self._known: dict[str, tuple[Far, Sink]] = {}
        self._wake: Callable[[], None] = lambda: None
        self._again: asyncio.TimerHandle | None = None

    def when_done(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        before, self._known = self._known, {}
        for scraper in (s.scraper for s in slices):
            sink = before[scraper.id][1] if scraper.id in before else Sink(self, self._settings.dest_sd_file_name)
            self._known[scraper.id] = self._pushes.far(scraper), sink
        if self._again is not None:
            self._again.cancel()
        refused = self._refused(slices)
        due = [s for s in slices if s.scraper.id not in refused and self._is_due(s)]
        withheld = set[str]()
        try:
            if due and leads():
                await self._pushes.ask(self, [Due(*self._known[s.scraper.id], s) for s in due], leads)
            elif due:
                withheld = {s.scraper.id for s in due}
            await self._wait()
        except asyncio.CancelledError:
            await self._pushes.stop(self)
            raise
        outcomes = [self._outcome(s, refused.get(s.scraper.id, ""), withheld=s.scraper.id in withheld) for s in slices]
        self._wake_later()
        return outcomes

    async def close(self) -> None:
        self._wake = lambda: None
        if self._again is not None:
            self._again.cancel()
        await self._pushes.leave(self)

    # --- when ----------------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until all that are well are heard of, but not long; hardly at all for those that failed."""
        pace = self._pushes.pace
        for slow, wait_s in ((False, pace.wait_s), (True, pace.slow_wait_s)):
            pushes = [push for push in self._pushes.under_way(self) if push.slow is slow]
            if tasks := [push.task for push in pushes if push.task is not None]:
                await asyncio.wait(tasks, timeout=wait_s)

    def wake(self) -> None:
        self._wake()

    def news(self) -> None:
        """Something was heard of one that was told to be waiting: wake the loop, but not for each of many."""
        if self._again is None or self._again.cancelled() or self._again.when() > asyncio.get_running_loop().time() + NEWS_S:
            self._wake_in(NEWS_S)

    def _wake_later(self) -> None:
        now = time.monotonic()
        free = [(far, sink) for far, sink in self._known.values() if far.push is None]
        due = [at for far, sink in free if (at := max(far.retry_at, sink.retry_at)) > now]
        if self not in self._pushes.crowded and any(sink.passed_over for _, sink in free):
            due.append(now)
        if due:
            self._wake_in(min(due) - now)

    def _wake_in(self, seconds: float) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(seconds, self._wake)

    # --- what ----------------------------------------------------------------------------------------------------------

    def _outcome(self, slice_: Slice, refused: str, *, withheld: bool) -> Outcome:
        """How its push ended, once; then whether it is there."""
        scraper, (far, sink) = slice_.scraper, self._known[slice_.scraper.id]
        if refused:
            return Outcome(scraper.id, "failed", refused)
        if (told := sink.take_result(slice_)) is not None:
            return told
        if sink.has(slice_):
            return Outcome(scraper.id, "same")
        if withheld:
            return Outcome(scraper.id, "withheld")
        if far.push is not None:
            far.push.waiting.add(self)
        return Outcome(scraper.id, "waiting", sink.error or f"{scraper.host}: its push has not ended")

    def _is_due(self, slice_: Slice) -> bool:
        (far, sink), now = self._known[slice_.scraper.id], time.monotonic()
        return far.push is None and max(far.retry_at, sink.retry_at) <= now and not sink.is_sure_of(slice_, now)

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


def is_plain_host(host: str) -> bool:
    """A host name or an address, and nothing that an inventory, a template or an option could be made of."""
    if _NAME.fullmatch(host):
        return True
    try:
        return bool(_IPV6.fullmatch(host)) and ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
