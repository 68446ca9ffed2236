"""Work of a moment is done where it is asked for: the start of a thread holds the event loop longer."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from promring.audit import active, asking
from promring.audit.question import Question
from promring.config.scraper_api import PLAIN
from promring.runtime import threads
from promring.runtime.http_client import new_session
from promring.web import sd, slices
from tests.unit.test_audit_of_fleets import serving
from tests.unit.test_slices import ask
from tests.unit.test_web import running


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules whose work got a thread."""
    found: list[str] = []
    start = threads._started

    def counted(work: Callable[[], object], loop: asyncio.AbstractEventLoop, result: asyncio.Future[object]) -> bool:
        found.append(work.__module__)
        return start(work, loop, result)

    monkeypatch.setattr(threads, "_started", counted)
    return found


@pytest.mark.parametrize(("bytes_", "beside"), [(None, False), (1, True)], ids=["short", "long"])
async def test_a_short_slice_is_packed_here_and_a_long_one_in_a_thread_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: list[str], bytes_: int | None, *, beside: bool
) -> None:
    """``bytes_``: from which length on a slice is long."""
    if bytes_ is not None:
        for module in (sd, slices):
            monkeypatch.setattr(module, "PACK_BESIDE_BYTES", bytes_)
        monkeypatch.setattr(slices, "GZIP_LEAST", 1)
    async with running(tmp_path, shared=True) as r:
        node, other = r.nodes[:2]
        for _ in range(2):
            _, headers, body = await r.get(f"/sd/node/{node}", Accept_Encoding="gzip")
            assert headers["content-encoding"] == "gzip"
            assert gzip.decompress(body) == (await r.get(f"/sd/node/{node}"))[2]
        _, sent = await ask(r, other, Accept_Encoding="gzip")
        assert sent.keys() == {"node", "web"}
    assert [module for module in begun if module in (sd.__name__, slices.__name__)] == (
        [sd.__name__, slices.__name__] if beside else []
    )


@pytest.mark.parametrize(("objects", "beside"), [(None, False), (0, True)], ids=["short", "long"])
async def test_a_short_answer_of_a_scraper_is_read_here_and_a_long_one_in_a_thread(
    monkeypatch: pytest.MonkeyPatch, begun: list[str], objects: int | None, *, beside: bool
) -> None:
    """``objects``: with more of them an answer is long."""
    if objects is not None:
        monkeypatch.setattr(active, "QUICK_OBJECTS_MAX", objects)
    async with serving() as (_, scraper), new_session() as session:
        question = Question(session, scraper, 30.0, active.SHORT_BYTES_MAX, asyncio.Semaphore(), PLAIN)
        body, size = await asking._answered(question, "active", None, lambda told: told.body)
        assert (size, body[:1]) == (len(body), b"{")
    assert begun == ([asking.__name__] if beside else [])
