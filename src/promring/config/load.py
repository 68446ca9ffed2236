"""From a YAML file to ``Settings``. Every error names file, line and key path; all errors come at once.

Refused here, beyond what ``settings.py`` says of single values and ``yamldoc.py`` of the document: a service named twice,
two scrapers with one identity, two deliveries that write one file, here or on a scraper's host, a check's time-out longer
than its interval, Consul used but never described, files that cannot be read. Whether everything can be built is asked in
``trial.py``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from promring.config.consul_environment import ADDRESS, read_environment
from promring.config.document import Document, KeyPath, YamlProblem, read_yaml
from promring.config.settings import SERVICES_MAX, Consul, Delivery, Fleet, FleetKeys, Node, Settings, ShardService, Tls
from promring.model import ConfigError
from promring.runtime import regular
from promring.runtime.paths import of_fleet, of_service, render
from promring.runtime.redact import hide, secrets_in, shown
from promring.runtime.text import printable

FILE_BYTES_MAX = 4 * 1024 * 1024
PROBLEMS_MAX = 100
KEY_SHOWN_MAX = 100
SSH_PORT = 22
CONSUL_WATCHES_MAX = 180  # Consul refuses more than 200 connections from one address, and each watch holds one

Problem = tuple[KeyPath, str]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration, and where in its file each key stands."""

    settings: Settings
    name: str
    document: Document

    def lines(self, problems: Iterable[Problem]) -> list[str]:
        """``FILE:LINE: key.path: what``, each once, in order of the lines."""
        return _lines(self.name, ((self.document.line(path), path, what) for path, what in problems))


def load(path: str | Path) -> Settings:
    """Read and check a configuration file. Raises ``ConfigError`` with one line an error: ``FILE:LINE: key.path: what``."""
    return load_with_lines(path).settings


def load_with_lines(path: str | Path, *, pipes: bool = True) -> Loaded:
    """As ``load``. ``pipes`` False: a pipe, which may never say anything, is refused."""
    return _loads(_read(path, pipes=pipes), str(path), Path(path).absolute().parent)


def read_document(path: Path) -> Document:
    """A regular YAML file with the line of each key, for other files than the main one. Raises ``ConfigError``."""
    document = _document(_read(path, pipes=False), str(path))
    if document.duplicates:
        raise ConfigError(_lines(str(path), document.duplicates))
    return document


