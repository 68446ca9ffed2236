"""HAProxy before three controllers, configured as the page says: who asks for a slice gets the leader's, or none."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from promring.demo.process import Process, free_port
from promring.runtime.http_client import HttpError, request
from tests.blocks import ROOT, blocks
from tests.real.conftest import server
from tests.real.stage import SERVICE, stage
from tests.real.test_controllers import LOCK_TROUBLE, only, taken_over
from tests.rows import Seen
from tests.waiting import until

NAMES = ("one", "two", "three")
"""Of the servers in the page's block."""


def configured(port: int, servers: list[int]) -> str:
    """The page's block, with these ports of this machine; its answers say which server they are of."""
    (block,) = (one for one in blocks(ROOT / "docs/operations.md") if one.language == "haproxy")
    left = itertools.count()
    text = re.sub(r"10\.0\.0\.\d:9600", lambda _: f"127.0.0.1:{servers[next(left)]}", block.text)
    assert next(left) == len(servers)
    assert "bind :9601" in text
    return text.replace("bind :9601", f"bind 127.0.0.1:{port}\n    http-response set-header x-from %s")


@pytest.mark.row(38, did="HAProxy that asks /-/leader of three controllers; the leader is killed")
async def test_who_asks_the_balancer_gets_the_leaders_slice_or_none(
    tmp_path: Path, consul_program: Path, seen: Seen
) -> None:
    program, port = server("haproxy"), free_port()
    async with stage(tmp_path, consul_program, None, lock={}) as s:
        s.allowed |= LOCK_TROUBLE
        for name in ("second", "third"):
            await s.join_in(name)
        configuration = tmp_path / "haproxy.cfg"
        configuration.write_text(configured(port, [c.port for c in s.controllers]))
        libraries = {"LD_LIBRARY_PATH": str(program.parent)}
        haproxy = Process([program, "-db", "-f", configuration], tmp_path / "haproxy.log", libraries)
        await haproxy.start()
        url = f"http://127.0.0.1:{port}/sd/{SERVICE}/{s.scrapers[-1].id}"
        servers, statuses, back_at = list[str](), Counter[int](), list[float]()

        async def ask() -> None:
            while True:
                try:
                    answer = await request(s.session, "GET", url, timeout_s=5)
                except HttpError:  # it does not listen yet
                    await asyncio.sleep(0.1)
                    continue
                statuses[answer.status] += 1
                if answer.status == 200:
                    servers.append(answer.headers["x-from"])
                    back_at.append(time.monotonic())
                await asyncio.sleep(0.02)

        asking = asyncio.ensure_future(ask())
        try:
            was = await only(s)
            one = NAMES[s.controllers.index(was)]
            await until(lambda: len(servers) > 100 and set(servers[-100:]) == {one}, "the balancer has asked who leads")
            del servers[:-1], back_at[:-1]
            since = time.monotonic()
            told = [(await c.get(s.session, "/-/leader")).status for c in s.controllers]
            assert sorted(told) == [200, 503, 503]
            follower = s.controllers[told.index(503)]
            said = (await follower.get(s.session, "/-/leader")).text()
            assert said.startswith(f"promring follows {(await follower.ask(s.session, 'status'))['controllers']['leader']}")
            await was.kill()
            now, _ = await taken_over(s, was, since)
            other = NAMES[s.controllers.index(now)]
            await until(lambda: servers[-50:] == [other] * 50, "the balancer has found the other one", 60)
            assert [name for name, _ in itertools.groupby(servers)] == [one, other], "nobody else's slices"
            assert statuses.keys() <= {200, 502, 503}, "502: it was killed while it answered"
            silent_s = max(after - before for before, after in itertools.pairwise(back_at))
            seen(f"{len(servers)} answers, 0 of a follower; {silent_s:.1f} s without one around the death")
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await haproxy.stop()
