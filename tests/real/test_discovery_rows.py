"""Rows 25 and 27 to 29 of the failure list: what sources of targets do wrong, to the real daemon and the real sources."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promring.core.pool import pool_of
from promring.discovery import groups, json_list, limits
from promring.discovery.file import FileSource
from promring.model import DiscoveryError, TargetGroup
from tests.fakes.source import HEAVY, TargetSource
from tests.real.malformed import MALFORMED, MALFORMED_YAML
from tests.real.stage import SERVICE, Stage, stage
from tests.rows import Seen
from tests.sources import http_source
from tests.waiting import slower, until

TROUBLE = {"discovery_failed", "discovery_empty"}
MB = 1024 * 1024
DEADLINE_S = 1.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def http_of(source: TargetSource, refresh: str = "100ms", timeout: str = f"{DEADLINE_S:g}s") -> dict[str, Any]:
    return {"http": {"url": source.url, "refresh_interval": refresh, "timeout": timeout}}


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, its threads together."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def described(s: Stage, index: int = 0) -> dict[str, Any]:
    """What the API says of one source."""
    found: dict[str, Any] = (await s.controller.ask(s.session, f"services/{SERVICE}"))["sources"][index]
    return found


async def metric(s: Stage, name: str, source: str) -> float:
    text = (await s.controller.get(s.session, "/metrics")).body.decode()
    found = re.search(rf'^promring_{name}{{[^}}]*source="{re.escape(source)}[^}}]*}} (\S+)$', text, re.MULTILINE)
    assert found is not None, f"{name} of {source}"
    return float(found[1])


def listed(s: Stage) -> Counter[str]:
    """How many slices each address is in."""
    return Counter(address for slice_ in s.slices().values() for address in slice_)


def once_each(s: Stage, addresses: list[str]) -> bool:
    return listed(s) == dict.fromkeys(addresses, 1)


def rss_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / MB


def forget_peak(pid: int) -> None:
    """From now on ``peak_mb`` is of what comes."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mb(pid: int) -> float:
    """The most that was resident at any moment."""
    (kib,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(kib) / 1024


LOOK_S = 0.03
"""How often is looked while something is done: each look costs promring and this process some milliseconds."""


class Watched:
    """Looks at the daemon while something is done to it: addresses in no slice, the most memory, how long a page takes."""

    def __init__(self, s: Stage) -> None:
        self._s = s
        self._before = set(listed(s))
        self.samples = 0
        self.lost: set[str] = set()
        self.rss_mb = 0.0
        self.pages_ms: list[float] = []
        """Each page's wait, without what others on this machine took of it: no more than promring's CPU time meanwhile."""

    async def _slices(self) -> None:
        while True:
            self.lost |= self._before - set(listed(self._s))
            self.samples += 1
            await asyncio.sleep(LOOK_S)

    async def _pages(self) -> None:
        """From a thread: this process may be busy sending a gigabyte."""
        stop = threading.Event()
        try:
            await asyncio.to_thread(self._ask, stop)
        finally:
            stop.set()

    def _ask(self, stop: threading.Event) -> None:
        while not stop.wait(LOOK_S):
            started, used_s = time.perf_counter(), cpu_s(self._s.controller.pid)
            connection = http.client.HTTPConnection("127.0.0.1", self._s.controller.port, timeout=10)
            connection.request("GET", "/-/healthy")
            assert connection.getresponse().status == 200
            connection.close()
            took_s, used_s = time.perf_counter() - started, cpu_s(self._s.controller.pid) - used_s
            self.pages_ms.append(min(took_s, used_s + TICK_S) * 1000)


@asynccontextmanager
async def watched(s: Stage) -> AsyncIterator[Watched]:
    found = Watched(s)
    forget_peak(s.controller.pid)
    tasks = [asyncio.create_task(work()) for work in (found._slices, found._pages)]
    try:
        yield found
        await until(lambda: bool(found.pages_ms), "a page was asked for meanwhile")
    finally:
        found.rss_mb = peak_mb(s.controller.pid)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(e, asyncio.CancelledError) for e in ended), ended


