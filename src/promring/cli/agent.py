"""``promring agent``: beside a scraper."""

from __future__ import annotations

from pathlib import Path

import click

from promring.agent import WAIT_S
from promring.cli import options
from promring.telemetry import log

_OF_SOCKETS = " or unix:///path"


def _controllers(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[str]:
    from promring.runtime.http_client import parse_base
    from promring.runtime.redact import shown

    found = []
    parts = [part.strip() for value in values for part in value.split(",")]
    for text in [part for part in parts if part] or parts:
        try:
            base, socket = parse_base(text, path=True)
        except ValueError as error:
            raise click.BadParameter(f"{shown(text)!r} {str(error).removesuffix(_OF_SOCKETS)}") from None
        if socket is not None:
            raise click.BadParameter(f"{shown(text)!r}: a controller listens on host:port")
        found.append(str(base).rstrip("/"))
    return found


readable = click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)


@click.command()
@click.option(
    "--controller",
    "controllers",
    multiple=True,
    required=True,
    callback=_controllers,
    help="URL[,URL…] of promring; with a path behind a proxy.",
)
@click.option("--scraper", required=True, help="The identity of this scraper, such as 10.0.0.1:9090.")
@click.option(
    "--dir",
    "folder",
    type=options.Folder(path_type=Path, file_okay=False),
    required=True,
    help="Where the file_sd files go: SERVICE.json of each service.",
)
@click.option("--reload-url", help="POSTed after something was written; Prometheus' file_sd needs none.")
@click.option("--token-file", type=readable, help="A bearer token for the controllers.")
@click.option("--basic-auth.username", "username", help="For a proxy or a controller that wants a password.")
@click.option("--basic-auth.password-file", "password_file", type=readable, help="A file with that password.")
@click.option("--tls.ca-file", "ca_file", type=readable, help="Whom to trust, instead of the system's authorities.")
@click.option("--tls.cert-file", "cert_file", type=readable, help="A certificate to show to the controllers.")
@click.option("--tls.key-file", "key_file", type=readable, help="The key of that certificate.")
@click.option("--tls.server-name", "server_name", help="The name to verify.")
@click.option("--tls.insecure-skip-verify", "insecure", is_flag=True, help="Believe any certificate.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0.1, 300),
    default=WAIT_S,
    show_default=True,
    help="Seconds that a controller may wait for a change before it answers.",
)
@click.option(
    "--web.listen-address",
    "listen",
    type=options.HostPort(),
    help="Where its own /metrics and /-/ready are; default: nowhere.",
)
@click.option("--log.level", "level", type=click.Choice(log.LEVELS), default="info", show_default=True)
@click.option("--log.format", "fmt", type=click.Choice(["logfmt", "json"]), default="logfmt", show_default=True)
def agent(
    controllers: list[str],
    scraper: str,
    folder: Path,
    reload_url: str | None,
    token_file: Path | None,
    username: str | None,
    password_file: Path | None,
    ca_file: Path | None,
    cert_file: Path | None,
    key_file: Path | None,
    server_name: str | None,
    insecure: bool,
    wait_s: float,
    listen: tuple[str, int] | None,
    level: str,
    fmt: str,
) -> None:
    """Keep the files of all slices of a scraper true, beside that scraper, until SIGINT or SIGTERM: DIR/SERVICE.json for
    each service with http_sd. When no controller answers, they stay as they are.
    """
    import asyncio

    from promring.agent.asking import AgentSettings
    from promring.agent.owner import TakenError, owned
    from promring.cli.agent_process import run
    from promring.model import ListenError
    from promring.runtime import secretfile
    from promring.runtime.tls import TlsFiles

    log.configure(level, fmt)
    if (username is None) is not (password_file is None):
        raise click.UsageError("--basic-auth.username and --basic-auth.password-file belong together")
    if username is not None and (token_file is not None or ":" in username):
        raise click.UsageError("--basic-auth.username: a colon in it, or --token-file beside it, cannot be sent")
    tls = TlsFiles(ca_file, cert_file, key_file, server_name, insecure)
    try:
        asyncio.run(secretfile.tls_context(tls))
    except secretfile.SecretError as error:
        raise click.UsageError(f"--tls: {error}") from error
    settings = AgentSettings(
        controllers, scraper, folder.absolute(), reload_url, token_file, tls, wait_s, username, password_file
    )
    try:
        with owned(settings.folder, scraper) as mine:
            asyncio.run(run(settings, listen, mine))
    except (ListenError, TakenError) as error:
        raise click.ClickException(str(error)) from error
