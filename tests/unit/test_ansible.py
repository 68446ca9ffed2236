"""Delivery by Ansible without Ansible: what is pushed when, how a run ends, and the script of the far side."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import shlex
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promring.config.load import loads
from promring.delivery import Outcome
from promring.delivery.ansible import AnsibleDelivery, AnsiblePushes, AnsibleSettings, inventory_names, is_plain_host
from promring.delivery.ansible_inventory import Host
from promring.delivery.ansible_push import AnsiblePace
from promring.delivery.ansible_run import Run, Told, environment, find_program, last_error, read_report
from promring.delivery.receiver_sh import SdFile
from promring.model import ConfigError, Generation, Scraper, Slice
from promring.telemetry import log
from tests.waiting import slower, until

BODY = b'[{"targets":["a:1"]}]'


def a_slice(host: str, port: int = 9090, *, body: bytes = BODY, generation: tuple[int, int] = (1, 1)) -> Slice:
    return Slice("x", Scraper(f"{host}:{port}", host, port), Generation(*generation), body, 1)


def kinds(outcomes: list[Outcome]) -> list[str]:
    return [o.outcome for o in outcomes]


WAITS = AnsiblePace(retry_first_s=0.0, wait_s=600.0, slow_wait_s=600.0)  # every call waits until each push has ended
NAMES = 'import json; print(*json.load(open("inventory.json"))["all"]["hosts"])'
TOLD = r"""
told() { printf '{"host": "%s", "result": "%s", "why": "%s"}\n' "$1" "$2" "${3:-}" >> "$PROMRING_ANSIBLE_REPORT"; }
"""


class Play:
    """An ``ansible-playbook`` on PATH that is a shell script. ``record`` has a line a run: its folder, its arguments."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
        monkeypatch.setenv("ANSIBLE_LIBRARY", "/nowhere")
        monkeypatch.setenv("PYTHONPATH", "/nowhere")
        self.does("")

    def does(self, script: str) -> None:
        """``told HOST RESULT WHY`` reports; an empty script reports every host as ``changed``."""
        program = self.folder / "bin" / "ansible-playbook"
        every = f"for host in $({sys.executable} -c {shlex.quote(NAMES)}); do told $host changed; done\n"
        program.write_text(
            f'#!/bin/sh\necho "$PWD" "$@" >> {shlex.quote(str(self.folder))}/record\n'
            f"cp inventory.json {shlex.quote(str(self.folder))}/\n" + TOLD + (script or every)
        )
        program.chmod(0o755)

    @property
    def runs(self) -> list[str]:
        record = self.folder / "record"
        return record.read_text().splitlines() if record.exists() else []

    def delivery(self, *, verify_s: float = 600.0, timeout_s: float = 5.0) -> AnsibleDelivery:
        return AnsibleDelivery(AnsibleSettings(timeout=timeout_s), log.get(), pace=replace(WAITS, verify_s=verify_s))

    def hosts(self) -> dict[str, dict[str, object]]:
        """Of the last run's inventory."""
        hosts: dict[str, dict[str, object]] = json.loads((self.folder / "inventory.json").read_text())["all"]["hosts"]
        return hosts


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    return Play(tmp_path, monkeypatch)


# --- what is pushed when ---------------------------------------------------------------------------------------------


async def test_only_what_changed_is_pushed_all_in_one_run(play: Play) -> None:
    delivery = play.delivery()
    three = [a_slice("a"), a_slice("b"), a_slice("c")]
    assert kinds(await delivery.deliver(three)) == ["written"] * 3
    assert list(play.hosts()) == ["a", "b", "c"]
    assert kinds(await delivery.deliver(three)) == ["same"] * 3
    assert len(play.runs) == 1
    three[1] = a_slice("b", generation=(1, 2))
    assert kinds(await delivery.deliver(three)) == ["same", "written", "same"]
    assert list(play.hosts()) == ["b"]
    await delivery.deliver([three[0]])
    assert kinds(await delivery.deliver(three)) == ["same", "written", "written"], "who left and came back is pushed again"


