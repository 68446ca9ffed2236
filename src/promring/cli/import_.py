"""``promring import prometheus.yml --out DIR``: from an existing configuration to the files of a sharded fleet.

Standard output has the table of jobs, or with ``--output json`` everything; standard error has the findings. Exit: 0 exact,
3 something is not (it is written, unless ``--strict``), 2 input or usage, 1 reading, writing or asking failed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

from promring.cli.import_report import Report
from promring.cli.options import Folder, reader
from promring.cli.output import Output, output_option, say
from promring.importing import keys, programs, vmagent
from promring.importing.configuration import Configuration, read_configuration
from promring.importing.convert import Converted, convert
from promring.importing.findings import Finding, ordered
from promring.importing.inside import leaves, without_secrets
from promring.importing.output import check_folder, write_all
from promring.importing.services import Layout
from promring.importing.sizing import ask_load
from promring.importing.source import InputError, Source
from promring.importing.verdicts import Wishes
from promring.importing.verify import refused_files, verify
from promring.model import PromringError
from promring.runtime.address import parse_host_port
from promring.runtime.redact import scrub
from promring.runtime.urls import http_url

FAILED, REFUSED, NOT_EXACT = 1, 2, 3
SHOWN_OF_VALUE = 7
"""Characters of a long value that Prometheus repeats."""
OLD = 2
"""The major version of Prometheus before this one."""
FILES_MOST = 1000
"""Findings of one input are before those of the next: so many files at most has each."""


@dataclass(frozen=True)
class Wanted:
    """The options of the command."""

    out: Path | None
    force: bool
    strict: bool
    dry_run: bool
    shard: tuple[str, ...]
    keep: tuple[str, ...]
    scrapers: tuple[str, ...]
    slices: str
    http_sd: str
    reader: str
    discovery_url: str
    verify: bool
    old: str | None


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PROMETHEUS.YML...")
@click.option("--out", type=Folder(path_type=Path), help="The folder for the new files; must not exist, or be empty.")
@click.option("--force", is_flag=True, help="Write into a folder that has files.")
@click.option("--strict", is_flag=True, help="Write nothing unless everything is exact.")
@click.option("--dry-run", is_flag=True, help="Write nothing; say what would become of each job.")
@click.option("--shard", multiple=True, metavar="JOB", help="Share this job, whatever it looks like.")
@click.option("--keep", multiple=True, metavar="JOB", help="Leave this job on every scraper.")
@click.option("--scraper", "scrapers", multiple=True, metavar="HOST:PORT", help="A scraper of the new fleet; for each one.")
@click.option("--slices", default="promring", show_default=True, help="Folder of the slices, from that of prometheus.yml.")
@click.option("--http-sd", metavar="URL", default="", help="Scrapers ask promring at this URL instead of reading files.")
@reader("What the scrapers are. A file with keys of vmagent's is for vmagent in any case.")
@click.option("--discovery-url", default="http://127.0.0.1:9090", show_default=True, help="The Prometheus that discovers.")
@click.option("--verify", is_flag=True, help="Prove with real Prometheus servers that every target stays what it is.")
@click.option("--from", "old", metavar="URL", help="The old server: what it scrapes, and how many scrapers that needs.")
@output_option
def import_(files: tuple[Path, ...], output: Output, **options: Any) -> None:
    """Turn an existing prometheus.yml into the files of a sharded fleet: promring.yml, prometheus.yml for every scraper, and
    discovery.yml for a Prometheus that discovers where one is needed. vmagent's configuration will do, too. Several inputs:
    one of each server of a fleet that shares its targets already.
    """
    wanted = Wanted(**options)
    if wanted.out is None and not wanted.dry_run:
        raise click.UsageError("where to? --out DIR, or --dry-run, which writes nothing")
    layout = _layout(wanted)
    try:
        report = _imported(files, wanted, layout)
    except InputError as error:
        _end(error.problems, REFUSED)
    except PromringError as error:
        _end([str(error)], FAILED)
    except OSError as error:
        place = error.filename or files[0]
        _end([f"{place}:1: {error.strerror}"], REFUSED if isinstance(error, FileNotFoundError) else FAILED)
    report.say(output)
    if not report.found.exact:
        raise SystemExit(NOT_EXACT)


def _imported(files: Sequence[Path], wanted: Wanted, layout: Layout) -> Report:
    """Raises ``InputError`` and other ``PromringError``, OSError."""
    inputs = [read_configuration(path, FILES_MOST * number) for number, path in enumerate(files)]
    found = _converted(inputs, wanted, layout)
    if wanted.out is not None:
        read = [source.path for one in inputs for source in one.sources]
        check_folder(wanted.out, read, list(found.files), force=wanted.force)
    load = asyncio.run(ask_load(wanted.old, found)) if wanted.old else None
    proof = verify(found) if wanted.verify else None
    if proof is not None:
        found.findings = ordered([*found.findings, *proof.findings])
    elif found.configuration.vmagent:  # nobody has judged what a Prometheus shall read of it
        found.findings = ordered([*found.findings, *refused_files(found)])
    if wanted.out is None or wanted.dry_run or (wanted.strict and not found.exact):
        return Report(found, None, proof, load)
    write_all(wanted.out, found.files)
    return Report(found, wanted.out, proof, load)


def _converted(inputs: Sequence[Configuration], wanted: Wanted, layout: Layout) -> Converted:
    judged = [finding for one in inputs for finding in judged_by_prometheus(one)]
    names = {job.name for job in inputs[0].jobs}
    for option, jobs in (("shard", wanted.shard), ("keep", wanted.keep)):
        if unknown := sorted({*jobs} - names):
            raise InputError([f"{inputs[0].main.name}:1: --{option}: no job is called {unknown[0]!r}"])
    found = convert(inputs, Wishes(wanted.shard, wanted.keep, "http" if wanted.http_sd else "file"), layout)
    found.findings = ordered([*found.findings, *judged])
    return found


def _layout(wanted: Wanted) -> Layout:
    for node in wanted.scrapers:
        try:
            parse_host_port(node)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--scraper") from None
    for option, url in (("--http-sd", wanted.http_sd), ("--discovery-url", wanted.discovery_url)):
        if url and not _is_base(url):
            raise click.BadParameter(f"{scrub(url)!r} is not http(s)://host:port", param_hint=option)
    slices, http_sd = wanted.slices.rstrip("/") or "/", wanted.http_sd.rstrip("/")
    return Layout(wanted.scrapers, slices, http_sd, wanted.discovery_url, wanted.reader == "vmagent")


def _is_base(url: str) -> bool:
    """Whether paths can follow it."""
    try:
        return not (made := http_url(url)).query_string and not made.fragment
    except ValueError:
        return False


def judged_by_prometheus(configuration: Configuration) -> list[Finding]:
    """What Prometheus itself says of an input, where one is here that has all its discoveries. Raises ``InputError``."""
    if configuration.vmagent:
        return []
    answer = programs.verdict(configuration.main.path)
    if answer is None:
        what = "no promtool, and no prometheus, is on PATH"
        return [configuration.finding("PI046", what, "nobody has judged whether a Prometheus takes this file")]
    if answer.refused:
        return _refused(configuration, answer)
    found = [one for other in answer.others for one in _differing(configuration.main, answer, other)]
    if answer.lacks:
        what = f"{_which(answer)} lacks {', '.join(sorted(answer.lacks))}"
        found.append(configuration.finding("PI032", what, "it did not judge this file"))
    return found


def _which(answer: programs.Answer) -> str:
    return programs.described(answer.path) if answer.path is not None else answer.program


def _differing(main: Source, answer: programs.Answer, other: programs.Answer) -> Iterator[Finding]:
    """What one program refuses of a file that a better one here takes."""
    said = [_refusal(main, _which(other), line, what) for line, what in other.refused]
    takes = "takes the rest" if answer.lacks else "takes it"
    for one in said:
        yield Finding(0, one.line, "PI042", main.name, one.where, one.what, f"{_which(answer)} {takes}: run that version")


def _refused(configuration: Configuration, answer: programs.Answer) -> list[Finding]:
    """vmagent takes some values that Prometheus does not, in a file that has none of its keys. Raises ``InputError``."""
    main = configuration.main
    said = [_refusal(main, answer.program, line, what) for line, what in answer.refused]
    program, takes = vmagent.taking(main.path)
    if takes:
        configuration.vmagent = True
        done = f"{program} takes it: it is read as vmagent's"
        return [Finding(0, one.line, "PI040", main.name, one.where, one.what, done) for one in said]
    hint = "" if program else "; if it is vmagent's, put a vmagent on PATH"
    if answer.path is not None and programs.version(answer.path)[1] == OLD:
        hint += "; a Prometheus 3 may take it, if one is on PATH"
    raise InputError([*map(str, said), f"{main.name}:1: that is what {_which(answer)} says of it{hint}"])


class _Refusal(NamedTuple):
    file: str
    line: int
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.where}{': ' if self.where else ''}{self.what}"


def _refusal(main: Source, program: str, line: int, what: str) -> _Refusal:
    """Prometheus names the line only of some faults; else it is where a text stands that the message quotes."""
    what = what.replace(f"parsing YAML file {main.path.absolute()}: ", "")
    shown = f"{program}: {without_secrets(what, [main.root])}"
    if line:
        return _Refusal(main.name, line, "", shown + _place_holder(main, line, what))
    for quoted in re.findall(r'"([^"]+)"', what):
        places = [leaf for leaf in leaves(main.root) if leaf.node.real.text == quoted]
        if len(places) == 1:
            return _Refusal(main.name, places[0].node.line, places[0].path, shown)
    return _Refusal(main.name, 1, "", shown)


def _place_holder(main: Source, line: int, what: str) -> str:
    """What to do where the value on this line, which a program repeats the beginning of, is a place-holder."""
    found = [keys.ENVIRONMENT.search(leaf.node.real.text) for leaf in leaves(main.root) if leaf.node.line == line]
    names = [one[0] for one in found if one is not None and f"`{one[0][:SHOWN_OF_VALUE]}" in what]
    return f"; {names[0]} is a place-holder: write its value there" if names else ""


def _end(lines: Sequence[str], status: int) -> NoReturn:
    for line in lines:
        say(line, err=True)
    raise SystemExit(status)
