"""The API in any order, legal and not, beside a model of what a person has asked for: a whole promring, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from promring.web import gate
from tests.unit.test_web import Running, running
from tests.waiting import until

GOOD = {"Authorization": "Bearer sesame"}
STEPS = 40


@dataclass
class Asked:
    """What must be so after each step: who is drained, what is listed, and whether the last reload was taken."""

    r: Running
    rng: Random
    drained: set[str] = field(default_factory=set)
    targets: list[str] = field(default_factory=lambda: [f"t{n}:9100" for n in range(40)])
    reloaded: bool = True
    said: list[str] = field(default_factory=list)

    async def post(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        async with self.r.session.post(self.r.url + path, headers=GOOD if headers is None else headers) as answer:
            body = await answer.read()
            self.said.append(f"POST {path}: {answer.status}")
            return answer.status, json.loads(body).get("data") if body.startswith(b"{") else body

    async def get(self, path: str) -> tuple[int, Any]:
        status, _, body = await self.r.get(path)
        self.said.append(f"GET {path}: {status}")
        return status, json.loads(body).get("data")

    async def holds(self) -> None:
        rows = (await self.r.data("/api/v1/services/node"))["scrapers"]
        assert {row["id"] for row in rows if row["drained"]} == self.drained, self.said
        assert (await self.r.data("/api/v1/status"))["config"]["last_reload_successful"] is self.reloaded, self.said


async def drain(a: Asked) -> None:
    scraper, force = a.rng.choice(a.r.nodes), a.rng.random() < 0.3
    status, data = await a.post(f"/api/v1/fleets/node/scrapers/{scraper}/drain" + ("?force=true" if force else ""))
    if len({*a.drained, scraper}) == len(a.r.nodes) and scraper not in a.drained and not force:
        assert status == 409, a.said
    else:
        assert (status, data["drained"], data["kept"]) == (200, True, True), a.said
        a.drained.add(scraper)


async def undrain(a: Asked) -> None:
    scraper = a.rng.choice(a.r.nodes)
    status, data = await a.post(f"/api/v1/fleets/node/scrapers/{scraper}/undrain")
    assert (status, data["drained"], data["was_drained"]) == (200, False, scraper in a.drained), a.said
    a.drained.discard(scraper)


async def not_allowed(a: Asked) -> None:
    """Whoever asks without the right, and whatever is not there: nothing changes."""
    path = a.rng.choice(
        [f"fleets/node/scrapers/{a.r.nodes[0]}/{what}" for what in ("drain", "undrain")] + ["services/node/release"]
    )
    assert (await a.post(f"/api/v1/{path}", {}))[0] == 401, a.said
    assert (await a.post(f"/api/v1/{path}", {"Authorization": "Bearer x"}))[0] == 403, a.said
    for gone in ("fleets/node/scrapers/no:1/drain", "fleets/node/scrapers/no:1/undrain", "services/no/release"):
        assert (await a.post(f"/api/v1/{gone}"))[0] == 404, a.said


async def plan(a: Asked) -> None:
    """What a drained scraper would leave is nothing; without all that may have targets there is no plan."""
    scraper = a.rng.choice(a.r.nodes)
    status, data = await a.get(f"/api/v1/fleets/node/plan?without={scraper}")
    if not set(a.r.nodes) - a.drained - {scraper}:
        assert status == 400, a.said
        return
    assert status == 200, a.said
    rows = {row["id"]: row for row in data["scrapers"]}
    assert rows[scraper]["after"] is None, a.said
    assert not any(rows[name]["after"] for name in a.drained - {scraper}), a.said


async def where(a: Asked) -> None:
    known, unknown = a.rng.choice(a.targets), f"u{a.rng.randrange(99)}:9100"
    status, places = await a.get(f"/api/v1/services/node/where?target={known}")
    assert (status, len(places)) == (200, 1), a.said
    assert (await a.get(f"/api/v1/services/node/where?target={unknown}"))[0] == 404, a.said
    assert (await a.get(f"/api/v1/services/no/where?target={known}"))[0] == 404, a.said
    status, found = await a.get(f"/api/v1/where?target={unknown}")
    assert (status, found["total"]) == (200, 0), a.said


async def reload(a: Asked) -> None:
    """With a configuration that is one, or is none: then nothing changes but that it is said. Until the first cycle of what
    was taken has run, people are told the plan before it, and what a person asked for holds.
    """
    file = a.r.folder / "promring.yml"
    good = file.read_text()
    bad = a.rng.random() < 0.5
    if bad:
        file.write_text(good.replace('"http_sd"', '"no_sd"'))
    status, _ = await a.post("/-/reload")
    file.write_text(good)
    assert status == (400 if bad else 200), a.said
    a.reloaded = not bad
    await a.holds()
    status, places = await a.get(f"/api/v1/services/node/where?target={a.targets[0]}")
    assert (status, len(places)) == (200, 1), a.said


async def release(a: Asked) -> None:
    """A list that is half as long is held until a person lets it go; then nothing is held that could be let go."""
    status, _ = await a.post("/api/v1/services/node/release")
    assert status == 409, a.said
    gone, a.targets = a.targets[: len(a.targets) // 2], a.targets[len(a.targets) // 2 :]
    a.r.write([{"targets": a.targets}])

    async def let_go() -> bool:
        return (await a.post("/api/v1/services/node/release"))[0] == 200

    async def left() -> bool:
        return (await a.get(f"/api/v1/services/node/where?target={gone[0]}"))[0] == 404

    await until(let_go, "the shorter list is held")
    await until(left, "what was let go is gone")
    a.targets = [f"t{a.rng.randrange(10**6)}:9100" for _ in range(40)]
    a.r.write([{"targets": a.targets}])

    async def listed() -> bool:
        return (await a.get(f"/api/v1/services/node/where?target={a.targets[0]}"))[0] == 200

    await until(listed, "a longer list is taken")


STEP: list[Callable[[Asked], Awaitable[None]]] = [
    drain,
    drain,
    undrain,
    undrain,
    not_allowed,
    plan,
    plan,
    where,
    reload,
    reload,
]


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_is_asked_in_whatever_order_is_answered_by_what_was_asked_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The status is as dear as in a large fleet: it is kept, but not beyond what a person has changed."""
    monkeypatch.setattr(gate, "DEAR_S", 0.0)
    monkeypatch.setattr(gate, "SHARE", 1e-4)
    async with running(tmp_path, shrink_threshold=0.9) as r:
        a = Asked(r, Random(seed))
        for number in range(STEPS):
            await (release if number == 20 else a.rng.choice(STEP))(a)
            await a.holds()
