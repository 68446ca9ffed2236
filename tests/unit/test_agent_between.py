"""An agent and what stands between it and the controllers: a balancer, a follower alone, proxies of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from promring.agent import fence
from promring.agent.asking import AgentSettings, Patience
from promring.agent.fence import ALONE_S, FROZEN_S, Fence
from promring.agent.metrics import AgentMetrics
from promring.agent.poller import Poller
from promring.delivery.bundle import OUTRANKED
from promring.delivery.receiver import Envelope, Note, RefusedError, install, note_of, noted
from promring.model import Generation
from promring.runtime.duration import format_duration, parse_duration
from promring.telemetry import log
from tests.fakes.slices import FakeSlices, HttpProxy, sealed
from tests.waiting import until

A, B, C = (b'[{"targets":["%s:1"]}]\n' % name for name in (b"a", b"b", b"c"))


def count(metrics: AgentMetrics, outcome: str, service: str = "x") -> float:
    """How often a slice was offered with this outcome; ``failed``: how often a controller gave no answer."""
    if outcome == "failed":
        return metrics.registry.get_sample_value("promring_agent_answers_total", {"outcome": outcome}) or 0.0
    labels = {"service": service, "outcome": outcome}
    return metrics.registry.get_sample_value("promring_agent_slices_total", labels) or 0.0


@asynccontextmanager
async def polling(file: Path, controllers: Sequence[str], **more: object) -> AsyncIterator[tuple[Poller, AgentMetrics]]:
    metrics = AgentMetrics()
    poller = Poller(AgentSettings(controllers, "s:1", file.parent, **{"wait_s": 5.0, **more}), metrics, log.get())  # type: ignore[arg-type]
    task = asyncio.create_task(poller.run())
    try:
        yield poller, metrics
        assert not task.done(), "it goes on whatever happens"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def controllers(count: int) -> AsyncIterator[list[FakeSlices]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(FakeSlices().running()) for _ in range(count)]


# --- who may replace what --------------------------------------------------------------------------------------------


class Agent:
    """The fence and the receiver of one agent, with a clock of its own."""

    def __init__(self, path: Path) -> None:
        self.path, self.now = path, 0.0
        self.fence = Fence(lambda: self.now)

    def offered(self, envelope: Envelope) -> bytes:
        """What the file holds then."""
        have = noted(self.path)
        try:
            install(self.path, envelope, rule=self.fence.rule())
        except RefusedError as error:
            self.fence.refused(envelope.note, have, str(error))
        else:
            self.fence.saw(envelope.note, have)
        return self.path.read_bytes()


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "x.json")


def test_a_followers_slice_of_the_same_term_counts_when_the_leader_was_not_seen_for_a_while(agent: Agent) -> None:
    agent.offered(sealed(A, "7.5"))
    assert agent.offered(sealed(B, "6.9", 7)) == A, "the leader may be about to say it"
    agent.now += ALONE_S - 1
    assert agent.offered(sealed(B, "6.9", 7)) == A
    agent.now += 1
    assert agent.offered(sealed(B, "6.9", 7)) == B
    assert agent.offered(sealed(C, "6.10", 7)) == C, "from then on at once"
    assert agent.offered(sealed(A, "7.5")) == A, "the leader is back"
    assert agent.offered(sealed(C, "6.10", 7)) == A


def test_a_leader_that_shows_itself_keeps_the_followers_out(agent: Agent) -> None:
    agent.offered(sealed(A, "7.5"))
    for _ in range(10):
        assert agent.offered(sealed(B, "6.9", 7)) == A
        agent.now += ALONE_S - 1
        assert agent.offered(sealed(A, "7.5")) == A
    assert agent.fence.frozen() == ""


def test_of_two_followers_the_one_that_is_left_counts_though_its_numbers_are_lower(agent: Agent) -> None:
    agent.offered(sealed(A, "6.9", 7))
    assert agent.offered(sealed(B, "6.3", 7)) == A
    agent.now += ALONE_S
    assert agent.offered(sealed(B, "6.3", 7)) == B


@pytest.mark.row(
    39, 41, "A12", did="a deposed leader, its followers, and a rogue of an absurd epoch, for ever the only ones"
)
@pytest.mark.parametrize("old", [sealed(B, "7.99"), sealed(B, "6.99", 7), sealed(B, "8.1"), sealed(B, "1.1")])
@pytest.mark.parametrize("have", [sealed(A, "9.1"), sealed(A, "8.5", 9)])
def test_what_is_of_an_earlier_term_is_never_taken(agent: Agent, old: Envelope, have: Envelope) -> None:
    agent.offered(have)
    for _ in range(30):
        agent.now += ALONE_S
        assert agent.offered(old) == A
    assert "refuses the older" in agent.fence.frozen()
    assert agent.offered(sealed(C, "9.2")) == C
    assert agent.fence.frozen() == ""


def test_the_leader_before_is_refused_though_its_epoch_is_next_to_the_followers(agent: Agent) -> None:
    """A follower of 9 makes 8.n, and the leader before made 7.n; 8.n of a leader is of an earlier term, too."""
    agent.offered(sealed(A, "8.5", 9))
    for _ in range(5):
        agent.now += ALONE_S
        assert agent.offered(sealed(B, "7.9")) == A
        assert agent.offered(sealed(B, "8.6")) == A
    agent.fence = Fence(lambda: agent.now)  # a restart: the note knows
    agent.now += 10 * ALONE_S
    assert agent.offered(sealed(B, "7.9")) == A


def test_equal_bytes_are_welcome_whatever_their_generation_and_do_not_lower_ours(agent: Agent) -> None:
    agent.offered(sealed(A, "7.5"))
    agent.path.write_bytes(b"by hand")
    for old in (sealed(A, "6.1", 7), sealed(A, "3.1")):
        assert agent.offered(old) == A
        assert noted(agent.path) == Note(Generation(7, 5), old.sha256)
    assert agent.fence.frozen() == ""
    agent.offered(sealed(A, "8.1", 9))
    assert noted(agent.path) == Note(Generation(8, 1), sealed(A, "1.1").sha256, 9)
    assert note_of(agent.path).read_text().endswith(" 9\n")


def test_frozen_is_said_after_a_minute_of_refusals_and_not_when_nobody_answers(agent: Agent) -> None:
    agent.offered(sealed(A, "9.1"))
    agent.offered(sealed(B, "5.1"))
    agent.now += FROZEN_S - 1
    agent.offered(sealed(B, "5.1"))
    assert agent.fence.frozen() == ""
    agent.now += 1
    assert "refuses the older 5.1" in agent.fence.frozen()
    agent.now += FROZEN_S + 1
    assert agent.fence.frozen() == "", "nobody answers any more"


# --- balancers and proxies -------------------------------------------------------------------------------------------


async def test_an_agent_that_reaches_only_a_follower_gets_its_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was frozen for ever, and ready all the while."""
    monkeypatch.setattr(fence, "ALONE_S", 1.0)
    async with controllers(2) as (leader, follower):
        leader.offer(A, "7.5")
        follower.offer(A, "6.2", follows=7)
        file = tmp_path / "x.json"
        async with polling(file, [leader.url, follower.url]) as (poller, metrics):
            await until(lambda: file.exists() and file.read_bytes() == A, "the first")
            leader.down = True
            leader.offer(A, "7.6")  # ends the long poll
            await until(lambda: len(follower.asked) > 1, "the follower is asked")
            assert count(metrics, "refused") == 0, "what we have is the same, whoever says it"
            follower.offer(B, "6.3", follows=7)
            await until(lambda: file.read_bytes() == B, "the newest there is")
            follower.offer(C, "6.4", follows=7)
            await until(lambda: file.read_bytes() == C, "and the next at once", 5)
            await until(lambda: poller.unready() == "", "ready")
            leader.offer(B, "7.7")
            leader.down = False
            follower.down = True
            follower.offer(C, "6.5", follows=7)
            await until(lambda: file.read_bytes() == B, "the leader is back")


