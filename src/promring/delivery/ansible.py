"""Slices by Ansible, the original program's way: one run of ``ansible-playbook`` brings everything that changed.

A playbook gets, for each host, the original's variables ``src_sd_file_name`` (the slice, a file on the controller),
``dest_sd_file_name`` and ``service_port``, and ``dest_dir``, ``promring_sha256``, ``promring_generation`` and
``promring_reload``. The one that comes along (``ansible_files/deliver.yml``) installs a slice whole or not at all, refuses
older generations and changes only what differs; what another one does is its author's.

Promises: hosts run beside each other, one that hangs or fails costs only itself; what was delivered is not pushed again
but every 10 minutes, to put back what was changed by hand; a push ends at its time-out, and leaves no process.
Not promised: a change made by hand is seen before the next such push.
Flow: ``ansible_run`` is the run itself.
"""

from __future__ import annotations

import ipaddress
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from promring.delivery import Leads, Outcome, always
from promring.delivery.ansible_run import NOT_INSTALLED, PROGRAM, Host, Report, Run
from promring.log import Logger
from promring.model import Generation, Slice
from promring.threads import to_the_end

VERIFY_S = 600.0
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


@dataclass(frozen=True, slots=True)
class _Delivered:
    """What a scraper has, as far as is known, and when that is to be made sure of."""

    address: str
    generation: Generation
    sha256: str
    verify_at: float


class AnsibleDelivery:
    """``verify_s``: what was delivered is pushed again after half to all of this."""

    means = "ansible"
    pulled = False

    def __init__(self, settings: AnsibleSettings, log: Logger, *, verify_s: float = VERIFY_S) -> None:
        self._settings, self._log, self._verify_s = settings, log, verify_s
        self._run = Run(settings.playbook, settings.timeout_s, settings.extra_vars_file)
        self._delivered: dict[str, _Delivered] = {}
        self._failing = set[str]()
        """Scrapers that a push began with and did not bring its slice, until one does."""
        self._said_missing = False

    async def deliver(self, slices: Sequence[Slice], leads: Leads = always) -> list[Outcome]:
        self._delivered = {s.scraper.id: d for s in slices if (d := self._delivered.get(s.scraper.id))}
        self._failing &= {s.scraper.id for s in slices}
        refused = self._refused(slices)
        due = [s for s in slices if s.scraper.id not in refused and self._is_due(s)]
        if due and not leads():
            outcomes = {s.scraper.id: Outcome(s.scraper.id, "withheld") for s in due}
        else:
            outcomes = await self._push(due, inventory_names(slices)) if due else {}
        for scraper, why in refused.items():
            outcomes[scraper] = Outcome(scraper, "failed", why)
        return [outcomes.get(s.scraper.id) or Outcome(s.scraper.id, "same") for s in slices]

    def _is_due(self, slice_: Slice) -> bool:
        known = self._delivered.get(slice_.scraper.id)
        return known is None or not _is_that(known, slice_) or time.monotonic() >= known.verify_at

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

    async def _push(self, due: Sequence[Slice], names: Mapping[str, str]) -> dict[str, Outcome]:
        stop = threading.Event()
        due = sorted(due, key=lambda s: s.scraper.id in self._failing)  # who hangs may not take the others' turn
        hosts = [self._host(s, names[s.scraper.id]) for s in due]
        known = {s.scraper.id: self._delivered.pop(s.scraper.id, None) for s in due}  # until it is heard of
        try:
            report = await to_the_end(lambda: self._run(hosts, stop), stop.set)
        except OSError as error:
            report = Report({}, f"{PROGRAM} cannot be started: {error.strerror or error}")
        self._say_missing(report)
        outcomes = {}
        for slice_, host in zip(due, hosts, strict=True):
            outcome = self._outcome(slice_, report, host.name)
            before = known[slice_.scraper.id]
            if outcome.outcome == "written" and before is not None and _is_that(before, slice_):
                self._log.warning("slice_put_back", scraper=slice_.scraper.id, host=slice_.scraper.host)
            outcomes[slice_.scraper.id] = outcome
        return outcomes

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

    def _outcome(self, slice_: Slice, report: Report, name: str) -> Outcome:
        """Takes note of what is there now."""
        scraper = slice_.scraper
        result, why = report.hosts.get(name, ("waiting", ""))
        if result in ("ok", "changed"):
            self._failing.discard(scraper.id)
            verify_at = time.monotonic() + random.uniform(self._verify_s / 2, self._verify_s)  # not all of them at once
            self._delivered[scraper.id] = _Delivered(scraper.address, slice_.generation, slice_.sha256, verify_at)
            return Outcome(scraper.id, "written" if result == "changed" else "same")
        if result != "waiting":
            self._failing.add(scraper.id)
        why = {"failed": why, "unreachable": f"unreachable: {why}"}.get(result, report.trouble)
        return Outcome.not_taken(scraper.id, f"{scraper.host}: {why}")

    def _say_missing(self, report: Report) -> None:
        missing = report.trouble == NOT_INSTALLED
        if missing and not self._said_missing:
            self._log.error("ansible_missing", error=report.trouble, note="install ansible-core beside promring or on PATH")
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


def _is_that(known: _Delivered, slice_: Slice) -> bool:
    return (known.address, known.generation, known.sha256) == (slice_.scraper.address, slice_.generation, slice_.sha256)
