"""The commands as a shell sees them: what they load, what they print, how they end."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from click.testing import CliRunner

from promring.cli import COMMANDS, main
from promring.demo.process import free_port
from promring.reload.decisions import FORCE
from tests.fakes.answers import answer_of
from tests.fakes.controller import FakeController, error, status

HEAVY = {"numpy", "aiohttp", "pydantic", "yaml", "rich", "jinja2", "xxhash", "prometheus_client"}
WRITES = ("drain", "undrain", "release")
NARROW = {"COLUMNS": "40", "LINES": "10"}


def promring(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "promring", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **NARROW, **environment}
    )


def loaded_by(*arguments: str) -> set[str]:
    """The modules that a process has loaded when the command has ended."""
    script = (
        "import sys\nfrom promring.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit: pass\nprint('loaded', *sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True, timeout=60)
    return set(out.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "asked",
    [
        "--help",
        "--version",
        "status",
        "where x",
        "events",
        "drain x --timeout 5m",
        "release x",
        "reload",
        "config",
        "alerts",
    ],
)
def test_a_command_that_only_asks_a_controller_loads_nothing_of_the_daemon(asked: str) -> None:
    loaded = loaded_by(*asked.split(), *(["--url", f"127.0.0.1:{free_port()}"] if not asked.startswith("-") else []))
    assert loaded & HEAVY == set()
    assert "promring.cli" in loaded


@pytest.mark.parametrize("command", ["check", "scrape-config", "agent", "reload", "completion", "plan", "config", "alerts"])
def test_the_help_of_a_command_loads_nothing_that_its_work_needs(command: str) -> None:
    assert loaded_by(command, "--help") & HEAVY == set()


def test_an_agent_loads_neither_arrays_nor_settings() -> None:
    script = "import sys, promring.cli.agent_process; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert set(out.stdout.split()) & (HEAVY - {"prometheus_client"}) == set()


@pytest.mark.parametrize("command", ["check {file}", "scrape-config --config.file={file}", "config {file}"])
def test_a_command_that_reads_a_configuration_loads_nothing_that_asks_or_logs(command: str, tmp_path: Path) -> None:
    file = tmp_path / "promring.yml"
    service = {"name": "x", "scrapers": {"probe": {"nodes": ["h:1"]}}, "delivery": [{"http_sd": {}}]}
    file.write_text(json.dumps({"shard_services": [service | {"targets": [{"http": {"url": "http://a/"}}]}]}))
    loaded = loaded_by(*command.format(file=file).split())
    no_use = {"aiohttp", "asyncssh", "dns", "jinja2", "numpy", "prometheus_client", "rich", "structlog", "xxhash"}
    assert loaded & {*no_use, "promring.build"} == set()
    assert "promring.config.settings" in loaded


def test_a_command_leaves_what_it_has_made_to_the_end_of_its_process() -> None:
    """Python would look through all of it for cycles first, which took a sixth of a ``promring check``."""
    script = (
        "import atexit, gc, sys\n"
        "sys.argv = ['promring', '--version']\n"
        "atexit.register(lambda: print(gc.get_freeze_count(), gc.get_threshold()[0]))\n"  # called last
        "from promring.__main__ import run\n"
        "run()"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    frozen, threshold = out.stdout.splitlines()[-1].split()
    assert int(frozen) > 1_000
    assert int(threshold) >= 100_000


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_all_commands_says_of_each_what_it_says_itself(name: str) -> None:
    own = " ".join((COMMANDS[name].load().help or "").split())
    assert own.startswith(COMMANDS[name].help.rstrip("."))
    assert COMMANDS[name].load().name == name
    assert f"{name} " in CliRunner().invoke(main, ["--help"]).output


def test_a_line_is_whole_however_narrow_the_terminal_is() -> None:
    reason = "/etc/promring/targets/a-very-long-name-of-a-file-of-targets.json:1: " + "not a list of targets " * 20
    source = status()["services"][0]["sources"][0] | {"state": "unknown", "reason": reason}
    scraper = status()["services"][0]["scrapers"][0] | {"id": "s" * 150, "trouble": f"not delivered: {reason}"}
    answer = status(sources=[source], scrapers=[scraper], held={"detail": reason})
    with FakeController({"/api/v1/status": (200, answer)}) as fake:
        out = promring("status", "--url", fake.url)
    assert out.returncode == 0
    lines = out.stdout.splitlines()
    assert [line for line in lines if "source " in line] == [f"  source file:/targets.json: 4 targets, unknown ({reason})"]
    assert f"  plan held: {reason}" in lines
    (row,) = [line for line in lines if "s" * 150 in line]
    assert f"not delivered: {reason}".strip() in row


def test_an_event_says_first_why_and_who_and_not_all_that_stayed() -> None:
    whole = {"oldnodes": "a:1,b:1", "newnodes": "a:1", "old_num": 2, "new_num": 1, "joined": "", "left": "b:1"}
    held = {"detail": 'it says "none" now', "reason": "source_empty"}
    events = [
        {"id": 1, "ts": "t", "level": "info", "msg": "node_update_reshard", "service": "node", "fields": whole},
        {"id": 2, "ts": "t", "level": "warn", "msg": "plan_held", "service": "node", "fields": held},
    ]
    with FakeController({"/api/v1/events": (200, events)}) as fake:
        out = promring("events", "--url", fake.url)
    assert out.stdout.splitlines() == [
        "t info node_update_reshard service=node left=b:1 old_num=2 new_num=1",
        r't warn plan_held service=node reason=source_empty detail="it says \"none\" now"',
    ]


def test_control_characters_of_names_are_spelt_out() -> None:
    evil = "a\x07b\nc\x1b]0;title\x1b\\\u202e\x9b31m"
    answer = status(sources=[status()["services"][0]["sources"][0] | {"name": evil}], withheld=[{"detail": evil}])
    place = {
        "service": "node",
        "target": evil,
        "labels": {"x": evil},
        "scrapers": ["a:1"],
        "reason": "ring",
        "besides": [],
        "preference": [],
    }
    found = {"targets": [place], "total": 1, "truncated": False, "near": [], "unready": []}
    event = {"id": 1, "ts": "t", "level": "warn", "msg": "odd", "service": "node", "fields": {"path": evil}}
    answers = {"/api/v1/status": (200, answer), "/api/v1/where": (200, found), "/api/v1/events": (200, [event])}
    with FakeController(answers) as fake:
        for command in (["status"], ["where", "x"], ["events"]):
            out = CliRunner().invoke(main, [*command, "--url", fake.url])
            assert r"a\x07b" in out.stdout or r"a\u0007b" in out.stdout
            assert r"\x9b31m" in out.stdout
            assert not set(out.stdout) & set("\x07\x1b\u202e\x9b")


def test_control_characters_of_what_is_refused_are_spelt_out(tmp_path: Path) -> None:
    for arguments in (
        ["scrape-config", "a\x1bb", "--config.file", str(tmp_path / "no\x07.yml")],
        ["check", str(tmp_path / "no\x1b.yml")],
        ["simulate", "--scrapers", "x\x1b"],
        ["simulate", "--scrapers", "2", "--targets", "1", "--leave", "9", "--plot", "x\x1b"],
        ["status", "--url", "http://[\x1b"],
    ):
        out = CliRunner().invoke(main, arguments)
        assert out.exit_code == 2
        assert not set(out.stderr) & set("\x07\x1b"), arguments


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_a_terminal_and_not_with_no_color(environment: dict[str, str], coloured: bool) -> None:
    with FakeController({"/api/v1/status": (200, status())}) as fake:
        ours, its = pty.openpty()
        try:
            command = [sys.executable, "-m", "promring", "status", "--url", fake.url]
            env = {**{k: v for k, v in os.environ.items() if k != "NO_COLOR"}, "TERM": "xterm", **environment}
            subprocess.run(command, stdout=its, check=True, timeout=60, env=env)
            shown = os.read(ours, 65536).decode()
        finally:
            os.close(ours)
            os.close(its)
        assert "10.0.0.1:9090" in shown
        assert ("\x1b[" in shown) == coloured
        assert "\x1b" not in promring("status", "--url", fake.url).stdout, "piped"


def test_a_reader_that_stops_reading_ends_a_command_quietly() -> None:
    event = {"id": 1, "ts": "t", "level": "info", "msg": "m" * 4000, "service": "", "fields": {}}
    with FakeController({"/api/v1/events": (200, [event] * 1000)}) as fake:
        command = [sys.executable, "-m", "promring", "events", "--url", fake.url]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(60) == 141


def test_a_full_disk_behind_standard_output_is_said() -> None:
    with FakeController({"/api/v1/status": (200, status())}) as fake, Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "promring", "status", "--url", fake.url]
        out = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (out.returncode, out.stderr) == (1, "Error: standard output cannot be written: No space left on device\n")


@pytest.mark.parametrize(
    "command", ["--help", "--version", "drain --help", "completion bash", "simulate --scrapers 2 --targets 9"]
)
def test_a_full_disk_is_said_of_texts_that_no_controller_is_asked_for_too(command: str) -> None:
    argv = [sys.executable, "-m", "promring", *command.split()]
    with Path("/dev/full").open("w") as full:
        out = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (out.returncode, out.stderr) == (1, "Error: standard output cannot be written: No space left on device\n")


def test_json_is_the_data_of_the_api(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("sesame\n")
    drained = {
        "fleet": "node",
        "scraper": "10.0.0.1:9090",
        "alive": True,
        "kept": True,
        "had": 2,
        "left": 2,
        "keeps_all": False,
        "forecast": None,
    }
    scraper, place = "/api/v1/fleets/node/scrapers/10.0.0.1%3A9090", {"targets": [], "near": [], "total": 0}
    answers: dict[str, tuple[int, object]] = {
        "/api/v1/status": (200, status()),
        "/api/v1/fleets": (200, status()["fleets"]),
        "/api/v1/where": (200, place),
        "/api/v1/events": (200, [{"id": 1}]),
        f"{scraper}/drain": (200, drained),
        f"{scraper}/undrain": (200, {"drained": False}),
        "/api/v1/fleets/node/release": (200, {"released": [], "leads": True}),
    }
    for path, (code, part) in answers.items():
        answers[path] = (code, answer_of("POST" if path.split("/")[-1] in WRITES else "GET", path, part))
    answers["/api/v1/status"] = (200, status() | {"later": "a field of a newer controller"})
    begun: Any = answers[f"{scraper}/drain"][1]
    wanted = {
        "status": answers["/api/v1/status"][1],
        "where x": answers["/api/v1/where"][1],
        "events": answers["/api/v1/events"][1],
        "drain --no-wait 10.0.0.1:9090": [begun | {"result": "begun", "no_room": 0, "why": ""}],
        "undrain 10.0.0.1:9090": [answers[f"{scraper}/undrain"][1]],
        "release node": answers["/api/v1/fleets/node/release"][1],
    }
    with FakeController(answers) as fake:
        for command, data in wanted.items():
            arguments = [*command.split(), "--url", fake.url, "--token-file", str(token), "--output", "json"]
            result = CliRunner().invoke(main, arguments)
            assert json.loads(result.stdout) == data, command
            as_yaml = CliRunner().invoke(main, [*arguments[:-1], "yaml"])
            assert yaml.safe_load(as_yaml.stdout) == data, command
            assert result.exit_code == (1 if command == "where x" else 0)
        assert {authorization for _, _, authorization in fake.asked} == {"Bearer sesame"}


@pytest.mark.parametrize(
    ("code", "said", "hint"),
    [
        (409, "odd \\x07 \\x0a", ""),
        (401, "a bearer token is needed", " (--token-file names the file that has it)"),
        (403, "this is not the token", ""),
        (403, "writing is off: no --web.token-file is configured", ""),
    ],
)
def test_what_a_controller_says_against_a_write_is_shown_in_its_words(code: int, said: str, hint: str) -> None:
    with FakeController(
        {
            "/api/v1/fleets": (200, status()["fleets"]),
            "/api/v1/fleets/node/release": (code, error("x", said.replace(r"\x07 \x0a", "\x07 \n"))),
        }
    ) as fake:
        result = CliRunner().invoke(main, ["release", "node", "--url", fake.url])
        assert (result.exit_code, result.stderr) == (1, f"Error: {fake.url}: {said}{hint}\n")


@pytest.mark.parametrize(
    ("code", "body", "said"),
    [
        (404, b"404 page not found", "not a promring controller: status 404, '404 page not found'"),
        (302, b"", "not a promring controller: status 302, ''"),
        (
            302,
            b"https://me:canary@sso.example/login",
            "not a promring controller: status 302, which leads to https://sso.example/login and is not followed\n",
        ),
        (200, b"<html>\xff", "not a promring controller: status 200, '<html>\N{REPLACEMENT CHARACTER}'"),
        (200, b"[]", "not a promring controller: status 200, '[]'"),
        (200, b'{"status":"error","error":"\xff"}', "not a promring controller: status 200, "),
        (200, b'{"status":"success","data":{"later":"\xff"}}', "an answer of another version of promring? ("),
        (200, b'{"status":"success"}', 'not a promring controller: status 200, \'{"status":"success"}\''),
        (200, b"[" * 100_000, "not a promring controller: status 200, '" + "[" * 200 + "'"),
        (200, b'{"status":"success","data":[]}', "an answer of another version of promring? "),
        (
            200,
            b'{"status":"success","data":{"version":"9"}}',
            "an answer of another version of promring? (Object missing required field `started_at`)",
        ),
        (
            401,
            b"a user name and password are needed\n",
            "status 401, 'a user name and password are needed' (a user and a password: --url http://USER:PASSWORD@HOST:PORT)",
        ),
    ],
)
def test_whatever_answers_is_one_line_and_no_traceback(code: int, body: bytes, said: str) -> None:
    with FakeController({"/api/v1/status": (code, body)}) as fake:
        result = CliRunner().invoke(main, ["status", "--url", fake.url])
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit)
        assert result.stderr.startswith(f"Error: {fake.url}: {said}")
        assert result.stderr.count("\n") == 1


def test_the_password_of_a_url_is_used_and_never_shown() -> None:
    with FakeController() as fake:
        url = fake.url.replace("://", "://user:canary@")
        result = CliRunner().invoke(main, ["status", "--url", url])
        assert fake.asked[0][2] == "Basic dXNlcjpjYW5hcnk="
        assert "canary" not in result.output
    for bad in ("ftp://user:canary@h:1", "http://user:canary@h:1/?x", "http://user:canary@h:99999999"):
        result = CliRunner().invoke(main, ["status", "--url", bad])
        assert (result.exit_code, "canary" in result.output) == (2, False), result.output


@pytest.mark.parametrize("body", [b"no: %b", error("x", "no: %b")], ids=["text", "JSON"])
def test_an_answer_that_repeats_the_token_does_not_show_it(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "token").write_text("canary-7f3x9q")
    with FakeController({"/api/v1/status": (400, body.replace(b"%b", b"Bearer canary-7f3x9q"))}) as fake:
        result = CliRunner().invoke(main, ["status", "--url", fake.url, "--token-file", str(tmp_path / "token")])
    assert (result.exit_code, "canary" in result.output, "no: " in result.output) == (1, False, True)


@pytest.mark.parametrize("content", ["", "\n", "two\nlines", "n\u00f6", "a b"])
def test_a_token_file_without_a_token_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    result = CliRunner().invoke(main, ["drain", "x", "--token-file", str(file)])
    assert result.exit_code == 2
    assert f"Invalid value for '--token-file': {file}: is " in result.stderr


@pytest.mark.parametrize("command", [["status", "--token-file"], ["import", "--dry-run"]])
def test_a_file_without_an_end_is_read_no_further_than_is_of_use(command: list[str]) -> None:
    result = CliRunner().invoke(main, [*command, "/dev/zero"])
    assert result.exit_code in (1, 2), result.output
    assert "/dev/zero" in result.stderr
    assert "larger than" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["run", "--state.dir", ""],
        ["import", "x.yml", "--out", ""],
        ["agent", "--controller", "http://127.0.0.1:1", "--scraper", "a:1", "--dir", ""],
    ],
)
def test_a_folder_without_a_name_is_not_the_one_that_this_runs_in(command: list[str]) -> None:
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert f"'{command[-2]}': is empty; the folder that this runs in is ." in result.stderr


@pytest.mark.parametrize(
    "name", ["http://promring.example", "promring.example:9600", "a/b", "*.*", "a*", "", "*.", "b\u00fc.example"]
)
def test_a_name_that_no_browser_can_ask_for_is_not_allowed_in_silence(name: str) -> None:
    result = CliRunner().invoke(main, ["run", "--config.file", "nosuch.yml", "--web.allowed-host", name])
    assert result.exit_code == 2
    assert "is no name such as promring.example, *.example.org or *" in result.stderr


@pytest.mark.parametrize("name", ["*", "*.example.org", "Promring.example.", "a_b", "10.0.0.1", "::1", "[fd00::1]"])
def test_names_and_addresses_may_be_allowed(name: str) -> None:
    result = CliRunner().invoke(main, ["run", "--config.file", "nosuch.yml", "--web.allowed-host", name])
    assert "nosuch.yml" in result.stderr
    assert "is no name" not in result.stderr


def test_a_token_may_come_from_a_pipe() -> None:
    read, write = os.pipe()
    try:
        os.write(write, b"canary-7f3x9q\n")
        os.close(write)
        with FakeController({"/api/v1/status": (401, error("unauthorized", "no"))}) as fake:
            result = CliRunner().invoke(main, ["status", "--url", fake.url, "--token-file", f"/dev/fd/{read}"])
    finally:
        os.close(read)
    assert result.stderr == f"Error: {fake.url}: no\n"  # it was shown


def test_a_pipe_is_not_planned_from_a_second_time(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.yml")
    writer = threading.Thread(target=(tmp_path / "p.yml").write_text, args=("shard_services: []\n",))
    writer.start()
    result = CliRunner().invoke(main, ["plan", "--url", "http://127.0.0.1:1", "--config.file", str(tmp_path / "p.yml")])
    writer.join()
    assert result.exit_code == 1
    assert "p.yml is a pipe, which can be read once: --offline plans from it alone" in result.stderr


@pytest.mark.parametrize("name", ["", ".", ".."])
@pytest.mark.parametrize("command", ["drain", "undrain"])
def test_what_would_be_another_path_is_no_name(command: str, name: str) -> None:
    with FakeController({"/api/v1/fleets": (200, status()["fleets"])}) as fake:
        result = CliRunner().invoke(main, [command, name, "--url", fake.url])
    assert result.exit_code == 2
    assert f"{name!r} is no name" in result.stderr


def test_several_errors_of_a_configuration_are_a_line_each() -> None:
    said = "a.yml:1: x: is required\na.yml:2: y: \x1b[2J"
    with FakeController({"/-/reload": (400, error("bad_data", said))}) as fake:
        result = CliRunner().invoke(main, ["reload", "--url", fake.url])
    assert result.stderr == f"Error: {fake.url}: a.yml:1: x: is required\n  a.yml:2: y: \\x1b[2J\n"


def test_what_refuses_a_reload_and_what_forces_it_are_a_line_each() -> None:
    lost = "main: capacity_short: 105 targets have no room"
    with FakeController({"/-/reload": (409, error("conflict", f"{lost}\nnothing is changed; {FORCE}"))}) as fake:
        result = CliRunner().invoke(main, ["reload", "--url", fake.url])
    assert result.stderr == f"Error: {fake.url}: {lost}\n  nothing is changed; {FORCE}\n"


@pytest.mark.parametrize(
    ("path", "command", "data"),
    [
        ("/api/v1/events", ["events"], [{"id": 1, "at": 1.0, "ts": 1.0, "level": "info", "msg": "m", "fields": []}]),
        ("/api/v1/events", ["events"], {"0": {}}),
        ("/api/v1/where", ["where", "t:1"], {"targets": [{"service": "x", "labels": []}], "total": 1, "near": []}),
        ("/api/v1/where", ["where", "t:1"], {"targets": 5, "total": [], "near": None}),
    ],
)
def test_an_answer_whose_parts_are_of_other_types_is_a_message_and_no_traceback(
    path: str, command: list[str], data: object
) -> None:
    body = json.dumps({"status": "success", "data": data}).encode()
    with FakeController({path: (200, body)}) as fake:
        result = CliRunner().invoke(main, [*command, "--url", fake.url])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit), result.output
    assert result.stderr.startswith(f"Error: {fake.url}: ")


@pytest.mark.parametrize(
    "body", [b"<html>502</html>", b"", b"[" * 100_000, b"\xff"], ids=["HTML", "nothing", "deep", "binary"]
)
@pytest.mark.parametrize("command", ["status", "where t:1", "events", "drain x", "undrain x", "release node", "plan"])
def test_every_command_that_asks_says_in_one_line_that_no_controller_answered(command: str, body: bytes) -> None:
    paths = ("status", "where", "events", "fleets")
    with FakeController({f"/api/v1/{path}": (502, body) for path in paths}) as fake:
        result = CliRunner().invoke(main, [*command.split(), "--url", fake.url])
    assert (result.exit_code, type(result.exception), result.stdout) == (1, SystemExit, "")
    assert result.stderr.startswith(f"Error: {fake.url}: not a promring controller: status 502, ")
    assert result.stderr.count("\n") == 1


DECISION = {"kind": "capacity_short", "service": "node", "text": "6 targets have no room", "numbers": {}, "loss": True}


def test_a_plan_of_a_new_file_is_what_the_controller_decides_by_it(tmp_path: Path) -> None:
    file = tmp_path / "new.yml"
    file.write_text("shard_services: []")
    part = {"decisions": [DECISION], "refused": True, "fleets": [{"fleet": "node", "preview": None}]}
    answer = answer_of("POST", "/api/v1/plan", part)
    with FakeController({"/api/v1/plan": (200, answer)}) as fake:
        out = promring("plan", "--config.file", str(file), "--without", "a:1", "--url", fake.url)
        as_json = promring("plan", "--config.file", str(file), "--output", "json", "--url", fake.url)
    assert out.stdout.splitlines() == [
        "node: capacity_short: LOSS: 6 targets have no room",
        "a reload would be REFUSED, unless it is forced (promring reload --force)",
        "node: no plan yet to compare with",
        "nothing is touched",
    ]
    assert fake.asked[0][:2] == ("POST", f"/api/v1/plan?name={quote(str(file), safe='')}&without=a%3A1")
    assert json.loads(as_json.stdout) == answer


def test_a_plan_of_a_new_file_that_the_controller_refuses_says_why(tmp_path: Path) -> None:
    (tmp_path / "new.yml").write_text("x")
    with FakeController({"/api/v1/plan": (400, error("bad_data", "new.yml:1: no"))}) as fake:
        out = promring("plan", "--config.file", str(tmp_path / "new.yml"), "--url", fake.url)
    assert (out.returncode, "new.yml:1: no" in out.stderr) == (1, True)


def test_a_reload_says_what_is_decided_or_why_it_is_refused() -> None:
    with FakeController({"/-/reload": (200, {"decisions": [DECISION]})}) as fake:
        out = promring("reload", "--force", "--url", fake.url)
        assert fake.asked[0][:2] == ("POST", "/-/reload?force=true")
    assert out.stdout.splitlines() == ["reloaded", "node: capacity_short: LOSS: 6 targets have no room"]
    with FakeController({"/-/reload": (400, error("bad_data", "6 targets"))}) as fake:
        out = promring("reload", "--url", fake.url)
    assert (out.returncode, "6 targets" in out.stderr) == (1, True)


def test_the_status_says_what_a_reload_left_over() -> None:
    way = {"kind": "file", "until": "every scraper has asked", "waiting_for": ["a:1"], "places": ["/sd/a.json"]}
    answer = status(retiring=[way])
    answer["left_behind"] = [{"service": "gone", "targets": 3, "scrapers": ["a:1"], "where": ["/x.json"]}]
    answer["renamed"] = {"old": "node"}
    with FakeController({"/api/v1/status": (200, answer)}) as fake:
        out = promring("status", "--url", fake.url).stdout
    assert "  old delivery file goes on until every scraper has asked; not yet: a:1: /sd/a.json\n" in out
    assert "left behind: gone: 3 targets on a:1: /x.json\n" in out
    assert "renamed: /sd/old/ is answered as node until the next restart\n" in out


@pytest.mark.parametrize("at", [1e300, -1e300])
def test_a_time_that_no_clock_shows_is_left_out(at: float) -> None:
    answer = status(held={"detail": "2 of 3 are gone", "until": at})
    with FakeController({"/api/v1/status": (200, answer)}) as fake:
        result = CliRunner().invoke(main, ["status", "--url", fake.url])
    assert (result.exit_code, "  plan held: 2 of 3 are gone\n" in result.stdout) == (0, True)