# --- 25: down, 500, time-out, slow trickle ---------------------------------------------------------------------------


@pytest.mark.row(
    25, did="one of two http sources refuses, answers 500, hangs, trickles 5 bytes/s, sends headers without end"
)
async def test_a_source_that_gives_no_answer_keeps_its_list_and_its_age_and_the_other_goes_on(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with TargetSource([]) as bad, TargetSource([{"targets": ["127.0.0.1:2"]}]) as good:
        options: dict[str, Any] = {"start": False, "http_sd": 0, "targets": [http_of(bad), http_of(good)]}
        options["placement"] = {"load_factor": None}  # so that a new target moves no other
        async with stage(tmp_path, consul_program, prometheus_program, count=20, **options) as s:
            s.allowed |= TROUBLE
            bad.groups = [{"targets": s.farm.addresses}]
            await s.controller.start()
            expected = [*s.farm.addresses, "127.0.0.1:2"]
            await until(lambda: len(s.slices()) == 3 and once_each(s, expected), "every target placed")
            await s.quiet()

            async def age() -> float:
                return await metric(s, "discovery_last_success_timestamp_seconds", f"http:{bad.url}")

            async def failures() -> float:
                return await metric(s, "discovery_failures_total", f"http:{bad.url}")

            async def failed_more(than: float) -> bool:
                return await failures() > than

            async def recovered(since: float) -> bool:
                return await age() > since

            others_s, periods_s = [], []
            async with watched(s) as found:
                for number, mode in enumerate(["down", "status 500", "hang", "trickle", "endless headers"]):
                    before, asked, bad.mode = await failures(), len(bad.asked_at), mode
                    if mode == "down":
                        await bad.go_down()
                    await until(lambda n=before: failed_more(n), f"failures counted in mode {mode}")  # type: ignore[misc]
                    succeeded = await age()
                    expected.append(f"127.0.0.1:{number + 3}")
                    good.groups = [{"targets": expected[20:]}]
                    others_s.append(await until(lambda: once_each(s, expected), f"the other's target in mode {mode}"))
                    assert await age() == succeeded, "the age stays that of the last good list"
                    now = await described(s)
                    assert (now["state"], now["targets"], now["stale"]) == ("unknown", 20, True)
                    periods_s += [b - a for a, b in zip(bad.asked_at[asked:], bad.asked_at[asked + 1 :], strict=False)]
                    if mode == "down":
                        await bad.come_back()
                    bad.mode = "good"
                    await until(lambda at=succeeded: recovered(at), f"good after mode {mode}")  # type: ignore[misc]
            errors = "\n".join(s.controller.log_lines("discovery_failed"))
            for named in ("Connection refused", "status 500", "no whole answer within 1 s", "headers"):
                assert named in errors, f"{named!r} in the log"
            assert not found.lost
            assert max(periods_s) < DEADLINE_S + 2 * slower(), "the deadline is for the whole answer"
            seen(
                f"other source's change placed in at most {max(others_s):.1f} s; asked again after at most "
                f"{max(periods_s):.1f} s (deadline 1 s); age metric stays, failures counted; no slice lost a target in "
                f"{found.samples} looks"
            )


# --- 27: malformed, wrong type ---------------------------------------------------------------------------------------


def put(path: Path, text: str | bytes) -> None:
    """In one step, as a careful producer does."""
    beside = path.with_suffix(".new")
    beside.write_bytes(text if isinstance(text, bytes) else text.encode())
    beside.rename(path)


@pytest.mark.row(27, did=f"{len(MALFORMED)} malformed or wrongly typed answers of an http source and of a file")
async def test_a_malformed_answer_is_refused_whole_with_the_entry_named_and_the_last_good_list_stays(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with TargetSource([]) as source:
        file = tmp_path / "listed.json"
        both = [http_of(source, "50ms"), {"file": {"files": [str(file)]}}]
        options: dict[str, Any] = {"start": False, "http_sd": 0, "targets": both}
        async with stage(tmp_path, consul_program, prometheus_program, count=20, **options) as s:
            s.allowed |= TROUBLE
            source.groups = [{"targets": s.farm.addresses[:10]}]
            put(file, json.dumps([{"targets": s.farm.addresses[10:]}]))
            await s.controller.start()
            await until(lambda: s.placed_on(*s.scrapers), "every target placed")
            stamps = s.stamps()

            async def refused(index: int, since: float, named: str) -> bool:
                now = await described(s, index)
                failed = now["state"] == "unknown" or (now["stale"] and now["reason"])
                return bool(failed and now["last_answer_at"] > since and named in now["reason"])

            for text, named in MALFORMED:
                since = time.time()
                source.body = text if isinstance(text, bytes) else text.encode()
                put(file, text)
                for index in (0, 1):
                    await until(lambda i=index, n=named, t=since: refused(i, t, n), f"refused: {text[:60]!r} ({index})")  # type: ignore[misc]
                assert s.stamps() == stamps, text[:60]
            source.body = None
            source.groups = [{"targets": s.farm.addresses[:10], "labels": {"now": "good"}}]
            put(file, json.dumps([{"targets": s.farm.addresses[10:], "labels": {"now": "good"}}]))
            await until(
                lambda: all(b'"now":"good"' in body for _, _, body in s.stamps().values() if len(body) > 10), "heard again"
            )
            assert s.placed_on(*s.scrapers)
            counted = await metric(s, "discovery_failures_total", f"http:{source.url}")
            assert counted >= len(MALFORMED) - 5  # some are told apart by nothing
            seen(f"{2 * len(MALFORMED)} answers refused, entry or line named; slices byte-equal throughout")


@pytest.mark.row(27, did=f"{len(MALFORMED_YAML)} malformed or wrongly typed YAML files")
async def test_a_malformed_yaml_file_is_refused_whole_and_its_last_list_stays(tmp_path: Path, seen: Seen) -> None:
    file = tmp_path / "t.yml"

    def old(text: str | bytes) -> None:
        put(file, text)
        os.utime(file, (1, 1))  # nobody writes to it any more

    good = pool_of([TargetGroup.of(["a:1", "b:1"])])
    old("- targets: ['a:1', 'b:1']\n")
    source = FileSource([str(file)], 60.0)
    assert await source.fetch() == good
    for text, named in MALFORMED_YAML:
        old(text)
        with pytest.raises(DiscoveryError) as caught:
            await source.fetch()
        assert str(caught.value).startswith(str(file)), text
        assert named in str(caught.value), text
        assert caught.value.pool == good, text
    seen(f"{len(MALFORMED_YAML)} refused, line or entry named, the last list kept")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
addresses = st.sampled_from(["a:1", "b", "[::1]:9100", "https://x/y", "c d", "", "x:2:y", "e:port"]) | st.text(max_size=6)
label_sets = st.dictionaries(st.sampled_from(["env", "x1", "__tmp", "__meta_x", "a-b", ""]), st.text(max_size=6), max_size=3)
almost = st.lists(
    st.fixed_dictionaries(
        {"targets": st.lists(addresses | json_values, max_size=3) | json_values},
        optional={"labels": label_sets | json_values, "lables": json_values},
    )
    | json_values,
    max_size=5,
)


def is_list(value: Any) -> bool:
    """What a target list may be, in other words than those under test."""
    if value is None:
        return True
    return isinstance(value, list) and all(
        isinstance(group, dict)
        and {key.casefold() for key in group} <= {"targets", "labels"}
        and isinstance(group.get("targets", []), list | None)
        and all(isinstance(t, str | None) for t in group.get("targets") or [])
        and isinstance(group.get("labels"), dict | None)
        and all(name and isinstance(v, str | None) for name, v in (group.get("labels") or {}).items())
        for group in value
    )


def parsed(text: bytes, piece_bytes: int = 2**20) -> list[json_list.Group] | str:
    """The groups, or the error."""
    try:
        return list(groups.from_json(text, "f", piece_bytes))
    except DiscoveryError as error:
        return str(error)


@pytest.mark.row(27, did="hypothesis: any JSON, and lists that are almost right, whole and in pieces")
@given(almost | json_values, st.sampled_from([None, 1]), st.integers(1, 80))
def test_any_json_is_a_list_taken_whole_or_refused_by_name(value: Any, indent: int | None, piece_bytes: int) -> None:
    text = json.dumps(value, indent=indent).encode()
    found = parsed(text)
    if isinstance(found, str):
        assert found.startswith("f")
        assert "\n" not in found
    else:
        assert is_list(value)
        assert [g.targets for g in found] == [g.get("targets") for g in value or []]
    pieces = parsed(text, piece_bytes=piece_bytes)
    assert pieces == found or (isinstance(pieces, str) and isinstance(found, str)), "in pieces as at once"


@pytest.mark.row(27, did="hypothesis: malformed JSON, whole and in pieces")
@given(
    almost,
    st.integers(0, 400),
    st.sampled_from([b"", b"}", b"},", b",", b"]", b'"', b"{", b"1", b"\xff", b"\n"]),
    st.integers(1, 80),
)
def test_a_damaged_list_is_refused_in_pieces_when_it_is_refused_at_once(
    value: Any, at: int, damage: bytes, piece_bytes: int
) -> None:
    text = json.dumps(value).encode()
    text = text[: at % (len(text) + 1)] + damage + text[at % (len(text) + 1) + (not damage) :]
    once, pieces = parsed(text), parsed(text, piece_bytes=piece_bytes)
    assert isinstance(once, str) == isinstance(pieces, str)
    assert isinstance(once, str) or once == pieces


# --- 28: duplicates, conflicting labels ------------------------------------------------------------------------------


@pytest.mark.row(28, did="a target listed twice, and by two sources with other labels; then the first lets go")
async def test_of_a_target_that_is_listed_several_times_one_is_placed_and_the_first_source_wins(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with TargetSource([]) as first, TargetSource([]) as second:
        options: dict[str, Any] = {"start": False, "http_sd": 0, "targets": [http_of(first), http_of(second)]}
        async with stage(tmp_path, consul_program, prometheus_program, count=20, **options) as s:
            s.allowed |= {"targets_conflict"}
            twice, other, both, *rest = s.farm.addresses
            first.groups = [
                {"targets": rest, "labels": {"from": "first"}},
                {"targets": [twice, twice], "labels": {"from": "first"}},
                {"targets": [twice], "labels": {"from": "first"}},
                {"targets": [other], "labels": {"from": "a"}},
                {"targets": [both], "labels": {"from": "first"}},
            ]
            second.groups = [{"targets": [*rest[:5], both], "labels": {"from": "second"}}]
            await s.controller.start()
            await until(lambda: len(s.slices()) == 3 and once_each(s, s.farm.addresses), "each target in one slice")
            await s.quiet()

            async def labels() -> dict[str, str]:
                rows = (await s.controller.ask(s.session, f"services/{SERVICE}/targets"))["targets"]
                assert len(rows) == len(s.farm.addresses)
                return {row["target"]: row["labels"]["from"] for row in rows}

            assert await labels() == dict.fromkeys(s.farm.addresses, "first") | {other: "a"}
            (line,) = s.controller.log_lines("targets_conflict")
            assert "conflicts=6" in line
            assert both in line, "the targets are named"
            slices = s.slices()

            first.groups.pop()

            async def let_go() -> bool:
                return (await labels())[both] == "second"

            await until(let_go, "the second source's labels")
            await asyncio.sleep(0.5)
            assert s.slices() == slices or {n: sorted(a) for n, a in s.slices().items()} == {
                n: sorted(a) for n, a in slices.items()
            }, "other labels are no move"
            assert "conflicts=5" in s.controller.log_lines("targets_conflict")[-1]
            seen("one target each; first source's labels won; conflicts=6 named in the log, 5 after; nothing moved")


# --- 29: ten times larger, 1 GB --------------------------------------------------------------------------------------


@pytest.mark.row(29, did="a list ten times larger than the one before: 300 to 3,000 targets")
async def test_a_list_ten_times_larger_is_placed_within_the_bound(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with TargetSource([]) as source:
        names = [f"127.0.0.1:{n}" for n in range(1, 3001)]
        options: dict[str, Any] = {"start": False, "http_sd": 0, "targets": [http_of(source)], "interval_s": 60.0}
        options["handover"] = {"overlap": "0s"}
        async with stage(tmp_path, consul_program, prometheus_program, count=1, **options) as s:
            source.groups = [{"targets": names[:300]}]
            await s.controller.start()
            await until(lambda: len(s.slices()) == 3 and once_each(s, names[:300]), "the list on all three", 30)
            before = rss_mb(s.controller.pid)
            source.groups = [{"targets": names}]
            took = await until(lambda: once_each(s, names), "ten times as many")
            sizes = [len(x) for x in s.slices().values()]
            assert max(sizes) <= 1.1 * 1000 + 1
            more = rss_mb(s.controller.pid) - before
            seen(f"placed in {took:.1f} s, {min(sizes)} to {max(sizes)} a scraper (bound 1100), memory +{more:.0f} MB")


NAMED = {
    "endless headers": "headers",
    "labels repeated": "repeated for each",
    "numbers": "a group that is not an object",
    "no groups": "more than 5000000 targets or groups",
    "bomb": "JSON is malformed",
}
BOMBS = {
    "numbers": lambda: b"[" + b"1," * (50 * MB) + b"1]",
    "no groups": lambda: b"[" + b'{"targets":[]},' * 500_000 + b"{}," * (30 * MB) + b"{}]",
    "labels repeated": lambda: json.dumps(
        [{"targets": [f"a{n}:1" for n in range(500_000)], "labels": {f"x{n}": "y" * 200_000 for n in range(20)}}]
    ).encode(),
}


@pytest.mark.row(
    29, did="1 GB streamed, 1 GB announced, 4 GB of spaces in 4 MB, headers without end, and lists that would unfold"
)
async def test_what_is_too_large_is_refused_and_memory_stays_bounded(
    tmp_path: Path, consul_program: Path, prometheus_program: Path, seen: Seen
) -> None:
    async with TargetSource([]) as source:
        options: dict[str, Any] = {"start": False, "http_sd": 0, "targets": [http_of(source, "1s", "30s")]}
        async with stage(tmp_path, consul_program, prometheus_program, count=20, **options) as s:
            s.allowed |= TROUBLE
            source.groups = [{"targets": s.farm.addresses}]
            await s.controller.start()
            await until(lambda: s.placed_on(*s.scrapers), "every target placed")
            await s.quiet()
            stamps, base = s.stamps(), rss_mb(s.controller.pid)

            async def refused(named: str, since: float) -> bool:
                if (whole := await s.controller.ask(s.session, f"services/{SERVICE}")) is None:
                    return False  # not answered in time, on a busy machine
                now = whole["sources"][0]
                return bool(now["last_answer_at"] > since and named in now["reason"])

            saw = []
            for mode in (*HEAVY, *BOMBS):
                named = NAMED.get(mode, "body larger than")
                source.mode, source.body = ("bytes", BOMBS[mode]()) if mode in BOMBS else (mode, None)
                since = time.time()
                async with watched(s) as found:
                    took = await until(lambda n=named, t=since: refused(n, t), f"{mode} refused", 60)  # type: ignore[misc]
                assert s.stamps() == stamps, mode
                source.mode, source.body = "good", None

                async def good_again() -> bool:
                    return bool((await described(s))["state"] == "known")

                await until(good_again, f"good after {mode}", 20)
                assert found.rss_mb - base < 1100, f"{mode}: {found.rss_mb - base:.0f} MB more"
                assert max(found.pages_ms) < 500, f"{mode}: a page took {max(found.pages_ms):.0f} ms"
                saw.append(
                    f"{mode}: +{found.rss_mb - base:.0f} MB, refused in {took:.1f} s, page ≤ {max(found.pages_ms):.0f} ms"
                )
            left = rss_mb(s.controller.pid) - base
            seen("; ".join(saw) + f"; afterwards +{left:.0f} MB")


@pytest.mark.row(29, did="more targets, groups, labels, longer ones than the caps; an answer over the caps of body and file")
async def test_caps_of_a_list_hold(tmp_path: Path, seen: Seen) -> None:
    def one(**group: Any) -> bytes:
        return json.dumps([{"targets": ["a:1"]}, {"targets": ["b:1"], **group}]).encode()

    labels_max, value_max = limits.LABELS_MAX, limits.LABEL_VALUE_MAX
    for text, named in (
        (one(labels={f"x{n}": "y" for n in range(labels_max + 1)}), f"[1].labels: more than {labels_max}"),
        (one(labels={"x": "y" * (value_max + 1)}), f"[1].labels: 'x' is longer than {value_max}"),
        (one(labels={"x" * (limits.LABEL_NAME_MAX + 1): "y"}), "is not a label name"),
        (one(targets=["x" * (limits.ADDRESS_MAX + 1)]), "[1].targets[0]"),
    ):
        pool = groups.Reader().read(text, "f")
        assert (len(pool), pool.refused) == (1, 1), text[:60]
        assert named in pool.remarks[0]
    for text, named in (
        (one(targets=[f"h{n}" for n in range(10_000)], labels={"x": "y" * value_max}), "[1]: the labels, repeated"),
        (b'[{"targets":[' + b'"x",' * (json_list.ENTRY_BYTES_MAX // 4) + b'"x"]}]', "no group ends within"),
    ):
        with pytest.raises(DiscoveryError, match=re.escape(named)):
            groups.Reader().read(text, "f")
    assert len(groups.Reader().read(one(labels={f"x{n}": "y" for n in range(labels_max)}), "f")) == 2
    assert len(groups.Reader().read(one(labels={"x": "y" * value_max}), "f")) == 2
    (tmp_path / "long.json").touch()
    os.truncate(tmp_path / "long.json", 513 * MB)
    with pytest.raises(DiscoveryError, match=r"long\.json: larger than 536870912 bytes"):
        await FileSource([str(tmp_path / "long.json")], 60.0).fetch()
    seen("each refused by name; at the cap taken")


@pytest.mark.row(29, did="twenty malformed or endless answers of 20 MB, the garbage collector off")
@pytest.mark.parametrize("kind", ["malformed", "too large"])
async def test_an_answer_that_was_refused_is_not_kept_in_memory(seen: Seen, kind: str) -> None:
    async with TargetSource([]) as source:
        source.body = b'[{"targets":["a:1"]},{"targets":["' + b"x" * 20 * MB + b'",5]}]'
        asked = http_source(source.url, 60.0, 10.0, body_bytes_max=2**29 if kind == "malformed" else 19 * MB)
        gc.collect()
        gc.disable()
        try:
            base = rss_mb(os.getpid())
            for _ in range(20):
                with pytest.raises(DiscoveryError):
                    await asked.fetch()
            more = rss_mb(os.getpid()) - base
        finally:
            gc.enable()
        assert more < 200, f"{more:.0f} MB"
        seen(f"{kind}: memory +{more:.0f} MB after 400 MB refused")


@pytest.mark.long
@pytest.mark.row(29, did="5,000,001 targets; 5,000,002 groups")
@pytest.mark.parametrize("text", [b'{"targets":["a:1"]},', b'{"targets":[]},'], ids=["targets", "groups"])
def test_no_list_has_more_than_five_million_targets_or_groups(text: bytes, seen: Seen) -> None:
    started = time.monotonic()
    listed = groups.from_json(b"[" + text * (limits.TARGETS_MAX + 1) + text[:-1] + b"]", "f")
    assert sum(1 for _ in islice(listed, limits.TARGETS_MAX)) == limits.TARGETS_MAX
    with pytest.raises(DiscoveryError, match="more than 5000000 targets or groups"):
        sum(1 for _ in listed)
    seen(f"refused after {time.monotonic() - started:.0f} s")
