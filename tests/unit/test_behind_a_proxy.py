"""Behind a reverse proxy under a path: every link of the page, the API, commands, redirects and the stream of events."""

from __future__ import annotations

import asyncio
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import pytest
from click.testing import CliRunner, Result

from promring.cli import main
from promring.web.paths import Paths
from tests.fakes.front import reverse_proxy
from tests.unit.test_web import running

TOKEN = {"Authorization": "Bearer sesame"}
NAMED = {"Host": "fleet.example.org"}


class Links(HTMLParser):
    """Where a page leads: what a browser fetches, and what its buttons post to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.gets: list[str] = []
        self.posts: list[str] = []
        self.feed(page)

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value}
        self.gets += [value for name, value in found.items() if name in ("href", "src", "action") and "data:" not in value]
        self.posts += [value for name, value in found.items() if name == "data-post"]


async def command(url: str, token: Path, *arguments: str) -> Result:
    more = ["--url", url, "--token-file", str(token)]
    return await asyncio.to_thread(CliRunner().invoke, main, [*arguments, *more])


@pytest.mark.parametrize("strip", [True, False], ids=["the proxy strips the path", "the proxy keeps the path"])
async def test_everything_works_under_the_path_of_a_proxy(tmp_path: Path, strip: bool) -> None:
    paths = Paths.of("https://fleet.example.org/mon/promring/", "/" if strip else None)
    async with reverse_proxy("/mon/promring", strip=strip) as (url, behind), running(tmp_path, paths=paths) as r:
        behind.append(r.url)
        for page in ("/", "/services/node", "/where?target=t1:9100"):
            async with r.session.get(url + page, headers=NAMED) as answer:
                assert answer.status == 200, page
                links = Links(await answer.text())
            assert len(links.gets) >= 6
            scrapers = tuple(f"http://{node}/" for node in r.nodes)
            for link in {one for one in links.gets if not one.startswith(scrapers)}:
                async with r.session.get(urljoin(url + page, link), headers=NAMED) as answer:
                    assert answer.status == 200, link
                    assert answer.headers["Server"] == "promring"
        async with r.session.get(f"{url}/", headers=NAMED) as answer:
            posts = Links(await answer.text()).posts
        async with r.session.post(urljoin(url, posts[0]), headers=TOKEN | NAMED) as answer:
            assert (answer.status, json.loads(await answer.read())["data"]["drained"]) == (200, True)
        async with r.session.get(f"{url}/api/v1/events?since=0", headers={"Accept": "text/event-stream"}) as answer:
            assert await answer.content.readuntil(b"\n\n") == b": events\n\n"
        async with r.session.get(f"{url}/static/page.js") as answer:
            assert not re.search(r'["\'(]/(api|static|services)', await answer.text()), "no path without the prefix"
        async with r.session.get(f"{url}/api/v1/openapi.json") as answer:
            servers = json.loads(await answer.read())["servers"]
            assert urljoin(f"{url}/api/v1/openapi.json", servers[0]["url"]).rstrip("/") == url
        status = await command(url, tmp_path / "token", "status")
        assert (status.exit_code, "node: 40 targets" in status.stdout) == (0, True), status.output
        back = await command(url, tmp_path / "token", "undrain", r.nodes[0], "--fleet", "node")
        assert back.exit_code == 0, back.output
        async with r.session.get(f"{url}/sd/node/{r.nodes[0]}") as answer:
            assert (answer.status, answer.headers["ETag"] != "") == (200, True)


async def test_without_the_prefix_only_the_way_to_the_page_is_there(tmp_path: Path) -> None:
    async with running(tmp_path, paths=Paths.of("", "promring")) as r:
        for path in ("/", "/promring"):
            async with r.session.get(r.url + path, allow_redirects=False) as answer:
                assert (answer.status, answer.headers["Location"]) == (302, "/promring/")
        assert (await r.get("/promring/-/ready"))[0] == 200
        assert [(await r.get(path))[0] for path in ("/-/ready", "/metrics", "/api/v1/status", "/sd/node/x")] == [404] * 4
        text = (await r.get("/promring/metrics"))[2].decode()
        assert 'promring_http_requests_total{code="200",handler="/-/ready"} 1.0' in text


async def test_the_name_of_the_external_url_is_known_and_no_other_one(tmp_path: Path) -> None:
    async with running(tmp_path, paths=Paths.of("http://fleet.example.org")) as r:
        assert (await r.get("/api/v1/status", Host="fleet.example.org"))[0] == 200
        assert (await r.get("/api/v1/status", Host="evil.example"))[0] == 421
    async with running(tmp_path, paths=Paths.of("", "/p")) as r:
        assert (await r.get("/p/api/v1/status", Host="evil.example"))[0] == 421
        assert (await r.get("/p/metrics", Host="evil.example"))[0] == 200, "scrapers come by any name"


@pytest.mark.parametrize(
    ("external_url", "route_prefix", "routes", "links"),
    [
        ("", None, "", ""),
        ("http://h", None, "", ""),
        ("https://h:1/a/b/", None, "/a/b", "/a/b"),
        ("https://h/a", "/", "", "/a"),
        ("https://h/a", "", "", "/a"),
        ("", "a/b", "/a/b", "/a/b"),
        ("https://h/", "/in", "/in", ""),
    ],
)
def test_the_prefix_of_routes_is_the_path_of_the_url_unless_it_is_given(
    external_url: str, route_prefix: str | None, routes: str, links: str
) -> None:
    found = Paths.of(external_url, route_prefix)
    assert (found.routes, found.links) == (routes, links)


@pytest.mark.parametrize(
    ("external_url", "route_prefix"),
    [
        ("h:9600", None),
        ("ftp://h/", None),
        ("http://h/?x", None),
        ("http://u:p@h/", None),
        ("http://h:x/", None),
        ("http://h/a b", None),
        ("", "/{x}"),
        ("", "/a/../b"),
        ("", "//a"),
    ],
)
def test_what_is_no_url_or_no_path_is_refused_at_the_start(external_url: str, route_prefix: str | None) -> None:
    arguments = ["run", f"--web.external-url={external_url}"]
    arguments += [] if route_prefix is None else [f"--web.route-prefix={route_prefix}"]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, "--web." in result.stderr) == (2, True), result.output
