"""``promring import`` before real Prometheus: it takes every file that is written, and finds the targets that it found."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from promring.cli import main
from promring.cli.import_ import judged_by_prometheus
from promring.config.load import loads
from promring.importing import keys, programs
from promring.importing.configuration import read_configuration
from promring.importing.convert import DISCOVERY, PROMRING, SCRAPERS, Converted, convert
from promring.importing.services import Layout
from promring.importing.source import InputError
from promring.importing.verdicts import Wishes
from promring.importing.verify import verify
from promring.model import ConfigError
from promring.runtime.http_client import new_session, request
from tests.differential.oracle import Oracle
from tests.real.conftest import server
from tests.shapes import SHAPES, Shape
from tests.waiting import answers, until

pytestmark = pytest.mark.usefixtures("many_watchers")

EVERYTHING = """\
global: {scrape_interval: 15s, scrape_native_histograms: true, external_labels: {cluster: shop}}
remote_write: [{url: "http://127.0.0.1:1/write"}]
scrape_configs:
  - job_name: prometheus
    static_configs: [{targets: ["localhost:9090"]}]
  - job_name: node
    file_sd_configs: [{files: ["sd/*.json"]}]
    relabel_configs:
      - {source_labels: [__address__], modulus: 3, target_label: __tmp_hash, action: hashmod}
      - {source_labels: [__tmp_hash], regex: 1, action: keep}
      - {source_labels: [role], regex: db, action: drop}
      - {source_labels: [__address__], regex: "([^:]+):.*", replacement: "${1}", target_label: host}
  - job_name: blackbox http
    metrics_path: /probe
    params: {module: [http_2xx]}
    static_configs: &sites
      - targets: ["https://example.com", "https://example.org/a?b=c"]
        labels: {team: 007, "on": true}
    relabel_configs: &probe
      - {source_labels: [__address__], target_label: __param_target}
      - {source_labels: [__param_target], target_label: instance}
      - {target_label: __address__, replacement: "blackbox:9115"}
  - job_name: again
    scheme: https
    scrape_native_histograms: true
    static_configs: *sites
    relabel_configs: *probe
  - job_name: mixed
    static_configs: [{targets: ["m1:1", "m2:2", "n1:9100"], labels: {a: static}}]
    file_sd_configs: [{files: [sd/node.json]}, {files: [more.json]}]
  - job_name: with a kind that promring has not
    static_configs: [{targets: ["m1:1"]}]
    serverset_sd_configs: [{servers: ["127.0.0.1:1"], paths: ["/x"]}]
  - job_name: equal after relabelling
    static_configs: [{targets: ["m1:1", "m1:2", "m2:1"]}]
    relabel_configs:
      - {source_labels: [__address__], regex: "(.*):.*", target_label: __address__, replacement: "$1:9100"}
  - job_name: federate
    metrics_path: /federate
    params: {"match[]": ['{job="x"}']}
    static_configs: [{targets: ["a:9090"]}]
  - job_name: by file
    file_sd_configs: [{files: [sd/node.json]}]
    relabel_configs:
      - {source_labels: [__meta_filepath], regex: ".*/(.*).json", target_label: file}
