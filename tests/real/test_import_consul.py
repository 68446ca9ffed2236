"""``promring import --verify`` of jobs that the Prometheus here cannot discover: what real Consul says is judged by a
real vmagent, and a job that nobody here can judge is not called proved.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from testbed.consul import ConsulProcess

from promring.importing.configuration import read_configuration
from promring.importing.convert import Converted, convert
from promring.importing.services import Layout
from promring.importing.verdicts import Wishes
from promring.importing.verify import Proof, verify
from promring.runtime.http_client import new_session
from tests.real.conftest import server
from tests.real.test_discovery_consul import register, running

pytestmark = pytest.mark.usefixtures("many_watchers")

JOBS = """\
scrape_configs:
  - job_name: every service
    consul_sd_configs: [{{server: "{consul}"}}]
    relabel_configs:
      - {{source_labels: [__meta_consul_tags], regex: ".*,A,.*", action: drop}}
      - {{regex: __meta_consul_(service|node|health|service_id|metadata_.+), action: labelmap}}
      - {{source_labels: [__meta_consul_service_address, __meta_consul_service_port], separator: ":", target_label: at}}
  - job_name: hashed
    static_configs: [{{targets: ["10.1.0.9:1"], labels: {{team: x}}}}]
    consul_sd_configs: &web
      - {{server: "{consul}", services: [web], tags: [prod]}}
    relabel_configs:
      - {{source_labels: [__address__], modulus: 3, target_label: __tmp_hash, action: hashmod}}
      - {{source_labels: [__tmp_hash], regex: 1, action: keep}}
  - job_name: one port
    scheme: https
    consul_sd_configs: *web
    relabel_configs:
      - {{target_label: __address__, replacement: "proxy:1"}}
      - {{source_labels: [__meta_consul_service_id], target_label: __param_id}}
  - job_name: containers
    docker_sd_configs: [{{host: "unix:///nowhere/docker.sock"}}]
  - job_name: away
    consul_sd_configs: [{{server: "127.0.0.1:1"}}]
  - job_name: node
    static_configs: [{{targets: ["n1:9100", "n2:9100"]}}]
"""


def converted(folder: Path, consul: ConsulProcess) -> Converted:
    (folder / "prometheus.yml").write_text(JOBS.format(consul=consul.address))
    return convert([read_configuration(folder / "prometheus.yml")], Wishes(), Layout(scrapers=("10.0.0.1:9090",)))


async def proof_of(consul_program: Path, folder: Path) -> Proof:
    async with running(consul_program, folder / "consul") as (consul, _), new_session() as session:
        await register(session, consul)
        found = converted(folder, consul)
        return await asyncio.to_thread(verify, found)


async def test_jobs_of_consul_are_proved_by_vmagent_and_others_are_not_called_proved(
    consul_program: Path, tmp_path: Path
) -> None:
    server("prometheus"), server("vmagent")
    proof = await proof_of(consul_program, tmp_path)
    assert proof.compared == {"every service": 6, "hashed": 3, "one port": 2, "node": 2}, proof.findings
    assert proof.discovered.keys() >= {"every service", "hashed", "one port"}
    assert proof.not_proved.keys() == {"containers", "away"}
    assert {(f.code, f.level) for f in proof.findings} == {("PI034", "error")}, proof.findings
