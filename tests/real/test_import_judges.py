"""What an import believes of the real programs: the encodings that they read, their order of rules, where they disagree."""

from __future__ import annotations

import codecs
import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from promring.cli import main
from promring.importing.configuration import read_configuration
from promring.importing.convert import DISCOVERY, convert
from promring.importing.running import prometheus, settled_targets, vmagent
from promring.importing.services import Layout
from promring.importing.verdicts import Wishes
from tests.real.conftest import server

pytestmark = pytest.mark.usefixtures("many_watchers")

TEXT = "scrape_configs:\n  # Käse 😀\n  - job_name: nöde\n    static_configs: [{targets: ['a:1']}]\n"
WIDE = {
    "le": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
    "be": codecs.BOM_UTF16_BE + TEXT.replace("\n", "\r\n").encode("utf-16-be"),
    "no mark": TEXT.encode("utf-16-le"),
    "half a character": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le") + b"\n",
    "half a pair": codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le") + b"#\0\x3d\xd8\n\0",
}


def takes(name: str, path: Path) -> bool:
    commands: dict[str, list[str | Path]] = {
        "promtool": ["check", "config", "--syntax-only", path],
        "prometheus3": [f"--config.file={path}", "--web.listen-address=127.0.0.1:99999"],
        "vmagent": ["-dryRun", f"-promscrape.config={path}", "-remoteWrite.url=http://127.0.0.1:1/"],
    }
    status = subprocess.run([server(name), *commands[name]], capture_output=True, check=False, cwd=path.parent).returncode
    return status == 0 or (name == "prometheus3" and status == 1)


def imported(config: Path, *options: str | Path) -> Result:
    return CliRunner().invoke(main, ["import", str(config), "--scraper", "s:9090", *map(str, options)])


@pytest.mark.parametrize("name", ["promtool", "prometheus3", "vmagent"])
@pytest.mark.parametrize("way", WIDE)
def test_a_file_in_utf_16_is_taken_where_the_program_takes_it(tmp_path: Path, way: str, name: str) -> None:
    (old := tmp_path / "prometheus.yml").write_bytes(WIDE[way])
    result = imported(old, "--out", tmp_path / "new")
    assert (result.exit_code == 0) == takes(name, old), result.output
    assert result.exit_code in (0, 2)
    if result.exit_code == 0:
        new = tmp_path / "new" / "prometheus.yml"
        assert takes(name, new)
        static, slices = "static_configs: [{targets: ['a:1']}]", "file_sd_configs: [{files: [promring/n-de.json]}]"
        assert new.read_bytes().decode() == TEXT.replace("\n", "\r\n" if way == "be" else "\n").replace(static, slices)
        assert f"{old}:1: info: it is in UTF-16; written in UTF-8 [PI041]" in result.stderr
    else:
        assert f"{old}:" in result.stderr


async def test_vmagent_has_the_targets_of_all_jobs_go_through_the_rules_of_global_first(tmp_path: Path) -> None:
    """As ``Job.common`` says, those of included files, too."""
    seen = "{source_labels: [first], target_label: seen}"
    job = "- {job_name: %s, static_configs: [{targets: ['%s:1']}], relabel_configs: [%s]}\n"
    (tmp_path / "more.yml").write_text(job % ("b", "b", seen))
    text = "global: {relabel_configs: [{target_label: first, replacement: yes}]}\n"
    text += f"scrape_config_files: [{tmp_path / 'more.yml'}]\nscrape_configs:\n{job % ('a', 'a', seen)}"
    async with vmagent(server("vmagent"), tmp_path, text) as url:
        (found,) = await settled_targets([url], lambda some: len(some[0]) > 1, settled_s=30)
    assert {name: [dict(one.labels)["seen"] for one in targets] for name, targets in found.items()} == {
        "a": ["yes"],
        "b": ["yes"],
    }


CHANGED = """\
scrape_configs:
- job_name: j
  static_configs: [{targets: ["a.example", "b.example"], labels: {gone: x, other: y, %s}}]
  serverset_sd_configs: [{servers: ["127.0.0.1:1"], paths: ["/x"]}]
  relabel_configs:
  - {source_labels: [__address__], regex: "(.*)", target_label: __address__, replacement: "$1:9100"}
  - {regex: gone, action: labeldrop}
  - {target_label: job, replacement: z}
  - {source_labels: [other], target_label: one}
"""


@pytest.mark.parametrize("labels", [1, 13, 60])
@pytest.mark.parametrize("name", ["prometheus", "prometheus3"])
async def test_what_was_discovered_is_listed_as_it_was_found(tmp_path: Path, name: str, labels: int) -> None:
    """2.42 would list what relabelling has made of it: an address that the scrapers rewrite once more, and less labels."""
    more = {f"l{number:02}": "v" for number in range(labels)}
    (tmp_path / "prometheus.yml").write_text(CHANGED % json.dumps(more)[1:-1])
    found = convert([read_configuration(tmp_path / "prometheus.yml")], Wishes(), Layout(("s:9090",)))
    text = found.files[DISCOVERY].content.decode()
    async with prometheus(server(name), tmp_path / "run", text) as url:
        (targets,) = await settled_targets([url], lambda some: bool(some[0]), discovered=True)
    own = ("__scheme__", "__metrics_path__", "__scrape_interval__", "__scrape_timeout__")
    listed = [{k: v for k, v in one.labels if k not in own} for one in targets["j"]]
    expected = [{"__address__": f"{x}.example", "job": "j", "gone": "x", "other": "y", **more} for x in "ab"]
    assert sorted(listed, key=lambda one: one["__address__"]) == expected


def test_where_the_programs_of_two_versions_disagree_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prometheus 3 has no version 1 of Alertmanager's API."""
    for name in ("promtool", "prometheus3"):
        (tmp_path / name).symlink_to(server(name))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (old := tmp_path / "prometheus.yml").write_text(
        "alerting:\n  alertmanagers:\n  - api_version: v1\n    static_configs: [{targets: ['m:9093']}]\n" + TEXT
    )
    found = json.loads(imported(old, "--dry-run", "--output", "json").stdout)
    (one,) = [finding for finding in found["findings"] if finding["code"] == "PI042"]
    assert one["what"].startswith(f"{tmp_path}/prometheus3 3.")
    assert one["done"].startswith(f"{tmp_path}/promtool 2.")
    assert "api version" in one["what"]
    assert (found["exact"], one["level"]) == (True, "warning")
