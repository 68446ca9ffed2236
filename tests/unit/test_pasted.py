"""Blocks of Prometheus, pasted under ``targets``: keys, defaults and units of Prometheus, and what is refused by name."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import yaml
from aiohttp import web

from promring.config.load import loads
from promring.config.settings import Settings
from promring.core.fragment import decode, fragments
from promring.discovery import Source, SourceContext, SourceSettings
from promring.discovery.consul_query import ConsulQuery
from promring.discovery.dns import DnsTargets
from promring.discovery.file import FileTargets
from promring.discovery.pasted import ConsulSdConfig, HttpSdConfig, StaticConfigs
from promring.model import ConfigError, DiscoveryError
from promring.rules import ranks_of, sources_of
from promring.runtime.redact import HIDDEN
from tests.fakes.source import TargetSource


def settings(targets: object, base: Path = Path("/conf")) -> Settings:
    service = {
        "name": "node",
        "scrapers": {"probe": {"nodes": ["10.0.0.1:9090"]}},
        "targets": targets,
        "delivery": [{"http_sd": {}}],
    }
    return loads(yaml.safe_dump({"shard_services": [service]}, sort_keys=False), name="x.yml", base=base)


def parts(targets: object, base: Path = Path("/conf")) -> list[SourceSettings]:
    return [part for entry in settings(targets, base).shard_services[0].targets for part in entry.parts]


def source(block: SourceSettings) -> Source:
    return block.source(SourceContext(Path("/conf")))


AS_IT_STANDS = """
consul_sd_configs:
  - server: consul.example:8500
    services: [web]
  - {}
dns_sd_configs:
  - names: [_web._tcp.example.]
http_sd_configs:
  - url: http://cmdb.example/sd
