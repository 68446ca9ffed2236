"""``/sd/{scraper}`` while files of a service's name before, or of another delivery, are still read."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

from promring.delivery.askers import header_of
from promring.delivery.bundle import mark
from tests.unit.test_slices import ask, digests, reload
from tests.unit.test_web import Running, running
from tests.waiting import until


def rename(config: dict[str, Any]) -> None:
    config["shard_services"][1]["name"] = "the-web"


async def renamed(r: Running) -> dict[str, str]:
    """The digests that the first scraper is offered, by both names."""
    await reload(r, rename)
    found = dict[str, str]()

    async def both() -> bool:
        found.update(digests((await ask(r, r.nodes[0]))[0]))
        return {"the-web", "web"} <= found.keys()

    await until(both, "both names", 20)
    return found


async def declines(r: Running, have: dict[str, str], service: str, sha256: str) -> None:
    """As an agent that cannot write the file of ``service``."""
    words = header_of(f"{service}: /etc/prometheus/sd/{service}.json: Operation not permitted")
    await ask(r, r.nodes[0], have=have, X_Promring_Declined=mark(service, sha256), X_Promring_Untaken=words)


async def test_an_agent_that_has_the_new_file_and_cannot_write_the_old_one_has_its_slice(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        have = await renamed(r)
        old = have.pop("web")
        await declines(r, have, "web", old)
        delivery = r.supervisor.services["the-web"].http_sd
        assert delivery is not None
        assert delivery.declining() == {}
        assert dict(delivery.askers.items())[r.nodes[0]].untaken_since is None


async def test_an_agent_that_has_only_the_old_file_lacks_the_new_one_and_its_scraper_has_its_slice(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        have = await renamed(r)
        new = have.pop("the-web")
        await declines(r, have, "the-web", new)
        service = r.supervisor.services["the-web"]
        assert service.http_sd is not None
        said = dict(service.http_sd.askers.items())[r.nodes[0]]
        assert said.untaken_since is not None
        assert "the-web.json: Operation not permitted" in said.why
        assert service.http_sd.declining() == {}, "it reads the file of before"
        assert r.nodes[0] in service.fleet.reconciler.dispatcher.couriers["the-web"].visitors.visits


async def test_a_new_service_with_the_name_of_before_is_listed_once(tmp_path: Path) -> None:
    async with running(tmp_path, shared=True) as r:
        await renamed(r)

        def add(config: dict[str, Any]) -> None:
            old = config["shard_services"][1]
            (tmp_path / "new.json").write_text(json.dumps([{"targets": ["n:80"]}]))
            targets = [{"file": {"files": ["new.json"]}}]
            config["shard_services"].append(old | {"name": "web", "job": "new web", "targets": targets})

        await reload(r, add)

        async def all_three() -> bool:
            listing, _ = await ask(r, r.nodes[0])
            names = [*(one.service for one in listing.slices), *listing.without]
            assert len(names) == len(set(names)), names
            return len(listing.slices) == 3

        await until(all_three, "all are served", 20)


async def test_an_old_delivery_goes_on_while_agents_say_that_they_cannot_write_the_new_one(tmp_path: Path) -> None:
    said = io.StringIO()
    async with running(tmp_path, said=said) as r:
        files = tmp_path / "out"
        await until(lambda: len(list(files.glob("*.json"))) == 2, "files", 20)

        def to_http(config: dict[str, Any]) -> None:
            config["shard_services"][1]["delivery"] = [{"http_sd": {}}]

        await reload(r, to_http)

        async def offered() -> bool:
            return "files-only" in digests((await ask(r, r.nodes[0]))[0])

        await until(offered, "it is served", 20)
        words = header_of("files-only: /etc/prometheus/sd/files-only.json: Permission denied")
        for _ in range(3):
            for node in r.nodes:
                sha = digests((await ask(r, node))[0])
                marks = {"X_Promring_Declined": mark("files-only", sha["files-only"]), "X_Promring_Untaken": words}
                await ask(r, node, have={"node": sha["node"]}, **marks)
            await asyncio.sleep(0.2)
        r.write([{"targets": ["brand-new:1", *(f"t{n}:9100" for n in range(40))]}])
        await until(lambda: "brand-new" in "".join(one.read_text() for one in files.glob("*.json")), "it is written", 20)
        assert "delivery_retired" not in said.getvalue()
        for _ in range(2):
            for node in r.nodes:
                await ask(r, node, have=digests((await ask(r, node))[0]))
        await until(lambda: "delivery_retired" in said.getvalue(), "all have the new one", 20)
