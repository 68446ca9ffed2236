"""The section ``kubernetes``, its client and the Lease, on an API in memory that loses answers and refuses."""

from __future__ import annotations

import base64
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from promring.config.kinds import Sections
from promring.config.load import loads
from promring.election.store import LockState
from promring.kubernetes.access import Access, KubernetesSection
from promring.kubernetes.client import Client, connected
from promring.kubernetes.lock import TTL_MOST_S, KubernetesLockStore
from promring.model import ConfigError, KubernetesError
from promring.runtime.http_client import TlsFiles
from tests.fakes.kubernetes import FakeKubernetes

TTL_S = 5.0


class Two:
    """An API and two candidates, with one clock."""

    def __init__(self, api: FakeKubernetes, clients: list[Client]) -> None:
        self.api, self.now = api, 1000.0
        self.one, self.other = (
            KubernetesLockStore(client, "default/leader", name, TTL_S, clock=lambda: self.now)
            for client, name in zip(clients, ("one", "other"), strict=True)
        )

    @property
    def lease(self) -> Any:
        return self.api.leases["default", "leader"]


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    async with FakeKubernetes() as api, client(api) as one, client(api) as other:
        yield Two(api, [one, other])


@asynccontextmanager
async def client(api: FakeKubernetes, **more: Any) -> AsyncIterator[Client]:
    async with Client(Access(api.url, "default", TlsFiles(), **more)) as made:
        yield made


async def taken(store: KubernetesLockStore) -> LockState:
    assert await store.take(await store.read()) == ""
    seen = await store.read()
    assert seen.ours
    return seen


# --- the lock --------------------------------------------------------------------------------------------------------


@pytest.mark.row("K11", did="a Lease whose times are of another century, and whose duration is longer than ours")
async def test_a_lease_is_free_when_it_has_not_changed_for_its_own_duration_by_our_own_clock(two: Two) -> None:
    await taken(two.one)
    two.lease["spec"]["renewTime"] = "1999-01-01T00:00:00.000000Z"  # times in it are compared with no clock
    two.lease["spec"]["leaseDurationSeconds"] = 20
    two.now += 100
    assert (await two.other.read()).held, "the first sight of it counts from then on"
    two.now += 19
    assert (await two.other.read()).held
    two.now += 2
    seen = await two.other.read()
    assert not seen.held
    assert await two.other.take(seen) == ""
    assert (await two.other.read()).ours
    assert two.lease["spec"]["leaseTransitions"] == 1


async def test_a_duration_that_somebody_wrote_into_the_lease_is_put_right_and_never_believed_for_long(two: Two) -> None:
    await taken(two.one)
    two.lease["spec"]["leaseDurationSeconds"] = 3600
    assert await two.one.renew(await two.one.read())
    assert two.lease["spec"]["leaseDurationSeconds"] == TTL_S
    two.lease["spec"]["leaseDurationSeconds"] = 3600
    assert (await two.other.read()).held, "its holder dies now"
    two.now += TTL_MOST_S + 1.0
    seen = await two.other.read()
    assert not seen.held
    assert await two.other.take(seen) == ""


async def test_each_sign_of_life_lets_the_others_wait_from_then_on(two: Two) -> None:
    await taken(two.one)
    for _ in range(10):
        two.now += TTL_S - 1
        assert await two.one.renew(await two.one.read())
        assert (await two.other.read()).held


@pytest.mark.row("K10", did="a write of the Lease is carried out, and its answer does not come in time")
async def test_a_write_that_was_carried_out_without_an_answer_is_found_by_the_next_read(two: Two) -> None:
    two.api.late = 1
    with pytest.raises(KubernetesError, match="no whole answer"):
        await two.one.take(await two.one.read())
    seen = await two.one.read()
    assert seen.ours
    two.api.late = 1
    with pytest.raises(KubernetesError, match="no whole answer"):
        await two.one.renew(seen, b"note")
    assert not await two.one.renew(seen, b"note"), "it was carried out, and changed the version"
    seen = await two.one.read()
    assert (seen.ours, seen.note) == (True, b"note")
    assert await two.one.renew(seen)


async def test_a_put_keeps_what_others_wrote_in_the_lease(two: Two) -> None:
    two.api.leases["default", "leader"] = {
        "metadata": {"name": "leader", "resourceVersion": "7", "labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {"holderIdentity": ""},
    }
    seen = await taken(two.one)
    assert await two.one.renew(seen, b"note")
    assert two.lease["metadata"]["labels"] == {"a": "b"}
    assert two.lease["metadata"]["annotations"] == {"c": "d", "promring/note": "note"}
    await two.one.release(b"last")
    assert two.lease["spec"]["holderIdentity"] == ""
    assert not (await two.other.read()).held


async def test_a_lease_that_belongs_to_another_object_is_taken_and_stays_its(two: Two) -> None:
    """As an operator makes it: the Lease goes with its owner. Such a one could not be taken once."""
    owners = [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "promring", "uid": "u", "controller": True}]
    two.api.leases["default", "leader"] = {
        "metadata": {"name": "leader", "resourceVersion": "7", "ownerReferences": owners},
        "spec": {"holderIdentity": ""},
    }
    assert await two.one.renew(await taken(two.one), b"note")
    await two.one.release(b"last")
    assert two.lease["metadata"]["ownerReferences"] == owners


async def test_two_processes_of_one_name_are_two(two: Two) -> None:
    async with client(two.api) as again:
        await taken(two.one)
        namesake = KubernetesLockStore(again, "default/leader", "one", TTL_S, clock=lambda: two.now)
        assert not (await namesake.read()).ours


