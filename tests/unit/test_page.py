"""The page and the events, asked over HTTP of a whole promring in this process."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from promring.core.verdicts import Hold
from promring.model import Unknown
from promring.telemetry import log
from promring.telemetry.events import KEPT, VALUE_MOST, Events
from promring.telemetry.log import difference
from tests.unit.test_web import Running, running
from tests.waiting import until

TOKEN = {"Authorization": "Bearer sesame"}


class Text(HTMLParser):
    """What a page shows: its text, its tags, and what its buttons post."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.posts: list[str] = []
        self._parts: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        assert not any(name.startswith("on") or name == "style" for name in named), "nothing inline"
        if "data-post" in named:
            self.posts.append(str(named["data-post"]))

    def handle_data(self, data: str) -> None:
        self._parts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._parts).split())


async def shown(r: Running, path: str) -> Text:
    status, headers, body = await r.get(path)
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-security-policy"].startswith("default-src 'self';")
    return Text(body)


async def test_the_page_says_what_the_api_says(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        page = await shown(r, "/")
        overview = await r.data("/api/v1/status")
        assert "the only controller , without a lock" in page.text
        for service in overview["services"]:
            assert f"generation {service['generation']}" in page.text
            for scraper in service["scrapers"]:
                assert f"{scraper['id']} up {scraper['targets']}" in page.text
        assert "targets 40 scrapers up 2 of 2" in page.text
        assert "reshard reason initial" in page.text
        one = await shown(r, "/services/files-only")
        assert "files-only" in one.text
        assert one.posts
        assert not any("/node/" in post for post in one.posts)
        assert (await r.get("/services/nobody"))[0] == 404


ELEMENTS = [
    ("verdict", "/", r'<p class="verdict \w+"><b>[^<]+</b>'),
    ("search", "/", r'<input type="search" name="target"'),
    ("why there, in order of the ring", "TARGET", r"number 1 on the ring: it owns the target"),
    ("since when a scraper stands so", "FLEET", r'data-name="since">'),
    ("load with limit and fair share, in numbers too", "FLEET", r'class="fair".*?· fair \d+ · limit \d+'),
    ("what if it dies", "FLEET", r'aria-label="what if NODE dies"'),
    ("room after a loss", "FLEET", r"<dt>without "),
    ("first plan, and who joined", "FLEET", r"first plan</b>.*?joined: "),
    ("slices by service", "SCRAPER", r'data-key="slice node".*?data-name="missing".*?data-name="beyond"'),
    ("the scraper's own targets", "SCRAPER", r'href="http://NODE/targets\?scrapePool=node"'),
    ("only trouble", "FLEET", r'name="trouble" value="1"'),
    ("sources with refused entries and age", "FLEET", r'data-key="source node [^"]+".*?data-name="refused"'),
    ("totals are exact", "SCRAPER", r"<span>\d+ targets</span>"),
    ("who may drain, asked with numbers", "FLEET", r'data-numbers="[^"]+plan\?without='),
    ("drain by its name", "FLEET", r'aria-label="drain NODE"'),
    ("who leads, and the configuration", "FLEET", r'the only controller.*?href="/config"'),
    ("rules with runbooks", "/alerts", r'href="/runbooks#promringscraperdown"'),
    ("the command for what is on screen", "PLAN", r"promring plan --without NODE"),
    ("load before and after", "PLAN", r'data-name="now">.*?data-name="then">'),
    ("one polite region", "/", r'<p id="said" role="status">'),
]
"""What the page owes an operator (docs/page.md), where it stands, and how it looks in HTML."""


async def test_each_element_of_the_page_stands_where_it_is_looked_for(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        await until(lambda: all(f.reconciler.placement for f in r.supervisor.fleets.values()), "placed")
        target, node = (await r.data("/api/v1/services/node/targets?limit=1"))["targets"][0], r.nodes[0]
        places = {
            "FLEET": "/fleets/main",
            "TARGET": f"/services/node/targets/{target['id']}",
            "SCRAPER": f"/fleets/main/scrapers/{quote(node)}",
            "PLAN": f"/fleets/main/plan?without={quote(node)}",
        }
        pages = {place: (await r.get(places.get(place, place)))[2].decode() for place in {one[1] for one in ELEMENTS}}
        lacking = [
            (what, place)
            for what, place, looks in ELEMENTS
            if not re.search(looks.replace("NODE", re.escape(node)), pages[place], re.DOTALL)
        ]
        assert lacking == []


async def test_what_is_held_stands_on_the_page_and_is_released_from_it(tmp_path: Path) -> None:
    async with running(tmp_path, shrink_threshold=0.7) as r:
        release = "/api/v1/services/node/release"
        assert release not in (await shown(r, "/")).posts
        r.write([{"targets": ["t1:9100"]}])

        async def held() -> bool:
            page = await shown(r, "/")
            return release in page.posts and "2 held" in page.text  # of two services that read the same list

        await until(held, "the page says what is held, and how to let it go")
        page = await shown(r, "/")
        assert "held: source shrank" in page.text
        assert re.search(r"since \d\d:\d\d:\d\d \(\d+ s ago\), until \d more equal answers?, or a release", page.text)
        assert "doubted: not believed yet" in page.text
        (said,) = (await r.data("/api/v1/services/node"))["withheld"]
        assert said["sources"] == [one["name"] for one in (await r.data("/api/v1/services/node"))["sources"]]
        assert 0 <= time.time() - said["since"] < 600
        assert "says 1 targets, the plan has 40 of it" in page.text
        async with r.session.post(r.url + release) as answer:
            assert answer.status == 401
        async with r.session.post(r.url + release, headers=TOKEN) as answer:
            assert answer.status == 200

        async def let_go() -> bool:
            page = await shown(r, "/services/node")
            return "targets 1 scrapers up" in page.text and release not in page.posts

        await until(let_go, "the plan has the short list")


async def test_who_follows_shows_no_button_that_releases_and_says_that_its_release_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, shrink_threshold=0.7) as r:
        r.write([{"targets": ["t1:9100"]}])

        async def held() -> bool:
            return bool((await r.data("/api/v1/services/node"))["withheld"])

        await until(held, "the short list is doubted")
        leadership = r.supervisor.leadership
        monkeypatch.setattr(leadership, "leads", lambda: False)
        monkeypatch.setattr(leadership, "alone", False)
        page = await shown(r, "/services/node")
        assert not [post for post in page.posts if post.endswith("/release")]
        assert "a release is made at the controller that leads" in page.text
        async with r.session.post(r.url + "/api/v1/services/node/release", headers=TOKEN) as answer:
            said = (await answer.json())["data"]
        assert (said["leads"], said["leader"], len(said["released"])) == (False, None, 1)


async def test_a_release_of_a_list_says_that_it_waits_while_the_whole_plan_is_held(tmp_path: Path) -> None:
    async with running(tmp_path, shrink_threshold=0.7) as r:
        r.write([{"targets": ["t1:9100"]}])

        async def held() -> bool:
            return bool((await r.data("/api/v1/services/node"))["withheld"])

        await until(held, "the short list is doubted")
        r.supervisor.fleets["node"].reconciler.judge.verdict = Hold("no_scrapers", "no scraper is alive")
        async with r.session.post(r.url + "/api/v1/services/node/release", headers=TOKEN) as answer:
            assert (await answer.json())["data"]["waits_for"] == "no scraper is alive"


async def test_a_page_is_packed_for_those_who_take_it_so_and_says_the_same(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        for path in ("/", "/fleets/main", "/services/node"):
            status, headers, plain = await r.get(path)
            assert (status, headers["vary"], headers.get("content-encoding")) == (200, "Accept-Encoding", None)
            _, headers, packed = await r.get(path, Accept_Encoding="gzip, br")
            assert headers["content-encoding"] == "gzip"
            assert len(packed) < len(plain) / 2
            same = gzip.decompress(packed)  # beside the times and events of another moment
            assert re.findall(rb"<h[12][^>]*>.*", same) == re.findall(rb"<h[12][^>]*>.*", plain)
            assert same.endswith(plain[-200:])
        assert (await r.get("/", Accept_Encoding="gzip;q=0"))[1].get("content-encoding") is None


async def test_a_drain_is_posted_to_where_the_page_says(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        drains = [p for p in (await shown(r, "/services/node")).posts if p.endswith("/drain")]
        assert len(drains) == 2
        async with r.session.post(r.url + drains[0], headers=TOKEN) as answer:
            assert answer.status == 200
        page = await shown(r, "/services/node")
        assert [p for p in page.posts if p.endswith("/undrain")] == [drains[0].removesuffix("drain") + "undrain"]
        assert "draining, " in page.text
        fleet = await r.data("/api/v1/fleets/node")
        drained, other = (next(x for x in fleet["scrapers"] if x["drained"] is is_drained) for is_drained in (True, False))
        found = fleet["hand_over"]
        assert (found["waiting"], found["reason"]) == (drained["left"], "drain")
        assert len(found["named"]) == min(10, drained["left"])
        for one in found["named"]:
            assert (one["service"], one["kept_by"], one["owners"]) == ("node", drained["id"], [other["id"]])
            where = await r.data(f"/api/v1/services/node/where?target={one['target']}")
            assert one["id"] in {place["id"] for place in where}
        assert f"{drained['id']} keeps it until {other['id']} scrapes it" in page.text


@pytest.mark.row("A8", did="targets and labels with scripts, markup and templates in them, on the page")
async def test_labels_are_text_wherever_they_stand(tmp_path: Path) -> None:
    hostile = "</main><script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7 * 7 }}"
    async with running(tmp_path, targets=False) as r:
        r.write([{"targets": ["t1:9100"], "labels": {"evil": hostile}}])
        await until(lambda: r.supervisor.services != {} and r.supervisor.unready() == [], "ready")
        wanted = (await shown(r, "/where?target=")).tags
        for asked in ("t1:9100", "evil", "%3Cscript%3Ealert(1)%3C/script%3E%22"):
            page = await shown(r, f"/where?target={asked}")
            assert page.tags.count("script") == wanted.count("script") == 1
            assert "img" not in page.tags
            if "script" not in asked:
                assert hostile in page.text


async def test_where_finds_an_address_and_a_part_of_one(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        place = (await r.data("/api/v1/services/node/where?target=t3:9100"))[0]
        exact = await shown(r, "/where?target=t3:9100")
        assert f"scraped by {place['scraper']}" in exact.text
        assert f"preference {', '.join(place['preference'])}" in exact.text
        part = await shown(r, "/where?target=t3")
        assert all(f"t3{n}:9100" in part.text for n in ("", *range(10)))
        assert "t29:9100" not in part.text
        assert "no target with nothing-like-it" in (await shown(r, "/where?target=nothing-like-it")).text


async def test_of_more_targets_with_a_label_than_are_shown_it_is_said_how_many_there_are(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        assert "the first 20 of 80 targets that are called so" in (await shown(r, "/where?target=env%3Dprod")).text
        assert "targets that are called so" not in (await shown(r, "/where?target=t3:9100")).text


async def test_services_without_a_find_are_not_named_beside_one_that_has_it(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        found = (await shown(r, "/where?target=w1")).text
        assert "service web" in found
        assert "service node" not in found
        assert "no target with" not in found
        assert (
            "no target with xyz in its address or labels in any of 3 services" in (await shown(r, "/where?target=xyz")).text
        )


async def test_of_a_fleet_with_many_services_each_is_a_row_those_with_trouble_first(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True, more=20, targets=False) as r:
        r.write([{"targets": ["t1:9100"]}])
        await until(
            lambda: "node" in r.supervisor.services and bool(r.supervisor.services["node"].slices), "node has a plan"
        )
        for path, rows in (("/", 20), ("/fleets/main", 22)):
            body = (await r.get(path))[2].decode()
            table = body.partition("services of main</caption>")[2].partition("</table>")[0]
            names = re.findall(r'data-key="service ([^"]+)"', table)
            every = [f"more-{n}" for n in range(20)]
            assert (len(names), names[:20]) == (rows, every), "no list yet: before those of which all is known"
            assert ("2 services more" in body) is (path == "/")
            assert "sources of node" not in body
        places = re.findall(r'<nav [^>]*aria-label="([^"]+)"', (await r.get("/config"))[2].decode())
        assert len(places) == len(set(places)) == 2, "its pager is told from the links on top"


async def test_its_files_are_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        page = (await r.get("/"))[2].decode()
        for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript")):
            assert f'"/static/{name}"' in page
            status, headers, body = await r.get(f"/static/{name}")
            assert (status, headers["content-type"]) == (200, f"{kind}; charset=utf-8")
            assert b"//" not in body.replace(b"// ", b""), "nothing is fetched from elsewhere"
        assert (await r.get("/static/..%2fpage.py"))[0] == 404


async def test_a_service_without_a_plan_and_one_whose_scrapers_are_gone_are_shown(tmp_path: Path) -> None:
    async with running(tmp_path, targets=False) as r:
        await until(lambda: r.supervisor.services != {}, "services")

        async def says() -> bool:
            page = await shown(r, "/")
            return "targets no plan" in page.text and "not ready" in page.text and "plan held" in page.text

        await until(says, "the page says why there is no plan")
        page = await shown(r, "/")
        assert re.search(r"(look at it|trouble) no plan yet of", page.text), "on top"
        assert "covered no plan" in page.text
        assert "outside: who owns" not in page.text


async def test_events_as_json(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        events = await r.data("/api/v1/events?service=node")
        assert {"id", "ts", "level", "msg", "service", "fleet", "fields"} == set(events[0])
        assert [e["id"] for e in events] == sorted({e["id"] for e in events})
        assert {(e["service"], e["fleet"]) for e in events} <= {("node", "node"), ("node", ""), ("", "node")}
        assert await r.data("/api/v1/events?fleet=node") == await r.data("/api/v1/events?service=node"), "its own fleet"
        reshard = next(e for e in events if e["msg"] == "reshard")
        assert reshard["fields"]["targets"] == 40
        later = await r.data(f"/api/v1/events?service=node&since={reshard['id']}")
        assert all(e["id"] > reshard["id"] for e in later)
        (newest,) = await r.data("/api/v1/events?service=node&limit=1")
        assert newest["id"] >= events[-1]["id"]
        assert (await r.get("/api/v1/events?service=nobody"))[0] == 404
        assert (await r.get("/api/v1/events?fleet=nobody"))[0] == 404
        assert (await r.get("/api/v1/events?since=x"))[0] == 400


async def read_stream(response: aiohttp.ClientResponse, msg: str) -> dict[str, Any]:
    """The next event called ``msg``; its id stands before it."""
    number = 0
    async for raw in response.content:
        line = raw.decode().rstrip()
        if line.startswith("id: "):
            number = int(line[4:])
        if line.startswith("data: ") and json.loads(line[6:])["msg"] == msg:
            found: dict[str, Any] = json.loads(line[6:])
            assert found["id"] == number
            return found
    raise AssertionError("the stream ended")


async def test_events_as_a_stream_that_goes_on_where_it_was(tmp_path: Path) -> None:
    stream = {"Accept": "text/event-stream"}
    async with running(tmp_path) as r, asyncio.timeout(60):
        url = f"{r.url}/api/v1/events"
        async with r.session.get(url, headers=stream) as response:
            assert response.headers["content-type"] == "text/event-stream"
            r.write([{"targets": ["t1:9100", "t2:9100"]}])
            first = await read_stream(response, "reshard")
            assert first["fields"]["targets"] == 2, "what was before is not repeated"
        r.write([{"targets": ["t1:9100"]}])
        await until(lambda: r.supervisor.fleets["node"].reconciler.memory.generation.n >= 3, "another plan")
        async with r.session.get(url, headers=stream | {"Last-Event-ID": str(first["id"])}) as response:
            assert (await read_stream(response, "reshard"))["fields"]["targets"] in (1, 2)
        async with r.session.get(url, headers=stream | {"Last-Event-ID": "99999999"}) as response:
            assert (await read_stream(response, "starting"))["id"] == 1, "of a process before: everything"


def test_the_ring_of_events_is_bounded() -> None:
    events = Events()
    for n in range(KEPT + 10):
        events.keep(None, "", {"level": "info", "ts": "t", "msg": f"m{n}", "text": "x" * 5000, "path": Path("/a")})
    events.keep(None, "", {"level": "debug", "ts": "t", "msg": "not kept"})
    kept = events.since()
    assert (len(kept), kept[0].id, kept[-1].id, events.last) == (KEPT, 11, KEPT + 10, KEPT + 10)
    assert len(str(kept[0].fields["text"])) == VALUE_MOST + 1
    assert kept[0].fields["path"] == "/a"
    assert [e.id for e in events.since(KEPT + 8)] == [KEPT + 9, KEPT + 10]
    assert len(events.since(KEPT + 11)) == KEPT, "an id of a process before"


async def test_a_text_that_is_no_utf8_is_shown_all_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        name = b"broken-\xe4.json".decode("utf-8", "surrogateescape")
        log.get().warning("odd", path=name, service="node")
        assert any("broken-" in str(e["fields"].get("path")) for e in await r.data("/api/v1/events"))
        cell = next(iter(r.supervisor.services["node"].facts.cells.values()))

        async def said(path: str) -> bool:
            cell.put(Unknown(f"{name}: not a list"))  # until the source answers again
            status, _, body = await r.get(path)
            assert status == 200, body
            return b"broken-" in body.split(b"<h2>events</h2>")[0]

        for path in ("/api/v1/status", "/"):
            await until(lambda path=path: said(path), path)  # type: ignore[misc]


async def test_an_open_stream_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        async with r.session.get(f"{r.url}/api/v1/events", headers={"Accept": "text/event-stream"}) as response:
            assert response.status == 200
            r.supervisor.stop()
            started = asyncio.get_running_loop().time()
            while await response.content.readline():
                pass
        assert asyncio.get_running_loop().time() - started < 1.9


async def test_of_a_set_that_changed_the_page_shows_who_joined_and_who_left(tmp_path: Path) -> None:
    async with running(tmp_path) as r:
        many = [f"10.0.0.{n}:9090" for n in range(200)]
        fields = difference([*many, "10.9.9.9:9090"], many)
        whole = {"oldnodes": ",".join([*many, "10.9.9.9:9090"]), "newnodes": ",".join(many)}
        log.get().info("node_update_reshard", service="node", old_num=201, new_num=200, **whole, **fields)
        log.get().info("odd", service="node", names=",".join(many[:50]), text="word, " * 100)
        page = await shown(r, "/")
        assert "node_update_reshard old_num 201 new_num 200 left 10.9.9.9:9090" in page.text
        assert "10.0.0.42:9090" not in page.text
        assert f"names {', '.join(many[:6])} and 44 more text word, " in page.text
        assert "word, " * 60 not in page.text
        event = next(e for e in await r.data("/api/v1/events?service=node") if e["msg"] == "node_update_reshard")
        assert event["fields"]["left"] == "10.9.9.9:9090"
        assert event["fields"]["newnodes"].startswith("10.0.0.0:9090,"), "the API has what the log has"
