"""What pods say about scrapers, and the membership that is made of it, on an API in memory."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from promring.config.kinds import Sections
from promring.config.load import loads
from promring.config.node import Node
from promring.core.admission import admit
from promring.core.standing import History, Rules
from promring.fleet.state import Memory
from promring.fleet.succession import succeed
from promring.kubernetes.access import KubernetesSection
from promring.kubernetes.client import connected
from promring.kubernetes.pods import Pod
from promring.membership.kubernetes import KubernetesScrapers, PodReader, Reading
from promring.membership.listing import DRAINS
from promring.model import Answer, Known, Members, Scraper, Unknown, join_host_port
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.kubernetes_pods import a_pod, ready
from tests.membership_contract import machines, pod_context, pod_settings, scraper
from tests.waiting import until

# --- what a pod means ------------------------------------------------------------------------------------------------


def pods(*made: dict[str, Any]) -> dict[str, Pod]:
    return {one["metadata"]["name"]: msgspec.convert(one, Pod) for one in made}


def leaving(pod: dict[str, Any]) -> dict[str, Any]:
    return {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}


def said(reading: Reading) -> tuple[str, dict[str, str]]:
    members = [f"{s.id}={s.address}{' drained' if s.draining else ''}" for s in reading.members]
    return " ".join(members), dict(reading.off)


A = a_pod("a", "10.0.0.1")
UNREADY: dict[str, Any] = {"conditions": ready(False)}


@pytest.mark.parametrize(
    ("before", "now", "members", "off"),
    [
        ([], [A], "a:9090=10.0.0.1:9090", {}),
        ([], [a_pod("a", "fd00::1")], "a:9090=[fd00::1]:9090", {}),
        ([], [a_pod("a")], "", {"a:9090": "Pending"}),
        ([], [a_pod("a", "10.0.0.1", **UNREADY)], "", {"a:9090": "not Ready ContainersNotReady"}),
        ([A], [a_pod("a", "10.0.0.1", **UNREADY)], "a:9090=10.0.0.1:9090", {"a:9090": "not Ready ContainersNotReady"}),
        ([A], [leaving(A)], "a:9090=10.0.0.1:9090 drained", {}),
        ([A, leaving(A)], [], "", {"a:9090": "the pod was deleted"}),
        ([A], [], "", {}),
        ([A], [a_pod("a", "10.0.0.1", phase="Failed", reason="Evicted")], "", {"a:9090": "Failed Evicted"}),
        ([A], [a_pod("a", "10.0.0.7", uid="other")], "a:9090=10.0.0.7:9090", {}),
        ([A], [a_pod("a", "10.0.0.1", conditions=None)], "a:9090=10.0.0.1:9090", {"a:9090": "not Ready"}),
        ([], [a_pod("a", "", phase="Running", conditions=ready(True))], "", {"a:9090": "the pod has no address"}),
        ([], [a_pod("a", "10.0.0.1", annotations={"promring/weight": "-1"})], "", {"a:9090": "annotation promring/weight"}),
    ],
    ids=str,
)
def test_what_a_pod_means(before: list[Any], now: list[Any], members: str, off: dict[str, str]) -> None:
    reader = PodReader("web", scraper, ())
    for one in before:
        reader.read(pods(one), {})
    got, why = said(reader.read(pods(*now), {}))
    assert got == members
    assert why.keys() == off.keys()
    assert all(why[name].startswith(text) for name, text in off.items())


def test_a_port_is_found_by_name_or_number_and_a_pod_without_it_is_refused() -> None:
    reading = PodReader("metrics", scraper, ()).read(pods(A), {})
    assert reading.refused == {"a:0": "no container of the pod has a port with the name metrics"}
    assert said(PodReader(9091, scraper, ()).read(pods(A), {}))[0] == "a:9091=10.0.0.1:9091"
    sidecar = copy.deepcopy(A)
    sidecar["spec"]["initContainers"] = [{"ports": [{"name": "metrics", "containerPort": 7}]}]
    assert said(PodReader("metrics", scraper, ()).read(pods(sidecar), {}))[0] == "a:7=10.0.0.1:7"


@pytest.mark.row("K6", did="two pods with one address")
def test_of_two_pods_with_one_address_the_one_that_is_ready_and_stays_has_it() -> None:
    other = a_pod("b", "10.0.0.1")
    reader = PodReader("web", scraper, ())
    assert said(reader.read(pods(A, other), {}))[0] == "", "both are Ready: nobody knows whose it is"
    assert said(reader.read(pods(leaving(A), other), {}))[0] == "b:9090=10.0.0.1:9090"
    assert said(reader.read(pods(A, {**other, "status": {**other["status"], **UNREADY}}), {}))[0] == "a:9090=10.0.0.1:9090"


def test_one_that_was_a_scraper_before_the_start_is_listed_although_it_is_not_ready() -> None:
    unready = pods(a_pod("a", "10.0.0.1", **UNREADY))
    assert PodReader("web", scraper, {"a:9090"}).read(unready, {}).members
    assert not PodReader("web", scraper, ()).read(unready, {}).members


def test_a_pod_of_another_uid_under_its_name_was_restarted() -> None:
    reader = PodReader("web", scraper, ())
    assert not reader.read(pods(A), {}).restarted
    assert reader.read(pods(a_pod("a", "10.0.0.1", uid="other")), {}).restarted == {"a:9090"}


def test_a_scraper_that_leaves_while_it_is_drained_does_not_wait_longer_at_its_next_join() -> None:
    rules, other = Rules(join_delay_s=5.0), scraper(Node("b", 1))
    delays = []
    for draining in (True, False):
        history, now = History.of((other,)), 0.0
        for _ in range(3):
            for members in ((other, scraper(Node("a", 1))), (other, Scraper("a:1", "a", 1, draining=draining)), (other,)):
                for _ in range(2):
                    history = admit(members, history, rules, now, probed={}).history
                    now += 40.0
        delays.append(rules.delay_s(history.standings["a:1"].flaps))
    assert delays == [5.0, 40.0], "a rolling restart is planned, a flap is not"


# --- the membership --------------------------------------------------------------------------------------------------


class Running:
    """A membership on ``api`` with machines as pods, and what it says."""

    def __init__(self, folder: Path, api: FakeKubernetes, last: Members, zone_label: str | None, **keys: Any) -> None:
        self.answers: list[Answer[Members]] = []
        section = KubernetesSection(kubeconfig=api.kubeconfig(folder))
        self.membership = pod_settings(**keys).membership(pod_context([section], last, zone_label))

    @property
    def living(self) -> str:
        newest = self.answers[-1] if self.answers else Unknown("nothing yet")
        if not isinstance(newest, Known):
            return type(newest).__name__
        return " ".join(
            s.id.partition(":")[0] + (s.zone and f" in {s.zone}") + " drained" * s.draining for s in newest.value
        )


@asynccontextmanager
async def running(
    folder: Path, api: FakeKubernetes, last: Members = (), zone_label: str | None = None, **keys: Any
) -> AsyncIterator[Running]:
    one = Running(folder, api, last, zone_label, **keys)
    task = asyncio.create_task(one.membership.run(one.answers.append))
    try:
        yield one
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.row("K5", did="a pod ends, and comes back under its name at another address")
async def test_a_rolling_restart_of_a_stateful_set(tmp_path: Path) -> None:
    """A pod is drained, ends, and comes back under its name with another address."""
    async with machines(4) as made, FakeKubernetes() as api:
        port = made[0].scraper.port
        for n in range(3):
            api.pods.put(a_pod(f"p-{n}", made[n].scraper.host, port=port))
        async with running(tmp_path, api) as one:
            await until(lambda: one.living == "p-0 p-1 p-2", "three")
            api.pods.end("p-1")
            await until(lambda: one.living == "p-0 p-1 drained p-2", "it lives, and is drained")
            await made[1].kill()
            api.pods.change("p-1", conditions=ready(False, "ContainersNotReady"))
            await until(lambda: one.living == "p-0 p-2", "it ended")
            api.pods.remove("p-1")
            api.pods.put(a_pod("p-1", port=port, uid="second"))
            listed = next(s for s in one.membership.listed() if s.id.startswith("p-1"))
            assert not one.membership.roster().left, "it did not leave for good"
            api.pods.put(a_pod("p-1", made[3].scraper.host, port=port, uid="second", **UNREADY))
            await asyncio.sleep(0.3)
            assert one.living == "p-0 p-2", "it is not Ready yet"
            api.pods.change("p-1", conditions=ready(True))
            await until(lambda: one.living == "p-0 p-1 p-2", "it is back")
            back = next(s for s in one.membership.listed() if s.id.startswith("p-1"))
            assert (back.id, listed.host, back.host) == (listed.id, made[1].scraper.host, made[3].scraper.host)


@pytest.mark.row("K6", did="an evicted pod whose address answers")
async def test_one_whose_labels_match_no_more_leaves_by_a_plan_and_one_that_is_evicted_is_dead(tmp_path: Path) -> None:
    async with machines(3) as made, FakeKubernetes() as api:
        for n in range(3):
            api.pods.put(a_pod(f"p-{n}", made[n].scraper.host, port=made[n].scraper.port))
        async with running(tmp_path, api, keep=0.2) as one:
            await until(lambda: one.living == "p-0 p-1 p-2", "three")
            api.pods.remove("p-0")
            await until(lambda: [s.id.partition(":")[0] for s in one.membership.roster().left] == ["p-0"], "it leaves")
            api.pods.change("p-1", phase="Failed", reason="Evicted", conditions=ready(False))
            await until(lambda: one.living == "p-2", "its address may be another's by now: its probes say nothing")
            assert [node.reason for node in one.membership.nodes() if node.id.startswith("p-1")] == ["Failed Evicted"]


@pytest.mark.row("K4", did="a node is lost: its pod is being deleted, and Ready, for ever")
async def test_one_that_is_being_deleted_for_ever_is_drained_until_its_probes_say_that_it_is_dead(tmp_path: Path) -> None:
    async with machines(2) as made, FakeKubernetes() as api:
        for n in range(2):
            api.pods.put(a_pod(f"p-{n}", made[n].scraper.host, port=made[n].scraper.port))
        async with running(tmp_path, api) as one:
            await until(lambda: one.living == "p-0 p-1", "two")
            api.pods.end("p-1")
            await until(lambda: one.living == "p-0 p-1 drained", "it lives, as far as anybody knows")
            assert {n.id.partition(":")[0]: n.reason for n in one.membership.nodes()} == {"p-0": "", "p-1": DRAINS}
            await made[1].kill()
            await until(lambda: one.living == "p-0", "its probes tell")


async def test_when_no_pod_is_a_scraper_it_is_unknown_and_says_why(tmp_path: Path) -> None:
    async with FakeKubernetes() as api:
        api.pods.put(a_pod("p-0"))
        async with running(tmp_path, api) as one:
            await until(lambda: bool(one.answers) and not one.living.startswith("Waiting"), "an answer")
            newest = one.answers[-1]
            assert isinstance(newest, Unknown)
            assert "p-0:9090: Pending" in newest.reason
            why, since = one.membership.list_trouble()
            assert "p-0:9090: Pending" in why
            assert since <= time.time()


async def test_a_list_that_fails_is_said_since_when_although_its_last_scrapers_are_probed(tmp_path: Path) -> None:
    async with machines(1) as made, FakeKubernetes() as api:
        api.pods.put(a_pod("p-0", made[0].scraper.host, port=made[0].scraper.port))
        async with running(tmp_path, api) as one:
            await until(lambda: one.living == "p-0", "one")
            assert one.membership.list_trouble()[0] == ""
            began = time.time()
            api.pods.change("p-0", phase="Pending")
            await until(lambda: one.membership.list_trouble()[0] != "", "no pod is a scraper")
            since = one.membership.list_trouble()[1]
            assert began <= since <= time.time()
            one.membership._failed("status 403")
            assert one.membership.list_trouble() == ("status 403", since), "since the first failure"
            api.pods.change("p-0", phase="Running")
            await until(lambda: one.membership.list_trouble()[0] == "", "it is read again")
            assert one.membership.list_trouble()[1] >= since


async def test_zones_count_where_the_fleet_has_zones(tmp_path: Path) -> None:
    async with machines(1) as made, FakeKubernetes() as api:
        api.pods.nodes = {"node-1": {"zone": "east"}}
        api.pods.put(a_pod("p-0", made[0].scraper.host, port=made[0].scraper.port))
        async with running(tmp_path, api, zone_label="zone", node_zone_label="zone") as one:
            await until(lambda: one.living == "p-0 in east", "with its zone")
        async with running(tmp_path, api, node_zone_label="zone") as one:
            await until(lambda: one.living == "p-0", "without")


async def test_a_kubeconfig_that_is_not_there_is_said_and_tried_again(tmp_path: Path) -> None:
    section = KubernetesSection(kubeconfig=tmp_path / "none")
    membership = pod_settings().membership(pod_context([section]))
    answers: list[Answer[Members]] = []
    task = asyncio.create_task(membership.run(answers.append))
    await until(lambda: any(isinstance(a, Unknown) and "No such file" in a.reason for a in answers), "it is said")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with FakeKubernetes() as api, connected(Sections([KubernetesSection(kubeconfig=api.kubeconfig(tmp_path))])):
        pass


# --- over a restart --------------------------------------------------------------------------------------------------

TEXT = """
kubernetes: {kubeconfig: kubeconfig}
shard_services:
  - name: x
    identity: IDENTITY
    scrapers: SCRAPERS
    targets: [{file: {files: [a.json]}}]
    delivery: [{http_sd: {}}]