async def test_a_note_that_a_lease_cannot_hold_is_an_error_that_says_so(two: Two) -> None:
    seen = await taken(two.one)
    with pytest.raises(KubernetesError, match="the note has 300000 bytes"):
        await two.one.renew(seen, b"x" * 300_000)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ((403, b'{"kind":"Status","message":"leases is forbidden: User \\"x\\" cannot get"}'), "cannot get.*403"),
        ((429, b"Too many requests, please try again later.\n"), "Too many requests.*429"),
        ((200, b"{}"), "malformed"),
        ((200, b"[" * 100_000), "malformed"),
        ((200, b'{"metadata": {"name": "x", "resourceVersion": "abc"}}'), "is not a number"),
        ((500, b""), "status 500"),
    ],
    ids=["forbidden", "too many", "empty", "deep", "no number", "nothing"],
)
async def test_an_answer_that_cannot_be_used_is_an_error_that_names_it(two: Two, said: tuple[int, bytes], why: str) -> None:
    two.api.said = said
    with pytest.raises(KubernetesError, match=why):
        await two.one.read()


async def test_a_token_is_read_from_its_file_for_each_request(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    async with FakeKubernetes() as api, client(api, token_file=token) as asking:
        store = KubernetesLockStore(asking, "default/leader", "one", TTL_S)
        api.token = "first"
        await store.read()
        api.token = "second"
        with pytest.raises(KubernetesError, match="401"):
            await store.read()
        token.write_text("second\n")
        await store.read()


# --- access ----------------------------------------------------------------------------------------------------------


def kubeconfig(
    folder: Path, *, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **more: Any
) -> Path:
    text = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "mon"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {"token": "t0ken"}}],
        **more,
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(text))
    return path


def test_a_kubeconfig_is_read_as_kubectl_reads_it(tmp_path: Path) -> None:
    cluster = {"server": "https://api:6443/prefix/", "certificate-authority": "ca.pem", "tls-server-name": "kubernetes"}
    user = {"client-certificate": "/etc/cert.pem", "client-key": "key.pem"}
    access = KubernetesSection(kubeconfig=kubeconfig(tmp_path, cluster=cluster, user=user)).access()
    assert (access.url, access.namespace, access.token) == ("https://api:6443/prefix", "mon", None)
    assert access.tls == TlsFiles(tmp_path / "ca.pem", Path("/etc/cert.pem"), tmp_path / "key.pem", "kubernetes")
    access = KubernetesSection(kubeconfig=kubeconfig(tmp_path, user={"token": "t", "tokenFile": "token"})).access()
    assert (access.token, access.token_file) == (None, tmp_path / "token"), "as kubectl: the file goes first"
    assert "t0ken" not in repr(KubernetesSection(kubeconfig=kubeconfig(tmp_path)).access())


async def test_what_a_kubeconfig_holds_inline_is_in_files_of_ours_while_the_client_lives(tmp_path: Path) -> None:
    inline = {name: base64.b64encode(name.encode()).decode() for name in ("ca", "cert", "key")}
    path = kubeconfig(
        tmp_path,
        cluster={"certificate-authority-data": inline["ca"], "certificate-authority": "not-there"},
        user={"client-certificate-data": inline["cert"], "client-key-data": inline["key"]},
    )
    async with connected(Sections([KubernetesSection(kubeconfig=path)])) as made:
        files = made.access.tls
        paths = [files.ca_file, files.cert_file, files.key_file]
        assert [p.read_text() for p in paths if p] == ["ca", "cert", "key"]
        assert [stat.S_IMODE(p.stat().st_mode) for p in paths if p] == [0o600] * 3
    assert not any(p.exists() for p in paths if p)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"current-context": "there"}, "no context 'there'"),
        ({"clusters": []}, "no cluster 'c'"),
        ({"user": {"exec": {"command": "aws"}}}, "needs a program or a password"),
        ({"user": {"username": "a", "password": "b"}}, "needs a program or a password"),
        ({"cluster": {"certificate-authority-data": "???"}}, "not base64"),
        ({"cluster": {"server": "ftp://a"}}, "is not host:port"),
        ({"contexts": 7}, "Expected `array`"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_refused(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        KubernetesSection(kubeconfig=kubeconfig(tmp_path, **changes)).access()


def test_a_kubeconfig_that_is_not_there_or_no_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        KubernetesSection(kubeconfig=tmp_path / "none").access()
    for text in ("{ secret", "a: !!bool secret", "a: !!int ''", "secret: !!timestamp x", "{[secret]: 1}"):
        (tmp_path / "x").write_text(text)
        with pytest.raises(ConfigError, match="is not YAML") as found:
            KubernetesSection(kubeconfig=tmp_path / "x").access()
        assert "secret" not in str(found.value)


REST = """
shard_services:
  - {name: x, scrapers: {probe: {nodes: ["a:1"]}}, targets: [{file: {files: [a.json]}}], delivery: [{http_sd: {}}]}
"""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("controllers: {lock: {kubernetes: {}}}", "needs the section `kubernetes:` with a kubeconfig, or a pod"),
        ("kubernetes: {}\ncontrollers: {lock: {kubernetes: {}}}", "must be a pod"),
        ("kubernetes: {}\ncontrollers: {lock: {kubernetes: {lease: 2s}}}", "whole seconds from 3s to 60s"),
        ("kubernetes: {}\ncontrollers: {lock: {kubernetes: {name: a/b}}}", "should match pattern"),
        ("kubernetes: {}\ncontrollers: {lock: {kubernetes: {namespace: A}}}", "should match pattern"),
    ],
)
def test_a_section_or_lock_that_cannot_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match=why):
        loads(text + REST, base=tmp_path)