def _read(path: str | Path, *, pipes: bool = True) -> bytes:
    try:
        if not pipes:
            regular.check(Path(path))
        with open(path, "rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise ConfigError([f"{path}:1: {_why(error)}"]) from error
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError([f"{path}:1: larger than {FILE_BYTES_MAX} bytes"])
    return text


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _document(text: bytes | str, name: str) -> Document:
    try:
        return read_yaml(text)
    except YamlProblem as error:
        where = f" {show(error.path)}:" if error.path else ""
        raise ConfigError([f"{name}:{error.line}:{where} {error.what}"]) from None


def loads(text: bytes | str, *, name: str = "<text>", base: Path | None = None) -> Settings:
    """As ``load``, from text. Relative paths in it are relative to ``base``."""
    return _loads(text, name, base or Path.cwd()).settings


def loads_with_lines(text: bytes | str, *, name: str, base: Path) -> Loaded:
    """As ``load_with_lines``, from text. Relative paths in it are relative to ``base``."""
    return _loads(text, name, base)


def _loads(text: bytes | str, name: str, base: Path) -> Loaded:
    document = _document(text, name)
    problems: list[Problem] = []
    settings = None
    try:
        settings = Settings.model_validate(document.value, context={"base": base})
    except ValidationError as error:
        problems += [from_pydantic(e["loc"], e["msg"], e["type"], e["input"]) for e in error.errors(include_url=False)]
    problems += relations(settings or _sound_part(document.value, base))
    problems += _files(settings, ()) if settings else []
    found = [(document.line(path), path, what) for path, what in problems] + document.duplicates
    if found or settings is None:
        raise ConfigError(_lines(name, found))
    return Loaded(settings, name, document)


def _lines(name: str, found: Iterable[tuple[int, KeyPath, str]]) -> list[str]:
    """At most ``PROBLEMS_MAX``: a file of nonsense has one for each of its values."""
    said = [f"{name}:{line}: {show(path)}: {printable(what)}" for line, path, what in sorted(found, key=lambda f: f[0])]
    lines = list(dict.fromkeys(said))
    more = len(lines) - PROBLEMS_MAX
    return lines if more <= 0 else [*lines[:PROBLEMS_MAX], f"{name}: and {more} more"]


def show(path: KeyPath) -> str:
    """``('shard_services', 0, 'name')`` → ``shard_services[0].name``. A key that nobody could read is cut and escaped."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{printable(_key(p)[:KEY_SHOWN_MAX])}" for p in path)
    return text.removeprefix(".") or "(document)"


def _key(text: str) -> str:
    """A URL may have become a key by a colon too many."""
    return shown(text) if "@" in text or "?" in text else text


def from_pydantic(loc: tuple[int | str, ...], message: str, kind: str, value: object) -> Problem:
    """One of pydantic's errors in our words, without what the ``value`` has of credentials."""
    what = {"extra_forbidden": "unknown key", "missing": "is required"}.get(kind, message.removeprefix("Value error, "))
    what = hide(what, secrets_in(value))
    return tuple(loc), what[:1].lower() + what[1:]


# --- relations -------------------------------------------------------------------------------------------------------

Services = list[tuple[int, ShardService]]


@dataclass(frozen=True, slots=True)
class _Sound:
    """The parts that are valid by themselves, so that their relations are checked beside other errors."""

    consul: Consul | None
    services: Services
    consul_given: bool
    lock: bool = False
    fleets: Sequence[tuple[int, Fleet]] = ()

    def each(self) -> Iterator[tuple[KeyPath, FleetKeys]]:
        """What belongs to scrapers, and where it stands: once for each fleet."""
        yield from ((("fleets", i), fleet) for i, fleet in self.fleets)
        shared = {fleet.name for _, fleet in self.fleets}
        yield from ((("shard_services", i), service) for i, service in self.services if service.fleet not in shared)

    def path(self, service: ShardService) -> KeyPath:
        """Where what belongs to its scrapers stands."""
        fleet = next((i for i, fleet in self.fleets if fleet.name == service.fleet), None)
        number = next(i for i, known in self.services if known is service)
        return ("shard_services", number) if fleet is None else ("fleets", fleet)


def _sound_part(value: Any, base: Path) -> _Sound:
    value = value if isinstance(value, dict) else {}
    services = []
    listed = value.get("shard_services")
    for i, raw in enumerate(listed[:SERVICES_MAX] if isinstance(listed, list) else []):
        try:
            services.append((i, ShardService.model_validate(raw, context={"base": base})))
        except ValidationError:
            continue
    fleets = []
    listed = value.get("fleets")
    for i, raw in enumerate(listed[:SERVICES_MAX] if isinstance(listed, list) else []):
        with contextlib.suppress(ValidationError):
            fleets.append((i, Fleet.model_validate(raw, context={"base": base})))
    return _Sound(None, services, "consul" in value, fleets=fleets)


def relations(settings: Settings | _Sound) -> Iterator[Problem]:
    """Every impossible relation between values."""
    if isinstance(settings, Settings):
        if settings.global_.debounce >= settings.global_.reconcile_interval:
            yield ("global", "debounce"), "must be shorter than reconcile_interval"
        settings = _Sound(
            settings.consul,
            list(enumerate(settings.shard_services)),
            settings.consul is not None,
            settings.controllers.lock is not None,
            list(enumerate(settings.fleets)),
        )
    services = settings.services
    yield from _twice(((i, s.name) for i, s in services), lambda i: ("shard_services", i, "name"), "service")
    yield from _fleets(settings)
    for path, keys in settings.each():
        yield from _one_fleet(path, keys)
    yield from _paths(settings)
    yield from _consul(settings)


def _fleets(settings: _Sound) -> Iterator[Problem]:
    """Names and jobs that would be two things."""
    yield from _twice(((i, f.name) for i, f in settings.fleets), lambda i: ("fleets", i, "name"), "fleet")
    shared = {fleet.name: (i, fleet) for i, fleet in settings.fleets}
    jobs: dict[tuple[str, str], int] = {}
    for i, service in settings.services:
        if service.name in shared:
            number, fleet = shared[service.name]
            if service.fleet != service.name or _own_keys(service, fleet):  # else it is of that fleet
                yield ("shard_services", i, "name"), f"is the name of {show(('fleets', number))}, too"
        first = jobs.setdefault((service.fleet, service.job), i)
        if first != i and settings.services[first][1].name != service.name:
            what = "job" if service.job != service.name else "name"
            there = show(("shard_services", first))
            yield ("shard_services", i, what), f"job {service.job!r} is that of {there}, which has the same scrapers"


def _own_keys(service: ShardService, fleet: Fleet) -> bool:
    """Whether it has other keys of a fleet than this one."""
    return any(
        getattr(service, key) != getattr(fleet, key)
        for key in FleetKeys.model_fields.keys() - {"name", "placement", "guard"}
    )


def _twice(
    named: Iterable[tuple[int, str]], path: Callable[[int], KeyPath], what: str, among: str = ""
) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for i, name in named:
        if first.setdefault(name, i) != i:
            yield path(i), f"{what} {name!r} is the same as in {show(path(first[name]))}{among}"


def _one_fleet(at: KeyPath, service: FleetKeys) -> Iterator[Problem]:
    probe, consul = service.scrapers.probe, service.scrapers.consul
    if probe is not None:
        where: KeyPath = (*at, "scrapers", "probe")
        yield from _identities(service, probe.nodes, (*where, "nodes"))
        if probe.timeout > probe.interval:
            yield (*where, "timeout"), "must not be longer than interval"
    if consul is not None and consul.register_ is not None:
        where = (*at, "scrapers", "consul", "register")
        yield from _identities(service, consul.register_.nodes, (*where, "nodes"))
        if consul.register_.check.timeout > consul.register_.check.interval:
            yield (*where, "check", "timeout"), "must not be longer than interval"
    if service.audit is not None and service.audit.timeout > service.audit.interval:
        yield (*at, "audit", "timeout"), "must not be longer than interval"
    kinds = enumerate(d.kind for d in service.delivery)
    for j, kind in kinds:
        if kind == "http_sd" and [d.kind for d in service.delivery].index("http_sd") != j:
            yield (*at, "delivery", j, "http_sd"), "http_sd is there already"


def _identities(service: FleetKeys, nodes: list[Node], path: KeyPath) -> Iterator[Problem]:
    ids = ((i, service.scraper(node).id) for i, node in enumerate(nodes))
    yield from _twice(ids, lambda i: (*path, i), "the scraper's identity", f" (identity: {service.identity})")


def _paths(settings: _Sound) -> Iterator[Problem]:
    """Two services, or two deliveries of one, that give one file for some scraper: here, or on the scraper's host."""
    listed: dict[_Place, KeyPath] = {}
    anybodys: dict[_Place, KeyPath] = {}
    open_ones: dict[_Place, KeyPath] = {}
    for _, service in settings.services:
        for j, delivery in enumerate(service.delivery):
            written = _written(service, delivery)
            if written is None:
                continue
            here: KeyPath = (*settings.path(service), "delivery", j, delivery.kind, *PATH_KEYS[delivery.kind])
            first = (anybodys if written.open else open_ones).get(written.anybodys)
            first = first or next((listed[place] for place in written.listed if place in listed), None)
            if first == here:
                yield here, "writes one file for several services of the fleet: put {service} into it"
            elif first is not None:
                yield here, f"writes the same files as {show(first)}"
            anybodys.setdefault(written.anybodys, here)
            if written.open:
                open_ones.setdefault(written.anybodys, here)
            for place in written.listed:
                listed.setdefault(place, here)


_Place = tuple[str, int, str]
"""A file: host (empty: here), port, path."""


@dataclass(frozen=True, slots=True)
class _Written:
    """The files for the scrapers that are listed, and for one that every service may have. Who finds its scrapers in Consul
    may have any (``open``).
    """

    listed: frozenset[_Place]
    anybodys: _Place
    open: bool


PATH_KEYS: Mapping[str, KeyPath] = {"file": ("path",), "ssh": ("path",), "ansible": ("dest_sd_file_name",)}
_ANY = Node("any", 1)


def _written(service: ShardService, delivery: Delivery) -> _Written | None:
    """None: no files, or whose they are is somebody else's business (a playbook of one's own)."""
    place = place_of(delivery)
    if place is None and delivery.ansible is not None and delivery.ansible.playbook is None:
        # the extra variables may say another folder, for all services of the fleet: their names must differ
        name = of_service(delivery.ansible.dest_sd_file_name, service.fleet, service.name)
        return _Written(frozenset(), (f"fleet {service.fleet}", 0, f"{delivery.ansible.extra_vars_file}/{name}"), True)
    if place is None:
        return None
    listed = frozenset(place(service, node) for node in service.listed)
    is_open = service.scrapers.consul is not None or delivery.file is not None
    return _Written(listed, place(service, _ANY), is_open)


def place_of(delivery: Delivery) -> Callable[[ShardService, Node], _Place] | None:
    """The file that a delivery writes for a scraper; None: no file, or nobody tells which."""
    if (file := delivery.file) is not None:
        return lambda service, node: ("", 0, _rendered(file.path, service, node))
    if (ssh := delivery.ssh) is not None:
        return lambda service, node: (
            ssh.host.replace("{host}", node.host).lower(),
            ssh.port,
            _rendered(ssh.path, service, node),
        )
    ansible = delivery.ansible
    if ansible is None or ansible.playbook is not None or ansible.extra_vars_file is not None:
        return None
    return lambda service, node: (
        node.host.lower(),
        SSH_PORT,
        os.path.normpath(f"{ansible.dest_dir}/{of_service(ansible.dest_sd_file_name, service.fleet, service.name)}"),
    )


def _rendered(template: str, service: ShardService, node: Node) -> str:
    return os.path.normpath(render(of_fleet(template, service.fleet), service.name, service.scraper(node)))


def _files(value: object, path: KeyPath) -> Iterator[Problem]:
    """Files that the configuration names and that cannot be read, TLS files that make no TLS."""
    if isinstance(value, Path):
        try:
            regular.check(value)
        except (OSError, ValueError) as error:
            yield path, f"{value}: {_why(error)}"
    elif isinstance(value, BaseModel):
        unreadable = False
        for name, info in type(value).model_fields.items():
            for problem in _files(getattr(value, name), (*path, info.alias or name)):
                unreadable = True
                yield problem
        if isinstance(value, Tls) and not unreadable:
            try:
                value.files().context()
            except (OSError, ValueError) as error:
                yield path, f"makes no TLS context: {' '.join(str(error).split())}"
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _files(item, (*path, i))


def _consul(settings: _Sound) -> Iterator[Problem]:
    watched = [(path, keys) for path, keys in settings.each() if keys.scrapers.consul is not None]
    if settings.lock and not settings.consul_given and not os.environ.get("CONSUL_HTTP_ADDR"):
        yield ("controllers", "lock", "consul"), "needs the section `consul:` with an address, or CONSUL_HTTP_ADDR"
    if watched and not settings.consul_given and not os.environ.get("CONSUL_HTTP_ADDR"):
        yield (*watched[0][0], "scrapers", "consul"), "needs the section `consul:` with an address, or CONSUL_HTTP_ADDR"
    if watched or settings.lock:
        yield from _consul_environment(settings.consul or Consul())
    for path, keys in watched[CONSUL_WATCHES_MAX:]:
        yield (
            (*path, "scrapers"),
            (f"{keys.name} is one Consul watch too many: Consul serves about {CONSUL_WATCHES_MAX} from one address"),
        )
    consul = settings.consul
    if consul is not None and (consul.username is None) != (consul.password_file is None):
        yield ("consul",), "username and password_file go together"
    if consul is not None and consul.username is not None and consul.token_file is not None:
        yield ("consul",), "either token_file or username with password_file"


def _consul_environment(consul: Consul) -> Iterator[Problem]:
    """Variables that are used, for want of a key, and cannot be."""
    unused = {ADDRESS} if consul.address is not None else set()
    if consul.token_file is not None or consul.username is not None:
        unused |= {"CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE", "CONSUL_HTTP_AUTH"}
    for name, why in read_environment(os.environ).problems.items():
        if name not in unused:
            yield ("consul",), f"{name} {why}"