async def test_two_controllers_behind_one_address_serve_an_agent_as_well_as_one(tmp_path: Path) -> None:
    async with controllers(2) as (leader, follower):
        leader.offer(A, "7.5")
        follower.offer(A, "6.2", follows=7)
        file, proxy = tmp_path / "x.json", HttpProxy([leader.url, follower.url])
        async with proxy.running() as url, polling(file, [url], wait_s=0.3) as (poller, metrics):
            await until(file.exists, "the first")
            await until(lambda: len(follower.asked) > 2 and len(leader.asked) > 2, "both are asked")
            assert (count(metrics, "refused"), count(metrics, "failed")) == (0, 0)
            for n, body in enumerate((B, C, A)):
                follower.offer(body, f"6.{3 + n}", follows=7)  # it is a moment ahead
                await asyncio.sleep(0.2)
                leader.offer(body, f"7.{6 + n}")
                await until(lambda body=body: file.read_bytes() == body, "taken", 10)  # type: ignore[misc]
            assert poller.unready() == ""


@pytest.mark.parametrize("hang_up", [False, True], ids=["504", "closed"])
@pytest.mark.parametrize("cut_after_s", [1.2, 2.2])
async def test_long_polls_that_a_proxy_cuts_are_no_failures(tmp_path: Path, cut_after_s: float, hang_up: bool) -> None:
    async with controllers(1) as (controller,):
        controller.offer(A, "1.1")
        file, proxy = tmp_path / "x.json", HttpProxy([controller.url], cut_after_s=cut_after_s, hang_up=hang_up)
        async with proxy.running() as url, polling(file, [url], wait_s=30.0) as (_, metrics):
            await until(lambda: count(metrics, "same") > 1, "shorter polls get through")
            assert count(metrics, "failed") == 0
            controller.offer(B, "1.2")
            await until(lambda: file.read_bytes() == B, "taken")


