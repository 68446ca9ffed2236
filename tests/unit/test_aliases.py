"""One server that is listed under several names: how that is known, and which name gets its targets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from promring.audit.births import AGAIN_S, Births, believed
from promring.config.scraper_api import PLAIN
from promring.core.aliases import Aliases, Shows, Word, denied, judged, undecided, word
from promring.core.coverage import Seen
from promring.core.eligible import entitled
from promring.core.second_opinion import SecondOpinions
from promring.fleet.health import ScraperHealth
from promring.model import LONG_AGO, Failing, Keys, Scraper
from promring.runtime.http_client import new_session
from promring.telemetry import log

A, B, C = (Scraper(f"{name}:9090", name, 9090) for name in "abc")


def same(_: str, __: str) -> Word:
    return Word.SAME


def nothing(_: str, __: str) -> Word:
    return Word.NOTHING


ONE = {A.id: "born once", B.id: "born once", C.id: "born elsewhere"}


def test_of_two_names_the_one_whose_slices_are_scraped_is_kept_and_stays_kept() -> None:
    found = judged((), ONE, {A.id: 0, B.id: 5}, same)
    assert found == ((A.id, B.id),)
    assert judged(found, ONE, {A.id: 9, B.id: 0}, same) == found, "what is kept stays kept"
    every = dict.fromkeys((A.id, B.id, C.id), "born once")
    assert judged(found, every, {C.id: 9}, same) == ((A.id, B.id), (C.id, B.id)), "for a third name, too"
    assert judged((), ONE, {B.id: 1}, same) == found, "one target is more than none"


def test_while_nobody_sees_a_slice_scraped_no_name_is_preferred() -> None:
    assert judged((), ONE, {}, nothing) == ()
    assert undecided((), ONE)
    assert not undecided(((A.id, B.id),), ONE)
    assert not undecided((), {A.id: "one", B.id: "another"})


def test_who_tells_nothing_changes_nothing_and_who_tells_otherwise_is_a_server_of_its_own() -> None:
    before = ((A.id, B.id),)
    assert judged(before, {}, {}, same) == before
    assert judged(before, {B.id: "born once"}, {}, same) == before
    assert judged(before, {A.id: "born now", B.id: "born once"}, {}, same) == ()


def test_three_names_of_one_server_leave_one() -> None:
    births = dict.fromkeys((A.id, B.id, C.id), "born once")
    found = judged((), births, {A.id: 1, B.id: 1, C.id: 4}, same)
    assert found == ((A.id, C.id), (B.id, C.id))
    members = entitled((A, B, C), frozenset(), Failing.of((), (), found))
    assert {s.id: s.weight for s in members} == {A.id: 0.0, B.id: 0.0, C.id: 1.0}, "though most of the names get nothing"


@pytest.mark.parametrize(
    ("failing", "living", "weights"),
    [
        (Failing.of((), (), [(A.id, B.id)]), (A, B, C), (0.0, 1.0, 1.0)),
        (Failing.of((), (), [(A.id, B.id)]), (A, C), (1.0, 1.0)),
        (Failing.of([B.id], (), [(A.id, B.id)]), (A, B, C), (1.0, 0.0, 1.0)),
        (Failing.of((), (), [(A.id, B.id), (B.id, A.id)]), (A, B, C), (0.0, 1.0, 1.0)),
    ],
    ids=["both live", "the kept name is gone", "the kept name cannot be given anything", "two controllers differ"],
)
def test_a_server_always_has_a_name_that_may_get_targets(
    failing: Failing, living: tuple[Scraper, ...], weights: tuple[float, ...]
) -> None:
    assert tuple(s.weight for s in entitled(living, frozenset(), failing)) == weights


def seen(scraped: Sequence[int], listed: Sequence[int] = (), dropped: Sequence[int] = ()) -> Seen:
    """Who scrapes these, lists those besides, and drops others."""
    ids = keys(*scraped, *listed)
    at = np.where(np.isin(ids, keys(*scraped)), 100.0, LONG_AGO)
    return Seen(100.0, ids, at, at > 0, dropped=keys(*dropped))


def keys(*ids: int) -> Keys:
    return np.array(sorted(ids), dtype=np.uint64)


@pytest.mark.parametrize(
    ("each", "said"),
    [
        ([(seen([1, 2, 3]), keys(7, 8), keys(1, 2, 3))], Word.SAME),
        ([(seen([1, 2]), keys(7, 8), keys(1, 2, 3))], Word.SAME),
        ([(seen([1]), keys(7, 8), keys(1, 2))], Word.NOTHING),
        ([(seen([1, 2, 3, 7]), keys(7, 8), keys(1, 2, 3))], Word.NOTHING),
        ([(seen([1, 2, 3], listed=[7]), keys(7, 8), keys(1, 2, 3))], Word.SAME),
        ([(seen([7, 8]), keys(7, 8), keys(1, 2, 3))], Word.NOTHING),
        ([(seen([1, 2, 7]), keys(1, 2, 7), keys(1, 2, 3))], Word.NOTHING),
        ([(seen([1, 2]), keys(1, 2), keys(1, 2))], Word.NOTHING),
        ([(seen([]), keys(7), keys(1, 2, 3))], Word.OTHER),
        ([(seen([]), keys(), keys(1, 2, 3))], Word.OTHER),
        ([(seen([], listed=[1, 2, 3]), keys(), keys(1, 2, 3))], Word.OTHER),
        ([(seen([]), keys(7), keys())], Word.NOTHING),
        ([(seen([1], dropped=[2, 3]), keys(7), keys(1, 2, 3))], Word.SAME),
        ([], Word.NOTHING),
        ([(seen([]), keys(), keys(4)), (seen([1]), keys(), keys(1))], Word.SAME),
        ([(seen([1]), keys(), keys(1)), (seen([7]), keys(7), keys(4))], Word.NOTHING),
        ([(seen([1]), keys(), keys(1)), (seen([]), keys(), keys(4))], Word.SAME),
        ([(seen([]), keys(), keys(4)), (seen([]), keys(7), keys())], Word.OTHER),
        ([(seen([1]), keys(), keys(1, 2)), (seen([]), keys(), keys(4))], Word.NOTHING),
    ],
    ids=[
        "it does the other one's work",
        "most of it",
        "half of it",
        "and some of its own",
        "its own is only listed",
        "only its own",
        "what it holds on to is its own, too",
        "both have the same",
        "it does nothing",
        "it has nothing and does nothing",
        "it lists the other one's targets and asks none",
        "the other one has nothing",
        "it drops the rest",
        "nobody was asked",
        "of one service of two",
        "and its own of another service",
        "of the first service of two",
        "nothing of the first service, and the other one has nothing of the second",
        "half of the first service, nothing of the second",
    ],
)
def test_only_who_does_the_work_of_another_name_and_none_of_its_own_is_that_name(
    each: list[tuple[Seen, Keys, Keys]], said: Word
) -> None:
    assert word(each) is said


def test_nobody_gives_way_on_the_word_of_another_one() -> None:
    lies = {A.id: "born once", B.id: "born once"}  # A is hostile: it repeats what B told, and says that it scrapes all

    def shows(name: str, _: str) -> Word:
        return Word.NOTHING if name == B.id else Word.SAME

    assert judged((), lies, {A.id: 900, B.id: 5}, lambda _, __: Word.NOTHING) == ()
    assert judged((), lies, {A.id: 5, B.id: 900}, shows) == ((A.id, B.id),), "only itself"
    assert undecided((), lies)


EVERY = [A.id, B.id, C.id, "d:9090", "e:9090"]
names = st.sampled_from(EVERY)
pairs = st.dictionaries(names, names).map(lambda found: [(name, kept) for name, kept in found.items() if name != kept])


@given(pairs, st.dictionaries(names, st.integers(0, 2)), st.sets(st.tuples(names, names)))
@example([(A.id, B.id), (C.id, "d:9090")], {}, {(B.id, "d:9090"), ("d:9090", B.id)})
def test_a_name_gives_way_on_its_own_word_to_one_that_is_kept_and_so_it_stays(
    servers: list[tuple[str, str]], scraped: Mapping[str, int], same: set[tuple[str, str]]
) -> None:
    """``servers``: what was one at first. Then all tell one birth, and each name shows the work of others as in ``same``."""
    left = Failing.of((), (), servers).nameless(EVERY)
    before = dict(judged((), {name: left.get(name, name) for name in EVERY}, scraped, lambda *_: Word.SAME))
    assert before.keys().isdisjoint(before.values())
    assert len(before) == len(left)
    found = judged(
        tuple(before.items()),
        dict.fromkeys(EVERY, "born once"),
        scraped,
        lambda *pair: Word.SAME if pair in same else Word.OTHER,
    )
    after = dict(found)
    assert list(found) == sorted(found)
    assert after.keys().isdisjoint(after.values()), "no name gives way to one that gives way"
    for name, kept in before.items():
        assert after[name] == after.get(kept, kept), "once one, they stay one"
    for name in after.keys() - before.keys():
        shown = [kept for kept in EVERY if kept not in after and (name, kept) in same]
        used = [kept for kept in shown if kept in before.values()] or shown
        assert after[name] in used, "on its own word, to the one that is used already"
        assert scraped.get(after[name], 0) == max(scraped.get(kept, 0) for kept in used)


@given(pairs)
def test_however_the_choices_of_controllers_add_up_each_server_has_one_name(chosen: list[tuple[str, str]]) -> None:
    off = Failing.of((), (), chosen).nameless(EVERY)
    assert off.keys().isdisjoint(off.values())
    servers = {name: {name} for name in EVERY}
    for name, kept in chosen:
        both = servers[name] | servers[kept]
        servers |= dict.fromkeys(both, both)
    for server in servers.values():
        (left,) = server - off.keys()
        assert all(off[name] == left for name in server - {left})


def test_who_repeats_a_birth_hides_no_real_second_name() -> None:
    births = dict.fromkeys((A.id, B.id, C.id), "born once")
    found = judged(
        (), births, {A.id: 1000, B.id: 5, C.id: 0}, lambda n, k: Word.SAME if (n, k) == (C.id, B.id) else Word.OTHER
    )
    assert found == ((C.id, B.id),)


@pytest.mark.parametrize(
    ("births", "scraped", "said", "gone"),
    [
        (ONE, {B.id: 5}, Word.OTHER, True),
        (ONE, {B.id: 5}, Word.NOTHING, False),
        (ONE, {B.id: 5}, Word.SAME, False),
        (ONE, {}, Word.OTHER, False),
        ({B.id: "born once"}, {B.id: 5}, Word.OTHER, False),
        ({A.id: "born once"}, {B.id: 5}, Word.OTHER, False),
    ],
)
def test_a_name_that_gave_way_is_one_of_its_own_after_it_twice_showed_nothing_of_the_work(
    births: Mapping[str, str], scraped: Mapping[str, int], said: Word, *, gone: bool
) -> None:
    before: Aliases = ((A.id, B.id),)
    assert (denied(before, births, scraped, lambda _, __: said) == before) is gone
    one, rung = ScraperHealth(SecondOpinions(), before, log=log.get()), list[int]()
    decided = [one.hear(lambda: (A, B, C), lambda: rung.append(1), births, scraped, lambda _, __: said) for _ in range(2)]
    assert (one.aliases == ()) is gone
    assert len(rung) == gone
    if gone:
        assert decided == [False, False], "asked again at once, both times"


class Told:
    """What a stand-in answers to who asks for its birth, one answer after the other; the last one for ever."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        self.answers, self.asked = list(answers), 0

    async def handle(self, _: web.Request) -> web.Response:
        self.asked += 1
        status, body = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        return web.Response(status=status, text=body)