"""


def remembered_as(folder: Path, scrapers: str, pod: Scraper, identity: str = "host_port") -> str:
    (folder / "kubeconfig").touch()
    settings = loads(TEXT.replace("SCRAPERS", scrapers).replace("IDENTITY", identity), base=folder)
    (known,) = succeed(Memory(members=(pod,)), settings.shard_services[0]).members
    return known.id


@pytest.mark.parametrize("ip", ["10.0.0.1", "fd00::1"])
def test_a_scraper_whose_name_is_no_address_keeps_it(ip: str, tmp_path: Path) -> None:
    pods_, probes = "{kubernetes: {selector: a=b, port: web}}", "{probe: {nodes: ['h:1']}}"
    assert remembered_as(tmp_path, pods_, Scraper("p-0:9090", ip, 9090)) == "p-0:9090"
    assert remembered_as(tmp_path, pods_, Scraper("p-0:9090", ip, 9090), "host") == "p-0"
    assert remembered_as(tmp_path, pods_, Scraper("p-0", ip, 9090)) == "p-0:9090"
    assert remembered_as(tmp_path, probes, Scraper("p-0:9090", ip, 9090)) == join_host_port(ip, 9090)


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "selector", ["app=prometheus", "app==x,tier!=y", "app in (a, b)", "app notin (a),!x", "a.b/c-d=1", "app", "a in ( )"]
)
def test_selectors_that_are_taken(selector: str) -> None:
    assert KubernetesScrapers(selector=selector, port="web").selector == selector


@pytest.mark.parametrize("change", [{"selector": s} for s in ("", "=x", "a b", "a in b", "a=b;c", "a=(x)", ",a", "a,")])
def test_selectors_that_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no label selector"):
        KubernetesScrapers(**{"port": "web", **change})


@pytest.mark.parametrize("port", [0, 70_000, "Web", "9090", "", "a-name-that-is-too-long"])
def test_ports_that_are_refused(port: object) -> None:
    with pytest.raises(ValueError, match="port"):
        KubernetesScrapers.model_validate({"selector": "a=b", "port": port})
