"""A server that an import is judged by, and what it could not do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from promring.core import fragment
from promring.core.fragment import newer_name
from promring.core.pool import pool_of
from promring.demo.process import StartError
from promring.importing import programs
from promring.importing.running import prometheus
from promring.model import TargetGroup
from tests.waiting import until

SERVER = """\
#!{python}
import http.server, sys
address = next(a for a in sys.argv if a.startswith("--web.listen-address=")).partition("=")[2]
{said}

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

host, port = address.split(":")
http.server.HTTPServer((host, int(port)), Ready).serve_forever()
"""
SAID = """print("level=error msg=\\"Error adding file watcher\\"", file=sys.stderr, flush=True)"""


def server(folder: Path, said: str) -> Path:
    program = folder / "prometheus"
    program.write_text(SERVER.format(python=sys.executable, said=said))
    program.chmod(0o755)
    return program


async def test_a_server_that_cannot_watch_its_files_proves_nothing(tmp_path: Path) -> None:
    """It goes on, with no targets of theirs: two of these would be equal."""
    with pytest.raises(StartError, match=r"prometheus could not watch its files.*max_user_instances"):
        async with prometheus(server(tmp_path, SAID), tmp_path / "data", "") as url:
            assert url.startswith("http://127.0.0.1:")


async def test_a_server_that_complains_of_nothing_is_believed(tmp_path: Path) -> None:
    async with prometheus(server(tmp_path, ""), tmp_path / "data", "") as url:
        await until((tmp_path / "data" / "log").exists, url)


JUDGE = """\
#!/bin/sh
case "$1" in --version) echo "{name}, version {version}";; *) {does};; esac
"""


def judge(folder: Path, name: str, version: str, does: str = "exit 0") -> Path:
    """A program that says its version, and otherwise ``does`` this."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(JUDGE.format(name=name, version=version, does=does))
    (folder / name).chmod(0o755)
    return folder / name


def test_the_users_own_program_judges_before_one_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, refuses = tmp_path / "prometheus.yml", 'echo "  FAILED: line 1: no such thing" >&2; exit 1'
    config.write_text("")
    cached = judge(tmp_path / "servers" / "bin", "promtool", "2.42.0", refuses)
    monkeypatch.setenv("PROMRING_SERVERS", str(tmp_path / "servers"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    own, others = programs.here("promtool")
    if own:
        pytest.skip(f"this machine has {own[0]}")
    assert others == [cached]
    assert programs.verdict(config) == programs.Answer([(1, "no such thing")], program="promtool", path=cached)
    mine = judge(tmp_path / "mine", "promtool", "3.5.0+deb")
    monkeypatch.setenv("PATH", f"{tmp_path / 'mine'}:/usr/bin:/bin")
    assert programs.here("promtool") == ([mine], [cached])
    assert programs.verdict(config) == programs.Answer(program="promtool", path=mine)
    assert programs.described(mine) == f"{mine} 3.5.0+deb"
    judge(tmp_path / "mine", "promtool", "3.5.0", refuses)
    judge(tmp_path / "servers" / "bin", "promtool", "3.9.0")
    assert programs.verdict(config) == programs.Answer([(1, "no such thing")], program="promtool", path=mine)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'[{"targets":["a:1"],"labels":{"job":"x","my.label":"y"}}]', "my.label"),
        ('[{"targets":["a:1"],"labels":{"\u00fc":"y"}}]'.encode(), "\u00fc"),
        (b'[{"targets":["a:1","b:2"],"labels":{"__x":"{\\"a b\\":1}","_9":":\\",\\"c d\\":"}}]', ""),
        (b'[{"targets":[",",":"],"labels":{"x":":9100","y":"a,"}}]\n', ""),
        (b"[]\n", ""),
    ],
)
def test_a_label_name_that_prometheus_2_refuses_is_found_in_a_slice(body: bytes, name: str) -> None:
    assert newer_name(body) == name


@pytest.mark.parametrize("at", [None, 0, 6, 7, 13, 14])
def test_such_a_name_is_found_wherever_it_is_in_a_list_of_many_parts(
    monkeypatch: pytest.MonkeyPatch, at: int | None
) -> None:
    monkeypatch.setattr(fragment, "ROWS_AT_ONCE", 7)
    pool = pool_of([TargetGroup.of([f"t{n:02}:1"], {"a.b" if n == at else "a": "x"}) for n in range(15)])
    assert fragment.newer_name_in(pool) == ("" if at is None else "a.b")
    assert fragment.newer_name_in(pool_of([])) == ""


LACKS = 'echo "  FAILED: line 2: field kubernetes_sd_configs not found in type config.ScrapeConfig" >&2; exit 1'
REFUSES = 'echo "  FAILED: line 2: unknown role" >&2; exit 1'


@pytest.mark.parametrize(
    ("own", "cached", "judged_by"),
    [
        ({"promtool": LACKS, "prometheus3": "echo 'err=\"line 2: unknown role\"'; exit 2"}, {}, "prometheus3"),
        ({"promtool": LACKS, "prometheus3": "exit 1"}, {}, "prometheus3"),
        ({"promtool": LACKS}, {"prometheus3": "echo 'err=\"line 2: unknown role\"'; exit 2"}, "prometheus3"),
        ({"promtool": LACKS}, {}, "promtool"),
        (
            {"promtool": LACKS, "prometheus3": "echo 'line 2: field docker_sd_configs not found in type x'; exit 2"},
            {},
            "promtool",
        ),
        ({"promtool": REFUSES, "prometheus3": "exit 1"}, {}, "prometheus3"),
        (
            {"promtool": LACKS.replace("exit 1", REFUSES), "prometheus3": LACKS.replace("exit 1", "exit 2")},
            {},
            "prometheus3",
        ),
    ],
)
def test_a_program_that_lacks_nothing_judges_before_one_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: dict[str, str], cached: dict[str, str], judged_by: str
) -> None:
    """What one lacks, it cannot judge: it would take a value there that no Prometheus takes."""
    (config := tmp_path / "prometheus.yml").write_text("")
    for folder, programs_there in (("mine", own), ("servers/bin", cached)):
        for name, does in programs_there.items():
            judge(tmp_path / folder, name, "3.5.0", does)
    monkeypatch.setenv("PROMRING_SERVERS", str(tmp_path / "servers"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'mine'}:/bin")
    answer = programs.verdict(config)
    assert answer is not None
    assert answer.program == judged_by


@pytest.mark.parametrize(
    "key",
    [
        "azuread",
        "google_iam",
        "protobuf_message",
        "stale_series_compaction_threshold",
        "retention",
        "sample_limit",
        "scrape_http_client_config",
    ],
)
def test_a_key_that_is_newer_than_the_program_is_no_fault_of_the_file(key: str) -> None:
    answer = programs.answer_in(f"  FAILED: line 3: field {key} not found in type config.plain\n")
    assert (answer.refused, answer.lacks) == ([], {key})


def test_of_programs_that_all_refuse_a_file_the_newest_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (config := tmp_path / "prometheus.yml").write_text("")
    judge(tmp_path / "mine", "promtool", "2.42.0", REFUSES)
    newer = judge(tmp_path / "mine", "prometheus", "3.5.0", "echo 'err=\"line 2: not since 3\"'; exit 2")
    monkeypatch.setenv("PROMRING_SERVERS", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'mine'}:/bin")
    answer = programs.verdict(config)
    assert (answer.path, answer.refused, answer.others) == (newer, [(2, "not since 3")], []) if answer else False
