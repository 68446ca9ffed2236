"""``promring import prometheus.yml --out DIR``: from an existing configuration to the files of a sharded fleet.

Standard output has the table of jobs, or with ``--output json`` everything; standard error has the findings. Exit: 0 exact,
3 something is not (it is written, unless ``--strict``), 2 input or usage, 1 reading or writing failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from promring.cli.output import Output, output_option, say, say_table
from promring.importing import programs
from promring.importing.configuration import Configuration, read_configuration
from promring.importing.convert import Converted, convert
from promring.importing.findings import Finding, ordered
from promring.importing.output import check_folder, write_all
from promring.importing.services import Layout
from promring.importing.source import InputError
from promring.importing.verdicts import Wishes
from promring.model import PromringError
from promring.runtime.address import parse_host_port

FAILED, REFUSED, NOT_EXACT = 1, 2, 3


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PROMETHEUS.YML...")
@click.option("--out", type=click.Path(path_type=Path), help="The folder for the new files; must not exist, or be empty.")
@click.option("--force", is_flag=True, help="Write into a folder that has files.")
@click.option("--strict", is_flag=True, help="Write nothing unless everything is exact.")
@click.option("--dry-run", is_flag=True, help="Write nothing; say what would become of each job.")
@click.option("--shard", multiple=True, metavar="JOB", help="Share this job, whatever it looks like.")
@click.option("--keep", multiple=True, metavar="JOB", help="Leave this job on every scraper.")
@click.option("--scraper", "scrapers", multiple=True, metavar="HOST:PORT", help="A scraper of the new fleet; for each one.")
@click.option("--slices", default="promring", show_default=True, help="Folder of the slices, beside prometheus.yml.")
@click.option("--http-sd", metavar="URL", default="", help="Scrapers ask promring at this URL instead of reading files.")
@click.option("--discovery-url", default="http://127.0.0.1:9090", show_default=True, help="The Prometheus that discovers.")
@click.option("--verify", is_flag=True, help="Prove with real Prometheus servers that every target stays what it is.")
@click.option("--from", "old", metavar="URL", help="The running server: how many scrapers its load needs.")
@output_option
def import_(files: tuple[Path, ...], output: Output, **options: Any) -> None:
    """Turn an existing prometheus.yml into the files of a sharded fleet: promring.yml, prometheus.yml for every scraper, and
    discovery.yml for a Prometheus that discovers where one is needed. vmagent's configuration will do, too. Several inputs:
    one of each server of a fleet that shares its targets already.
    """
    if options["out"] is None and not options["dry_run"]:
        raise click.UsageError("--out DIR, or --dry-run")
    try:
        found = _converted(files, options)
        if options["out"] is not None:
            inputs = [source.path for source in found.configuration.sources]
            check_folder(options["out"], [*files, *inputs], list(found.files), force=options["force"])
    except InputError as error:
        _end(error.problems, REFUSED)
    except OSError as error:
        _end(
            [f"{error.filename or files[0]}:1: {error.strerror}"],
            REFUSED if isinstance(error, FileNotFoundError) else FAILED,
        )
    except PromringError as error:
        _end([str(error)], FAILED)
    written = _write(found, options)
    _report(found, written, output)
    if not found.exact:
        raise SystemExit(NOT_EXACT)


def _converted(files: Sequence[Path], options: dict[str, Any]) -> Converted:
    inputs = [read_configuration(path, 1000 * number) for number, path in enumerate(files)]
    judged = [finding for one in inputs for finding in _judged(one)]
    for option in ("shard", "keep"):
        for name in options[option]:
            if name not in {job.name for job in inputs[0].jobs}:
                raise InputError([f"{inputs[0].main.name}:1: --{option}: no job is called {name!r}"])
    wishes = Wishes(options["shard"], options["keep"], "http" if options["http_sd"] else "file")
    found = convert(inputs, wishes, _layout(inputs[0], options))
    found.findings = ordered([*found.findings, *judged])
    return found


def _layout(first: Configuration, options: dict[str, Any]) -> Layout:
    for node in options["scrapers"]:
        try:
            parse_host_port(node)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--scraper") from None
    http_sd = options["http_sd"].rstrip("/")
    if http_sd and not http_sd.startswith(("http://", "https://")):
        raise click.BadParameter(f"{http_sd!r} is not http(s)://host:port", param_hint="--http-sd")
    return Layout(options["scrapers"], options["slices"].rstrip("/"), http_sd, options["discovery_url"], first.vmagent)


def _judged(configuration: Configuration) -> list[Finding]:
    """What Prometheus itself says of an input, where it is here. Raises ``InputError``."""
    if configuration.vmagent:
        return []
    for program in programs.judges()[:1]:
        answer = programs.ask(program, configuration.main.path)
        if answer.refused:
            name = configuration.main.name
            raise InputError([f"{name}:{line or 1}: {program.name}: {what}" for line, what in answer.refused])
        if answer.lacks:
            what = f"{program.name} here was built without {', '.join(sorted(answer.lacks))}"
            return [configuration.finding("PI032", what, "it did not judge this file")]
    return []


def _write(found: Converted, options: dict[str, Any]) -> bool:
    """Whether the files are written."""
    if options["dry_run"] or (options["strict"] and not found.exact):
        return False
    try:
        write_all(options["out"], found.files)
    except OSError as error:
        _end([f"{error.filename or options['out']}: {error.strerror}"], FAILED)
    return True


def _report(found: Converted, written: bool, output: Output) -> None:
    if not output.is_text:
        output.say(_described(found, written))
        return
    for finding in found.findings:
        say(str(finding), err=True)
    rows = [
        [judged.job.name, judged.verdict.value, found.names.get(judged.job.name, ""), judged.drops or "", judged.why]
        for judged in found.jobs
    ]
    if rows:
        say_table(["JOB", "VERDICT", "SERVICE", "DROPS", "WHY"], rows, ["DROPS"])
    counts = ", ".join(f"{count} {verdict.value}" for verdict, count in found.counts.items())
    say(f"{len(found.jobs)} job{'s' * (len(found.jobs) != 1)}: {counts}")
    if written:
        say(f"written: {', '.join(found.files)}")
    else:
        say("nothing written")


def _described(found: Converted, written: bool) -> dict[str, Any]:
    return {
        "exact": found.exact,
        "written": list(found.files) if written else [],
        "jobs": [
            {
                "job": judged.job.name,
                "file": judged.job.source.name,
                "line": judged.job.node.line,
                "verdict": judged.verdict.value,
                "service": found.names.get(judged.job.name),
                "drops": judged.drops,
                "why": judged.why,
            }
            for judged in found.jobs
        ],
        "counts": {verdict.value: count for verdict, count in found.counts.items()},
        "findings": [finding.as_json() for finding in found.findings],
    }


def _end(lines: Sequence[str], status: int) -> NoReturn:
    for line in lines:
        say(line, err=True)
    raise SystemExit(status)
