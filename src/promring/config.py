"""From a YAML file to ``Settings``. Every error names file, line and key path; all errors come at once.

Refused here, beyond what ``settings.py`` says of single values: duplicate keys, aliases, several documents, deep nesting,
a service named twice, two scrapers with one identity, two services that write one path, a check's time-out longer than
its interval, Consul used but never described.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from promring.consul_environment import ADDRESS, read_environment
from promring.model import ConfigError
from promring.settings import Consul, Delivery, Node, Settings, ShardService, Tls
from promring.template import render
from promring.yamlsafe import UnsafeYaml, refuse_unsafe

FILE_BYTES_MAX = 16 * 1024 * 1024
CONSUL_WATCHES_MAX = 180  # Consul refuses more than 200 connections from one address, and each watch holds one

KeyPath = tuple[str | int, ...]
Problem = tuple[KeyPath, str]


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML document as plain values, with the line of each key path."""

    value: Any
    lines: dict[KeyPath, int]

    def line(self, path: KeyPath) -> int:
        """Line of the nearest key path that stands in the file, from 1."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class _YamlProblem(Exception):
    def __init__(self, line: int, what: str, path: KeyPath = ()) -> None:
        super().__init__(what)
        self.line, self.what, self.path = line, what, path


def load(path: str | Path) -> Settings:
    """Read and check a configuration file. Raises ``ConfigError`` with one line an error: ``FILE:LINE: key.path: what``."""
    return loads(_read(path), name=str(path), base=Path(path).absolute().parent)


def read_document(path: Path) -> Document:
    """A YAML file with the line of each key, for other files than the main one. Raises ``ConfigError``."""
    document, duplicates = _document(_read(path), str(path))
    if duplicates:
        raise ConfigError([f"{path}:{line}: {show(where)}: {what}" for line, where, what in duplicates])
    return document


def _read(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError([f"{path}:1: {error.strerror}"]) from error
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError([f"{path}:1: larger than {FILE_BYTES_MAX} bytes"])
    return text


def _document(text: bytes | str, name: str) -> tuple[Document, list[tuple[int, KeyPath, str]]]:
    try:
        return read_yaml(text)
    except _YamlProblem as error:
        where = f" {show(error.path)}:" if error.path else ""
        raise ConfigError([f"{name}:{error.line}:{where} {error.what}"]) from None


def loads(text: bytes | str, *, name: str = "<text>", base: Path | None = None) -> Settings:
    """As ``load``, from text. Relative paths in it are relative to ``base``."""
    document, duplicates = _document(text, name)
    problems: list[Problem] = []
    settings = None
    try:
        settings = Settings.model_validate(document.value, context={"base": base or Path.cwd()})
    except ValidationError as error:
        problems += [from_pydantic(e["loc"], e["msg"], e["type"]) for e in error.errors(include_url=False)]
    problems += relations(settings or _sound_part(document.value, base))
    problems += _files(settings, ()) if settings else []
    found = [(document.line(path), path, what) for path, what in problems] + duplicates
    if found or settings is None:
        lines = [f"{name}:{line}: {show(path)}: {what}" for line, path, what in sorted(found, key=lambda f: f[0])]
        raise ConfigError(list(dict.fromkeys(lines)))
    return settings


def show(path: KeyPath) -> str:
    """``('shard_services', 0, 'name')`` → ``shard_services[0].name``."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")
    return text or "(document)"


def from_pydantic(loc: tuple[int | str, ...], message: str, kind: str) -> Problem:
    """One of pydantic's errors in our words."""
    what = {"extra_forbidden": "unknown key", "missing": "is required"}.get(kind, message.removeprefix("Value error, "))
    return tuple(loc), what[:1].lower() + what[1:]


# --- YAML ------------------------------------------------------------------------------------------------------------


def read_yaml(text: bytes | str) -> tuple[Document, list[tuple[int, KeyPath, str]]]:
    """A document with lines, and its duplicate keys. Raises ``_YamlProblem``."""
    try:
        refuse_unsafe(text)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except UnsafeYaml as error:
        raise _YamlProblem(error.line, error.what) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _YamlProblem(line, f"{error.problem or error.context}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise _YamlProblem(1, " ".join(str(error).split())) from error
    lines: dict[KeyPath, int] = {}
    duplicates: list[tuple[int, KeyPath, str]] = []
    value = None if node is None else _value(loader, node, (), lines, duplicates)
    return Document({} if value is None else value, lines), duplicates


def _value(
    loader: yaml.SafeLoader,
    node: yaml.Node,
    path: KeyPath,
    lines: dict[KeyPath, int],
    duplicates: list[tuple[int, KeyPath, str]],
) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, child, (*path, i), lines, duplicates) for i, child in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(loader, node, path)
    result: dict[str, Any] = {}
    for key_node, child in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise _YamlProblem(line, "a key must be a plain text", path)
        key = key_node.value
        if key in result:
            duplicates.append((line, (*path, key), f"duplicate key, first on line {lines[(*path, key)]}"))
            continue
        lines[(*path, key)] = line
        result[key] = _value(loader, child, (*path, key), lines, duplicates)
    return result