def test_polls_that_were_cut_are_shorter_and_grow_again() -> None:
    patience = Patience(30.0)
    patience.was_cut(10.0)
    assert patience.wait_s == 5.0
    patience.was_cut(1.5)
    assert patience.wait_s == 1.0
    for _ in range(100):
        patience.was_not()
    assert patience.wait_s == 30.0


async def test_a_proxy_with_a_path_and_a_password(tmp_path: Path) -> None:
    async with controllers(1) as (controller,):
        controller.offer(A, "1.1")
        (tmp_path / "password").write_text("hush\n")
        file, proxy = tmp_path / "x.json", HttpProxy([controller.url], prefix="/promring", password="ann:hush")
        async with proxy.running() as url:
            more = {"username": "ann", "password_file": tmp_path / "password"}
            async with polling(file, [url], **more):
                await until(file.exists, "through the proxy")


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        (HttpProxy([], page=502), "status 502, with an HTML page: a proxy's, not promring's"),
        (HttpProxy([], page=200), "an HTML page, a proxy's: not promring's"),
        (HttpProxy([], password="ann:hush"), "status 401: who are you?"),
    ],
)
async def test_what_a_proxy_does_instead_is_said(
    tmp_path: Path, proxy: HttpProxy, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("info", "logfmt")
    async with controllers(1) as (controller,):
        controller.offer(A, "1.1")
        proxy.backends = [controller.url]
        async with proxy.running() as url, polling(tmp_path / "x.json", [url]) as (poller, _):
            text = ""

            def seen() -> bool:
                nonlocal text
                text += capsys.readouterr().err
                return said in text

            await until(seen, said, 10)
            assert poller.unready() == "no slice yet"
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("seconds", [0.001, 0.6, 1.0, 14.9493, 30.0123, 3599.9999])
def test_how_long_a_poll_waits_is_said_as_a_controller_reads_it(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=0.001)


async def test_an_agent_says_which_generation_keeps_it_from_taking_what_is_offered_until_it_takes_something(
    tmp_path: Path,
) -> None:
    file = tmp_path / "x.json"
    install(file, sealed(A, "1795877698.4"))
    async with controllers(1) as (one,):
        one.offer(B, "1795877681.1")
        async with polling(file, [one.url]) as (poller, metrics):
            await until(lambda: [a.headers.get(OUTRANKED) for a in one.asked][-1:] == ["1795877698.4;x"], "it says why")
            assert OUTRANKED not in one.asked[0].headers
            refused = count(metrics, "refused")
            await until(lambda: count(metrics, "refused") > refused, "refused after it said why")
            (kept,) = poller.files.values()
            assert kept.trouble.endswith("has generation 1795877698.4, refuses the older 1795877681.1")
            one.offer(B, "1795877699.1")
            await until(lambda: file.read_bytes() == B, "what is newer is taken", 30)
            one.offer(C, "1795877699.2")
            await until(lambda: file.read_bytes() == C, "and what comes then")
            assert OUTRANKED not in one.asked[-1].headers
