"""A running promring attacked from outside, by each party in turn: what becomes of the targets of the others?

The promise of each test is the same: no byte of the other services' slices changes, and a change of their lists still
arrives. What the party can do to its own part is in ``docs/threat-model.md``.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from promring.runtime.http_client import request
from tests.fakes.hostile import MEGA, HostilePeer, Talk, for_ever, plain, says
from tests.hostile.test_consul import SERVICES
from tests.hostile.test_scrapers import TARGETS
from tests.hostile.test_sources import LIST
from tests.real.test_canaries import command
from tests.real.town import ODD, service, town
from tests.rows import Seen
from tests.waiting import until

# --- a scraper ---------------------------------------------------------------------------------------------------------


def of_scraper(controller_port: int) -> dict[str, Talk]:
    """Beyond the answers of ``tests/fakes/hostile``: where it sends us, what follows its answer, and by which clock."""
    two = plain(b"ok", {"Connection": "keep-alive"}) + plain(TARGETS.body(TARGETS.good), {"Connection": "keep-alive"}) * 20
    redirects = {
        f"a redirect to {where[:40]}": says(plain(b"", {"Location": where}, f"{status} Found"))
        for status, where in (
            (307, "http://169.254.169.254/latest/meta-data/"),
            (308, f"http://127.0.0.1:{controller_port}/-/reload"),
            (302, "//127.0.0.1:1/"),
            (302, "gopher://127.0.0.1:1/"),
            (302, "http://127.0.0.1:0/\x1b[31m"),
        )
    }
    labels = b",".join(b'"%d":"x"' % n for n in range(1_000_000))
    return {
        **redirects,
        "second responses on the connection": says(two),
        "HTTP/0.9": says(b"[]"),
        "HTTP/9.9": says(b"HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        "a drip": for_ever(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.1),
        "a million keys": says(plain(b'{"status":"success","data":{' + labels + b"}}", {})),
        "duplicate keys": says(plain(b'{"status":"error","status":"success","data":{},"data":{"activeTargets":[]}}', {})),
        "times that are none": says(plain(TARGETS.body(TARGETS.good.replace(b"2026-01-01", b"9999-99-99")), {})),
        "a date of another age": says(plain(TARGETS.body(TARGETS.good), {"Date": "Fri, 31 Dec 9999 23:59:59 GMT"})),
        "odd texts": says(
            plain(TARGETS.body(json.dumps({"lastError": ODD, "discoveredLabels": {"\x1b": ODD}}).encode()), {})
        ),
        "an error of odd texts": says(plain(ODD.encode(), {}, "500 \x1b[2J\x07")),
    }


@pytest.mark.row(
    52, "A2", did="promring run: a scraper that redirects, smuggles, drips, sends odd texts, beside an honest one"
)
async def test_a_hostile_scraper_takes_nothing_from_the_others(tmp_path: Path, seen: Seen) -> None:
    async with HostilePeer(TARGETS) as bad:
        bad.honest = lambda _: plain(b"ok", {})
        listed = [{"file": {"files": [str(tmp_path / "targets.json")]}}]
        async with town(tmp_path, lambda honest: [service("shared", [honest, bad], listed)]) as t:
            cases = of_scraper(t.controller.port)
            for name, talk in cases.items():
                bad.play(name, talk)
                await until(lambda: bad.served > 1, f"{name}: asked", 60)
                await t.goes_on()
            bad.play("honest", None)
            reloads = await t.controller.ask(t.session, "actions")
        assert not [one for one in reloads or [] if one.get("action") == "reload"], "a redirect is no way to write"
    seen(f"{len(cases)} answers, the others' slices as before")


# --- Consul ------------------------------------------------------------------------------------------------------------


def instance(number: int = 1, **more: Any) -> dict[str, Any]:
    said = {"ID": f"x-{number}", "Service": "x", "Address": "127.0.0.1", "Port": number, "Meta": {}, **more}
    check = {"CheckID": f"service:x-{number}", "Status": "passing", "Output": ODD}
    return {"Node": {"Node": "n", "Address": "127.0.0.1"}, "Service": said, "Checks": [check]}


def of_consul() -> dict[str, Talk]:
    one = SERVICES.body(SERVICES.good)
    indexes = ("0", "-1", "1", "18446744073709551615", "9" * 5000, "7, 8", "x", "1e400", "")
    bodies = {
        "ids that are paths": [instance(1, ID="../../../etc/x"), instance(2, ID="a/b\x00\n"), instance(3, ID=ODD)],
        "addresses that are none": [
            instance(1, Address=where) for where in ("-oProxyCommand=x", "a/../b", "\x1b", "u:p@h", "")
        ],
        "one address for all": [instance(1, ID=f"x-{n}") for n in range(1000)],
        "ports that are none": [instance(port) for port in (-1, 0, 65536, 10**400)],
        "a weight for a whole fleet": [instance(1, Meta={"weight": "1e400"}, Weights={"Passing": 10**30})],
    }
    headers = dict(SERVICES.headers)
    return {
        **{f"index {index[:20]!r}": says(plain(one, {**headers, "X-Consul-Index": index})) for index in indexes},
        "no leader since long": says(
            plain(one, {**headers, "X-Consul-KnownLeader": "false", "X-Consul-LastContact": "9" * 99})
        ),
        "headers of odd texts": says(plain(one, {**headers, "X-Consul-Reason": ODD.replace("\r\n", "")})),
        **{name: says(plain(json.dumps(entries).encode(), headers)) for name, entries in bodies.items()},
    }


@pytest.mark.row(3, 9, 52, did="promring run: a Consul whose index goes back, is none or huge, with ids that are paths")
async def test_a_hostile_consul_takes_nothing_from_fleets_that_do_not_ask_it(tmp_path: Path, seen: Seen) -> None:
    most = 0.0
    async with HostilePeer(SERVICES) as consul:
        listed = [{"file": {"files": [str(tmp_path / "targets.json")]}}]
        known = service("by_consul", [], listed, scrapers={"consul": {"service": "x"}})
        async with town(tmp_path, lambda _: [known], consul={"address": consul.address}) as t:
            cases = of_consul()
            for name, talk in cases.items():
                consul.play(name, talk)
                await until(lambda: consul.served > 0, f"{name}: asked", 60)
                await t.goes_on()
                asked, began = consul.served, time.monotonic()
                await asyncio.sleep(1)
                most = max(most, (consul.served - asked) / (time.monotonic() - began))
    assert most < 60, "nobody asks without a pause"
    seen(f"{len(cases)} answers, at most {most:.0f} requests a second, the others' slices as before")


# --- a list of targets -------------------------------------------------------------------------------------------------


def odd_lists(mark: Path) -> dict[str, bytes]:
    odd = ODD.format(mark)
    many = {f"l{n}": "x" for n in range(100_000)}
    groups: dict[str, list[dict[str, Any]]] = {
        "odd values": [{"targets": ["o:1"], "labels": {"x": odd, "__param_target": odd, "__metrics_path__": odd}}],
        "odd names": [{"targets": ["o:1"], "labels": {odd: "x"}}],
        "odd addresses": [{"targets": [odd, "-oProxyCommand=touch", "../../etc/passwd", "o:1\x00", "{{1}}"]}],
        "a long value": [{"targets": ["o:1"], "labels": {"x": "y" * MEGA}}],
        "many labels": [{"targets": ["o:1"], "labels": many}],
        "labels that redirect": [{"targets": ["o:1"], "labels": {"__address__": "169.254.169.254", "__scheme__": "file"}}],
        "our own labels": [{"targets": ["o:1"], "labels": {"__promring_id__": "0123456789abcdef", "job": "good"}}],
    }
    return {name: json.dumps(group).encode() for name, group in groups.items()}


@pytest.mark.row(
    52, "A1", "A5", did="promring run: lists whose labels are commands, escapes, megabytes, with a command delivery"
)
async def test_a_hostile_list_takes_nothing_from_the_others_and_runs_nothing(tmp_path: Path, seen: Seen) -> None:
    mark, said = tmp_path / "mark", ""
    async with HostilePeer(LIST) as bad:
        http = [{"http": {"url": f"http://{bad.address}/sd", "refresh_interval": "500ms", "timeout": "500ms"}}]
        run = {"run": ["sh", "-c", "cat > /dev/null; env > /dev/null"], "path": "/x/{service}.json"}
        async with town(
            tmp_path, lambda honest: [service("odd", [honest], http, delivery=[{"command": run}, {"http_sd": {}}])]
        ) as t:
            for name, body in odd_lists(mark).items():
                bad.play(name, says(plain(body, {})))
                await until(lambda: bad.served > 1, f"{name}: asked", 60)
                await t.goes_on()
                for line in ("where o:1", "status", "events"):
                    said += await command(*line.split(), f"--url={t.controller.url}")
                page = await request(t.session, "GET", f"{t.controller.url}/where?target=o:1", timeout_s=30)
                assert b"<script>" not in page.body.replace(b"<script src", b"")
    assert not mark.exists()
    assert [line for line in said.splitlines() if not line.isprintable()] == []
    seen(f"{len(odd_lists(mark))} lists, nothing run, the others' slices as before")