async def test_what_failed_is_pushed_again_after_the_others(play: Play) -> None:
    delivery = play.delivery()
    play.does("told a failed 'no space'; told b begun; told c unreachable 'refused'; told d changed; echo what >&2; exit 4")
    four = [a_slice(h) for h in "abcde"]
    outcomes = await delivery.deliver(four)
    assert kinds(outcomes) == ["failed", "unsent", "failed", "written", "waiting"]
    over = "e: the push ended before it was through here: what"
    assert [o.error for o in outcomes] == ["a: no space", "b: what", "c: unreachable: refused", "", over]
    play.does("")
    assert kinds(await delivery.deliver(four)) == ["written", "written", "written", "same", "written"]
    assert len(play.runs) == 3, "who failed has a push of its own"


async def test_what_was_delivered_is_made_sure_of_now_and_then(play: Play) -> None:
    stream = io.StringIO()
    log.configure("info", stream=stream)
    try:
        delivery = play.delivery(verify_s=0.0)
        await delivery.deliver([a_slice("a")])
        play.does("told a ok")
        assert kinds(await delivery.deliver([a_slice("a")])) == ["same"]
        assert "slice_put_back" not in stream.getvalue()
        play.does("told a changed")
        assert kinds(await delivery.deliver([a_slice("a")])) == ["written"]
        assert stream.getvalue().count("slice_put_back") == 1
        assert len(play.runs) == 3
    finally:
        log.configure()


async def test_a_host_gets_the_variables_of_the_original_and_nothing_of_a_label(play: Play) -> None:
    body = b'[{"targets":["a:1"],"labels":{"x":"{{ 7 * 7 }}"}}]'
    key = play.folder / "key"
    key.write_text("")
    settings = AnsibleSettings(user="prom", identity_file=key, reload=True, timeout=5.0)
    await AnsibleDelivery(settings, log.get()).deliver([a_slice("10.0.0.1", 9091, body=body, generation=(3, 10))])
    hosts = play.hosts()
    bundle = str(hosts["10.0.0.1"].pop("promring_receiver"))
    assert re.fullmatch(r"/.*/promring-ansible-\w+/slices/0/receiver\.sh", bundle)
    assert hosts == {
        "10.0.0.1": {
            "ansible_host": "10.0.0.1",
            "ansible_user": "prom",
            "ansible_ssh_private_key_file": str(key),
            "dest_sd_file_name": "file_sd_by_promring.json",
            "dest_dir": "/opt/app/prometheus/sd",
            "service_port": 9091,
            "promring_file_names": ["file_sd_by_promring.json"],
            "promring_reload": True,
            "promring_shared": False,
        }
    }
    theirs = settings.model_copy(update={"playbook": Path(__file__)})
    await AnsibleDelivery(theirs, log.get()).deliver([a_slice("10.0.0.1", 9091, body=body, generation=(3, 10))])
    hosts = play.hosts()
    source = str(hosts["10.0.0.1"].pop("src_sd_file_name"))
    assert re.fullmatch(r"/.*/promring-ansible-\w+/slices/0/file_sd_by_promring\.json", source)
    assert hosts == {
        "10.0.0.1": {
            "ansible_host": "10.0.0.1",
            "ansible_user": "prom",
            "ansible_ssh_private_key_file": str(key),
            "dest_sd_file_name": "file_sd_by_promring.json",
            "dest_dir": "/opt/app/prometheus/sd",
            "service_port": 9091,
            "promring_sha256": hashlib.sha256(body).hexdigest(),
            "promring_generation": "3.10",
            "promring_reload": True,
        }
    }
    folder = Path(play.runs[0].split()[0])
    assert not folder.exists()


async def test_two_scrapers_of_one_host_do_not_share_a_file(play: Play) -> None:
    two = [a_slice("h", 9090), a_slice("h", 9091)]
    outcomes = await play.delivery().deliver(two)
    assert kinds(outcomes) == ["written", "failed"]
    assert outcomes[1].error == "h: /opt/app/prometheus/sd/file_sd_by_promring.json there is the file of h:9090"
    theirs = AnsibleDelivery(AnsibleSettings(playbook=Path(__file__), timeout=5.0), log.get(), pace=WAITS)
    assert kinds(await theirs.deliver(two)) == ["written", "written"], "whose playbook it is, knows where its files are"
    assert list(play.hosts()) == ["h_9090", "h_9091"]