def _scalar(loader: yaml.SafeLoader, node: yaml.Node, path: KeyPath) -> Any:
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        problem = getattr(error, "problem", None) or str(error)
        raise _YamlProblem(node.start_mark.line + 1, problem, path) from error


# --- relations -------------------------------------------------------------------------------------------------------

Services = list[tuple[int, ShardService]]


@dataclass(frozen=True, slots=True)
class _Sound:
    """The parts that are valid by themselves, so that their relations are checked beside other errors."""

    consul: Consul | None
    services: Services
    consul_given: bool
    lock: bool = False


def _sound_part(value: Any, base: Path | None) -> _Sound:
    value = value if isinstance(value, dict) else {}
    services = []
    listed = value.get("shard_services")
    for i, raw in enumerate(listed if isinstance(listed, list) else []):
        try:
            services.append((i, ShardService.model_validate(raw, context={"base": base or Path.cwd()})))
        except ValidationError:
            continue
    return _Sound(None, services, "consul" in value)


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
        )
    services = settings.services
    yield from _twice(((i, s.name) for i, s in services), lambda i: ("shard_services", i, "name"), "service")
    for i, service in services:
        yield from _one_service(i, service)
    yield from _paths(services)
    yield from _consul(settings)


def _twice(
    named: Iterable[tuple[int, str]], path: Callable[[int], KeyPath], what: str, among: str = ""
) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for i, name in named:
        if first.setdefault(name, i) != i:
            yield path(i), f"{what} {name!r} is the same as in {show(path(first[name]))}{among}"


def _one_service(i: int, service: ShardService) -> Iterator[Problem]:
    at: KeyPath = ("shard_services", i)
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


def _identities(service: ShardService, nodes: list[Node], path: KeyPath) -> Iterator[Problem]:
    ids = ((i, service.scraper(node).id) for i, node in enumerate(nodes))
    yield from _twice(ids, lambda i: (*path, i), "the scraper's identity", f" (identity: {service.identity})")


def _paths(services: Services) -> Iterator[Problem]:
    """Two services, or two deliveries of one, whose templates give one path for some scraper."""
    first: dict[str, KeyPath] = {}
    for i, service in services:
        for j, delivery in enumerate(service.delivery):
            here: KeyPath = ("shard_services", i, "delivery", j, "file", "path")
            for path in _written(service, delivery):
                if first.setdefault(path, here) != here:
                    yield here, f"writes the same files as {show(first[path])}"
                    break


def _written(service: ShardService, delivery: Delivery) -> Iterator[str]:
    """The path for a scraper that every service may have, and for each one that it lists."""
    if delivery.file is None:
        return
    probe, consul = service.scrapers.probe, service.scrapers.consul
    listed = probe.nodes if probe else consul.register_.nodes if consul and consul.register_ else []
    for node in [Node("any", 1), *listed]:
        yield os.path.normpath(render(delivery.file.path, service.name, service.scraper(node)))


def _files(value: object, path: KeyPath) -> Iterator[Problem]:
    """Files that the configuration names and that cannot be read, TLS files that make no TLS."""
    if isinstance(value, Path):
        try:
            value.open("rb").close()
        except OSError as error:
            yield path, f"{value}: {error.strerror}"
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
    watched = [(i, s) for i, s in settings.services if s.scrapers.consul is not None]
    if settings.lock and not settings.consul_given and not os.environ.get("CONSUL_HTTP_ADDR"):
        yield ("controllers", "lock", "consul"), "needs the section `consul:` with an address, or CONSUL_HTTP_ADDR"
    if watched and not settings.consul_given and not os.environ.get("CONSUL_HTTP_ADDR"):
        i, _ = watched[0]
        path: KeyPath = ("shard_services", i, "scrapers", "consul")
        yield path, "needs the section `consul:` with an address, or CONSUL_HTTP_ADDR"
    if watched or settings.lock:
        yield from _consul_environment(settings.consul or Consul())
    for i, service in watched[CONSUL_WATCHES_MAX:]:
        yield (
            ("shard_services", i, "scrapers"),
            (f"{service.name} is one Consul watch too many: Consul serves about {CONSUL_WATCHES_MAX} from one address"),
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
