"""What may be shown: of URLs, of configuration errors, of what an answer repeats; terminals."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from promring.cli import main
from promring.cli.output import clean, say, say_table
from promring.config.settings import Settings
from promring.discovery.http import HttpTargets
from promring.runtime.redact import Secret, SecretUrl, hide, scrub, secrets_in, secrets_of_url, secrets_of_vars, shown
from promring.runtime.text import printable
from promring.telemetry import log
from tests.unit.test_config import GOOD

CANARY = "cAnArY-7f/3+x9"


@pytest.mark.parametrize(
    ("url", "is_shown"),
    [
        ("http://h:1/p?token=x#y", "http://h:1/p"),
        ("https://user:p/w?d#@h/p", "https://h/p"),
        ("htp://user:pw@h", "htp://h"),
        ("user:pw@h:1", "h:1"),
        ("//user:pw@h/p", "//h/p"),
        ("http:/user:pw@h/p", "h/p"),
        ("http://user:p?w", "http://***"),
        ("http://[::1]:80/p?x", "http://[::1]:80/p"),
        ("http://h/@me", "http://h/@me"),
        ("/elsewhere?x=1", "/elsewhere"),
    ],
)
def test_of_a_url_only_scheme_host_port_and_path_are_shown(url: str, is_shown: str) -> None:
    assert shown(url) == is_shown
    assert str(SecretUrl(url)) == is_shown


@given(st.text("ab:/@?#[]%1 \n.", min_size=1, max_size=12), st.sampled_from(["http://", "htp://", "//", "http:/", ""]))
def test_no_password_survives_whatever_is_in_it(odd: str, scheme: str) -> None:
    secret = f"Q{odd}Z-canary-{odd}Q"
    for text in (f"{scheme}user:{secret}@host:9090/path", f"{scheme}host/path?token={secret}"):
        if scheme != "" or "@" in text:
            assert "canary" not in shown(text)
            assert "canary" not in hide(f"it says {text!r} and {text}", secrets_in([{"url": text}]))


def test_a_secret_shows_nothing_wherever_it_is_printed() -> None:
    for text in (str(Secret(CANARY)), repr(Secret(CANARY)), f"{Secret(CANARY)}", repr([Secret(CANARY)])):
        assert CANARY not in text
    assert Secret(CANARY).reveal() == CANARY
    assert Secret(CANARY) == Secret(CANARY)


@pytest.mark.parametrize(
    "spelt",
    [
        str,
        str.upper,
        quote,
        quote_plus,
        html.escape,
        lambda s: quote(s, safe=""),
        lambda s: json.dumps(s)[1:-1],
        lambda s: base64.b64encode(s.encode()).decode(),
    ],
)
@pytest.mark.parametrize("secret", [CANARY, 'a"b\\c <&> é ', "two  words"])
def test_every_spelling_of_a_secret_is_taken_out_of_a_text_from_outside(spelt: Any, secret: str) -> None:
    text = f"bad request: {spelt(secret)}, no"
    assert hide(text, [secret]) == "bad request: ***, no"


def test_short_and_empty_values_do_not_eat_the_text() -> None:
    assert hide("status 500: no a=1", ["", "a", "1", "no "]) == "status 500: no a=1"
    assert list(secrets_of_url("http://h/?a=1&token=xyzzy")) == ["a=1&token=xyzzy", "1", "xyzzy"]


def test_secrets_are_found_in_a_file_of_variables_that_is_broken() -> None:
    text = 'a: [\nansible_become_password: \'pa ss\'\nmy_token: abcd # why\n{"api_key": "k1"}\npassword_file: /x\n'
    assert list(secrets_of_vars(text)) == ["pa ss", "abcd", "k1"]


# --- configuration -----------------------------------------------------------------------------------------------------

URLS = [
    f"htp://user:{CANARY}@h",
    f"http://user:{CANARY}@h",
    f"http:/user:{CANARY}@h:1",
    f"user:{CANARY}@h:1",
    f"htp://h/x?token={CANARY}",
    f"http://user:two words {CANARY}@h",
    f"http://user:quo'te{CANARY}\"@h",
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in places(v, (*path, k))]
    if isinstance(value, list):
        return [p for i, v in enumerate(value) for p in places(v, (*path, i))]
    return [path]


def with_at(value: Any, path: tuple[Any, ...], new: object) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_at(value[path[0]], path[1:], new)
    return copy


NAMES_A_FILE = re.compile("_file$|_hosts$|^path$|^playbook$|^files$|^dest_")
"""A secret that is given in place of a file's name is shown: else nobody would find the file."""