@pytest.mark.parametrize(
    "host", ["-oProxyCommand=x", "a b", "{{ x }}", "a\nb", "a:b@c", "h[1:3]", "fe80::1%eth0", "", "a,b", "1::2::3"]
)
async def test_a_host_that_is_no_plain_name_is_refused_alone(play: Play, host: str) -> None:
    outcomes = await play.delivery().deliver([a_slice(host), a_slice("good")])
    assert kinds(outcomes) == ["failed", "written"]
    assert outcomes[0].error == f"{host!r} is not a plain host name or address"
    assert list(play.hosts()) == ["good"]


@given(st.text(max_size=20))
def test_a_plain_host_has_nothing_but_letters_digits_dots_and_dashes(host: str) -> None:
    assert not is_plain_host(host) or re.fullmatch(r"[A-Za-z0-9:][A-Za-z0-9._:-]*", host)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "all", "ungrouped", "::1", "a_1", "fe80::1"]), st.integers(1, 4)), unique=True)
)
def test_names_in_the_inventory_are_distinct_plain_and_no_group(scrapers: list[tuple[str, int]]) -> None:
    names = inventory_names([a_slice(host, port).scraper for host, port in scrapers])
    assert len(set(names)) == len(scrapers)
    assert all(re.fullmatch(r"[\w.-]+", name) and name not in ("all", "ungrouped") for name in names)
    alone = [host for host, _ in scrapers]
    if alone.count("a") == 1:
        assert "a" in names


# --- the services of a fleet -----------------------------------------------------------------------------------------------


class Services:
    """Deliveries of several services that share their pushes."""

    def __init__(self, *names: str, pace: AnsiblePace = WAITS, timeout_s: float = 5.0) -> None:
        settings = AnsibleSettings(timeout=timeout_s)
        self.pushes = AnsiblePushes(settings, log.get(), pace=pace)
        self.rings = dict.fromkeys(names, 0)
        self.deliveries = {
            name: self._delivery(settings.model_copy(update={"dest_sd_file_name": f"{name}.json"}), name) for name in names
        }

    def _delivery(self, settings: AnsibleSettings, name: str) -> AnsibleDelivery:
        made = AnsibleDelivery(settings, log.get(), pushes=self.pushes)
        made.when_done(lambda: self.rings.update({name: self.rings[name] + 1}))
        return made

    async def deliver(self, *hosts: str, **generations: int) -> dict[str, list[str]]:
        """To each service that is named, at once. The outcomes by service."""
        outcomes = await self.told(*hosts, **generations)
        return {name: kinds(told) for name, told in outcomes.items()}

    async def told(self, *hosts: str, **generations: int) -> dict[str, list[Outcome]]:
        slices = {
            name: [replace(a_slice(host, body=b"[%s]" % (b" " * n), generation=(1, n)), service=name) for host in hosts]
            for name, n in generations.items()
        }
        told = await asyncio.gather(*(self.deliveries[name].deliver(slices[name]) for name in slices))
        return dict(zip(slices, told, strict=True))


async def test_one_run_brings_what_changed_of_all_services_and_nothing_else(play: Play) -> None:
    services = Services("one", "two", "three")
    written, same = ["written"] * 2, ["same"] * 2
    assert await services.deliver("a", "b", one=1, two=1, three=1) == {"one": written, "two": written, "three": written}
    assert len(play.runs) == 1
    assert list(play.hosts()) == ["a", "b"]
    assert all(host["promring_file_names"] == ["one.json", "two.json", "three.json"] for host in play.hosts().values())
    assert await services.deliver("a", "b", one=1, two=1, three=1) == {"one": same, "two": same, "three": same}
    assert await services.deliver("a", "b", one=1, two=2, three=1) == {"one": same, "two": written, "three": same}
    assert len(play.runs) == 2
    assert all(host["promring_file_names"] == ["two.json"] for host in play.hosts().values())
    assert await services.deliver("a", "b", one=2, three=2) == {"one": written, "three": written}, "a doubted one: none"
    assert len(play.runs) == 3