@asynccontextmanager
async def served(*told: Told) -> AsyncIterator[list[Scraper]]:
    runners, scrapers = [], []
    for one in told:
        app = web.Application()
        app.router.add_get("/api/v1/status/runtimeinfo", one.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        runners.append(runner)
        scrapers.append(Scraper(f"127.0.0.1:{port}", "127.0.0.1", port))
    try:
        yield scrapers
    finally:
        for runner in runners:
            await runner.cleanup()


def told(start: str, folder: str = "/prometheus", host: str = "h") -> tuple[int, str]:
    return 200, f'{{"status":"success","data":{{"startTime":"{start}","CWD":"{folder}","hostname":"{host}"}}}}'


NS = "2026-11-27T04:45:08.727799022Z"


@pytest.mark.parametrize(
    ("first", "second", "one"),
    [
        (told(NS), told(NS), True),
        (told(NS), told("2026-11-27T04:45:08.727799023Z"), False),
        (told(NS), told(NS, folder="/other"), False),
        (told(NS), told(NS, host="other"), False),
        (told("2026-11-27T04:45:08Z"), told("2026-11-27T04:45:08Z"), False),
        (told("2026-11-27T04:45:08.727Z"), told("2026-11-27T04:45:08.727Z"), False),
        ((400, "unsupported path"), (400, "unsupported path"), False),
        ((200, "{}"), (200, "{}"), False),
        ((200, "[" * 2000), (200, "[" * 2000), False),
        ((200, ""), (200, ""), False),
        ((200, '{"data":{"startTime":7}}'), (200, '{"data":{"startTime":7}}'), False),
        (told(""), told(""), False),
    ],
)
async def test_only_what_one_process_alone_can_say_makes_two_names_one(
    first: tuple[int, str], second: tuple[int, str], *, one: bool
) -> None:
    async with served(Told(first), Told(second)) as scrapers, new_session() as session:
        births = await believed(session, scrapers, PLAIN, 5.0)
    assert (len(births) == 2 and len(set(births.values())) == 1) is one


async def test_a_balancer_that_tells_another_birth_the_second_time_tells_nothing() -> None:
    server, balancer = Told(told(NS)), Told(told(NS), told("2026-11-27T04:45:09.5277990Z"))
    async with served(server, balancer) as scrapers, new_session() as session:
        births = await believed(session, scrapers, PLAIN, 5.0)
    assert list(births) == [scrapers[0].id]


async def test_scrapers_are_asked_who_they_are_when_they_begin_to_answer_and_then_seldom() -> None:
    heard: list[Mapping[str, str]] = []
    now, decided = [0.0], [False]

    def hear(births: Mapping[str, str], scraped: Mapping[str, int], shows: Shows) -> bool:
        assert scraped == {"x": 1}
        heard.append(births)
        return decided[0]

    first, second = Told(told(NS)), Told(told(NS))
    async with served(first, second) as scrapers, new_session() as session:
        births = Births(PLAIN, 5.0, hear, clock=lambda: now[0])
        answering = {s.id: 1.0 for s in scrapers}

        async def look() -> int:
            await births.look(session, scrapers, answering, {"x": 1}, nothing)
            return len(heard)

        assert await look() == 1
        assert await look() == 2, "not decided yet"
        decided[0] = True
        assert [await look() for _ in range(3)] == [3, 3, 3]
        answering[scrapers[1].id] = 2.0
        before = [one.asked for one in (first, second)]
        assert [await look() for _ in range(2)] == [4, 4], "one was away"
        assert [one.asked - n for one, n in zip((first, second), before, strict=True)] == [1, 2], "the other only to compare"
        del answering[scrapers[1].id]
        assert await look() == 4, "one name alone"
        now[0] += AGAIN_S
        answering[scrapers[1].id] = 2.0
        assert await look() == 5, "once in a while"
    assert all(set(one) == {s.id for s in scrapers} for one in heard)
    await asyncio.sleep(0)


async def test_a_scraper_that_comes_back_is_asked_who_it_is_and_the_others_are_not() -> None:
    first, second, mute = Told(told(NS)), Told(told(NS.replace("2026", "2025"))), Told((404, ""))
    async with served(first, second, mute) as scrapers, new_session() as session:
        births = Births(PLAIN, 5.0, lambda *_: True)
        answering = {s.id: 1.0 for s in scrapers}
        await births.look(session, scrapers, answering, {}, nothing)
        assert [one.asked for one in (first, second, mute)] == [1, 1, 1]
        answering[scrapers[1].id] = 2.0
        await births.look(session, scrapers, answering, {}, nothing)
        assert [one.asked for one in (first, second, mute)] == [1, 2, 1]