EVERYTHING = """
global: {reconcile_interval: 1m, debounce: 1s}
consul: {address: h, token_file: f, username: u, password_file: f, datacenter: d, tls: {ca_file: f, server_name: n}}
controllers: {lock: {consul: {key: k, check_ttl: 5s}}}
shard_services:
  - name: x
    scrapers:
      consul: {service: s, register: {nodes: [h:1, {address: h, zone: z, weight: 1}], check: {path: /, interval: 1s}}}
    identity: host
    join_delay: 1s
    zones: {label: z}
    targets:
      - file: {files: [a.json], refresh_interval: 1s}
      - http: {url: u, refresh_interval: 1s, timeout: 1s, headers_file: f, bearer_token_file: f}
      - python: {callable: c, interval: 1s}
    placement: {virtual_nodes: 1, load_factor: 1, loads: count, hash_labels: [a]}
    guard: {panic_threshold: 1, panic_hold: 1s}
    audit: {interval: 1s}
    job: p
    delivery:
      - file: {path: p}
      - ssh: {host: h, user: u, path: p, identity_file: f, known_hosts: f}
      - ansible: {playbook: p, dest_dir: d, dest_sd_file_name: f, extra_vars_file: f}
  - name: y
    scrapers: {probe: {nodes: [h:1], path: /}}
"""


@pytest.mark.row("A9", did="a URL with a password or a token as the value of every key of the configuration, check's output")
@pytest.mark.parametrize("url", URLS)
def test_check_never_shows_a_password_that_was_put_where_it_does_not_belong(tmp_path: Path, url: str, seen: Any) -> None:
    whole, filled = yaml.safe_load(EVERYTHING), yaml.safe_load(EVERYTHING)
    for path in places(whole):
        if not any(isinstance(key, str) and NAMES_A_FILE.search(key) for key in path):
            filled = with_at(filled, path, url)
    halves = [with_at(whole, path, url) for path in (("consul",), ("shard_services", 0, "targets", 1), ("shard_services",))]
    file = tmp_path / "promring.yml"
    for text in (*map(yaml.safe_dump, (filled, *halves)), f"{GOOD}\n{json.dumps(url)}: 1\n", f"{GOOD}\nglobal: {url}: x\n"):
        file.write_text(text)
        said = CliRunner().invoke(main, ["check", str(file)])
        assert said.exit_code == 2
        assert CANARY not in said.output, said.output
    seen(f"{len(places(whole))} keys, no canary in what check says")


def test_settings_do_not_show_the_query_of_a_source() -> None:
    raw = yaml.safe_load(GOOD)
    raw["shard_services"][0]["targets"] = [{"http": {"url": f"http://h/x?token={CANARY}"}}]
    made = Settings.model_validate(raw, context={"base": Path("/")})
    assert CANARY not in repr(made)
    assert CANARY not in str(made)
    assert "http://h/x" in repr(made)
    (source,) = made.shard_services[0].targets
    assert isinstance(source, HttpTargets)
    assert source.url.reveal().endswith(CANARY)


def test_an_error_that_is_scrubbed_keeps_the_rest() -> None:
    assert scrub("/etc/a@b/x.yml:3: key: 'htp://u:p@h' is not a URL") == "/etc/a@b/x.yml:3: key: 'htp://***@h' is not a URL"
    assert scrub("no: String should match pattern '^/[^\\s]*$'") == "no: String should match pattern '^/[^\\s]*$'"


# --- terminals ---------------------------------------------------------------------------------------------------------

ODD = "\x1b]0;title\x07\x1b[31mred\r\nforged ts=1\u202egnp.exe\u2066\x9b1m\x00\ud800\u200b"


def is_clean(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


@given(st.text())
def test_what_is_printable_stays_and_the_rest_is_escaped(text: str) -> None:
    made = printable(text)
    assert made.isprintable()
    assert made == text or not text.isprintable()


def test_tables_and_lines_escape_what_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"one {ODD}")
    say_table(["name", ODD], [[ODD, 1], [None, ODD]])
    written = capsys.readouterr().out
    assert is_clean(written)
    assert written.count(printable(ODD)) == 4
    assert clean(ODD) == printable(ODD)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def test_the_log_writes_no_control_characters_and_one_line_an_event(stream: io.StringIO) -> None:
    log.configure("info", "logfmt", stream)
    log.get().warning("discovery_failed", error=ODD, source=ODD)
    assert is_clean(stream.getvalue())
    assert stream.getvalue().count("\n") == 1


FETCHED = """
shard_services:
  - name: x
    scrapers: {probe: {nodes: ["s:9090"]}}
    targets: [{file: {files: [x.json]}}]
    delivery: [{http_sd: {}}]
"""


@pytest.mark.parametrize("url", [f"ftp://user:{CANARY}@host:1", f"//host/?token={CANARY}"])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["scrape-config", "--config.file={file}", "--scraper=s:9090"], "--url"),
        (["import", "{old}", "--dry-run", "--scraper=s:9090"], "--http-sd"),
        (["import", "{old}", "--dry-run", "--scraper=s:9090"], "--discovery-url"),
        (["run", "--config.file={file}"], "--web.external-url"),
    ],
)
def test_a_url_that_an_option_cannot_take_is_not_repeated_with_its_secrets(
    tmp_path: Path, url: str, command: list[str], option: str
) -> None:
    file, old = tmp_path / "promring.yml", tmp_path / "prometheus.yml"
    file.write_text(FETCHED)
    old.write_text("scrape_configs: [{job_name: a, static_configs: [{targets: ['h:1']}]}]\n")
    result = CliRunner().invoke(main, [*(word.format(file=file, old=old) for word in command), option, url])
    assert (result.exit_code, option in result.output) == (2, True), "it is this that is refused"
    assert CANARY not in result.output