async def test_a_file_that_fails_costs_its_service_alone_and_a_host_that_fails_all_of_them_once(play: Play) -> None:
    services = Services("one", "two", pace=replace(WAITS, retry_first_s=600.0, retry_most_s=600.0))
    file = '{"host": "a", "result": "%s", "why": "%s", "file": %d}'
    lines = [file % ("at", "/sd/one.json", 0), file % ("error", "it is a folder", 0), file % ("same", "", 1)]
    say = "".join(f"echo {shlex.quote(line)} >> $PROMRING_ANSIBLE_REPORT; " for line in lines)
    play.does(f"{say} told a ok; told b unreachable refused; exit 4")
    told = await services.told("a", "b", one=1, two=1)
    assert told["one"] == [
        Outcome("a:9090", "failed", "a: /sd/one.json: it is a folder"),
        Outcome("b:9090", "failed", "b: unreachable: refused"),
    ]
    assert told["two"] == [Outcome("a:9090", "same"), Outcome("b:9090", "failed", "b: unreachable: refused")]
    play.does("")
    assert await services.deliver("a", "b", one=1, two=2) == {"one": ["waiting"] * 2, "two": ["written", "waiting"]}
    assert list(play.hosts()) == ["a"], "b is left alone for all services"
    assert play.hosts()["a"]["promring_file_names"] == ["two.json"], "and a file that failed for itself"


async def test_a_service_that_ends_ends_its_push_and_the_others_are_pushed_again(play: Play) -> None:
    services = Services("one", "two", pace=AnsiblePace(wait_s=0.1), timeout_s=60.0)
    play.does("told a begun; exec sleep 600")
    assert await services.deliver("a", one=1, two=1) == {"one": ["waiting"], "two": ["waiting"]}
    play.does("")
    await services.deliveries["one"].close()
    assert services.rings == {"one": 0, "two": 1}
    while (told := await services.deliver("a", two=1))["two"] != ["written"]:
        assert told["two"] == ["waiting"]
    assert play.hosts()["a"]["promring_file_names"] == ["two.json"]
    await services.deliveries["two"].close()


async def test_a_cancelled_service_leaves_no_run_and_the_others_are_told(play: Play) -> None:
    services = Services("one", "two", pace=replace(WAITS, slow_wait_s=0.1), timeout_s=60.0)
    play.does("told a begun; exec sleep 600")
    sending = {name: asyncio.create_task(services.deliver("a", **{name: 1})) for name in ("one", "two")}
    await until(lambda: bool(play.runs), "it runs")
    play.does("")
    sending["one"].cancel()
    await asyncio.wait([sending["one"]])
    assert sending["one"].cancelled()
    assert (await sending["two"])["two"] == ["waiting"]
    assert services.rings["two"] == 1
    assert await services.deliver("a", one=1, two=1) == {"one": ["written"], "two": ["written"]}
    assert len(play.runs) == 2


async def test_a_host_is_in_one_push_at_a_moment_whatever_the_service(play: Play) -> None:
    go = play.folder / "go"
    play.does(f"told a begun; while ! [ -e {shlex.quote(str(go))} ]; do sleep 0.05; done; told a changed")
    services = Services("one", "two", pace=AnsiblePace(wait_s=0.2), timeout_s=60.0)
    assert await services.deliver("a", one=1) == {"one": ["waiting"]}
    assert await services.deliver("a", two=1) == {"two": ["waiting"]}
    assert len(play.runs) == 1
    go.touch()
    await until(lambda: services.rings["two"] > 0, "who waited for the host is told")
    told = set[str]()
    while "written" not in told:
        told.update((await services.deliver("a", one=1, two=1))["two"])
    assert len(play.runs) == 2
    for delivery in services.deliveries.values():
        await delivery.close()


# --- what is slow, and what is our own trouble -------------------------------------------------------------------------


