"""Configuration: what is refused, with the line and key path it is said with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from promring.cli import main
from promring.config.load import load, load_with_lines, loads
from promring.config.node import Node
from promring.model import ConfigError

GOOD = """
shard_services:
  - name: node
    scrapers:
      probe: {nodes: [10.0.0.1:9090, 10.0.0.2:9090]}
    targets:
      - file: {files: [targets/*.json]}
    delivery:
      - file: {path: "out/{service}/{scraper}.json"}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, name="x.yml", base=Path("/etc/promring"))
    return caught.value.problems


def changed(key: str, value: Any) -> str:
    """GOOD with one key of the service set."""
    config = yaml.safe_load(GOOD)
    node = config["shard_services"][0]
    *path, last = key.split(".")
    for part in path:
        node = node.setdefault(part, [] if part == "targets" else {})
    node[int(last) if last.isdigit() else last] = value
    return yaml.safe_dump(config)


def test_a_good_file_has_defaults_and_paths_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "promring.yml"
    file.write_text(GOOD)
    (service,) = load(file).shard_services
    assert service.targets[0].source_name == f"file:{tmp_path}/targets/*.json"
    assert (
        service.delivery[0].file(service.names, service.scraper(service.listed[0]))
        == f"{tmp_path}/out/node/10.0.0.1_9090.json"
    )
    assert (service.placement.virtual_nodes, service.placement.load_factor) == (512, 1.10)
    assert service.listed == [Node("10.0.0.1", 9090), Node("10.0.0.2", 9090)]


@pytest.mark.row(44, did="a corpus of bad configurations: exit 2 and file, line, key")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "x.yml:1: shard_services: is required"),
        ("shard_services: []", "x.yml:1: shard_services: "),
        ("a: &x 1\nb: *x\n", "x.yml:2: b: an alias (*) is not allowed"),
        ("a: 1\na: 2\n", "x.yml:2: a: duplicate key, first on line 1"),
        ("a: [1, 2\n", "x.yml:2: "),
        ("a: 1\n---\nb: 2\n", "x.yml:2: "),
        ('a: "\\UFFFFFFFF"', "x.yml:1: "),
        ('a: "\\U00110000"', "x.yml:1: "),
        ("[" * 40 + "]" * 40, "x.yml:1: nested deeper than 32"),
        ("{a: " * 40 + "1" + "}" * 40, "x.yml:1: nested deeper than 32"),
        ("{" * 40 + "}" * 40, "x.yml:1: a key must be a plain text"),
        (GOOD + "globl: {}\n", "x.yml:10: globl: unknown key"),
        (GOOD + "GLOBAL: {}\n", "x.yml:10: GLOBAL: unknown key; did you mean 'global'?"),
        (GOOD + "'': {}\n", "x.yml:10: '': unknown key"),
        (GOOD + "scrape_configs: []\n", "x.yml:10: scrape_configs: unknown key; this is a configuration of Prometheus"),
        (GOOD.replace("probe:", "fiel:"), "x.yml:5: shard_services[0].scrapers.fiel: unknown key; did you mean 'file'"),
        (
            GOOD.replace("file: {path", "SSH: {path"),
            "x.yml:9: shard_services[0].delivery[0].SSH: unknown key; did you mean 'ssh'",
        ),
        (
            GOOD + "fleets: [{name: f, scrapers: {probe: {nodes: [a:1]}}, guard: {shrink_threshold: 1}}]\n",
            "x.yml:10: fleets[0].guard.shrink_threshold: unknown key; it is a key of a shard service, not of a fleet",
        ),
        (
            GOOD + "fleets: [{name: f, scrapers: {probe: {nodes: [a:1]}}, targets: []}]\n",
            "x.yml:10: fleets[0].targets: unknown key; it is a key of a shard service, not of a fleet",
        ),
        (GOOD + "consul: {addresss: x}\n", "x.yml:10: consul.addresss: unknown key; did you mean 'address'?"),
        (GOOD + "engine: {config_files: x}\n", "x.yml:10: engine.config_files: unknown key; did you mean 'config_file'"),
        (
            GOOD + "global:\n  debounce:\n",
            "x.yml:11: global.debounce: must be a duration such as 500ms, 5s or 1m, and has no",
        ),
        (GOOD + f"global: {{debounce: {'9' * 5000}}}\n", "x.yml:10: global.debounce: is no int that can be read"),
        (GOOD.replace("name: node", "name: 2020-13-45"), "x.yml:3: shard_services[0].name: is no timestamp"),
        (GOOD + "# \0", "x.yml:10: the character U+0000 is not allowed"),
        (GOOD + "# é \x1a", "x.yml:10: the character U+001A is not allowed"),
        (GOOD + "global: {debounce: off}\n", "x.yml:10: global.debounce: false is not a duration"),
        (GOOD + "global: {debounce: \u0665s}\n", "x.yml:10: global.debounce: '\u0665s' is not a duration"),
        (
            GOOD + "engine: {config_file: x, memory_max: 1073741824}\n",
            "x.yml:10: engine.memory_max: 1073741824 is not a size",
        ),
        (
            GOOD + "engine: {config_file: x, memory_max: \u0665GiB}\n",
            "x.yml:10: engine.memory_max: '\u0665GiB' is not a size",
        ),
        (GOOD + "    fleet: main\n", "x.yml:10: shard_services[0].fleet: there is no fleet 'main'"),
        *(
            (
                GOOD.replace("shard_services:", "fleets: [{name: '2020'}]\nshard_services:") + f"    fleet: {named}\n",
                "x.yml:11: shard_services[0].fleet: must be a text; in quotes where YAML reads something else",
            )
            for named in ("2020", "on", "2020-01-01", "0x10")
        ),
        (GOOD + "    fleet: [main]\n", "x.yml:10: shard_services[0].fleet: must be a text"),
        (GOOD + 'consul: {address: "c\\n:8500"}\n', "x.yml:10: consul.address: is not host:port"),
        (GOOD + "consul: {address: c:\u0668\u0665\u0660\u0660}\n", "x.yml:10: consul.address: is not host:port"),
        (
            GOOD.replace("probe: {nodes: [10.0.0.1:9090, 10.0.0.2:9090]}", "dns: {name: 'http://prometheus.svc'}"),
            "x.yml:5: shard_services[0].scrapers.dns.name: 'http://prometheus.svc' is no name in DNS",
        ),
        (GOOD + "global: {debounce: 2m}\n", "x.yml:10: global.debounce: must be shorter than reconcile_interval"),
        (GOOD + "global: {debounce: soon}\n", "x.yml:10: global.debounce: 'soon' is not a duration"),
        ("a: !!bool foo\n", "x.yml:1: a: a tag (!) is not allowed"),
        (GOOD + "controllers: {lock: {}}\n", "x.yml:10: controllers.lock: must have exactly one of: consul"),
        (GOOD + "controllers: {lock: {consul: {}}}\n", "x.yml:10: controllers.lock.consul: needs the section `consul:`"),
        (GOOD + "controllers: {lock: {consul: {check_ttl: 1s}}}\n", "x.yml:10: controllers.lock.consul.check_ttl: must be"),
        (GOOD + "controllers: {lock: {consul: {key: /x}}}\n", "x.yml:10: controllers.lock.consul.key: "),
        (GOOD.replace("9090]", "9090, 10.0.0.1:9090]"), "x.yml:5: shard_services[0].scrapers.probe.nodes[2]: the"),
        (GOOD.replace("name: node", "name: ../node"), "x.yml:3: shard_services[0].name: '../node' must match"),
        (
            GOOD.replace("probe: {", "probe: {timeout: 9s, "),
            "x.yml:5: shard_services[0].scrapers.probe.timeout: ",
        ),
        (
            GOOD.replace("{scraper}", "x"),
            "x.yml:9: shard_services[0].delivery[0].file.path: ",
        ),
        (GOOD.replace("{scraper}", "{scrapr}"), "x.yml:9: shard_services[0].delivery[0].file.path: "),
        (GOOD.replace("file: {path", "ssh: {path"), "x.yml:9: shard_services[0].delivery[0].ssh"),
        (GOOD.replace("- file: {files", "- dns: {type: X, names"), "x.yml:7: shard_services[0].targets[0].dns.type: "),
        ("[]", "x.yml:1: (document): must be a mapping"),
        (GOOD + "global:\n", "x.yml:10: global: must be a mapping, and has no value"),
        (GOOD.replace("name: node", "name: yes"), "x.yml:3: shard_services[0].name: must be a text; in quotes where YAML"),
        (
            GOOD.replace("[10.0.0.1:9090", "[22:22"),
            "x.yml:5: shard_services[0].scrapers.probe.nodes[0]: 1342 is not host:port: Y",
        ),
        (GOOD.replace("*.json", "*.txt"), "x.yml:7: shard_services[0].targets[0].file.files[0]: "),
        (
            GOOD.replace("probe:", "consul: {service: x}\n      probe:"),
            "x.yml:4: shard_services[0].scrapers: must",
        ),
    ],
)
def test_each_error_names_line_and_key(text: str, expected: str) -> None:
    found = problems(text)
    assert any(line.startswith(expected) for line in found), found


@pytest.mark.parametrize("text", ["# é", "# é\n", "# éde\n"])
def test_a_file_that_is_no_utf8_is_refused_where_it_is_not(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads((GOOD + text).encode("latin-1"), name="x.yml")
    assert caught.value.problems == ["x.yml:10: the byte 0xE9 is no UTF-8: save the file as UTF-8"]


def test_a_service_without_a_name_lacks_its_name_alone() -> None:
    assert problems(GOOD.replace("name: node", "name:")) == [
        "x.yml:3: shard_services[0].name: must be a text, and has no value"
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("placement.loads", "samples"),
        ("placement.loads", {"series": {"interval": "0s"}}),
        ("placement.loads", {"series": {}, "count": {}}),
        ("placement.loads", {"promql": {"query": "up"}}),
        ("placement.loads", {"promql": {"url": "http://store:9090/api/v1/query"}}),
        ("placement.loads", {"promql": {"url": "http://store:9090/?key=x"}}),
        ("placement.loads", {"promql": {"url": "http://store:9090", "follow_redirects": True}}),
        ("placement.virtual_nodes", 0),
        ("placement.virtual_nodes", 512.5),
        ("placement.load_factor", 0.9),
        ("placement.load_factor", float("nan")),
        ("placement.load_factor", float("inf")),
        ("placement.load_factor", 1e308),
        ("placement.hash_labels", []),
        ("scrapers.probe.nodes", []),
        ("scrapers.probe.nodes", ["a"]),
        ("scrapers.probe.nodes", ["a:0"]),
        ("scrapers.probe.nodes", ["a:65536"]),
        ("scrapers.probe.nodes", ["-oProxyCommand=x:1"]),
        ("scrapers.probe.nodes", ["a b:1"]),
        ("scrapers.probe.interval", "0s"),
        ("scrapers.probe.healthy_after", 0),
        ("targets.0", {"http": {"url": "file:///etc/passwd"}}),
        ("targets.0", {"http": {"url": "http://user:secret@cmdb/sd"}}),
        ("targets.0", {"http": {"url": "http://cmdb/sd", "bearer_token_file": "not-there"}}),
        ("targets.0", {"http": {"url": "https://cmdb/sd", "tls": {"ca_file": __file__}}}),
        ("targets.0", {"python": {"callable": "os system"}}),
        ("targets.0", {"file": {"files": ["x.json"], "refresh_interval": "9" * 320 + "s"}}),
        ("delivery", [{"file": {"path": "out/{scraper:.3}.json"}}]),
        ("delivery", [{"file": {"path": "out/{scraper!r}.json"}}]),
        ("delivery", [{"file": {"path": "out/{scraper:d}.json"}}]),
        ("delivery", [{"file": {"path": "out/{scraper}.txt"}}]),
        ("delivery", [{"file": {"path": "out/{scraper}.json"}}, {"file": {"path": "out/{host}_{port}.json"}}]),
        ("delivery", [{"file": {"path": "out/{scraper}.json"}}, {"file": {"path": "out/../out/{scraper}.json"}}]),
        ("targets", []),
        ("delivery", []),
        ("delivery", [{"http_sd": {}}, {"http_sd": {}}]),
        ("identity", "port"),
    ],
)
def test_impossible_values_are_refused(key: str, value: Any) -> None:
    (line, *_) = problems(changed(key, value))
    assert line.startswith("x.yml:")
    assert f"shard_services[0].{key.split('.')[0]}" in line
    assert "secret" not in line.replace("credentials", "")


def test_two_services_that_write_one_path_are_refused() -> None:
    service = GOOD.split("shard_services:\n")[1].replace("{service}", "all")
    found = problems("shard_services:\n" + service + service.replace("name: node", "name: other"))
    assert found == [
        "x.yml:15: shard_services[1].delivery[0].file.path: writes the same files as shard_services[0].delivery[0].file.path"
    ]


def test_two_services_with_one_name_are_refused() -> None:
    service = GOOD.split("shard_services:\n")[1]
    assert any("service 'node' is the same" in line for line in problems("shard_services:\n" + service + service))


def test_hosts_as_identity_make_two_ports_one_scraper() -> None:
    assert any(
        "identity 'h' is the same" in line
        for line in problems(changed("identity", "host").replace("10.0.0.1:9090", "h:1").replace("10.0.0.2:9090", "h:2"))
    )


def test_consul_must_be_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSUL_HTTP_ADDR", raising=False)
    text = changed("scrapers", {"consul": {"service": "x"}})
    assert any("needs the section `consul:`" in line for line in problems(text))
    assert loads(text + "\nconsul: {address: 127.0.0.1:8500}\n").consul is not None
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "127.0.0.1:8500")
    assert loads(text).consul is None


def test_all_errors_come_at_once() -> None:
    text = GOOD.replace("*.json", "*.txt").replace("{scraper}", "x") + "global: {debounce: x}\nx: 1\n"
    assert len(problems(text)) == 4


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:850O",
        "http://",
        "unix://",
        "ftp://x",
        "h:99999",
        "http://u:s3cret@h:8500",
        "http://h:8500/path",
        "a b:1",
        "",
    ],
)
def test_an_impossible_consul_address_is_refused_and_its_secret_not_shown(address: str) -> None:
    (line,) = problems(GOOD + f"consul: {{address: '{address}'}}\n")
    assert line.startswith("x.yml:10: consul.address: ")
    assert "s3cret" not in line


@pytest.mark.parametrize("address", ["127.0.0.1:8500", "consul.example", "https://[::1]:8501", "unix:///run/consul.sock"])
def test_possible_consul_addresses(address: str) -> None:
    assert loads(GOOD + f"consul: {{address: '{address}'}}\n").consul is not None


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"address": "10.0.0.1:9090", "zone": "a", "weight": 2}, Node("10.0.0.1", 9090, "a", 2.0)),
        ({"address": "10.0.0.1:9090", "weight": 0}, Node("10.0.0.1", 9090, "", 0.0)),
        ("[::1]:9090", Node("::1", 9090)),
    ],
)
def test_a_scraper_may_have_a_zone_and_a_weight(node: Any, expected: Node) -> None:
    text = changed("scrapers.probe.nodes", [node])
    (service,) = loads(text, base=Path("/")).shard_services
    assert service.listed == [expected]
    assert service.scraper(expected).weight == expected.weight


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"address": "10.0.0.1:9090", "weight": -1}, "weight: -1 is not a number from 0 to 100"),
        ({"address": "10.0.0.1:9090", "weight": float("nan")}, "weight: nan is not"),
        ({"address": "10.0.0.1:9090", "weight": "1_0"}, "weight: '1_0' is not"),
        ({"address": "10.0.0.1:9090", "weight": "\uff11"}, "weight: '\uff11' is not"),
        ({"address": "10.0.0.1:9090", "weight": "2\n"}, r"weight: '2\n' is not"),
        ({"address": "10.0.0.1:9090", "weight": float("inf")}, "weight: inf is not"),
        ({"address": "10.0.0.1:9090", "weight": True}, "weight: True is not"),
        ({"address": "10.0.0.1:9090", "weight": 10**400}, "weight: 1000000"),
        ({"address": "10.0.0.1:9090", "zone": 5}, "zone: '5' is not a short text"),
        ({"address": "10.0.0.1"}, "'10.0.0.1' is not host:port"),
        ({"adress": "10.0.0.1:1"}, "unknown key 'adress'"),
        ({}, "address is required: host:port"),
        (5, "5 is not host:port"),
    ],
)
def test_a_scraper_that_is_none_is_named(node: Any, said: str) -> None:
    (found,) = problems(changed("scrapers.probe.nodes", ["10.0.0.2:1", node]))
    assert "shard_services[0].scrapers.probe.nodes[1]: " in found
    assert said in found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("placement.capacity", 0),
        ("placement.capacity", float("nan")),
        ("placement.capacity", float("inf")),
        ("placement.replication_factor", 0),
        ("placement.replication_factor", 1.5),
        ("placement.load_factor", 0.9),
        ("zones", {"label": ""}),
        ("placement.hash_labels", [""]),
        ("zones", {}),
    ],
)
def test_placement_numbers_that_are_none_are_named(key: str, value: Any) -> None:
    assert any(f"shard_services[0].{key}" in line for line in problems(changed(key, value)))


def test_a_joining_scraper_is_taken_as_it_is_listed() -> None:
    text = changed("scrapers.probe.nodes", [{"address": "10.0.0.1:1", "zone": "a", "weight": 3}])
    (service,) = loads(text, base=Path("/")).shard_services
    assert (service.joining("10.0.0.1:1").zone, service.joining("10.0.0.1:1").weight) == ("a", 3.0)
    assert service.joining("10.0.0.1:1,zone=b").zone == "b"
    assert service.joining("10.0.0.9:1,zone=b,weight=0.5").weight == 0.5
    for bad in ("10.0.0.9", "10.0.0.9:1,zone", "10.0.0.9:1,colour=red", "10.0.0.9:1,weight=x"):
        with pytest.raises(ValueError, match="not"):
            service.joining(bad)


FAR = """
shard_services:
  - name: one
    scrapers: {probe: {nodes: [h1:9090, h2:9090]}}
    targets: [{file: {files: [a.json]}}]
    delivery:
      - %s
  - name: two
    scrapers: {probe: {nodes: [%s]}}
    targets: [{file: {files: [a.json]}}]
    delivery:
      - %s
"""
SSH = "ssh: {user: u, path: '%s', identity_file: /dev/null, known_hosts: /dev/null%s}"
ONE_FILE = [
    ("ansible: {}", "h2:9091", "ansible: {}"),
    ("ansible: {}", "H2:9091", "ansible: {}"),
    ("ansible: {dest_dir: /sd}", "h2:9091", "ansible: {dest_dir: /sd/}"),
    (SSH % ("/sd/x.json", ""), "h1:9999", SSH % ("/sd/x.json", "")),
    (SSH % ("/sd/{host}.json", ""), "h1:9999", SSH % ("/sd/./h1.json", "")),
    ("ansible: {dest_dir: /sd, dest_sd_file_name: x.json}", "h1:9999", SSH % ("/sd/x.json", "")),
]
TWO_FILES = [
    ("ansible: {}", "h3:9090", "ansible: {}"),
    ("ansible: {}", "h2:9090", "ansible: {dest_sd_file_name: two.json}"),
    ("ansible: {}", "h2:9090", "ansible: {extra_vars_file: /dev/null}"),
    (SSH % ("/sd/{service}.json", ""), "h1:9999", SSH % ("/sd/{service}.json", "")),
    (SSH % ("/sd/x.json", ""), "h1:9999", SSH % ("/sd/x.json", ", port: 2222")),
]


@pytest.mark.parametrize("one_file", ONE_FILE)
def test_two_services_on_one_file_of_a_scrapers_host_are_refused(one_file: tuple[str, str, str]) -> None:
    (found,) = problems(FAR % one_file)
    assert "shard_services[1].delivery[0]." in found
    assert "writes the same files as shard_services[0].delivery[0]." in found


@pytest.mark.parametrize("two_files", TWO_FILES)
def test_two_services_on_files_of_their_own_are_not(two_files: tuple[str, str, str]) -> None:
    assert len(loads(FAR % two_files).shard_services) == 2


def test_two_services_whose_scrapers_nobody_lists_may_have_the_same_ones() -> None:
    probed = "{probe: {nodes: [h1:9090, h2:9090]}}"
    text = "consul: {address: 127.0.0.1:1}\n" + (FAR % ("ansible: {}", "h3:9090", "ansible: {}")).replace(
        probed, "{consul: {service: x}}"
    )
    assert "writes the same files as" in problems(text)[0]


def every_text(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The key path of each text in it."""
    if isinstance(value, str):
        return [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in items for found in every_text(inner, (*path, key))]


WHOLE: dict[str, Any] = {
    "global": {"reconcile_interval": "60s", "debounce": "1s"},
    "consul": {
        "address": "127.0.0.1:8500",
        "token_file": "t",
        "datacenter": "dc1",
        "tls": {"ca_file": "ca", "cert_file": "c", "key_file": "k", "server_name": "s"},
    },
    "controllers": {"lock": {"consul": {"key": "a/b", "check_ttl": "5s"}}},
    "shard_services": [
        {
            "name": "one",
            "description": "d",
            "identity": "host",
            "scrapers": {"consul": {"service": "x", "register": {"nodes": ["h:1"], "check": {"path": "/r"}}}},
            "zones": {"label": "zone"},
            "targets": [
                {"file": {"files": ["a/*.json"], "refresh_interval": "5s"}},
                {"http": {"url": "http://h/sd", "headers_file": "h", "bearer_token_file": "b", "tls": {"ca_file": "x"}}},
                {"python": {"callable": "m:f", "interval": "5s"}},
            ],
            "placement": {"hash_labels": ["env"], "loads": "count"},
            "delivery": [
                {"http_sd": {}},
                {"file": {"path": "out/{scraper}.json"}},
                {"ssh": {"host": "{host}", "user": "u", "path": "/x/{host}.json", "identity_file": "i", "known_hosts": "k"}},
                {"ansible": {"playbook": "p", "dest_dir": "/d", "user": "u", "extra_vars_file": "e"}},
            ],
            "audit": {"interval": "20s"},
            "job": "p",
        },
        {
            "name": "two",
            "scrapers": {"probe": {"nodes": [{"address": "h:1", "zone": "a", "weight": 1}], "path": "/r"}},
            "targets": [{"file": {"files": ["a.json"]}}],
            "delivery": [{"http_sd": {}}],
        },
    ],
}
STRANGE = st.one_of(
    st.sampled_from(
        ["", " ", "\0", "a\0b", "../../x", "/" * 5000, "x" * 5000, "x" * 70_000, "{", "}", "{}", "{0}", "{scraper!r}",
         "{host:9999999999}", "{host.__class__}", "{scraper[0]}", "http://[::1", "http://h:99999/", "http:///", "unix://",
         "\x1b[31m", "a\nb", "\ud800", "é", "\u202e", "%", "%00", "~", "$HOME", "/dev/zero", "/dev/stdin", "/proc/self/mem"]
    ),
    st.text(max_size=20),
    st.text(st.sampled_from("{}!:.[]/\\%$\0\n@?#&= "), max_size=12),
)  # fmt: skip


@given(data=st.data())
def test_no_text_in_any_key_is_more_than_an_error(data: st.DataObject) -> None:
    """Paths, URLs, templates, names, and the keys themselves."""
    config = json.loads(json.dumps(WHOLE))
    *path, last = data.draw(st.sampled_from(every_text(config)))
    place = config
    for part in path:
        place = place[part]
    text = data.draw(STRANGE)
    if isinstance(place, dict) and data.draw(st.booleans()):
        place[text] = place.pop(last)
    else:
        place[last] = text.replace("{", data.draw(st.sampled_from(["{", "{scraper}.json{"])))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "x.yml"
        file.write_text(json.dumps(config))
        result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == 2, result.exception  # its files are not there
    assert all(line.isprintable() and line.startswith(str(file)) for line in result.output.splitlines()), result.output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [" + "1," * 150_000 + "1]", "more than 100000 keys and values"),
        ("{" + "".join(f"a{n}: 1," for n in range(60_000)) + "}", "more than 100000 keys and values"),
        ("a: " + "x" * 70_000, "a text of more than 65536 characters"),
        ("x" * 70_000 + ": 1", "a text of more than 65536 characters"),
        ("a: " + "1:" * 32_000 + "1", "unknown key"),
        ("shard_services: [" + "1," * 5_000 + "1]", "list should have at most 1000 items"),
        (GOOD.replace("10.0.0.2:9090]", "10.0.0.2:9090" + ", h:1" * 11_000 + "]"), "list should have at most 10000 items"),
        (GOOD.replace("[targets/*.json]", "[" + "a.json," * 1_001 + "a.json]"), "list should have at most 1000 items"),
    ],
    ids=lambda text: text[:20],
)
@pytest.mark.row("A6", did="a configuration of many entries, of long keys and texts")
def test_a_configuration_is_bounded_in_entries(text: str, expected: str) -> None:
    found = problems(text)
    assert any(expected in line for line in found), found[:3]
    assert len(found) <= 101


def test_what_cannot_be_a_file_is_named_and_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    good = GOOD.replace("delivery:", "delivery:\n      - ansible: {user: u, playbook: folder}")
    (tmp_path / "x.yml").write_text("consul: {address: 127.0.0.1:1, token_file: pipe}\n" + good)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "x.yml")
    assert [line.partition(": ")[2] for line in caught.value.problems] == [
        f"consul.token_file: {tmp_path}/pipe: not a regular file",
        f"shard_services[0].delivery[0].ansible.playbook: {tmp_path}/folder: not a regular file",
    ]
    for name, why in (
        ("pipe", "not a regular file"),
        ("folder", "not a regular file"),
        ("none", "No such file or directory"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_with_lines(tmp_path / name, pipes=False)
        assert caught.value.problems == [f"{tmp_path}/{name}:1: {why}"]


SENT = {
    "consul": ("consul: {address: 127.0.0.1:1, token_file: secret}\n", "consul.token_file"),
    "etcd": ("etcd: {username: u, password_file: secret}\n", "etcd.password_file"),
}
"""Sections with a file whose one line is sent."""


@pytest.mark.parametrize("section", SENT)
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \r\n\n", "is empty"),
        (b"\xef\xbb\xbftoken\n", "begins with a byte order mark; save it as UTF-8 without one"),
        ("token".encode("utf-16"), "is not text in UTF-8"),
        (b"token\nmore\n", "has a line break or a control character in it"),
        (b"token\r\n", ""),
        (b" token \n\n", ""),
    ],
)
def test_a_secret_that_cannot_be_sent_is_named_before_it_is(tmp_path: Path, section: str, content: bytes, why: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    text, key = SENT[section]
    (tmp_path / "x.yml").write_text(text + GOOD)
    try:
        load(tmp_path / "x.yml")
        found = []
    except ConfigError as error:
        found = [line.partition(": ")[2] for line in error.problems]
    assert found == ([f"{key}: {tmp_path}/secret: {why}"] if why else [])


# --- fleets ----------------------------------------------------------------------------------------------------------

SHARED = """
fleets:
  - name: main
    scrapers: {probe: {nodes: [10.0.0.1:9090]}}
    delivery: [{file: {path: "out/{service}/{scraper}.json"}}]
shard_services:
  - {name: a, fleet: main, targets: [{file: {files: [a.json]}}]}
  - {name: b, fleet: main, targets: [{file: {files: [b.json]}}]}
"""


def shared(keys: dict[str, Any], **service: Any) -> str:
    """SHARED with these keys of the fleet and of the second service."""
    config = yaml.safe_load(SHARED)
    config["fleets"][0] |= keys
    config["shard_services"][1] |= service
    return yaml.safe_dump(config, sort_keys=False)


def test_a_fleet_that_is_wrong_is_not_called_missing() -> None:
    fleet = {"name": "main", "scrapers": {"probe": {"nodes": "10.0.0.1:9090"}}, "delivery": [{"http_sd": {}}]}
    service = {"name": "a", "targets": [{"file": {"files": ["t.json"]}}]}
    for named, said in (
        ("main", ["nodes: must be a list"]),
        ("mian", ["nodes: must be a list", "there is no fleet 'mian'"]),
    ):
        found = problems(yaml.safe_dump({"fleets": [fleet], "shard_services": [{**service, "fleet": named}]}))
        assert len(found) == len(said)
        assert all(what in one for what, one in zip(said, found, strict=True)), found


@pytest.mark.parametrize(
    ("files", "path"),
    [
        ("targets/*/*.json", "targets/{service}/{scraper}.json"),
        ("out/*.json", "out/{service}-{scraper}.json"),
        ("sd/../a/*.json", "./a/{scraper}.json"),
        ("out/10.0.0.1_9090.json", "out/{scraper}.json"),
    ],
)
def test_a_source_that_would_read_our_own_slices_is_refused(files: str, path: str) -> None:
    """A target that its source lets go would stay in them for ever."""
    good = {**yaml.safe_load(GOOD)["shard_services"][0], "delivery": [{"file": {"path": path}}]}
    targets = [{"file": {"files": ["t/a.json", files]}}]
    (found,) = problems(yaml.safe_dump({"shard_services": [{**good, "targets": targets}]}))
    assert "shard_services[0].targets[0].file.files[1]: would read the slices that shard_services[0].delivery[0]" in found
    targets = [{"file": {"files": ["t/a.json", "t/*.json"]}}]
    assert loads(yaml.safe_dump({"shard_services": [{**good, "targets": targets}]}))