"""
NODES = """[{"targets": ["n1:9100", "n2:9100", "n3:9100"], "labels": {"role": "web"}},
{"targets": ["n4:9100", "[fd00::1]:9100"]}, {"targets": ["n5:9100"], "labels": {"role": "db"}}]"""

MORE = """[{"targets": ["n1:9100", "n2:9100"], "labels": {"role": "web"}}, {"targets": ["n1:9100"], "labels": {"role": "x"}},
{"targets": ["n2:9100"], "labels": {"__scheme__": "https"}}]"""


def converted(folder: Path, text: str, files: dict[str, str] | None = None) -> Converted:
    folder.mkdir(parents=True, exist_ok=True)
    for name, inner in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(inner)
    (folder / "prometheus.yml").write_bytes(text.encode())
    return convert([read_configuration(folder / "prometheus.yml")], Wishes(), Layout(scrapers=("10.0.0.1:9090",)))


def put(folder: Path, name: str, shape: Shape) -> list[Path]:
    """The files of a shape that a Prometheus must take."""
    found = converted(folder / "old" / name, shape.text, shape.files)
    paths: list[Path] = []
    for file, content in found.files.items():
        path = folder / "new" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.content)
        if file == PROMRING:
            check(path)
        elif file == DISCOVERY or (file == SCRAPERS and not shape.vmagent):
            paths.append(path)
    return paths


def check(path: Path) -> None:
    """promring takes it, where the files that it names are there."""
    problems: list[str] = []
    try:
        loads(path.read_text(), name=str(path), base=path.parent)
    except ConfigError as error:
        problems = error.problems
    assert all("No such file" in problem for problem in problems), problems


def _is_refusal(line: str) -> bool:
    """Whether it is more than what this build does not have."""
    return re.match(rf"field (\w+_sd_configs|{'|'.join(keys.NEWER)}) not found", line) is None


def test_prometheus_takes_whatever_is_written_of_every_shape(tmp_path: Path) -> None:
    unknown = "keys that nobody knows"
    paths = [path for name, shape in SHAPES.items() if name != unknown for path in put(tmp_path, name, shape)]
    assert len(paths) > 40
    done = subprocess.run(
        [server("promtool"), "check", "config", "--syntax-only", *paths], capture_output=True, text=True, check=False
    )
    refused = [line for line in re.findall(r"line \d+: (.*)", done.stderr) if _is_refusal(line)]
    assert refused == []
    without = len(re.findall("FAILED", done.stderr))
    built = len(re.findall("SUCCESS", done.stdout))
    assert (without + built, built > 35) == (len(paths), True), done.stderr
    assert "WARNING" not in done.stdout


def test_the_shards_together_have_the_targets_of_the_old_server_label_by_label(tmp_path: Path) -> None:
    server("prometheus")
    found = converted(tmp_path, EVERYTHING, {"sd/node.json": NODES, "more.json": MORE})
    proof = verify(found)
    assert proof.compared == {
        "prometheus": 1,
        "node": 5,
        "blackbox http": 2,
        "again": 2,
        "mixed": 11,
        "with a kind that promring has not": 1,
        "equal after relabelling": 2,
        "federate": 1,
        "by file": 6,
    }
    # The one that reads the path of its own list cannot be exact: said before, and seen.
    assert [(f.code, f.where) for f in proof.findings] == [("PI033", "scrape_configs[8](by file)")], proof.findings
    assert [f.where for f in found.findings if f.level == "error"] == ["scrape_configs[8](by file).relabel_configs[0]"]


def test_a_label_name_that_a_prometheus_2_refuses_is_named_with_the_key_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (own := tmp_path / "bin" / "prometheus").symlink_to(server("prometheus"))
    monkeypatch.setenv("PATH", f"{own.parent}:{os.environ['PATH']}")
    text = "scrape_configs: [{job_name: a, file_sd_configs: [{files: [sd/*.json]}]}]\n"
    lists = {"sd/1.json": '[{"targets": ["n1:9"]}]', "sd/2.json": '[{"targets": ["n2:9"], "labels": {"my.label": "x"}}]'}
    proof = verify(converted(tmp_path, text, lists))
    assert proof.which.startswith(f"{own} 2.")
    (finding,) = proof.findings
    assert finding.code == "PI033"
    said = f"{proof.which} refuses a list with the label name 'my.label': say label_names: legacy of the service"
    assert said in str(finding)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("global: {scrape_intervall: 5s}\n", "1: promtool: field scrape_intervall not found"),
        (
            "scrape_configs:\n- job_name: a\n  scrape_interval: 15 s\n",
            "3: scrape_configs[0].scrape_interval: promtool: not a",
        ),
        (
            "scrape_configs:\n- {job_name: a}\n- job_name: b\n  scrape_interval: 1s\n  scrape_timeout: 2s\n",
            "3: scrape_configs[1].job_name: promtool: scrape timeout greater than scrape interval",
        ),
        (
            "scrape_configs:\n- job_name: a\n  static_configs:\n  - targets:\n    - h:1\n    - http://h:1/metrics\n",
            '6: scrape_configs[0].static_configs[0].targets[1]: promtool: "http://h:1/metrics" is not a valid hostname',
        ),
        ("global: {scrape_interval: 1x, scrape_timeout: 1x}\n", "1: promtool: not a valid duration"),
    ],
)
def test_what_prometheus_refuses_is_refused_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    server("promtool")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # no vmagent, which takes some of it
    (tmp_path / "prometheus.yml").write_text(text)
    with pytest.raises(InputError, match=re.escape(f"prometheus.yml:{said}")):
        judged_by_prometheus(read_configuration(tmp_path / "prometheus.yml"))


def test_a_file_in_another_folder_is_judged_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server("promtool")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "prometheus.yml").write_text(
        "scrape_configs: [{job_name: a, file_sd_configs: [{files: [x.json]}]}]\n"
    )
    monkeypatch.chdir(tmp_path)
    assert judged_by_prometheus(read_configuration(Path("etc/prometheus.yml"))) == []


def test_what_only_an_older_prometheus_refuses_is_taken(tmp_path: Path) -> None:
    server("promtool"), server("prometheus3")
    text = """