async def test_who_is_heard_of_is_free_for_the_next_push_while_another_one_hangs(play: Play) -> None:
    go = play.folder / "go"
    play.does(f"told a changed; told b begun; while ! [ -e {shlex.quote(str(go))} ]; do sleep 0.05; done; told b changed")
    delivery = AnsibleDelivery(AnsibleSettings(timeout=60.0), log.get(), pace=AnsiblePace(wait_s=0.5))
    rings: list[int] = []
    delivery.when_done(lambda: rings.append(1))
    try:
        told = list[str]()
        while "written" not in told:
            told = kinds(await delivery.deliver([a_slice("a"), a_slice("b")]))
        assert told == ["written", "waiting"]
        play.does("")
        newer = [a_slice("a", generation=(1, 2)), a_slice("b", generation=(1, 2))]
        while "written" not in (told := kinds(await delivery.deliver(newer))):
            assert told == ["waiting", "waiting"]
        assert list(play.hosts()) == ["a"], "b is in the push that hangs"
        assert not rings
        go.touch()
        await until(lambda: bool(rings), "it rings when the push has ended")
        while (told := kinds(await delivery.deliver(newer))) != ["same", "written"]:
            assert told[0] == "same"
        assert list(play.hosts()) == ["b"], "the newest wins"
    finally:
        await delivery.close()


PASSES_OVER = """
hosts=" $({names}) "
case "$hosts" in
*" d "*|*" e "*)
  if [ -e {stay} ] && ! [ -e {over}.first ]; then touch {over}.first; told d failed no; told e failed no; exit 4; fi
  case "$hosts" in
  *" d e "*|*" e d "*)
    while [ -e {stay} ] && ! [ -e {over} ]; do sleep 0.05; done
    if [ -e {stay} ]; then told e failed no; exit 4; fi;;
  *) if [ -e {stay} ] && ! [ -e {over} ]; then for host in $hosts; do told $host failed no; done; exit 4; fi;;
  esac;;
esac
while [ -e {stay} ]; do sleep 0.05; done
for host in $hosts; do told $host changed; done
"""


async def test_who_was_passed_over_does_not_ring_while_there_is_no_room_for_another_push(play: Play) -> None:
    """Three pushes hang, and one of hosts that failed ends without having come to d."""
    stay, over = (shlex.quote(str(play.folder / name)) for name in ("stay", "over"))
    delivery = AnsibleDelivery(AnsibleSettings(timeout=60.0), log.get(), pace=replace(WAITS, wait_s=0.1, slow_wait_s=0.1))
    rings: list[int] = []
    delivery.when_done(lambda: rings.append(1))
    a, b, c, d, e = (a_slice(host) for host in "abcde")
    try:
        (play.folder / "stay").touch()
        play.does(PASSES_OVER.format(names=f"{sys.executable} -c {shlex.quote(NAMES)}", stay=stay, over=over))
        pause_s = 0.05
        while len(play.runs) < 2 or play.hosts().keys() != {"d", "e"}:
            await delivery.deliver([d, e])  # the first time they fail, then they are in one push of those that failed
            await asyncio.sleep(pause_s)  # at last longer than a push takes: else the two may be pushed in turns for ever
            pause_s *= 2
        for slices in ([a, d, e], [a, b, d, e], [a, b, c, d, e]):
            await delivery.deliver(slices)
        rings.clear()
        (play.folder / "over").touch()
        await until(lambda: bool(rings), "the push of those that failed has ended")
        assert kinds(await delivery.deliver([a, b, c, d, e]))[:4] == ["waiting"] * 4
        rings.clear()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not rings, "nothing can be done before a push ends"
        (play.folder / "stay").unlink()
        await until(lambda: bool(rings), "it rings when there is room")
        told = set[str]()
        while len(told) < 5:
            told |= {o.scraper for o in await delivery.deliver([a, b, c, d, e]) if o.outcome in ("written", "same")}
            await asyncio.sleep(0.05)
    finally:
        await delivery.close()


async def test_who_does_not_lead_any_more_ends_the_push(play: Play) -> None:
    play.does("told a changed; told b begun; exec sleep 600")
    leads = [True]
    delivery = play.delivery(timeout_s=600.0)
    pushing = asyncio.create_task(delivery.deliver([a_slice("a"), a_slice("b")], lambda: leads[0]))
    await until(lambda: bool(play.runs) and bool(living("sleep 600") or living("600")), "it runs")
    leads[0] = False
    assert kinds(await pushing) == ["written", "withheld"]


