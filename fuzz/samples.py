"""What other programs write to promring, one or two of each kind: fuzzing begins with these."""

from __future__ import annotations

import numpy as np

from promring.core.claims import Claims
from promring.core.plan import body_of
from promring.core.pool import pool_of
from promring.core.standing import History
from promring.fleet import journal
from promring.fleet.records import Written, whole
from promring.fleet.state import Memory, ServiceMemory
from promring.model import LONG_AGO, NEVER_ENDS, Generation, Scraper, Slice, TargetGroup

CONFIGURATION = b"""fleets:
  - name: main
    scrapers:
      probe: {nodes: [10.0.0.1:9090, "[::1]:9090"], interval: 2s}
    placement: {load_factor: 1.2, capacity: 500}
    delivery:
      - http_sd: {}
      - file: {path: "/srv/{service}/{scraper}.json"}
shard_services:
  - name: node
    fleet: main
    targets:
      - http: {url: "https://cmdb/targets", refresh_interval: 30s}
      - file: {files: ["/etc/targets/*.yml"]}
    placement: {replication_factor: 2, hash_labels: [region]}
  - name: own
    targets:
      - consul: {services: [node]}
      - dns: {names: [a.example], type: SRV}
    scrapers:
      consul: {service: prom, register: {nodes: [10.0.0.2:9090]}}
    delivery:
      - ansible: {dest_dir: /x, dest_sd_file_name: "{service}.json"}
consul: {address: 127.0.0.1:8500}
controllers: {lock: {consul: {key: promring/leader}}}
"""
SCRAPER_LIST = b"- 10.0.0.1:9090\n- {host: a.example, port: 9090, weight: 2}\n- 'b:1'\n"
PROMETHEUS = b"""global: {scrape_interval: 15s}
x-a: &a {scheme: https}
scrape_configs:
- job_name: node
  <<: *a
  static_configs: [{targets: ['a:1', 'b:1'], labels: {x: y}}]
  relabel_configs:
  - {source_labels: [__address__], modulus: 2, target_label: __tmp_hash, action: hashmod}
  - {source_labels: [__tmp_hash], regex: "1", action: keep}
- job_name: c
  params: {module: [x]}
  consul_sd_configs: [{server: 'consul:8500', services: [a]}]
- job_name: d
  kubernetes_sd_configs: [{role: pod}]
"""
JSON_LIST = (
    b'[{"targets": ["a:1", "b:1"], "labels": {"x": "\\ud83d\\ude00", "__param_m": "1"}},\n {"Targets": null, "labels": {}}]'
)
YAML_LIST = b"- targets: [a:1, 'b:1']\n  labels: &l {x: 010, <<: {y: yes}}\n- targets:\n  - c:1\n  labels: *l\n"
INSTANCES = b"""[{"Node": {"Node": "n", "Address": "10.0.0.1", "Meta": {"a-b": "c"}, "Datacenter": "dc1"},
 "Service": {"ID": "p1", "Service": "prom", "Address": "", "Port": 9090, "Meta": {"promring_weight": "2"},
  "Weights": {"Passing": 1, "Warning": 1}, "Tags": ["a"]},
 "Checks": [{"CheckID": "serfHealth", "Status": "passing", "ServiceID": ""},
  {"CheckID": "_service_maintenance:p1", "Status": "critical", "ServiceID": "p1"}]}]"""
CATALOGUE = b'{"consul": [], "prom": ["a", "b"], "x": null}'
LEASE = b"""{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "promring", "namespace": "ns",
 "resourceVersion": "812", "annotations": {"promring/note": "{}"}, "ownerReferences": [{"a": 1}]},
 "spec": {"holderIdentity": "a/1", "leaseDurationSeconds": 5, "renewTime": "2026-01-01T00:00:00.000000Z"}}"""
_POD = b"""{"metadata": {"name": "p-0", "uid": "u", "resourceVersion": "7", "annotations": {"promring/weight": "2"}},
 "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 9090}]}]},
 "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}}"""
