"""``promring run``: the daemon."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from promring.cli import options
from promring.config.load import load_with_lines
from promring.model import ConfigError, ListenError, join_host_port
from promring.runtime import disk
from promring.runtime.limits import LimitError, open_standard_streams, raise_descriptors, try_threads
from promring.runtime.own_folder import InUseError, OwnFolder
from promring.runtime.redact import scrub
from promring.runtime.threads import favour_the_loop
from promring.supervisor import Options, Supervisor
from promring.telemetry import log
from promring.telemetry.events import Events
from promring.web.access import Access
from promring.web.answers.status import Setting
from promring.web.paths import Paths
from promring.web.server import WebSettings


@click.command()
@options.config_file
@click.option(
    "--web.listen-address",
    "listen",
    type=options.HostPort(),
    default="127.0.0.1:9600",
    show_default=True,
    help="Where page, API, lists and metrics are; :9600 is every address of this machine.",
)
@click.option(
    "--web.token-file",
    "token_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True),
    help="The bearer token that writes need. Without it nothing can be written.",
)
@click.option(
    "--web.config.file",
    "web_config_file",
    type=click.Path(path_type=Path),
    help="TLS and basic auth, as the Prometheus exporter-toolkit has them.",
)
@click.option(
    "--web.allowed-host",
    "allowed_hosts",
    type=options.AllowedHost(),
    multiple=True,
    metavar="NAME",
    help="A name that browsers and commands may call the page and the API by, besides addresses and the machine's own names;"
    " also *.example.org, or * for any. Repeatable.",
)
@click.option(
    "--web.max-connections",
    "connections_most",
    type=click.IntRange(1, 1_000_000),
    help="Clients at a time. Default: half of the descriptors that the process may have, at most 8192.",
)
@click.option(
    "--web.external-url",
    "external_url",
    default="",
    metavar="URL",
    help="Where people reach the page, such as https://example.org/promring behind a proxy. Its path begins every link, and"
    " the path of every request unless --web.route-prefix says otherwise; its name is allowed.",
)
@click.option(
    "--web.route-prefix",
    "route_prefix",
    metavar="PATH",
    help="What the path of a request begins with when it arrives here: / where a proxy strips the path of the external URL.",
)
@click.option("--log.level", "level", type=click.Choice(log.LEVELS), default="info", show_default=True)
@click.option("--log.format", "fmt", type=click.Choice(["logfmt", "json"]), default="logfmt", show_default=True)
@click.option(
    "--state.dir",
    "state_dir",
    type=options.Folder(path_type=Path),
    default="data/",
    show_default=True,
    help="Where the last good facts and slices are kept.",
)
def run(
    config_file: Path,
    listen: tuple[str, int],
    token_file: Path | None,
    web_config_file: Path | None,
    allowed_hosts: tuple[str, ...],
    connections_most: int | None,
    external_url: str,
    route_prefix: str | None,
    level: str,
    fmt: str,
    state_dir: Path,
) -> None:
    """Run the daemon until SIGINT or SIGTERM. SIGHUP reads the configuration again."""
    open_standard_streams()
    try:
        descriptors = raise_descriptors()
        try_threads()
    except LimitError as error:
        raise click.ClickException(str(error)) from error
    try:
        paths = Paths.of(external_url, route_prefix)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        loaded = load_with_lines(config_file)
        access = Access(web_config_file)
    except ConfigError as error:
        options.say_and_exit(error)
    events = Events()
    log.configure(level, fmt, keep=events.keep)
    folder = _own(state_dir)
    log.get().info("descriptors", soft_limit_before=descriptors[0], soft_limit=descriptors[1])
    web = WebSettings(listen[0], listen[1], token_file, access, allowed_hosts, connections_most, paths)
    supervisor_options = Options(config_file, state_dir, web, _flags(), folder)

    favour_the_loop()

    async def main() -> None:
        await Supervisor(supervisor_options, loaded, log.get(), events).run()

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(main())
    except ListenError as error:
        raise click.ClickException(str(error)) from error
    except ConfigError as error:
        options.say_and_exit(error)
    finally:
        folder.close()


def _flags() -> list[Setting]:
    """What was said on the command line and by the environment, and the rest, for people."""
    context, found = click.get_current_context(), []
    for flag in context.command.params:
        name, source = flag.name or "", context.get_parameter_source(flag.name or "")
        said = click.core.ParameterSource
        origin = {said.COMMANDLINE: "command line", said.ENVIRONMENT: "environment"}.get(source or said.DEFAULT, "default")
        found.append(Setting(flag.opts[0], _shown(context.params.get(name)), origin, None))
    return found


def _shown(value: object) -> str:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], int):
        return join_host_port(value[0], value[1])
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "" if value is None else scrub(str(value))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


def _own(state_dir: Path) -> OwnFolder:
    """One process a state directory: two would write over each other."""
    folder, where = OwnFolder(state_dir), f"--state.dir {click.format_filename(state_dir)}"
    try:
        folder.take()
    except InUseError as error:
        raise click.ClickException(f"--state.dir {error}") from None
    except disk.OddFileError as error:
        raise click.ClickException(f"--state.dir: {error}") from error
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise click.ClickException(f"{where}: {why}") from error
    return folder