@pytest.mark.parametrize("what", ["identity_file", "playbook", "extra_vars_file", "vault_password_file"])
async def test_a_file_of_ours_that_is_missing_is_no_failure_of_any_host(play: Play, what: str) -> None:
    settings = AnsibleSettings(**{what: play.folder / "missing"})  # type: ignore[arg-type]
    (outcome,) = await AnsibleDelivery(settings, log.get(), pace=WAITS).deliver([a_slice("a")])
    assert outcome == Outcome("a:9090", "unsent", f"a: {play.folder}/missing: No such file or directory")
    assert play.runs == []


async def test_a_program_that_cannot_be_started_is_no_failure_of_any_host(play: Play) -> None:
    (play.folder / "bin" / "ansible-playbook").write_text("#!/nowhere/python\n")
    (outcome,) = await play.delivery().deliver([a_slice("a")])
    assert outcome == Outcome("a:9090", "unsent", "a: ansible-playbook cannot be started: No such file or directory")


# --- the run ---------------------------------------------------------------------------------------------------------


async def test_without_ansible_every_push_fails_and_it_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    stream = io.StringIO()
    log.configure("info", stream=stream)
    try:
        delivery = AnsibleDelivery(AnsibleSettings(), log.get(), pace=WAITS)
        for _ in range(3):
            outcomes = await delivery.deliver([a_slice("a"), a_slice("b")])
            assert kinds(outcomes) == ["unsent"] * 2
            assert [o.error for o in outcomes] == [f"{h}: ansible-playbook is not installed" for h in "ab"]
        assert stream.getvalue().count("msg=ansible_missing") == 1
    finally:
        log.configure()


def test_it_is_found_beside_the_python_that_runs_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert find_program() is None
    (tmp_path / "ansible-playbook").write_text("#!/bin/sh\n")
    (tmp_path / "ansible-playbook").chmod(0o755)
    assert find_program() == str(tmp_path / "ansible-playbook")


def test_nothing_of_ansible_or_python_is_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANSIBLE_HOST_KEY_CHECKING", "ANSIBLE_CONFIG", "PYTHONPATH", "LD_PRELOAD", "SSH_ASKPASS", "SECRET"):
        monkeypatch.setenv(name, "theirs")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    made = environment(tmp_path, 10.0)
    assert "theirs" not in made.values()
    assert (made["ANSIBLE_HOST_KEY_CHECKING"], made["SSH_AUTH_SOCK"], made["HOME"]) == ("1", "/agent", os.environ["HOME"])
    assert made["ANSIBLE_TASK_TIMEOUT"] == "8"
    assert environment(tmp_path, 0.5)["ANSIBLE_TASK_TIMEOUT"] == "1"


def living(mark: str) -> list[psutil.Process]:
    """Processes with ``mark`` in their arguments."""
    running = (p for p in psutil.process_iter(["cmdline", "status"]) if p.info["status"] != psutil.STATUS_ZOMBIE)
    return [p for p in running if any(mark in argument for argument in p.info["cmdline"] or ())]


STUBBORN = """
trap '' TERM
sleeper={folder}/sleeper
setsid sh -c "trap '' TERM; $sleeper 600" &
(setsid $sleeper 600 &) # nobody's child any more
told a changed
told b begun
"""
HANGS = STUBBORN + "setsid env -i $sleeper 600 & # only its parent tells whose it is\nwhile :; do sleep 1; done\n"


@pytest.mark.parametrize("ends_itself", [True, False])
async def test_no_process_is_left_whatever_it_did(play: Play, tmp_path: Path, ends_itself: bool) -> None:
    (tmp_path / "sleeper").symlink_to("/bin/sleep")
    play.does((STUBBORN if ends_itself else HANGS).format(folder=shlex.quote(str(tmp_path))))
    began = time.monotonic()
    outcomes = await play.delivery(timeout_s=1.0).deliver([a_slice(h) for h in "abc"])
    took = time.monotonic() - began
    assert living(f"{tmp_path}/sleeper") == []
    assert kinds(outcomes) == (["written", "unsent", "unsent"] if ends_itself else ["written", "failed", "waiting"])
    if not ends_itself:
        assert 1.0 <= took < 3.0 * slower()
        over = "c: the push ended before it was through here: not done within 1 s"
        assert [o.error for o in outcomes[1:]] == ["b: not done within 1 s", over]


