"""From the bytes of a file_sd or http_sd list to a ``TargetPool``: what Prometheus would make of them.

A list that Prometheus refuses is refused whole, and the place is named. A list that it takes is taken whole but for the
entries that cannot be passed on: an address that is empty, too long or has a control character, and labels beyond the limits
below. Those are left out, counted and named. Differences from Prometheus stand in ``docs/compatibility.md``; the suite in
``tests/differential`` holds the rest.

Every label passes but ``__address__``, which Prometheus ignores in a group, and empty ones, which are none. A source that is
not trusted loses the labels that redirect a scrape.

Memory is bounded, whatever the answer: how many targets and labels, how long each, how long all with their labels; a long
JSON list is decoded in pieces, a long YAML list in a process that may not grow beyond ``memory.BYTES_MAX``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import xxhash

from promring.core.fragment import suffix_of
from promring.core.pool import Listed, Wholes, pool_of_listed
from promring.discovery.intervals import INTERVAL, ends_vmagent
from promring.discovery.json_list import PIECE_BYTES, Group, on_one_line, read_json, read_pieces
from promring.discovery.label_names import Names
from promring.discovery.limits import (
    ADDRESS_MAX,
    EXPANDED_LEAST,
    EXPANDED_MAX,
    EXPANDED_TIMES,
    LABEL_VALUE_MAX,
    TARGETS_MAX,
)
from promring.discovery.list_rules import ANY, ListRules
from promring.discovery.uniform import Uniform, UniformPieces
from promring.discovery.yaml_list import YamlError, read_yaml
from promring.discovery.yaml_worker import BAD_YAML
from promring.model import DiscoveryError, TargetGroup, TargetPool
from promring.runtime.threads import computed

YAML_INLINE_MAX = 32 * 1024
YAML_TIMEOUT_S = 120.0
_converting = threading.BoundedSemaphore(os.cpu_count() or 1)
"""Held while a process reads YAML: of fifty long lists that change at once, each would else take as long as all."""
NAMED_MOST = 10
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(slots=True)
class Refusals:
    """What was left out of a list that was taken: ``count`` entries, the first ``NAMED_MOST`` of them in words, and the
    names of labels that a source that is not trusted lost.
    """

    count: int = 0
    named: list[str] = field(default_factory=list)
    labels_lost: set[str] = field(default_factory=set)

    def add(self, text: str, count: int = 1) -> None:
        self.count += count
        if len(self.named) < NAMED_MOST:
            self.named.append(text)

    def remark(self, text: str) -> None:
        """Something to be said about the list that left nothing out."""
        if len(self.named) < NAMED_MOST and text not in self.named:
            self.named.append(text)

    @property
    def remarks(self) -> tuple[str, ...]:
        lost = sorted(self.labels_lost)[:NAMED_MOST]
        return (*self.named, *([f"not trusted with the labels {', '.join(lost)}"] if lost else ()))


Parse = Callable[[bytes, str], Iterable[Group | Uniform]]


def from_json(text: bytes, where: str, piece_bytes: int = PIECE_BYTES) -> Iterator[Group]:
    """The groups of a list in JSON. ``where`` names the file or URL in errors. Raises ``DiscoveryError``, also late."""
    return read_json(text, where, piece_bytes)


def many_from_json(text: bytes, where: str) -> Iterator[Group | Uniform]:
    """As ``from_json``, many groups at once where they are alike."""
    return read_pieces(text, where, UniformPieces().take)


def from_yaml(text: bytes, where: str) -> Iterator[Group]:
    """The groups of a list in YAML. Raises ``DiscoveryError``, also late."""
    return _one_by_one(many_from_yaml(text, where))


def many_from_yaml(text: bytes, where: str) -> Iterable[Group | Uniform]:
    """As ``many_from_json``. A long list is read in a process of its own: the parser holds the interpreter from the first
    byte to the last.
    """
    if len(text) > YAML_INLINE_MAX:
        return read_pieces(_converted(text, where), where, UniformPieces().take, written=False)
    try:
        return read_yaml(text)
    except YamlError as error:
        raise DiscoveryError(f"{where}{on_one_line(error)}") from error


def _converted(text: bytes, where: str) -> bytes:
    """As JSON. Raises ``DiscoveryError``."""
    command = [sys.executable, "-P", "-m", "promring.discovery.yaml_worker"]
    try:
        with _converting:
            done = subprocess.run(command, input=text, capture_output=True, timeout=YAML_TIMEOUT_S, check=False)  # noqa: S603 - our own
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DiscoveryError(f"{where}: not read: {error}") from error
    if done.returncode == BAD_YAML:
        raise DiscoveryError(f"{where}{on_one_line(done.stderr.decode('utf-8', 'replace'))}")
    if done.returncode:
        last = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"])[-1][:200]
        raise DiscoveryError(f"{where}: the process that reads it ended with status {done.returncode}: {last}")
    return done.stdout


# --- what passes -----------------------------------------------------------------------------------------------------


def checked(
    groups: Iterable[Group], where: str, refusals: Refusals, *, size_bytes: int = 0, rules: ListRules = ANY
) -> Iterator[Listed]:
    """The groups that pass, in the form that pools are made of; what does not is told to ``refusals``. ``size_bytes``: of
    the list, for the limit of its labels. Raises ``DiscoveryError`` beyond the limits of a whole list.
    """
    check = _Check(where, refusals, size_bytes, rules)
    return (found for group in groups if (found := check.group(group)))


def _checked_many(groups: Iterable[Group | Uniform], check: _Check) -> Iterator[Listed | Wholes]:
    for one in groups:
        if isinstance(one, Group):
            if found := check.group(one):
                yield found
        elif check.uniform(one):
            yield one.wholes
        else:
            yield from filter(None, map(check.group, one.groups()))


class _Check:
    """Looks at the groups of one list."""

    def __init__(self, where: str, refusals: Refusals, size_bytes: int, rules: ListRules) -> None:
        self._where, self._refusals = where, refusals
        self._names = Names(trusted=rules.trusted, legacy=rules.legacy_names)
        self._expanded_max = min(EXPANDED_MAX, max(EXPANDED_LEAST, EXPANDED_TIMES * size_bytes))
        self._groups = self._targets = self._expanded = 0

    def group(self, group: Group) -> Listed | None:
        targets, labels = group.targets or (), group.labels or {}
        i = self._groups
        self._groups, self._targets = i + 1, self._targets + len(targets)
        if i >= TARGETS_MAX or self._targets > TARGETS_MAX:
            raise self._too_many()
        if not (targets or labels):
            return None  # nothing to look at: five million of them would take half a minute
        known = self._names.known.get(tuple(labels)) or self._names.look(labels)
        if known.plain and all(values := labels.values()):
            size = known.length + len("".join(values))  # type: ignore[arg-type]
            passed: dict[str, str] = labels  # type: ignore[assignment]
        else:
            passed = self._names.passing(labels, self._refusals.labels_lost)
            known = self._names.look(passed)
            size = known.length + sum(map(len, passed.values()))
        wrong = known.wrong or (_too_long(passed) if size > LABEL_VALUE_MAX else "")
        if not wrong and known.timed and ends_vmagent(passed[INTERVAL]):
            wrong = f"{INTERVAL} {passed[INTERVAL]!r}: nothing can scrape so often, and vmagent ends when it tries"
        if wrong:
            self._refusals.add(f"[{i}].labels: {wrong}", len(targets))
            return None
        if not targets:
            return None
        self._expanded += size * len(targets)
        if self._expanded > self._expanded_max:
            raise self._too_long_together(i)
        suffix = suffix_of(passed.items()) if known.redirects else ""
        return Listed(_passing(targets, i, self._refusals), passed, suffix)

    def uniform(self, some: Uniform) -> bool:
        """Whether all of them pass as they are; else they are to be looked at as groups."""
        known = self._names.look(some.names)
        if not known.enough:
            return False
        self._expanded += len(some.piece)  # at most: each is there once
        if self._expanded > self._expanded_max:
            raise self._too_long_together(self._groups)
        self._groups, self._targets = self._groups + len(some), self._targets + len(some)
        if max(self._groups, self._targets) > TARGETS_MAX:
            raise self._too_many()
        return True

    def _too_many(self) -> DiscoveryError:
        return DiscoveryError(f"{self._where}: more than {TARGETS_MAX} targets or groups")

    def _too_long_together(self, i: int) -> DiscoveryError:
        said = f"the labels, repeated for each target, are longer than {self._expanded_max}"
        return DiscoveryError(f"{self._where}: [{i}]: {said}")


def _too_long(labels: Mapping[str, str]) -> str:
    """Which value is too long; mostly the empty text."""
    name = next((name for name, value in labels.items() if len(value) > LABEL_VALUE_MAX), None)
    return "" if name is None else f"{name[:80]!r} is longer than {LABEL_VALUE_MAX}"


def _passing(targets: Sequence[str | None], i: int, refusals: Refusals) -> list[str]:
    if all(targets):
        text: str = targets[0] if len(targets) == 1 else "".join(targets)  # type: ignore[arg-type,assignment]
        if text.isprintable() and (len(text) <= ADDRESS_MAX or max(map(len, targets)) <= ADDRESS_MAX):  # type: ignore[arg-type]
            return targets  # type: ignore[return-value]
    return list(_checked_one_by_one(targets, i, refusals))


def _checked_one_by_one(targets: Iterable[str | None], i: int, refusals: Refusals) -> Iterator[str]:
    for j, address in enumerate(targets):
        if not address:
            refusals.add(f"[{i}].targets[{j}]: an empty address")
        elif len(address) > ADDRESS_MAX:
            refusals.add(f"[{i}].targets[{j}]: {address[:80]!r}... is longer than {ADDRESS_MAX}")
        elif _CONTROL.search(address):
            refusals.add(f"[{i}].targets[{j}]: {address[:80]!r} has a control character")
        else:
            yield address


def listed(text: bytes, where: str, parse: Parse = from_json) -> tuple[TargetGroup, ...]:
    """What passes of a list. Raises ``DiscoveryError``."""
    passed = checked(_one_by_one(parse(text, where)), where, Refusals(), size_bytes=len(text))
    return tuple(TargetGroup(tuple(one.addresses), tuple(sorted(one.labels.items()))) for one in passed)


def _one_by_one(groups: Iterable[Group | Uniform]) -> Iterator[Group]:
    for one in groups:
        yield from (one,) if isinstance(one, Group) else one.groups()


def read_pool(
    groups: Iterable[Group | Uniform],
    where: str,
    *,
    size_bytes: int = 0,
    rules: ListRules = ANY,
    refusals: Refusals | None = None,
) -> TargetPool:
    """``refusals``: what the groups themselves, while they are made, leave out. Raises ``DiscoveryError``."""
    refusals = Refusals() if refusals is None else refusals
    pool = pool_of_listed(_checked_many(groups, _Check(where, refusals, size_bytes, rules)))
    return replace(pool, refused=refusals.count, remarks=refusals.remarks) if refusals.remarks else pool


Compute = Callable[[], TargetPool]


class Reader:
    """Reads one list again and again: the same bytes give the same object, so nothing is computed from it again."""

    def __init__(self, parse: Parse = many_from_json, rules: ListRules = ANY) -> None:
        self._parse, self._rules = parse, rules
        self._last: tuple[str, TargetPool] | None = None

    def opened(self, text: bytes, where: str) -> TargetPool | Compute:
        """The same pool for the same bytes, else what computes the new one. Waits for the process that reads long YAML.
        Raises ``DiscoveryError``, as what it gives does.
        """
        digest = xxhash.xxh3_128_hexdigest(text)
        if self._last is not None and self._last[0] == digest:
            return self._last[1]
        parsed = self._parse(text, where)

        def compute() -> TargetPool:
            pool = read_pool(parsed, where, size_bytes=len(text), rules=self._rules)
            self._last = digest, pool
            return pool

        return compute

    def read(self, text: bytes, where: str) -> TargetPool:
        """Raises ``DiscoveryError``."""
        found = self.opened(text, where)
        return found if isinstance(found, TargetPool) else found()

    async def read_beside(self, text: bytes, where: str) -> TargetPool:
        """``read`` of JSON, beside the event loop. Raises ``DiscoveryError``, made here: one that crosses from a thread is
        in a cycle with its frames, and they would keep ``text`` until the garbage collector comes, which is rarely.
        """

        def work() -> TargetPool | str:
            try:
                return self.read(text, where)
            except DiscoveryError as error:
                return str(error)

        answer = await computed(work)
        if isinstance(answer, str):
            raise DiscoveryError(answer)
        return answer
