"""What is done on the event loop, and what in a thread."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from promring.audit import active, asking
from promring.audit.question import Question
from promring.config.scraper_api import PLAIN
from promring.discovery import file
from promring.discovery.file import FileSource
from promring.runtime import threads
from promring.runtime.http_client import new_session
from promring.web import sd
from tests.unit.test_audit_of_fleets import serving
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


async def test_a_slice_is_packed_once_in_a_thread(tmp_path: Path, begun: list[str]) -> None:
    """Packed on the event loop, of many short slices at once, it kept others waiting (decision 88)."""
    async with running(tmp_path, shared=True) as r:
        node = r.nodes[0]
        for _ in range(2):
            _, headers, body = await r.get(f"/sd/node/{node}", Accept_Encoding="gzip")
            assert headers["content-encoding"] == "gzip"
            assert gzip.decompress(body) == (await r.get(f"/sd/node/{node}"))[2]
    assert [module for module in begun if module == sd.__name__] == [sd.__name__]


@pytest.mark.parametrize(
    ("objects", "pools", "beside"), [(None, 4, False), (0, 1, True), (None, 5, True)], ids=["short", "long", "many pools"]
)
async def test_a_short_answer_of_a_scraper_is_read_here_and_a_long_one_in_a_thread(
    monkeypatch: pytest.MonkeyPatch, begun: list[str], objects: int | None, pools: int, *, beside: bool
) -> None:
    """``objects``: with more of them an answer is long."""
    if objects is not None:
        monkeypatch.setattr(active, "QUICK_OBJECTS_MAX", objects)
    async with serving() as (_, scraper), new_session() as session:
        question = Question(session, scraper, 30.0, active.SHORT_BYTES_MAX, asyncio.Semaphore(), PLAIN)
        body, size = await asking._answered(question, "active", None, pools, lambda told: told.body)
        assert (size, body[:1]) == (len(body), b"{")
    assert begun == ([asking.__name__] if beside else [])


async def test_files_that_have_not_changed_take_one_thread_and_others_two(tmp_path: Path, begun: list[str]) -> None:
    """Of many sources that read at once each thread holds the event loop until it has begun (decision 88)."""
    for name in "ab":
        (tmp_path / f"{name}.json").write_text(f'[{{"targets": ["{name}:1"]}}]')
    source = FileSource([str(tmp_path / "*.json")], 60.0)
    first = await source.fetch()
    assert begun == [file.__name__] * 2
    begun.clear()
    assert await source.fetch() is first
    assert begun == [file.__name__]
    begun.clear()
    (tmp_path / "a.json").write_text('[{"targets": ["a:2"]}]')
    assert len(await source.fetch()) == 2
    assert begun == [file.__name__] * 2
