"""Commands where the shell, the folder or the words are odd: a line says what is wrong, and never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from promring.cli import main
from tests.fakes.controller import FakeController, status

CONFIG = """
shard_services:
- name: node
  scrapers: {probe: {nodes: ['127.0.0.1:9091']}}
  targets: [{file: {files: [t/*.json]}}]
  delivery: [{http_sd: {}}]
"""
NO_TEXT = os.fsdecode(b"\xff\xfe")
"""What is no UTF-8, as Python gives it to a program."""


def ran(
    *words: str, before: str = "", cwd: Path | None = None, more: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """``before``: what a shell does first. Exit code, standard output and error, and no traceback in it."""
    command: Sequence[str] = [sys.executable, "-m", "promring", *words]
    if before:
        command = ["sh", "-c", f'{before}; exec "$@"', "sh", *command]
    out = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(more or {})}, capture_output=True, text=True, check=False, timeout=60
    )
    assert "Traceback" not in out.stderr, out.stderr
    return out.returncode, out.stdout, out.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/a.json").write_text('[{"targets": ["a:1"]}]')
    (tmp_path / "promring.yml").write_text(CONFIG)
    return tmp_path / "promring.yml"


@pytest.mark.parametrize(
    "surroundings",
    [
        {"LC_ALL": "C", "LANG": "C", "COLUMNS": "20"},
        {"LC_ALL": "tr_TR", "TZ": "Odd/Zone"},
        {"LC_ALL": "xx_YY.none", "TZ": ":/etc/passwd", "TERM": "none"},
    ],
    ids=str,
)
def test_variables_of_the_surroundings_change_neither_words_nor_codes(surroundings: dict[str, str], file: Path) -> None:
    assert ran("check", str(file), more=surroundings) == (0, f"{file}: valid, 1 shard service: node\n", "")


@pytest.mark.parametrize("before", ["unset HOME; exec <&-", "umask 777; ulimit -n 20"])
def test_a_check_needs_neither_a_home_nor_input(before: str, file: Path) -> None:
    assert ran("check", str(file), before=before) == (0, f"{file}: valid, 1 shard service: node\n", "")


@pytest.mark.parametrize("command", ["check -o json {}", "scrape-config --config.file={}"])
@pytest.mark.parametrize(("closing", "why"), [("exec >&-", "it is closed"), ("exec >/dev/full", "No space left on device")])
def test_what_cannot_be_printed_is_a_failure(command: str, closing: str, why: str, file: Path) -> None:
    code, _, error = ran(*command.format(file).split(), before=closing)
    assert (code, error.splitlines()[-1]) == (1, f"Error: standard output cannot be written: {why}")


@pytest.mark.parametrize("name", ["a b\nc", "x" * 200, "\x1b[2J" + NO_TEXT], ids=ascii)
def test_a_folder_may_be_called_anything(name: str, file: Path) -> None:
    folder = file.parent / name
    folder.mkdir()
    (folder / "t").symlink_to(file.parent / "t")
    (folder / "promring.yml").write_text(CONFIG)
    code, out, error = ran("check", str(folder / "promring.yml"))
    assert (code, out.endswith(": valid, 1 shard service: node\n"), error) == (0, True, "")
    assert (len(out.splitlines()), "\x1b" in out) == (1, False)


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (["where", NO_TEXT], "/api/v1/where?target=%FF%FE"),
        (["where", "x", "--service", NO_TEXT], "/api/v1/where?target=x&service=%FF%FE"),
        (["events", "--fleet", NO_TEXT], "/api/v1/events?limit=50&fleet=%FF%FE"),
        (["plan", "--without", NO_TEXT], "/api/v1/fleets/node/plan?without=%FF%FE"),
        (["drain", NO_TEXT], "/api/v1/fleets/node/scrapers/%FF%FE/drain"),
    ],
)
def test_words_that_are_no_text_are_asked_for_as_they_are(command: list[str], asked: str) -> None:
    with FakeController({"/api/v1/fleets": (200, status()["fleets"])}) as fake:
        code, _, _ = ran(*command, "--url", fake.url)
    assert (code, asked in [path for _, path, _ in fake.asked]) == (1, True)


def test_a_host_that_can_be_none_is_said_in_a_line() -> None:
    code, _, error = ran("status", "--url", f"http://{'x' * 70}")
    assert (code, "that is not the name of a host (--url says where it is)" in error) == (1, True)


@pytest.mark.parametrize("words", ["check --as p.yml {}", "agent --controller http://127.0.0.1:1 --scraper a:1 --dir sd"])
def test_a_current_folder_that_is_gone_is_said(words: str, file: Path) -> None:
    (file.parent / "gone").mkdir()
    code, _, error = ran(*words.format(file).split(), before="rmdir ../gone", cwd=file.parent / "gone")
    assert (code in (1, 2), len(error.splitlines())) == (True, 1), error


@pytest.mark.parametrize("umask", ["000", "777"])
def test_what_an_import_writes_is_readable_and_nobody_elses_to_write_whatever_the_umask(umask: str, tmp_path: Path) -> None:
    (tmp_path / "p.yml").write_text("scrape_configs: [{job_name: a, static_configs: [{targets: ['b:1']}]}]")
    before = os.umask(int(umask, 8))
    try:
        done = CliRunner().invoke(main, ["import", str(tmp_path / "p.yml"), "--out", str(tmp_path / "out")])
    finally:
        os.umask(before)
    assert done.exit_code == 0, done.output
    modes = {one.name: oct(one.stat().st_mode & 0o777) for one in (tmp_path / "out").iterdir()}
    assert ("promring.yml" in modes, set(modes.values())) == (True, {"0o644"})
    assert oct((tmp_path / "out").stat().st_mode & 0o777) == "0o755"
