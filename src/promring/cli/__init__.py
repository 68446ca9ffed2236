"""The command line. One module a command; each is listed here."""

from __future__ import annotations

import click

from promring import __version__
from promring.cli.agent import agent
from promring.cli.check import check
from promring.cli.demo import demo
from promring.cli.output import Commands
from promring.cli.plan import plan
from promring.cli.query import drain, release, status, undrain, where
from promring.cli.run import run
from promring.cli.scrape_config import scrape_config
from promring.cli.simulate import simulate


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="promring")
def main() -> None:
    """Keeps every target of a Prometheus fleet scraped."""


for command in (run, check, plan, simulate, demo, scrape_config, status, where, drain, undrain, release, agent):
    main.add_command(command)
