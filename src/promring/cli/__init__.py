"""The command line. One module a command; each is listed here and loaded when it is called.

Exit codes: 0 done; 1 no, or it failed, and standard error says why; 2 the command line or the configuration is wrong;
130 Ctrl-C ended it before it was done; 141 whoever read the output has stopped reading (``promring status | head -1``).
Ctrl-C is how ``run``, ``agent``, ``demo``, ``status --watch`` and ``events --follow`` end: then it is 0.
"""

from __future__ import annotations

import click

from promring import __version__
from promring.cli.lazy import Lazy, LazyGroup

COMMANDS = {
    "run": Lazy("promring.cli.run:run", "Run the daemon until SIGINT or SIGTERM.", takes_hangups=True),
    "check": Lazy("promring.cli.check:check", "Validate a configuration."),
    "config": Lazy("promring.cli.config:config", "Show every value that a running controller has in force."),
    "import": Lazy("promring.cli.import_:import_", "Turn an existing prometheus.yml into the files of a sharded fleet."),
    "plan": Lazy("promring.cli.plan:plan", "Show who would own what, and how much would move."),
    "simulate": Lazy("promring.cli.simulate:simulate", "Show balance and movement of a synthetic fleet."),
    "demo": Lazy("promring.cli.demo:demo", "Run scrapers, targets and promring on loopback."),
    "scrape-config": Lazy("promring.cli.scrape_config:scrape_config", "Print the scrapers' part of prometheus.yml."),
    "status": Lazy("promring.cli.status:status", "Show scrapers, sources and what is held, fleet by fleet."),
    "where": Lazy("promring.cli.where:where", "Show which scraper has TARGET."),
    "events": Lazy("promring.cli.events:events", "Show the newest events."),
    "alerts": Lazy("promring.cli.alerts:alerts", "Show what is wrong by promring's own alert rules."),
    "drain": Lazy("promring.cli.change:drain", "Take every target from SCRAPER."),
    "undrain": Lazy("promring.cli.change:undrain", "Let a drained SCRAPER have its share again."),
    "reload": Lazy("promring.cli.reload:reload", "Let the controller read its configuration again."),
    "release": Lazy("promring.cli.change:release", "End what the guard holds."),
    "completion": Lazy("promring.cli.completion:completion", "Print what makes SHELL complete commands and names."),
    "agent": Lazy("promring.cli.agent:agent", "Keep the files of all slices of a scraper true, beside that scraper."),
}


@click.group(
    cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="promring")
def main() -> None:
    """Keeps every target of a Prometheus fleet scraped.

    Every option that takes a value may be given by the environment, too: --web.token-file as PROMRING_WEB_TOKEN_FILE,
    --url as PROMRING_URL.
    """
