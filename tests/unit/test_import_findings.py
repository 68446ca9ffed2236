"""What ``promring import`` says: each finding where it belongs, and none where it does not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from promring.importing.configuration import read_configuration
from promring.importing.convert import SCRAPERS, Converted, convert
from promring.importing.services import Layout
from promring.importing.sizing import AskError, ask_load
from promring.importing.verdicts import Verdict, Wishes

HASH = "{source_labels: [__address__], modulus: 4, target_label: __tmp, action: hashmod}"
KEEP = "{source_labels: [__tmp], regex: 1, action: keep}"
OF_OPERATOR = "{source_labels: [__tmp, __tmp_disable_sharding], regex: $(SHARD);|.+;.+, action: keep}"


def converted(folder: Path, text: str, layout: Layout | None = None) -> Converted:
    (folder / "prometheus.yml").write_text(text)
    by = "http" if layout is not None and layout.http_sd else "file"
    return convert([read_configuration(folder / "prometheus.yml")], Wishes(by=by), layout or Layout(("s:9090",)))


def job(*lines: str) -> str:
    return "\n".join(
        ["scrape_configs:", "- job_name: j", '  static_configs: [{targets: ["h:1"]}]', *(f"  {x}" for x in lines)]
    )


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        (job("intervall: 5s"), "PI001", "scrape_configs[0](j).intervall"),
        ("globl: {}\n" + job(), "PI001", "globl"),
        ("global: {shards: 2}\n" + job(), "PI001", "global.shards"),
        (job("relabel_configs: [{sourcelabels: [a]}]"), "PI001", "scrape_configs[0](j).relabel_configs[0].sourcelabels"),
        (job("basic_auth: {password: <secret>}"), "PI002", "scrape_configs[0](j).basic_auth.password"),
        ("remote_write: [{url: 'http://x', bearer_token: <secret>}]\n" + job(), "PI002", "remote_write[0].bearer_token"),
        (job(f"relabel_configs: [{HASH}]"), "PI003", "scrape_configs[0](j).relabel_configs[0]"),
        (job(f"relabel_configs: [{HASH}, {KEEP}]"), "PI004", "scrape_configs[0](j).relabel_configs[0]"),
        (job().replace('"h:1"', '"h:1", "localhost:1"'), "PI005", "scrape_configs[0](j)"),
        (job().replace('"h:1"', '"[::1]:1"'), "PI006", "scrape_configs[0](j)"),
        (job("relabel_configs: [{regex: a, action: drop, source_labels: [b]}]"), "PI014", "scrape_configs[0](j)"),
        (
            job("relabel_configs: [{regex: '__meta_(.+)', action: labelmap}]"),
            "PI015",
            "scrape_configs[0](j).relabel_configs[0]",
        ),
        (
            job(
                "http_sd_configs: [{url: 'http://x/'}]", "relabel_configs: [{source_labels: [__meta_url], target_label: a}]"
            ),
            "PI015",
            "scrape_configs[0](j).relabel_configs[0]",
        ),
        (
            job('relabel_configs: [{target_label: __address__, replacement: "localhost:9115"}]'),
            "PI016",
            "scrape_configs[0](j).relabel_configs[0]",
        ),
        (job("dns_sd_configs: [{names: ['$(NAME).x']}]"), "PI019", "scrape_configs[0](j).dns_sd_configs[0].names[0]"),
        (job("dns_sd_configs: [{names: ['${NAME}.x']}]"), "PI019", "scrape_configs[0](j).dns_sd_configs[0].names[0]"),
        (job("dns_sd_configs: [{names: ['{{ name }}.x']}]"), "PI019", "scrape_configs[0](j).dns_sd_configs[0].names[0]"),
        (
            job("relabel_configs: [{regex: '__p(.+)', action: labelmap}]"),
            "PI015",
            "scrape_configs[0](j).relabel_configs[0]",
        ),
        (job(r"file_sd_configs: [{files: ['C:\sd\*.json']}]"), "PI037", "scrape_configs[0](j).file_sd_configs[0].files[0]"),
        (job(r"file_sd_configs: [{files: ['sd\*.json']}]"), "PI037", "scrape_configs[0](j).file_sd_configs[0].files[0]"),
        (job("file_sd_configs: [{files: [C:/a.json]}]"), "PI037", "scrape_configs[0](j).file_sd_configs[0].files[0]"),
        (job("consul_sd_configs: [{}]"), "PI017", "scrape_configs[0](j).consul_sd_configs[0]"),
        (job("nomad_sd_configs: [{region: x}]"), "PI017", "scrape_configs[0](j).nomad_sd_configs[0]"),
        (job("docker_sd_configs: [{host: 'unix:///d.sock'}]"), "PI017", "scrape_configs[0](j).docker_sd_configs[0].host"),
        (
            job("marathon_sd_configs: [{servers: ['http://m:1', 'http://localhost:1']}]"),
            "PI017",
            "scrape_configs[0](j).marathon_sd_configs[0].servers[1]",
        ),
        (
            job("relabel_configs: [{target_label: __metrics_path__, replacement: /federate}]"),
            "PI006",
            "scrape_configs[0](j)",
        ),
        (job(f"metric_relabel_configs: [{HASH}]"), "PI038", "scrape_configs[0](j).metric_relabel_configs[0]"),
        (job("consulagent_sd_configs: [{server: 'c:8500'}]"), "PI024", "scrape_configs[0](j)"),
        (job("http_sd_configs: [{url: 'http://x/', headers: ['a: b']}]"), "PI024", "scrape_configs[0](j)"),
        (job("file_sd_configs: [{files: ['http://x/a.json']}]"), "PI024", "scrape_configs[0](j)"),
        (job("file_sd_configs: [{files: [a.json]}, {files: [b.yml, 'https://u:p@x/a']}]"), "PI024", "scrape_configs[0](j)"),
        (job().replace("job_name: j", "job_name: '${ENV}'"), "PI019", "scrape_configs[0](${ENV}).job_name"),
        (job().replace("]}]", "], labels: {__metrics_path__: /p/federate}}]"), "PI006", "scrape_configs[0](j)"),
        (job("target_limit: 5"), "PI029", "scrape_configs[0](j).target_limit"),
        (job("params: {sig: [x]}"), "PI027", "scrape_configs[0](j).params"),
        ("scrape_config_files: ['http://x/y.yml']\n" + job(), "PI028", "scrape_config_files"),
        ("rule_files: [r.yml]\n" + job(), "PI010", "rule_files"),
        ("global: {external_labels: {replica: a}}\n" + job(), "PI011", "global.external_labels"),
    ],
)
def test_a_finding_is_where_it_belongs(tmp_path: Path, text: str, code: str, where: str) -> None:
    found = converted(tmp_path, text).findings
    there = [finding for finding in found if finding.code == code]
    assert (code, where) in [(finding.code, finding.where) for finding in there], found
    assert code not in [finding.code for finding in converted(tmp_path, job()).findings]


@pytest.mark.parametrize(
    ("rules", "taken"),
    [
        (f"[{HASH}, {KEEP}]", True),
        (f"[{HASH}, {KEEP.replace('1', '^3$')}]", True),
        (f"[{HASH}, {KEEP.replace('1', '$(SHARD)')}]", True),
        (f"[{HASH}, {KEEP.replace('1', repr('^${SHARD}$'))}]", True),
        (f"[{HASH}, {KEEP.replace('1', repr('%{SHARD}'))}]", True),
        (f"[{HASH}, {KEEP.replace('1', repr('{{ shard }}'))}]", True),
        (f"[{HASH}, {KEEP.replace('1', repr('${SHARD}|0'))}]", False),
        (f"[{HASH}, {KEEP}, {{regex: __tmp.*, action: labeldrop}}]", True),
        (f"[{HASH}, {KEEP.replace('1', '0|1')}]", False),
        (f"[{HASH}, {KEEP.replace('keep', 'drop')}]", False),
        (f"[{HASH}, {KEEP}, {{source_labels: [__tmp], target_label: shard}}]", False),
        (f"[{HASH}, {KEEP}, {{regex: __t.*, action: labelmap}}]", False),
        (f"[{HASH}, {KEEP}]".replace("__tmp", "shard"), False),
        (f"[{KEEP}, {HASH}]", False),
        (f"[{HASH}, {KEEP.replace('1', '4')}]", False),
        (f"[{HASH}, {KEEP.replace('1', '01')}]", False),
        (f"[{HASH}, {KEEP.replace('1', '1' * 5000)}]", False),
        (f"[{HASH}, {KEEP}, {{regex: job|__.*, action: labelkeep}}]", True),
        (f"[{HASH}, {KEEP}, {{regex: job, action: LabelKeep}}]".replace("hashmod", "HashMod"), True),
        (f"[{HASH}, {{regex: job, action: labelkeep}}, {KEEP}]", False),
        (f"[{HASH}, {{regex: __tmp, action: labeldrop}}, {KEEP}]", False),
        (f"[{HASH}, {KEEP}, {{regex: shard, action: labeldrop}}]".replace("__tmp", "shard"), True),
        (f"[{HASH}, {KEEP}, {{regex: job|instance, action: labelkeep}}]".replace("__tmp", "shard"), True),
        (f"[{HASH}, {KEEP}, {{regex: job|shard, action: labelkeep}}]".replace("__tmp", "shard"), False),
        (f"[{HASH}, {KEEP}, {{regex: '[[:alpha:]]+', action: labeldrop}}]".replace("__tmp", "shard"), True),
        (f"[{HASH}, {{regex: '[[:alpha:]_]+', action: labeldrop}}, {KEEP}]", False),
        (f"[{HASH}, {{regex: '__tmp\\z', action: labeldrop}}, {KEEP}]", False),
        (f"[{HASH}, {{regex: '__\\pL+', action: labeldrop}}, {KEEP}]", False),
        (f"[{HASH}, {{regex: '__meta_\\pL+', action: labeldrop}}, {KEEP}]", True),
        (f"[{HASH}, {KEEP}, {{regex: '__(?i)T(.*)', action: labelmap}}]", False),
        (f"[{HASH}, {KEEP}, {{regex: '__meta_ec2_\\pL+', action: labelmap}}]", True),
        (f"[{HASH}, {OF_OPERATOR}]", True),
        (f"[{HASH}, {OF_OPERATOR.replace('$(SHARD)', '0')}]", True),
        (f"[{HASH}, {OF_OPERATOR.replace('|.+;.+', '')}]", False),
        (f"[{{target_label: __tmp_disable_sharding, replacement: x}}, {HASH}, {OF_OPERATOR}]", False),
    ],
)
def test_shards_by_hashmod_are_taken_out_only_as_a_plain_pair(tmp_path: Path, rules: str, taken: bool) -> None:
    found = converted(tmp_path, job(f"relabel_configs: {rules}"))
    assert found.jobs[0].verdict is (Verdict.NATIVE if taken else Verdict.NOT_TAKEN)
    assert (b"hashmod" in found.files[SCRAPERS].content.lower()) is not taken
    assert found.exact is taken


def test_a_key_without_a_value_names_no_file(tmp_path: Path) -> None:
    found = converted(tmp_path, "rule_files:\nscrape_config_files: ~\n" + job()).findings
    assert not [finding for finding in found if finding.code == "PI013"]


def test_what_a_slice_sets_itself_depends_on_how_it_comes(tmp_path: Path) -> None:
    text = job("relabel_configs: [{source_labels: [__meta_url], target_label: url}]")
    assert converted(tmp_path, text).exact
    assert not converted(tmp_path, text, Layout(http_sd="http://p:9600")).exact


def test_included_files_that_lie_elsewhere_are_written_below_the_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "jobs.yml").write_text(job().replace("job_name: j", f"job_name: {name}"))
    (tmp_path / "etc").mkdir()
    listed = json.dumps([str(tmp_path / "one" / "*.yml"), "../two/jobs.yml", str(tmp_path / "one" / "jobs.yml")])
    found = converted(tmp_path / "etc", f"scrape_config_files: {listed}\n")
    assert set(found.files) == {"prometheus.yml", "promring.yml", "included/jobs.yml", "included/2-jobs.yml"}
    assert {f.what for f in found.findings if f.code == "PI036"} == {
        str(tmp_path / "one" / "jobs.yml"),
        str(tmp_path / "etc" / ".." / "two" / "jobs.yml"),
    }
    assert b"files: [../promring/one.json]" in found.files["included/jobs.yml"].content, "Prometheus looks from that file"


def test_included_files_name_slices_from_their_own_folder(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "jobs.yml").write_text(job())
    for slices, path in (("promring", "../../promring/j.json"), ("a/x", "../x/j.json"), ("/srv", "/srv/j.json")):
        found = converted(tmp_path, "scrape_config_files: ['a/*/*.yml']\n", Layout(slices=slices))
        assert f"files: [{path}]".encode() in found.files["a/b/jobs.yml"].content


@pytest.fixture
async def old_server() -> AsyncIterator[str]:
    targets = [{"labels": {"job": "j"}, "scrapePool": "j", "scrapeInterval": "10s", "scrapeUrl": "http://h/"}] * 3
    result = [{"metric": {"job": "j"}, "value": [0, "1200000"]}]

    async def answer(request: web.Request) -> web.Response:
        data = {"activeTargets": targets} if request.path.endswith("targets") else {"result": result}
        return web.json_response({"status": "success", "data": data})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_the_old_server_says_how_many_scrapers_its_load_needs(tmp_path: Path, old_server: str) -> None:
    load = await ask_load(old_server, converted(tmp_path, job()))
    assert (load.jobs["j"].targets, load.jobs["j"].samples, load.jobs["j"].per_second) == (3, 1_200_000, 120_000)
    assert (load.needed, load.each(2), load.kept) == (3, 600_000, 0)
    with pytest.raises(AskError):
        await ask_load("http://127.0.0.1:1", converted(tmp_path, job()))
