"""Delivery by a program of the operator's: real programs, what they do well and badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from promring.delivery import Names, Outcome
from promring.delivery.command import CommandDelivery, CommandSettings
from promring.model import Generation, Scraper, Slice
from tests.waiting import until

A, B = (Scraper(f"10.0.0.{n}:9090", f"10.0.0.{n}", 9090) for n in (1, 2))
PATH = "/etc/prometheus/sd/{fleet}/{service}-{port}.json"
COPIES = 'echo run >> "$OUT/$PROMRING_SCRAPER.runs"; cat > "$OUT/$PROMRING_SCRAPER"'


def slice_(scraper: Scraper = A, n: int = 1, body: bytes = b"[]\n") -> Slice:
    return Slice("node", scraper, Generation(1, n), body, 0)


@asynccontextmanager
async def delivery(folder: Path, script: str, timeout_s: float = 60.0, **more: int) -> AsyncIterator[CommandDelivery]:
    """``script`` for /bin/sh; ``$OUT`` is the folder."""
    settings = CommandSettings(path=PATH, run=["/bin/sh", "-c", f"OUT={folder}; {script}"], timeout=timeout_s, **more)
    made = CommandDelivery(settings, Names("main", "node"))
    try:
        yield made
    finally:
        await made.close()


async def settled(made: CommandDelivery, *slices: Slice) -> list[Outcome]:
    """What the loop is told in the end."""
    found = [Outcome("", "waiting")]

    async def ended() -> bool:
        found[:] = await made.deliver(slices)
        return all(one.outcome != "waiting" for one in found)

    await until(ended, "every run has ended")
    return found


async def test_each_scraper_gets_its_slice_once_and_again_when_it_changes(tmp_path: Path) -> None:
    async with delivery(tmp_path, COPIES) as made:
        assert [one.outcome for one in await settled(made, slice_(A), slice_(B))] == ["written", "written"]
        assert [one.outcome for one in await settled(made, slice_(A), slice_(B))] == ["same", "same"]
        body = b'[{"targets":["a:1"]}]\n'
        assert [one.outcome for one in await settled(made, slice_(A, 2, body), slice_(B))] == ["written", "same"]
    assert (tmp_path / A.id).read_bytes() == body
    runs = [(tmp_path / f"{one.id}.runs").read_text().count("run") for one in (A, B)]
    assert runs == [2, 1]


async def test_a_run_is_told_whose_slice_it_is(tmp_path: Path) -> None:
    async with delivery(tmp_path, 'env | grep ^PROMRING_ | sort > "$OUT/env"; cat > /dev/null') as made:
        assert [one.outcome for one in await settled(made, slice_(n=7))] == ["written"]
    said = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert said | {"PROMRING_SHA256": slice_().sha256} == said
    del said["PROMRING_SHA256"]
    assert said == {
        "PROMRING_FLEET": "main",
        "PROMRING_SERVICE": "node",
        "PROMRING_SCRAPER": A.id,
        "PROMRING_SCRAPER_HOST": "10.0.0.1",
        "PROMRING_SCRAPER_PORT": "9090",
        "PROMRING_PATH": "/etc/prometheus/sd/main/node-9090.json",
        "PROMRING_GENERATION": "1.7",
    }


async def test_a_failure_is_the_scrapers_alone_with_the_last_line_as_the_reason_and_is_tried_again(tmp_path: Path) -> None:
    fails = f'test -e "$OUT/mended" || test "$PROMRING_SCRAPER" = {B.id} || {{ echo a >&2; echo "no\tway" >&2; exit 3; }}; '
    async with delivery(tmp_path, fails + COPIES) as made:
        failed, written = await settled(made, slice_(A), slice_(B))
        assert (failed.outcome, failed.error, written.outcome) == ("failed", "/bin/sh: exit status 3: no\\x09way", "written")
        (tmp_path / "mended").touch()
        assert [one.outcome for one in await settled(made, slice_(A), slice_(B))] == ["written", "same"]


async def test_a_program_that_cannot_be_started_is_nobodys_death(tmp_path: Path) -> None:
    settings = CommandSettings(path=PATH, run=[str(tmp_path / "absent")])
    made = CommandDelivery(settings, Names("main", "node"))
    (found,) = await settled(made, slice_())
    assert (found.outcome, found.error) == ("unsent", f"{tmp_path}/absent: No such file or directory")
    assert [why for _, why in settings.trial(Names("main", "node"), [A])] == [
        f"'{tmp_path}/absent' is no program that can be run here"
    ]


async def test_one_that_hangs_holds_up_nobody_and_is_killed_with_all_it_started(tmp_path: Path) -> None:
    hangs = f'test "$PROMRING_SCRAPER" = {B.id} || {{ sleep 1000 & echo $! > "$OUT/child"; wait; }}; '
    async with delivery(tmp_path, hangs + COPIES, timeout_s=3.0) as made:
        first = await made.deliver([slice_(A), slice_(B)])
        assert first[0] == Outcome(A.id, "waiting")
        assert [one.outcome for one in await settled(made, slice_(B))] in (["written"], ["same"]), "while A hangs"
        rings: list[bool] = []
        made.when_done(lambda: rings.append(True))
        await until(lambda: rings != [], "the loop is woken when it has ended")
        (failed,) = await made.deliver([slice_(A)])
        assert (failed.outcome, failed.error) == ("failed", "/bin/sh: not ended within 3 s")
        child = int((tmp_path / "child").read_text())
        await until(lambda: not is_alive(child), "what it started is gone")


async def test_the_newest_slice_wins_over_those_that_came_while_one_was_brought(tmp_path: Path) -> None:
    slow = 'while ! test -e "$OUT/go"; do sleep 0.05; done; '
    async with delivery(tmp_path, slow + COPIES) as made:
        for n in (1, 2, 3):
            assert (await made.deliver([slice_(A, n, b"%d" % n)]))[0].outcome == "waiting"
        rings: list[bool] = []
        made.when_done(lambda: rings.append(True))
        (tmp_path / "go").touch()
        await until(lambda: len(rings) == 1, "the first run has ended")
        await settled(made, slice_(A, 3, b"3"))
    assert (tmp_path / A.id).read_bytes() == b"3"
    assert (tmp_path / f"{A.id}.runs").read_text().count("run") == 2, "2 was never brought"


async def test_a_failure_wakes_nobody_who_was_told_of_it(tmp_path: Path) -> None:
    """Or the loop would run it again at once, for ever."""
    async with delivery(tmp_path, "exit 1") as made:
        rings: list[bool] = []
        made.when_done(lambda: rings.append(True))
        assert [one.outcome for one in await made.deliver([slice_()])] in (["failed"], ["waiting"])
        (told,) = await settled(made, slice_())
        assert told.outcome == "failed"
        assert len(rings) <= 1, "once, when it ended after the delivery"


async def test_one_who_does_not_lead_brings_nothing(tmp_path: Path) -> None:
    async with delivery(tmp_path, COPIES) as made:
        assert [one.outcome for one in await made.deliver([slice_()], lambda: False)] == ["withheld"]
    assert list(tmp_path.iterdir()) == []


async def test_what_hangs_is_not_waited_for_again_and_who_has_left_is_forgotten(tmp_path: Path) -> None:
    hangs = f'test "$PROMRING_SCRAPER" = {B.id} || sleep 1000; '
    async with delivery(tmp_path, hangs + COPIES) as made:
        assert (await made.deliver([slice_(A)]))[0].outcome == "waiting"
        again = asyncio.ensure_future(made.deliver([slice_(A)]))
        for _ in range(5):
            await asyncio.sleep(0)
        assert again.done(), "at once: it has been waited for"
        assert again.result()[0].outcome == "waiting"
        await settled(made, slice_(B))
        assert [one.outcome for one in await made.deliver([])] == []
        assert [one.outcome for one in await settled(made, slice_(B))] == ["written"], "who returns gets its slice again"


async def test_a_program_may_leave_its_input_and_say_a_lot(tmp_path: Path) -> None:
    says = "head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; echo >&2; echo the end >&2; exit 1"
    async with delivery(tmp_path, says) as made:
        (found,) = await settled(made, slice_(A, 1, b"x" * 5_000_000))
    assert found.error == "/bin/sh: exit status 1: the end"


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
