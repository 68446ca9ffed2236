"""Options that several commands share, spelt as the Prometheus tools spell theirs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from promring.cli.output import say

if TYPE_CHECKING:
    from promring.config.settings import Settings
    from promring.model import ConfigError

config_file = click.option(
    "--config.file",
    "config_file",
    type=click.Path(path_type=Path),
    default="promring.yml",
    show_default=True,
    help="The configuration.",
)


def reader(what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """``--for``: which program scrapes. ``what``: its help."""
    kinds = click.Choice(["prometheus", "vmagent"])
    return click.option("--for", "reader", type=kinds, default="prometheus", show_default=True, help=what)


class HostPort(click.ParamType[tuple[str, int]]):
    """``host:port``, or ``:port`` for all addresses, IPv4 and IPv6 (an empty host). Port 0: any free one."""

    name = "host:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        from promring.runtime.address import parse_host_port

        text = str(value)
        everywhere, any_port = text.startswith(":"), text.endswith(":0")
        try:
            host, port = parse_host_port(("localhost" if everywhere else "") + (text[:-1] + "1" if any_port else text))
            return "" if everywhere else host, 0 if any_port else port
        except ValueError as error:
            hint = "; an IPv6 address has brackets, [::1]:9600" if text.count(":") > 1 and "[" not in text else ""
            said = f"{text[:60]!r} is not host:port" if everywhere or any_port else str(error)
            self.fail(f"{said}{hint}", param, ctx)


class Identity(click.ParamType[str]):
    """A scraper's identity, however it is spelt (``LOCALHOST.:9090``), in the spelling that the controller has."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from promring.runtime.address import canonical_id

        return canonical_id(str(value))


class Folder(click.Path):
    """A folder. None without a name, which would be the one that the command happens to run in: ``--state.dir="$UNSET"``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("is empty; the folder that this runs in is .", param, ctx)
        return super().convert(value, param, ctx)


class AllowedHost(click.ParamType[str]):
    """What the name in a ``Host`` header may be: a name, ``*.NAME``, ``*``, an address."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        labels = text.removeprefix("*.").removesuffix(".").split(".")
        if text != "*" and not all(re.fullmatch(r"[A-Za-z0-9_-]+", label) for label in labels) and not _is_ipv6(text):
            form = "promring.example, *.example.org or *, without scheme, port and path"
            self.fail(f"{text!r} is no name such as {form}", param, ctx)
        return text


def _is_ipv6(text: str) -> bool:
    import ipaddress

    try:
        return bool(ipaddress.IPv6Address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return False


def load_or_exit(path: Path) -> Settings:
    """The settings; or every error on standard error, a line each, and exit 2."""
    from promring.config.load import load
    from promring.model import ConfigError

    try:
        return load(path)
    except ConfigError as error:
        say_and_exit(error)


def say_and_exit(error: ConfigError) -> NoReturn:
    for problem in error.problems:
        say(problem, err=True)
    raise SystemExit(2) from None