def test_services_that_name_a_fleet_have_its_keys() -> None:
    found = loads(shared({"join_delay": "7s", "placement": {"capacity": 9}}, job="other"), base=Path("/srv"))
    (fleet,) = found.every_fleet
    assert (fleet.name, [s.name for s in fleet.services], [s.job for s in fleet.services]) == (
        "main",
        ["a", "b"],
        ["a", "other"],
    )
    assert {(s.join_delay, s.placement.capacity) for s in fleet.services} == {(7.0, 9)}
    (own,) = loads(GOOD, base=Path("/srv")).every_fleet
    assert (own.name, own.services[0].fleet) == ("node", "node")


@pytest.mark.parametrize(
    ("service", "fleet", "said"),
    [
        ({"fleet": "none"}, {}, "there is no fleet 'none'"),
        ({"join_delay": "1s"}, {}, "join_delay is said by its fleet 'main', not here"),
        ({"placement": {"capacity": 1}}, {}, "placement.capacity is said by its fleet 'main', not here"),
        ({"job": "a"}, {}, "job 'a' is that of shard_services[0], which has the same scrapers"),
        ({}, {"delivery": [{"file": {"path": "out/{scraper}.json"}}]}, "put {service} into it"),
        ({}, {"delivery": [{"http_sd": {}}, {"http_sd": {}}]}, "http_sd is there already"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_fleet_and_its_services_say_has_to_fit(service: dict[str, Any], fleet: dict[str, Any], said: str) -> None:
    (problem,) = problems(shared(fleet, **service))
    assert said in problem


def test_a_service_with_a_fleet_of_its_own_has_no_name_of_another_fleet() -> None:
    config = yaml.safe_load(SHARED)
    own = {"scrapers": {"probe": {"nodes": ["10.0.0.9:9090"]}}, "delivery": [{"http_sd": {}}]}
    config["shard_services"][1] = {"name": "main", "targets": [{"file": {"files": ["m.json"]}}], **own}
    (problem,) = problems(yaml.safe_dump(config, sort_keys=False))
    assert "shard_services[1].name: is the name of fleets[0], too" in problem
    config["shard_services"][1] = {"name": "main", "fleet": "main", "targets": [{"file": {"files": ["m.json"]}}]}
    (fleet,) = loads(yaml.safe_dump(config), base=Path("/srv")).every_fleet
    assert [s.name for s in fleet.services] == ["a", "main"]


def test_two_services_of_a_fleet_with_one_file_name_are_refused_whatever_the_extra_variables_say(tmp_path: Path) -> None:
    (tmp_path / "v.yml").write_text("{}\n")

    def problems(name: str) -> list[str]:
        named = f", dest_sd_file_name: '{name}'" if name else ""
        text = f"""
fleets:
  - {{name: main, scrapers: {{probe: {{nodes: [h:1]}}}}, delivery: [{{ansible: {{extra_vars_file: v.yml{named}}}}}]}}
shard_services:
  - {{name: a, fleet: main, targets: [{{file: {{files: [a.json]}}}}]}}
  - {{name: b, fleet: main, targets: [{{file: {{files: [b.json]}}}}]}}
"""
        try:
            loads(text, base=tmp_path)
        except ConfigError as error:
            return error.problems
        return []

    (problem,) = problems("")
    assert "put {service} into it" in problem
    assert problems("{service}.json") == []


@pytest.mark.parametrize(
    "password", ["*cAnArY7fX3x9", "!cAnArY7fX3x9 x", "!!int cAnArY7fX3x9", "&cAnArY7fX3x9 *x", "'cAnArY7fX3x9", "2020-13-45"]
)
def test_a_password_that_yaml_reads_otherwise_is_not_repeated(password: str) -> None:
    found = problems(GOOD + f"scraper_api: {{basic_auth: {{username: u, password: {password}}}}}\n")
    assert found
    assert all(line.startswith("x.yml:1") for line in found)
    assert not any(part in line for line in found for part in ("cAnArY", "2020"))