file_sd_configs:
  - files: [targets/*.json]
static_configs:
  - targets: ['a:1', 'b:1']
    labels: {team: x}
  - targets: ['c:1']
"""


@pytest.mark.parametrize("dashes", [False, True])
def test_the_blocks_of_a_job_are_taken_as_they_stand_with_the_defaults_of_prometheus(dashes: bool) -> None:
    pasted = yaml.safe_load(AS_IT_STANDS)
    found = parts([{key: blocks} for key, blocks in pasted.items()] if dashes else pasted)
    consul, everything, dns, http, file, static = found
    assert isinstance(consul, ConsulSdConfig)
    assert (consul.server, consul.services) == ("consul.example:8500", ["web"])
    assert isinstance(everything, ConsulSdConfig)
    assert (everything.server, everything.scheme, everything.services) == ("localhost:8500", "http", [])
    assert (everything.allow_stale, everything.tag_separator, everything.refresh_interval) == (True, ",", 30.0)
    assert isinstance(dns, DnsTargets)
    assert (dns.type, dns.refresh_interval) == ("SRV", 30.0)
    assert isinstance(http, HttpSdConfig)
    assert (http.refresh_interval, http.timeout_s, http.follow_redirects) == (60.0, 60.0, True)
    assert isinstance(file, FileTargets)
    assert (file.refresh_interval, file.files) == (300.0, ["/conf/targets/*.json"])
    assert isinstance(static, StaticConfigs)
    assert len({part.source_name for part in found}) == len(found)


async def test_static_targets_are_one_source_in_which_all_that_differs_stays() -> None:
    groups = [
        {"targets": ["a:1", "b:1"], "labels": {"team": "x", "port": 80}},
        {"targets": ["a:1"], "labels": {"team": "y"}},
        {"targets": ["a:1"], "labels": {"team": "y"}},
    ]
    (static,) = parts([{"static_configs": groups}])
    pool = await source(static).fetch()
    found = sorted((one.address, *one.labels.items()) for one in map(decode, fragments(pool)))
    assert found == [("a:1", ("port", "80"), ("team", "x")), ("a:1", ("team", "y")), ("b:1", ("port", "80"), ("team", "x"))]
    assert await source(static).fetch() == pool


def test_each_block_is_a_source_with_its_own_name() -> None:
    blocks = [{"server": "a:8500", "services": ["x"]}, {"server": "b:8500", "services": ["x"], "datacenter": "dc2"}]
    assert [part.source_name for part in parts([{"consul_sd_configs": blocks}])] == [
        "consul:a:8500/x",
        "consul:b:8500/x,dc=dc2",
    ]


@pytest.mark.parametrize("nothing", ["", " ~", " null"])
def test_a_key_without_a_value_has_its_default(nothing: str) -> None:
    text = f"""
shard_services:
  - name: node
    scrapers: {{probe: {{nodes: ["10.0.0.1:9090"]}}}}
    delivery: [{{http_sd: {{}}}}]
    targets:
      static_configs:
        - targets:{nothing}
          labels:{nothing}
        - {{targets: [null], labels: {{a: null, b: ~}}}}
      consul_sd_configs:
        - server: c:8500
          services:{nothing}
          tags:{nothing}
          token:{nothing}
          node_meta:{nothing}
          refresh_interval:{nothing}
"""
    static, consul = (part for entry in loads(text, base=Path()).shard_services[0].targets for part in entry.parts)
    assert isinstance(static, StaticConfigs)
    assert [one.model_dump(include={"targets", "labels"}) for one in static.blocks] == [
        {"targets": [], "labels": {}},
        {"targets": [""], "labels": {"a": "", "b": ""}},
    ]
    assert isinstance(consul, ConsulSdConfig)
    assert (consul.services, consul.tags, consul.node_meta, consul.refresh_interval) == ([], [], {}, 30.0)


def test_blocks_side_by_side_have_one_rank_and_other_kinds_have_their_own() -> None:
    static = {"static_configs": [{"targets": ["a:1"]}]}
    again = {"static_configs": [{"targets": ["a:1"]}]}
    files = {"file_sd_configs": [{"files": ["a.json"]}, {"files": ["b.json"]}, {"files": ["a.json"]}]}
    service = settings([static, files, {"file": {"files": ["c.json"]}}, again]).shard_services[0]
    assert list(ranks_of(service).values()) == [0, 0, 0, 0, 1, 2]
    assert list(ranks_of(service)) == list(sources_of(service))
    assert len(set(ranks_of(service))) == 6


CONSUL, HTTP = {"server": "a:8500"}, {"url": "http://cmdb/sd"}
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("consul_sd_configs", CONSUL | {"oauth2": {"client_id": "x"}}, r"\[0\].oauth2: promring cannot do this: have a program"),
    ("http_sd_configs", HTTP | {"basic_auth": {"username": "x", "password_ref": "y"}}, r"password_ref: .*ends in _file"),
    ("http_sd_configs", HTTP | {"authorization": {"credentials_ref": "y"}}, r"credentials_ref: .*ends in _file"),
    ("http_sd_configs", HTTP | {"tls_config": {"ca_ref": "x"}}, r"tls_config.ca_ref: .*ends in _file"),
    ("http_sd_configs", HTTP | {"tls_config": {"min_version": "TLS10"}}, r"tls_config.min_version: "),
    ("http_sd_configs", HTTP | {"tls_config": {"max_version": "TLS11"}}, r"max_version: "),
    ("http_sd_configs", HTTP | {"tls_config": {"cert_file": "x"}}, r"a certificate and its key go together"),
    ("http_sd_configs", HTTP | {"no_proxy": "x"}, r"no_proxy needs proxy_url"),
    ("http_sd_configs", HTTP | {"proxy_url": "socks5://x:1"}, r"proxy_url: "),
    ("http_sd_configs", HTTP | {"authorization": {"type": "Basic"}}, r"say basic_auth"),
    ("http_sd_configs", HTTP | {"basic_auth": {"username": "x"}, "bearer_token": "y"}, r"either basic_auth or bearer_token"),
    ("http_sd_configs", HTTP | {"basic_auth": {"password": "x", "password_file": "y"}}, r"either password or password_file"),
    ("http_sd_configs", HTTP | {"http_headers": {"Host": {"values": ["x"]}}}, r"Host has keys of its own"),
    ("http_sd_configs", HTTP | {"http_headers": {"X": {"values": ["x", "y"]}}}, r"http_headers"),
    ("http_sd_configs", HTTP | {"relabel_configs": []}, r"relabel_configs: unknown key"),
    ("relabel_configs", {}, r"relabel_configs: this stays in the job on the scrapers"),
    ("consul_sd_configs", {"server": "http://a:8500"}, r"server: is host:port; http or https is the key scheme"),
    ("consul_sd_configs", CONSUL | {"token": "x", "authorization": {"credentials": "y"}}, r"\[0\].token: either token or "),
    ("http_sd_configs", {}, r"http_sd_configs\[0\].url: is required"),
    ("dns_sd_configs", {"names": []}, r"dns_sd_configs\[0\].names: "),
    ("dns_sd_configs", {"names": ["x"], "type": "TXT"}, r"type: 'TXT' is none of A, AAAA, MX, NS, SRV"),
    ("file_sd_configs", {"files": ["x.txt"]}, r"files\[0\]: "),
    ("static_configs", {"targets": [["x"]]}, r"targets\[0\]: "),
    ("consul_sd_configs", {"services": "web"}, r"services: "),
    ("kubernetes_sd_configs", {"role": "pod"}, r"kubernetes_sd_configs: let a Prometheus discover these"),
    ("prometheus", {"url": "http://a:9090/p/api/v1/targets", "scrape_pool": "x"}, r"prometheus.url: is that of the server"),
    ("prometheus", {"url": "http://a:9090/?key=x", "scrape_pool": "x"}, r"prometheus.url: .* without a query"),
    ("ec2_sd_configs", {}, r"ec2_sd_configs: let a Prometheus discover these"),
]


@pytest.mark.parametrize(("kind", "block", "why"), REFUSED, ids=range(len(REFUSED)))
def test_what_promring_cannot_do_is_refused_by_name_with_what_to_do_instead(
    kind: str, block: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        settings([{kind: block if kind == "prometheus" else [block]}])


def test_an_error_names_the_line_of_the_block() -> None:
    document = """
shard_services:
  - name: node
    scrapers: {probe: {nodes: [10.0.0.1:9090]}}
    delivery: [{http_sd: {}}]
    targets:
      - consul_sd_configs:
          - server: a:8500
          - server: b:8500
            oauth2: {}
"""
    with pytest.raises(ConfigError, match=r"x.yml:10: shard_services\[0\].targets\[0\].consul_sd_configs\[1\].oauth2: "):
        loads(document, name="x.yml")


def test_an_error_in_blocks_without_a_dash_names_their_line_and_their_path_as_it_stands() -> None:
    document = """
shard_services:
  - name: node
    scrapers: {probe: {nodes: [10.0.0.1:9090]}}
    delivery: [{http_sd: {}}]
    targets:
      static_configs: [{targets: [a:1]}]
      consul_sd_configs:
        - server: a:8500
          KEY
"""
    for key, said in (
        ("service: [web]", "consul_sd_configs[0].service: unknown key; did you mean 'services'"),
        ("services: web", "consul_sd_configs[0].services: must be a list"),
        ("username: u\n          basic_auth: {username: u}", "consul_sd_configs[0].username: either username and password"),
    ):
        with pytest.raises(ConfigError) as raised:
            loads(document.replace("KEY", key), name="x.yml")
        assert str(raised.value).startswith(f"x.yml:10: shard_services[0].targets.{said}")


def test_secrets_of_a_block_are_shown_nowhere() -> None:
    found = parts(
        [
            {"consul_sd_configs": [{"token": "canary-1", "basic_auth": {"username": "u", "password": "canary-2"}}]},
            {"http_sd_configs": [HTTP | {"bearer_token": "canary-3", "http_headers": {"X": {"secrets": ["canary-4"]}}}]},
            {"http_sd_configs": [HTTP | {"proxy_url": "http://user:canary-5@proxy:3128"}]},
        ]
    )
    said = repr(found) + str(found)
    assert "canary" not in said
    assert HIDDEN in said


# --- how a block asks ------------------------------------------------------------------------------------------------

SENT: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"basic_auth": {"username": "u", "password": "p"}}, {"Authorization": "Basic " + base64.b64encode(b"u:p").decode()}),
    (
        {"basic_auth": {"username_file": "name", "password_file": "word"}},
        {"Authorization": "Basic " + base64.b64encode(b"from-file:w0rd").decode()},
    ),
    ({"bearer_token": "t"}, {"Authorization": "Bearer t"}),
    ({"bearer_token_file": "word"}, {"Authorization": "Bearer w0rd"}),
    ({"authorization": {"credentials": "t"}}, {"Authorization": "Bearer t"}),
    ({"authorization": {"type": "Token", "credentials_file": "word"}}, {"Authorization": "Token w0rd"}),
    (
        {"http_headers": {"X-One": {"values": ["1"]}, "X-Two": {"secrets": ["2"]}, "X-Three": {"files": ["word"]}}},
        {"X-One": "1", "X-Two": "2", "X-Three": "w0rd"},
    ),
    ({"enable_http2": False, "refresh_interval": "10s"}, {"X-Prometheus-Refresh-Interval-Seconds": "10"}),
]


@pytest.mark.parametrize(("keys", "sent"), SENT, ids=range(len(SENT)))
async def test_a_block_asks_with_what_its_keys_say(tmp_path: Path, keys: dict[str, Any], sent: dict[str, str]) -> None:
    (tmp_path / "name").write_text("from-file\n")
    (tmp_path / "word").write_text("w0rd\n")
    async with TargetSource([{"targets": ["a:1"]}]) as cmdb:
        (block,) = parts([{"http_sd_configs": [{"url": cmdb.url, **keys}]}], tmp_path)
        assert len(await source(block).fetch()) == 1
        assert {name: cmdb.requests[0].headers.get(name) for name in sent} == sent


@asynccontextmanager
async def server(answer: Callable[[web.BaseRequest], web.StreamResponse]) -> AsyncIterator[str]:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return answer(request)

    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_block_goes_through_its_proxy() -> None:
    asked: list[str] = []

    def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(str(request.url))
        return web.json_response([{"targets": ["through:1"]}])

    async with server(answer) as proxy:
        (block,) = parts([{"http_sd_configs": [{"url": "http://cmdb.invalid/sd", "proxy_url": proxy}]}])
        pool = await source(block).fetch()
        assert [one.address for one in map(decode, fragments(pool))] == ["through:1"]
        assert asked == ["http://cmdb.invalid/sd"]


@pytest.mark.parametrize("follow", [True, False])
async def test_redirects_are_followed_unless_the_block_says_otherwise(follow: bool) -> None:
    def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/there":
            return web.json_response([{"targets": ["a:1"]}])
        return web.Response(status=302, headers={"Location": "/there"})

    async with server(answer) as cmdb:
        (block,) = parts([{"http_sd_configs": [{"url": f"{cmdb}/sd", "follow_redirects": follow}]}])
        if follow:
            assert len(await source(block).fetch()) == 1
        else:
            with pytest.raises(DiscoveryError, match="status 302"):
                await source(block).fetch()


def test_consul_in_a_block_is_another_consul_than_that_of_the_section() -> None:
    (block,) = parts([{"consul_sd_configs": [{"server": "other:8501", "scheme": "https", "path_prefix": "/consul"}]}])
    assert isinstance(block, ConsulQuery)
    assert block.needs is None


FRAME = """\
shard_services:
  - name: x
    scrapers: {probe: {nodes: ["h:1"]}}
    delivery: [{http_sd: {}}]
    targets:
"""


@pytest.mark.parametrize("value", ["007", "1.50", "true", "1e3", "0x10", "2024-01-01"])
def test_a_password_and_a_name_without_quotes_are_texts_as_they_stand(value: str) -> None:
    block = f"""\
http_sd_configs:
  - url: http://a.test/
    basic_auth: {{username: {value}, password: {value}}}
consul_sd_configs:
  - {{services: [{value}], tags: [{value}], node_meta: {{a: {value}}}, token: {value}}}
"""
    http, consul = loads(FRAME + indent(block, " " * 6)).shard_services[0].targets
    (one,), (other,) = http.parts, consul.parts
    assert one.basic_auth.username == one.basic_auth.password.reveal() == other.token.reveal() == value  # type: ignore[attr-defined]
    assert (other.services, other.tags, other.node_meta) == ([value], [value], {"a": value})  # type: ignore[attr-defined]
