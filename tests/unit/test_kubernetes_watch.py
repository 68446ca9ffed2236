"""The watch of pods, and the zones of nodes, on an API in memory that expires, refuses and is restored."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from promring.kubernetes.access import Access
from promring.kubernetes.client import Client
from promring.kubernetes.nodes import NodeZones
from promring.kubernetes.pods import USUAL, Pace, Pod, PodWatch
from promring.model import KubernetesError
from promring.runtime.http_client import TlsFiles
from promring.telemetry import log
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.kubernetes_pods import a_pod
from tests.waiting import until

# --- the watch -------------------------------------------------------------------------------------------------------


class Heard:
    def __init__(self) -> None:
        self.lists: list[Mapping[str, Pod]] = []
        self.failures: list[str] = []

    async def hear(self, found: Mapping[str, Pod]) -> None:
        self.lists.append(found)

    @property
    def names(self) -> str:
        return " ".join(sorted(self.lists[-1])) if self.lists else "nothing"


@asynccontextmanager
async def watching(api: FakeKubernetes, pace: Pace = USUAL, **more: Any) -> AsyncIterator[Heard]:
    heard = Heard()
    async with Client(Access(api.url, "mon", TlsFiles(), **more)) as client:
        watch = PodWatch(client, "mon", "app=prometheus", log.get(), pace)
        task = asyncio.create_task(watch.run(heard.hear, heard.failures.append))
        try:
            yield heard
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def api() -> AsyncIterator[FakeKubernetes]:
    async with FakeKubernetes() as made:
        made.pods.put(a_pod("a", "10.0.0.1"))
        yield made


async def test_a_list_in_pages_then_each_change(api: FakeKubernetes) -> None:
    api.pods.page_most = 2
    for name in "bcdef":
        api.pods.put(a_pod(name, f"10.0.1.{ord(name)}"))
    api.pods.put(a_pod("z", "10.0.2.1", labels={"app": "other"}))
    async with watching(api) as heard:
        await until(lambda: heard.names == "a b c d e f", "the whole list")
        assert len(heard.lists) == 1, "no part of it"
        assert api.pods.asked[:3] == ["list"] * 3
        api.pods.put(a_pod("g", "10.0.1.9"))
        await until(lambda: heard.names == "a b c d e f g", "one more")
        api.pods.end("b")
        await until(lambda: heard.lists[-1]["b"].is_leaving, "one is told to end")
        api.pods.remove("b")
        await until(lambda: heard.names == "a c d e f g", "it is gone")
        assert heard.failures == []


@pytest.mark.row("K1", did="a watch that is cut, and one whose resourceVersion is too old, three times")
async def test_a_watch_that_is_cut_or_too_old_is_followed_by_a_new_list_and_nothing_is_said(api: FakeKubernetes) -> None:
    async with watching(api) as heard:
        for n in range(3):
            await until(lambda: api.pods.asked[-1:] != ["list"] and bool(heard.lists), "it watches")
            api.pods.put(a_pod(f"b{n}", f"10.0.1.{n}"))
            api.pods.compact()
            api.pods.cut()
            await until(lambda n=n: f"b{n}" in heard.names, "a new list")  # type: ignore[misc]
        assert heard.failures == []


@pytest.mark.row("K1", did="410 for every watch, in a loop")
async def test_a_watch_that_is_too_old_each_time_is_begun_again_with_back_off(api: FakeKubernetes) -> None:
    async with watching(api):
        api.pods.version += 10
        started = time.monotonic()
        api.pods._oldest = 10**9  # whatever is listed is too old for a watch
        api.pods.cut()
        await asyncio.sleep(1.5)
        asked = len(api.pods.asked)
        assert asked < 2 * 8 * (time.monotonic() - started), "a handful of tries, each a list and a watch"


@pytest.mark.row("K3", did="the store behind the API is put back to an earlier moment")
async def test_a_store_that_was_put_back_is_listed_again_and_no_watch_waits_for_its_future(api: FakeKubernetes) -> None:
    then, version = copy.deepcopy(api.pods.there), api.pods.version
    async with watching(api) as heard:
        await until(lambda: heard.names == "a", "the list")
        api.pods.put(a_pod("b", "10.0.0.2"))
        await until(lambda: heard.names == "a b", "one more")
        api.pods.restore(then, version)
        api.pods.cut()
        await until(lambda: heard.names == "a", "what is there now")
        api.pods.put(a_pod("c", "10.0.0.3"))
        await until(lambda: heard.names == "a c", "and what comes")
        assert api.pods.asked[-1] == f"watch {version}"


@pytest.mark.row("K3", did="the store is put back, and then gives a pod the version that it had in the life before")
async def test_a_version_that_is_given_twice_does_not_hide_what_changed(api: FakeKubernetes) -> None:
    then, version = copy.deepcopy(api.pods.there), api.pods.version
    async with watching(api) as heard:
        api.pods.put(a_pod("b", "10.0.0.2"))
        await until(lambda: heard.names == "a b", "one more")
        before = heard.lists[-1]["b"]
        api.pods.restore(then, version)
        api.pods.put(a_pod("b", "10.0.0.3"))
        api.pods.cut()
        await until(lambda: heard.lists[-1]["b"].status.ip == "10.0.0.3", "its address of now")
        assert heard.lists[-1]["b"].metadata == before.metadata, "which tells nothing"


@pytest.mark.row("K2", did="a watch that is silent and does not end, as on a connection that is half open")
async def test_a_watch_that_is_half_open_ends_by_our_own_time_out(api: FakeKubernetes) -> None:
    api.pods.deaf = True
    async with watching(api, Pace(watch_s=1.0, late_s=0.3, list_s=60.0)) as heard:
        await until(lambda: heard.names == "a", "the list")
        api.pods.put(a_pod("b", "10.0.0.2"))
        await until(lambda: heard.names == "a b", "a new list")
        assert heard.failures == [], "nobody need be told"
    api.pods.cut()


@pytest.mark.row("K2", did="a watch that is alive and misses an event; a list is due all the same")
async def test_there_is_a_whole_list_now_and_then_whatever_the_watch_says(api: FakeKubernetes) -> None:
    async with watching(api, Pace(watch_s=1.0, late_s=0.3, list_s=1.5)) as heard:
        await until(lambda: heard.names == "a", "the list")
        api.pods.there["b"] = {**a_pod("b", "10.0.0.2")}  # no event tells of it
        await until(lambda: heard.names == "a b", "the next list")
        assert heard.lists[0]["a"] is heard.lists[-1]["a"], "a pod that did not change is the same object"


@pytest.mark.row("K9", did="429 with Retry-After and a text body")
async def test_a_server_that_says_when_to_come_again_is_not_asked_before(api: FakeKubernetes) -> None:
    async with watching(api) as heard:
        await until(lambda: heard.names == "a", "the list")
        api.said, api.retry_after = (429, b"Too many requests, please try again later."), "1"
        api.pods.cut()
        await until(lambda: bool(heard.failures), "it is said")
        assert "Too many requests" in heard.failures[0]
        at, before = time.monotonic(), len(heard.failures)
        api.said = None
        api.pods.put(a_pod("b", "10.0.0.2"))
        await until(lambda: heard.names == "a b", "the list again")
        assert time.monotonic() - at > 0.8
        assert len(heard.failures) == before


@pytest.mark.row("K8", did="no right to list, or to watch, pods")
@pytest.mark.parametrize(
    ("right", "said"), [("list pods", 'cannot list resource "pods"'), ("watch pods", 'cannot watch resource "pods"')]
)
async def test_a_right_that_is_missing_is_named_with_verb_resource_and_namespace(
    api: FakeKubernetes, right: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api.pods.forbidden = {right}
    async with watching(api) as heard:
        if right == "list pods":
            await until(lambda: bool(heard.failures), "it is said")
            assert said in heard.failures[0]
            assert "a Role in namespace mon must allow list and watch of pods" in heard.failures[0]
            assert heard.names == "nothing", "unknown, not empty"
        else:
            await until(lambda: heard.names == "a", "the list")
            api.pods.put(a_pod("b", "10.0.0.2"))
            await until(lambda: heard.names == "a b", "it is listed again and again")
            assert heard.failures == []
            assert capsys.readouterr().out.count(said) == 1


@pytest.mark.row("K7", did="the token in the file is replaced, before and after the server refuses the old one")
async def test_a_token_that_was_replaced_is_read_again(api: FakeKubernetes, tmp_path: Path) -> None:
    api.token = "first"
    token = tmp_path / "token"
    token.write_text("first\n")
    async with watching(api, token_file=token) as heard:
        await until(lambda: heard.names == "a", "the list")
        api.token = "second"
        token.write_text("second\n")
        api.pods.cut()
        api.pods.put(a_pod("b", "10.0.0.2"))
        await until(lambda: heard.names == "a b", "the list again")
        assert heard.failures == []
        api.token = "third"
        api.pods.cut()
        await until(lambda: any("status 401" in one for one in heard.failures), "it is said")
        token.write_text("third\n")
        api.pods.put(a_pod("c", "10.0.0.3"))
        await until(lambda: heard.names == "a b c", "the list again")


@pytest.mark.parametrize("line", [b"[" * 5000, b"{}", b'{"type":"ADDED","object":{"metadata":{}}}', b"x" * 3_000_000])
async def test_an_event_that_is_malformed_ends_in_a_new_list(api: FakeKubernetes, line: bytes) -> None:
    async with watching(api) as heard:
        await until(lambda: api.pods.asked[-1:] != ["list"] and bool(heard.lists), "it watches")
        api.pods.inject(line + b"\n")
        await until(lambda: api.pods.asked.count("list") > 1, "a new list")
        api.pods.put(a_pod("b", "10.0.0.2"))
        await until(lambda: heard.names == "a b", "and it goes on")


# --- zones -----------------------------------------------------------------------------------------------------------


async def test_the_zone_is_the_label_of_the_pod_or_else_of_its_node(api: FakeKubernetes) -> None:
    api.pods.nodes = {"node-1": {"topology.kubernetes.io/zone": "east"}}
    async with Client(Access(api.url, "mon", TlsFiles())) as client:
        zones = NodeZones(client, "topology.kubernetes.io/zone", log.get())
        assert [await zones.zone("node-1") for _ in range(3)] == ["east"] * 3
        assert api.pods.asked == ["get node node-1"], "once"
        assert await NodeZones(client, None, log.get()).zone("node-1") == ""
        assert await zones.zone("node-2") == "", "there is no such node"
        api.said = 500, b"x"
        with pytest.raises(KubernetesError):
            await zones.zone("node-3")


async def test_without_the_right_on_nodes_scrapers_have_no_zone_and_it_is_said_once(
    api: FakeKubernetes, capsys: pytest.CaptureFixture[str]
) -> None:
    api.pods.forbidden = {"get nodes"}
    async with Client(Access(api.url, "mon", TlsFiles())) as client:
        zones = NodeZones(client, "zone", log.get())
        assert [await zones.zone(f"node-{n}") for n in range(3)] == [""] * 3
    out = capsys.readouterr().out
    assert out.count("kubernetes_zone_unknown") == 1
    assert 'cannot get resource "nodes"' in out
    assert "ClusterRole" in out