async def test_cancelled_it_ends_its_run_first(play: Play, tmp_path: Path) -> None:
    (tmp_path / "sleeper").symlink_to("/bin/sleep")
    play.does(HANGS.format(folder=shlex.quote(str(tmp_path))))
    delivery = play.delivery(timeout_s=60.0)
    pushing = asyncio.create_task(delivery.deliver([a_slice("a")]))
    await until(lambda: len(living(f"{tmp_path}/sleeper")) >= 3, "it runs")
    began = time.monotonic()
    pushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    assert time.monotonic() - began < 3 * slower()
    assert living(f"{tmp_path}/sleeper") == []
    assert not Path(play.runs[0].split()[0]).exists()
    play.does("")
    assert kinds(await delivery.deliver([a_slice("a")])) == ["written"], "what became of it was not heard"


def test_a_playbook_cannot_be_an_option_and_slices_are_private(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play.does(f"stat -c %a . >> {shlex.quote(str(tmp_path))}/mode; exit 3")
    host = Host("a", [SdFile.of("x.json", a_slice("a"))], {})
    monkeypatch.chdir(tmp_path)
    Path("--version").write_text("")
    report = Run(Path("--version"), 5.0)([host], threading.Event().is_set)
    assert play.runs[0].endswith("--forks 1 -- --version")
    assert (tmp_path / "mode").read_text() == "700\n"
    assert report.trouble == "ansible-playbook ended with status 3 and said nothing of it"


def test_a_report_that_was_cut_and_an_error_among_warnings_are_read() -> None:
    lines = ['{"host": "a", "result": "begun", "why": ""}', '{"host": "a", "result": "ok", "why": ""}', "nonsense", "[]"]
    lines.insert(1, '{"host": "a", "result": "written", "why": "", "file": 0}')
    told = list(read_report("\n".join([*lines, '{"host": "b", "res'])))
    assert told == [Told("a", "begun", ""), Told("a", "written", "", 0), Told("a", "ok", "")]
    assert last_error("[WARNING]: x\n[ERROR]: broken\nOrigin: /x.yml:3:5\n\n  ^ column 5\n") == "broken"
    assert last_error("bash: no such thing\n") == "bash: no such thing"
    assert last_error("") == ""


# --- configuration -----------------------------------------------------------------------------------------------------

FLEET = """
fleets:
  - name: main
    scrapers: {probe: {nodes: [10.0.0.1:9090]}}
    delivery:
      - ansible: {extra_vars_file: %s, dest_sd_file_name: "{service}.json"}
shard_services:
  - {name: node, fleet: main, targets: [{file: {files: [t/*.json]}}]}
"""
SECOND = "  - {name: db, fleet: main, targets: [{file: {files: [d/*.json]}}]}\n"


@pytest.mark.parametrize(
    ("variables", "refused"),
    [
        ("dest_sd_file_name: x.json", True),
        ("a: 1\n'dest_sd_file_name' : x.json\n", True),
        ('{"a": 1, "dest_sd_file_name": "x.json"}', True),
        ("a: 1\nold_dest_sd_file_name: x.json\n#dest_sd_file_name: y", False),
        ("$ANSIBLE_VAULT;1.1;AES256\n6531", False),
    ],
)
def test_extra_variables_that_name_one_file_are_refused_for_several_services(
    tmp_path: Path, variables: str, refused: bool
) -> None:
    (extra := tmp_path / "extra.yml").write_text(variables)
    assert loads(FLEET % extra, name="x.yml", base=tmp_path)
    if not refused:
        assert loads(FLEET % extra + SECOND, name="x.yml", base=tmp_path)
        return
    with pytest.raises(ConfigError) as caught:
        loads(FLEET % extra + SECOND, name="x.yml", base=tmp_path)
    (problem,) = caught.value.problems
    said = "x.yml:6: fleets[0].delivery[0].ansible.extra_vars_file: sets dest_sd_file_name, and 2 services have files there"
    assert problem == said
