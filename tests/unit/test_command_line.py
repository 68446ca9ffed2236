"""The command line as a whole: its page, environment, completion, and what it suggests."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from promring.cli import COMMANDS, main
from promring.cli.lazy import OTHER_WORDS, with_variables
from promring.cli.output import READER_GONE
from promring.demo.process import free_port
from tests.fakes.controller import FakeController, status, success
from tests.unit.test_web import scrapers

ROOT = Path(__file__).parents[2]
OF_KUBERNETES = {"PROMRING_PORT", "PROMRING_SERVICE_HOST", "PROMRING_SERVICE_PORT"}
"""What is set in each container beside a Service called promring."""
CONFIG = """
shard_services:
- name: node
  scrapers: {{probe: {{nodes: ['{node}']}}}}
  targets: [{{file: {{files: [a.json]}}}}]
  delivery: [{{http_sd: {{}}}}]
"""


def test_the_page_of_commands_is_made_of_what_they_say() -> None:
    made = runpy.run_path(str(ROOT / "scripts/make-commands-page"))["page"]()
    assert (ROOT / "docs/commands.md").read_text() == made, "scripts/make-commands-page writes it"


def test_every_option_with_a_value_has_a_variable_and_none_is_one_that_kubernetes_sets() -> None:
    variables = set()
    for one in COMMANDS.values():
        for option in with_variables(one.load()).params:
            if isinstance(option, click.Option):
                assert (option.envvar is None) == option.is_flag, option.opts
                variables.add(str(option.envvar))
    assert {"PROMRING_URL", "PROMRING_TOKEN_FILE", "PROMRING_CONFIG_FILE", "PROMRING_WEB_LISTEN_ADDRESS"} <= variables
    assert not {name for name in variables if name in OF_KUBERNETES or name.startswith("PROMRING_PORT_")}


def test_a_variable_is_taken_and_the_command_line_comes_first() -> None:
    with FakeController({"/api/v1/status": (200, status())}) as fake:
        environment = {"PROMRING_URL": fake.url, "PROMRING_OUTPUT": "json"}
        result = CliRunner().invoke(main, ["status"], env=environment)
        assert json.loads(result.stdout)["version"] == "0.1.0"
        result = CliRunner().invoke(main, ["status", "--output", "text"], env=environment)
        assert result.stdout.startswith("promring 0.1.0: ready")


def test_a_status_without_a_leader_has_no_escapes_in_it() -> None:
    data = status() | {"leader": False}
    data["controllers"] |= {"lock": True, "epoch": 7}
    with FakeController({"/api/v1/status": (200, data)}) as fake:
        result = CliRunner().invoke(main, ["status", "--url", fake.url])
    assert "\n  follows nobody: no controller leads, and nothing is pushed, epoch 7\n" in result.stdout


def test_a_configuration_of_the_environment_does_not_make_a_plan_one_of_that_file(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text("shard_services: []")
    with FakeController({"/api/v1/fleets": (200, status()["fleets"]), "/api/v1/fleets/node/plan": (200, {})}) as fake:
        result = CliRunner().invoke(main, ["plan", "--url", fake.url], env={"PROMRING_CONFIG_FILE": str(file)})
        assert result.exit_code == 0, result.output
        assert [path for _, path, _ in fake.asked] == ["/api/v1/fleets", "/api/v1/fleets/node/plan"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stauts"], "no such command 'stauts'; did you mean 'status'?"),
        (["zzz"], "no such command 'zzz'\n"),
        (["validate"], "no such command 'validate'; did you mean 'check'?"),
        (["help"], "no such command 'help'; did you mean '--help'?"),
        (["completion"], "Choose from: bash, zsh, fish\n"),
        (["drain", "10.0.0.1:9091"], "did you mean '10.0.0.1:9090'"),
        (["drain", "x:1", "--fleet", "nod"], "no fleet 'nod'; there is node, other; did you mean 'node'?"),
        (["release", "nodes"], "; did you mean 'node'?"),
    ],
)
def test_what_is_not_known_and_looks_like_something_that_is_gets_a_hint(arguments: list[str], said: str) -> None:
    one = status()["fleets"][0]
    other = one | {"name": "other", "services": ["web"], "scrapers": one["scrapers"][1:]}
    with FakeController({"/api/v1/fleets": (200, [one, other])}) as fake:
        more = [] if len(arguments) == 1 else ["--url", fake.url]
        result = CliRunner().invoke(main, [*arguments, *more])
    assert (result.exit_code != 0, said in result.stderr) == (True, True), result.stderr


def test_an_unknown_key_of_the_configuration_gets_a_hint_that_fits_where_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "x.yml"
    file.write_text(
        CONFIG.format(node="a:1").replace("nodes", "intervall: 1s, nodes") + "  replicaton_factor: 2\n  gaurd: {}\n"
    )
    result = CliRunner().invoke(main, ["check", str(file)])
    lines = [line.partition("shard_services")[2] for line in result.stderr.splitlines()]
    assert (result.exit_code, lines) == (
        2,
        [
            "[0].scrapers.probe.intervall: unknown key; did you mean 'interval'?",
            "[0].replicaton_factor: unknown key",
            "[0].gaurd: unknown key; did you mean 'guard'?",
        ],
    )


def completed(line: str, **environment: str) -> set[str]:
    words = line.split(" ")
    ours = {"_PROMRING_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    out = CliRunner().invoke(main, prog_name="promring", env={**ours, **environment})
    assert (out.exit_code, out.stderr) == (0, "")
    return {one.partition(",")[2] for one in out.stdout.split()}


def test_a_shell_completes_what_the_running_controller_has() -> None:
    with FakeController({"/api/v1/fleets": (200, status()["fleets"])}) as fake:
        there = {"PROMRING_URL": fake.url}
        assert completed("promring drain ", **there) == {"10.0.0.1:9090", "10.0.0.2:9090"}
        assert completed("promring undrain 10.0.0.2", **there) == {"10.0.0.2:9090"}
        assert completed("promring events --service ", **there) == {"node"}
        assert completed(f"promring plan --url {fake.url} --without 10.0.0.1") == {"10.0.0.1:9090"}
    nobody = {"PROMRING_URL": f"127.0.0.1:{free_port()}"}
    assert completed("promring drain ", **nobody) == set()
    assert {"status", "drain"} <= completed("promring ", **nobody)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_a_shell_evaluates_is_printed(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert (result.exit_code, "_PROMRING_COMPLETE" in result.stdout) == (0, True)
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=result.stdout, text=True, check=True, timeout=60)


def interrupted(command: Sequence[str], seen: threading.Event) -> tuple[str, str]:
    """What it wrote until it got a SIGINT, which it does not ignore, whoever started us: after ``seen``."""
    heeding = ["env", "--default-signal=INT", *command]
    with subprocess.Popen(heeding, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert seen.wait(60)
            process.send_signal(signal.SIGINT)
            return process.communicate(timeout=60)
        finally:
            process.kill()


def test_a_status_that_is_watched_goes_on_when_the_controller_does_not_answer_for_a_while() -> None:
    told = iter([status(), b"<html>", status()])
    seen = threading.Event()

    def answer() -> object:
        found = next(told, None)
        if found is None:
            seen.set()
        return found if found is not None else status()

    with FakeController({"/api/v1/status": (200, answer)}) as fake:
        command = [sys.executable, "-m", "promring", "status", "--url", fake.url, "--watch", "--every", "10ms", "--output"]
        out, err = interrupted([*command, "yaml"], seen)
    assert err.splitlines()[0].startswith("no answer, asked again: ")
    documents = list(yaml.safe_load_all(out))
    assert len(documents) >= 2
    assert {one["version"] for one in documents} == {"0.1.0"}


def test_events_that_are_followed_go_on_over_a_restart_and_none_is_said_twice() -> None:
    def event(number: int, second: int) -> dict[str, object]:
        about = {"level": "info", "msg": f"m{second}", "service": "", "fleet": "", "fields": {}}
        return {"id": number, "ts": f"2026-01-01T00:00:{second:02}.000Z", **about}

    first, more, anew = event(1, 1), event(2, 2), [event(1, 3), event(2, 4)]
    told = iter([[first], [first, more], b"<html>", [anew[1]], anew])
    seen = threading.Event()

    def answer() -> object:
        if (found := next(told, None)) is None:
            seen.set()
            return success([anew[-1]])
        return found if isinstance(found, bytes) else success(found)

    with FakeController({"/api/v1/events": (200, answer)}) as fake:
        command = [sys.executable, "-m", "promring", "events", "--url", fake.url, "--follow"]
        out, err = interrupted(command, seen)
    assert [line.split()[2] for line in out.splitlines()] == ["m1", "m2", "m3", "m4"]
    assert err.startswith("no answer, asked again: ")


def test_events_that_nobody_reads_any_more_end_though_none_comes() -> None:
    event = {
        "id": 1,
        "ts": "2026-01-01T00:00:01.000Z",
        "level": "info",
        "msg": "m1",
        "fleet": "",
        "service": "",
        "fields": {},
    }
    with FakeController({"/api/v1/events": (200, lambda: success([event]))}) as fake:
        command = [sys.executable, "-m", "promring", "events", "--url", fake.url, "--follow"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                assert " m1" in process.stdout.readline()
                process.stdout.close()
                assert process.wait(60) == READER_GONE
            finally:
                process.kill()


def test_what_takes_long_is_told_on_a_terminal_and_nowhere_else() -> None:
    script = "import time\nfrom promring.cli import output\noutput.WORKING_EVERY_S = 0.01\nwith output.working('reads x'):\n"
    command = [sys.executable, "-c", script + "    time.sleep(0.3)\nprint('done')"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert (out.stdout, out.stderr) == ("done\n", "")
    ours, its = pty.openpty()
    try:
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=its, check=True, timeout=60)
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(its)
    assert "reads x ... 0 s" in shown
    assert shown.endswith("\r\x1b[K")


async def test_a_check_that_goes_online_says_what_each_answered_and_does_not_stop_at_the_first(tmp_path: Path) -> None:
    file, lists = tmp_path / "x.yml", tmp_path / "a.json"
    lists.write_text(json.dumps([{"targets": ["t:1", "t:2"]}]))
    async with scrapers(1) as (node,):
        file.write_text(CONFIG.format(node=node))
        out = await checked(file)
        assert out.exit_code == 0, out.stderr
        assert out.stdout.splitlines()[1:] == [
            "node: scrapers: 1 alive of 1",
            f"node: file:{lists}: 2 targets",
        ]
    lists.write_text("[]")
    out = await checked(file)
    assert (out.exit_code, out.stdout.splitlines()[1:]) == (1, [])
    dead = f"node: scrapers: no scraper is alive; {node}: cannot connect to {node}: Connection refused"
    assert out.stderr.splitlines() == [dead, f"node: file:{lists}: 0 targets"]
    out = await checked(file, "--output", "json")
    data = json.loads(out.stdout)
    assert (out.exit_code, data["valid"], data["services"]) == (1, True, ["node"])
    assert [(one["what"], one["answered"]) for one in data["online"]] == [("scrapers", False), (f"file:{lists}", False)]
    file.write_text("shard_services: 5")
    out = await checked(file, "--output", "yaml")
    data = yaml.safe_load(out.stdout)
    assert (out.exit_code, data["valid"], data["errors"][0].startswith(f"{file}:1: shard_services")) == (2, False, True)


def test_a_file_is_checked_as_if_it_stood_where_it_is_to_go(tmp_path: Path) -> None:
    """As Ansible does before it replaces a configuration: key files and Python functions are looked for beside that."""
    place, new = tmp_path / "etc/promring.yml", tmp_path / "tmp/new"
    place.parent.mkdir()
    new.parent.mkdir()
    (place.parent / "password").write_text("secret")
    (place.parent / "cmdb.py").write_text("def nodes():\n    return []\n")
    text = CONFIG.format(node="a:1").replace("{file: {files: [a.json]}}", "{python: {callable: 'cmdb:nodes'}}")
    new.write_text(text + "  scraper_api: {basic_auth: {username: promring, password_file: password}}\n")
    refused = CliRunner().invoke(main, ["check", str(new)])
    assert (refused.exit_code, refused.stdout) == (2, "")
    taken = CliRunner().invoke(main, ["check", "--as", str(place), str(new)])
    assert (taken.exit_code, taken.output) == (0, f"{new}: valid, 1 shard service: node\n")


async def checked(file: Path, *more: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["check", str(file), "--online", *more])


def test_every_word_of_other_programs_leads_to_a_command_or_option_that_is_there() -> None:
    assert set(OTHER_WORDS.values()) <= {*COMMANDS, "--help", "--version"}
    assert not set(OTHER_WORDS) & set(COMMANDS)