PODS = b"""{"metadata": {"resourceVersion": "7", "continue": ""}, "items": [%s]}

{"type": "MODIFIED", "object": %s}
{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}
{"type": "DELETED", "object": %s}
{"type": "ERROR", "object": {"message": "too old", "code": 410}}
""" % (_POD, _POD.replace(b"\n", b""), _POD.replace(b"\n", b""))
ETCD = b"""{"succeeded": true, "responses": [
 {"response_range": {"kvs": [{"key": "cA==", "create_revision": "7", "mod_revision": "7", "lease": "77", "value": "bWU="}]}},
 {"response_range": {"kvs": [{"mod_revision": "9", "value": "e30="}]}}]}"""
ETCD_OURS = b"""{"ID": "77", "TTL": "4", "result": {"ID": "77", "TTL": "4"}, """ + ETCD[1:]
NOTE = b"""{"leader": "a", "epoch": 7, "drained": {"main": ["10.0.0.1:9090"]}, "lists": {}, "released": {},
 "down": {"main": [{"id": "a:1", "host": "a", "port": 1}]}}"""
TARGETS = b"""{"status": "success", "data": {"activeTargets": [{"discoveredLabels": {"__address__": "a:1", "job": "job"},
 "labels": {}, "scrapePool": "job", "lastError": "", "lastScrape": "2026-01-01T00:00:00.123456789Z", "health": "up",
 "scrapeInterval": "15s"}], "droppedTargets": [{"discoveredLabels": {"__address__": "b:1"}, "scrapePool": "job"}],
 "droppedTargetCounts": {"job": 1}}}"""
SLICE = b'[{"targets":["a:1"],"labels":{"x":"1"}}]'
BUNDLE = (
    b'{"slices":[{"service":"s","generation":"1.1","sha256":'
    b'"4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945","sent":2}],"named":0}\n[]'
)
BUNDLES = (
    b'{"slices":[{"service":"s","generation":"1.1","sha256":"","sent":1},'
    b'{"service":"t","generation":"1.2","sha256":"","sent":1}],"named":0}\n'
    b'[{"targets":["a:1"],"labels":{"x":"1"}}][{"targets":["b:1"],"labels":{"x":"2"}}]'
)
"""Lengths and digests of an answer are made to fit before it is tried."""
RECEIVER_NOTE = b"7.3 4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945 8\n"
DNS_A = bytes.fromhex(
    "00 0000 8180 0001 0001 0000 0000 0161076578616d706c6500 0001 0001 c00c 0001 0001 0000003c 0004 0a000001"
)
DNS_SRV = bytes.fromhex(
    "02 0000 8180 0001 0001 0000 0000 0161076578616d706c6500 0021 0001 c00c 0021 0001 0000003c 0009 0000 0000 2382 0162c00e"
)
RESOLV_CONF = b"# x\nnameserver 10.0.0.53\nnameserver fe80::1%eth0\nsearch a.example. b\noptions ndots:2 timeout:1\n"


def _record() -> bytes:
    """The body of a frame that is the state of a fleet with one service."""
    scraper = Scraper("a:1", "a", 1)
    pool = pool_of([TargetGroup.of(["t:1", "t:2"], {"x": "1"})])
    body = body_of(pool, np.arange(2))
    service = ServiceMemory({"list": pool}, {"a:1": Slice("s", scraper, Generation(1, 1), body, 2)}, {"list": 1.0})
    claims = Claims(("a:1",), pool.ids, np.zeros(2, dtype=np.int32), np.full(2, LONG_AGO), np.full(2, NEVER_ENDS))
    memory = Memory((scraper,), {"s": service}, Generation(1, 1), claims, frozenset(), History(), 1.0)
    return b"".join(whole(Written(memory), "fleet", 0.0, 1.0))


def framed(body: bytes) -> bytes:
    """A state file whose one frame has this body."""
    generation, name = Generation(1, 1), "a" * 16
    return journal.header([body], generation, name, journal.FIRST) + body + journal.end(generation, name)


RECORD = _record()
STATE = framed(RECORD)