scrape_configs:
  - job_name: a
    static_configs: [{targets: ["h:1"], labels: {"my.label": x, ü: y}}]
    relabel_configs: [{source_labels: ["my.label"], target_label: "other.label"}]
"""
    found = converted(tmp_path, text)
    assert judged_by_prometheus(found.configuration) == []
    new = tmp_path / "new.yml"
    new.write_bytes(found.files[SCRAPERS].content)
    best = programs.verdict(new)
    assert best is not None
    assert best.accepted
    assert programs.ask(server("promtool"), new) == programs.Answer(
        lacks={programs.UTF8}, program="promtool", path=server("promtool")
    )


def test_vmagent_takes_what_is_written_of_what_it_took(tmp_path: Path) -> None:
    program, taken = server("vmagent"), 0

    def takes(path: Path) -> bool:
        arguments = ["-dryRun", f"-promscrape.config={path}", "-remoteWrite.url=http://127.0.0.1:1/write"]
        return subprocess.run([program, *arguments], capture_output=True, check=False).returncode == 0

    for name, shape in SHAPES.items():
        if shape.vmagent:
            put(tmp_path, name, shape)
            if takes(tmp_path / "old" / name / SCRAPERS):
                taken += 1
                assert takes(tmp_path / "new" / name / SCRAPERS), name
    assert taken >= 2


@pytest.mark.parametrize("reader", ["vmagent", "prometheus"])
def test_a_vmagent_starts_with_what_is_written_for_vmagents_of_a_plain_file(tmp_path: Path, reader: str) -> None:
    program, plain = server("vmagent"), tmp_path / "plain.yml"
    plain.write_text("scrape_configs: [{job_name: a, static_configs: [{targets: ['10.0.0.1:1']}]}]")
    arguments = ["import", str(plain), "--out", str(tmp_path / "new"), "--http-sd", "http://127.0.0.1:9600", "--for", reader]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    flags = [f"-promscrape.config={tmp_path}/new/{SCRAPERS}", "-remoteWrite.url=http://127.0.0.1:9/", "-dryRun"]
    done = subprocess.run([program, *flags], capture_output=True, check=False, cwd=tmp_path)
    assert (done.returncode == 0) is (reader == "vmagent"), done.stderr.decode()


@pytest.mark.parametrize(
    "keys_of_job",
    [
        "basic_auth: {username: u, password: !!int cAnArY7fX3x9}",
        "basic_auth: {username: u, password: *cAnArY7fX3x9}",
        'proxy_url: "http://u:cAnArY7fX3x9 y@p:1"',
        'proxy_url: "http://u:cAnArY7fX3x9\\"y@p:1"',
    ],
)
def test_what_prometheus_says_of_a_secret_is_repeated_without_it(tmp_path: Path, keys_of_job: str) -> None:
    old = tmp_path / "prometheus.yml"
    old.write_text(f'scrape_configs:\n  - job_name: a\n    static_configs: [{{targets: ["a:1"]}}]\n    {keys_of_job}\n')
    answer = CliRunner().invoke(main, ["import", str(old), "--dry-run"])
    assert answer.exit_code == 2
    assert "prometheus.yml:" in answer.output
    assert "cAnArY"[:4] not in answer.output


@pytest.mark.parametrize("engine", ["prometheus3", "vmagent"])
async def test_an_included_file_finds_its_slices_beside_the_main_file(tmp_path: Path, engine: str) -> None:
    """Where an agent writes them. Prometheus 2.42 includes no files."""
    program, out = server(engine), tmp_path / "new"
    jobs = "- job_name: inner\n  static_configs: [{targets: ['h:1']}]\n"
    inner = jobs if engine == "vmagent" else f"scrape_configs:\n{jobs}"
    found = converted(tmp_path / "old", "scrape_config_files: [more/*.yml]\n", {"more/a.yml": inner})
    assert found.configuration.vmagent == (engine == "vmagent")
    oracle = Oracle(program, out, found.files[SCRAPERS].content.decode())
    for folder in (out / "promring", out / "more" / "promring"):
        folder.mkdir(parents=True)
        (folder / "inner.json").write_text(f'[{{"targets": ["{folder.parent.name}:1"]}}]')
    (out / "more" / "a.yml").write_bytes(found.files["more/a.yml"].content)
    await oracle.process.start()
    try:
        async with new_session() as session:
            url, addresses = f"{oracle.url}/api/v1/targets", set[str]()

            async def found_some() -> bool:
                if await answers(session, url):
                    listed = json.loads((await request(session, "GET", url, timeout_s=30)).body)["data"]["activeTargets"]
                    addresses.update(one["discoveredLabels"]["__address__"] for one in listed)
                return bool(addresses)

            await until(found_some, "a target", 60)
            assert addresses == {"new:1"}
    finally:
        await oracle.process.stop()
