"""What the pages tell to type with kubectl, typed at a real kube-apiserver: all that needs no node of the cluster."""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import yaml
from testbed.etcd import EtcdProcess
from testbed.kubernetes import ADMIN, ApiServer

from promring.runtime.http_client import new_session
from tests.blocks import ROOT, Block, blocks
from tests.real.conftest import server
from tests.waiting import patient

OPERATOR = """
scrape_configs:
  - job_name: podMonitor/shop/node/0
    kubernetes_sd_configs: [{role: pod}]
    relabel_configs:
      - {source_labels: [__address__], modulus: 3, target_label: __tmp_hash, action: hashmod}
      - {source_labels: [__tmp_hash], regex: $(SHARD), action: keep}
"""
"""As the operator writes it, but for what has no part in this."""


class Typed:
    """Somebody at a shell in ``folder``, who may do everything in the cluster."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self.folder = folder
        self._env = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "KUBECONFIG": str(kubeconfig),
        }

    def run(self, text: str, *, given: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """What it prints; it must succeed."""
        line = ["bash", "-c", f"set -e -o pipefail\n{text}"]
        done = subprocess.run(
            line,
            cwd=self.folder,
            env={**self._env, **(env or {})},
            input=given,
            capture_output=True,
            check=False,
            timeout=patient(120),
        )
        assert done.returncode == 0, f"{text}\n{done.stdout.decode()}{done.stderr.decode()}"
        return done.stdout.decode()


@pytest.fixture
async def typed(tmp_path: Path) -> AsyncIterator[Typed]:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here")
    etcd = EtcdProcess(server("etcd"), tmp_path / "etcd")
    api = ApiServer(server("kube-apiserver"), tmp_path / "api", etcd)
    (tmp_path / "token").write_text(ADMIN)
    (tmp_path / "typed").mkdir()
    async with new_session(keep_alive=False) as session:
        try:
            await etcd.start()
            await api.start()
            await api.until(lambda: api.is_ready(session), "kube-apiserver", 120)
            yield Typed(tmp_path / "typed", api.kubeconfig(tmp_path / "kubeconfig", tmp_path / "token", "default"))
        finally:
            await api.kill()
            await etcd.stop()


def by(page: str, words: str) -> Block:
    """The only block of shell of a page that has these words."""
    (found,) = (one for one in blocks(ROOT / page) if one.language == "sh" and words in one.text)
    return found


@pytest.mark.timeout(300)
async def test_what_the_pages_type_at_a_cluster_is_taken_by_it(typed: Typed) -> None:
    (typed.folder / "deploy").symlink_to(ROOT / "deploy")
    said = typed.run(by("docs/kubernetes.md", "kubectl apply").text)
    for name in ("deployment.apps/promring", "statefulset.apps/prometheus", "lease.coordination.k8s.io/promring"):
        assert f"{name} created" in said
    token = typed.run("kubectl -n mon get secret promring-token -o jsonpath='{.data.token}'")
    assert len(base64.b64decode(token)) == 64
    bring_slices(typed)
    import_from_the_operator(typed)


def bring_slices(typed: Typed) -> None:
    """Delivery by a program: a slice, the same once more, as after a restart, and a newer one."""
    script = by("docs/configuration.md", "kubectl create configmap").text
    env = {"PROMRING_SCRAPER": "prometheus-0:9090", "PROMRING_SERVICE": "node"}
    for targets in (["a:1"], ["a:1"], ["b:1", "c:1"]):
        slice_ = json.dumps([{"targets": targets}]).encode()
        typed.run(script, given=slice_, env=env)
        found = json.loads(typed.run("kubectl get configmap slice-prometheus-0-9090 -o json"))
        assert found["data"] == {"node.json": slice_.decode()}


def import_from_the_operator(typed: Typed) -> None:
    """The configuration that the operator keeps in a secret, as it packs it."""
    packed = base64.b64encode(gzip.compress(OPERATOR.encode())).decode()
    metadata = {"name": "prometheus-shop", "namespace": "monitoring"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"prometheus.yaml.gz": packed}}
    typed.run("kubectl create namespace monitoring")
    typed.run("kubectl apply -f -", given=yaml.safe_dump(secret).encode())
    said = typed.run(by("docs/migration.md", "get secret prometheus-NAME").text.replace("NAME", "shop"))
    (row,) = (line for line in said.splitlines() if line.startswith("podMonitor/shop/node/0 "))
    assert "sharded through discovery" in row
    (service,) = yaml.safe_load((typed.folder / "operator/promring.yml").read_text())["shard_services"]
    assert "SHARD" not in str(service)
