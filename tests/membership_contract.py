"""What every kind of membership promises, as scenarios: ``tests/unit/test_membership_contract.py`` plays them on the stores
that a process can have in it, ``tests/real/test_membership_kubernetes.py`` on a real kube-apiserver.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from promring.config.kinds import Section, Sections
from promring.config.node import Node
from promring.demo.process import free_port
from promring.membership import Membership, MembershipContext, Rostered
from promring.membership.kubernetes import KubernetesScrapers
from promring.membership.probing import ProbeKeys
from promring.model import Answer, Known, Members, NodeState, Scraper, Unknown, join_host_port
from promring.telemetry import log
from tests.waiting import until

PROBING = ProbeKeys(interval=0.2, timeout=0.2)
TROUBLE = ("SERVFAIL", "scrapers.json:1: ", "status 500", "cannot connect", "connection closed", "no whole answer")
"""What people are told of a list that is lost."""


def scraper(node: Node) -> Scraper:
    return Scraper(join_host_port(node.host, node.port), *node)


class Machine:
    """A scraper on an address of its own, that answers its probe until it is killed."""

    def __init__(self, host: str, port: int) -> None:
        self.scraper = scraper(Node(host, port))
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/-/ready", _ready)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.scraper.host, self.scraper.port).start()

    async def kill(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = None


async def _ready(_: web.Request) -> web.Response:
    return web.Response()


class Ground(ABC):
    """A membership of one kind, and the store that it reads."""

    changes_its_list = True
    leaves_by_plan = True
    """Whether one that is taken out of the list, and lives, leaves by a plan; and a start without a list asks those that
    lived before.
    """
    waits_for_all = True
    """Whether nothing is said before each that is listed at the start has its verdict."""
    membership: Membership

    def __init__(self, folder: Path, machines: list[Machine]) -> None:
        self.folder, self.machines = folder, machines

    @abstractmethod
    async def enter(self, stack: AsyncExitStack, last: Members) -> None: ...

    @abstractmethod
    async def list_(self, *machines: Machine) -> None:
        """These are in the store's list from now on."""

    @abstractmethod
    async def lose(self, *, back: bool = False) -> None:
        """The store gives no answer that can be used; ``back``: it does again."""

    async def kill(self, machine: Machine) -> None:
        await machine.kill()


@asynccontextmanager
async def machines(count: int) -> AsyncIterator[list[Machine]]:
    """On addresses of their own with one port."""
    net, port = f"127.{random.randint(2, 250)}.{random.randint(2, 250)}", free_port()
    made = [Machine(f"{net}.{n + 1}", port) for n in range(count)]
    try:
        for one in made:
            await one.start()
        yield made
    finally:
        for one in made:
            await one.kill()


def known(*made: Machine) -> Known[Members]:
    return Known(tuple(sorted(m.scraper for m in made)))


Opened = AbstractAsyncContextManager[tuple[Ground, list[Answer[Members]]]]


class Open(Protocol):
    """A ground of some kind with these machines. ``last``: those that lived before; ``listed``: they are in its list.
    Runs; what it publishes is put in the list.
    """

    def __call__(self, made: list[Machine], last: Members, *, listed: bool = False) -> Opened: ...


@asynccontextmanager
async def running(
    one: Ground, last: Members, *, listed: bool = False
) -> AsyncIterator[tuple[Ground, list[Answer[Members]]]]:
    async with AsyncExitStack() as stack:
        await one.enter(stack, last)
        if listed:
            await one.list_(*one.machines)
        answers: list[Answer[Members]] = []
        task = asyncio.create_task(one.membership.run(answers.append))
        try:
            yield one, answers
            assert not task.done(), "it ran all the time"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class PodGround(Ground):
    """Machines as pods of a cluster. ``sections`` is set before it is entered."""

    sections: list[Section]
    namespace, probing = "default", PROBING

    def __init__(self, folder: Path, machines: list[Machine]) -> None:
        super().__init__(folder, machines)
        for n, one in enumerate(machines):
            one.scraper = replace(one.scraper, id=f"prometheus-{n}:{one.scraper.port}")

    async def enter(self, stack: AsyncExitStack, last: Members) -> None:
        called = tuple(sorted(m.scraper for m in self.machines if last))  # by the names of their pods
        self.membership = pod_settings(namespace=self.namespace, keep=0.5, probe=self.probing).membership(
            pod_context(self.sections, called)
        )


def pod_settings(*, namespace: str = "default", **more: Any) -> KubernetesScrapers:
    return KubernetesScrapers(namespace=namespace, **{"selector": "app=prometheus", "port": "web", "probe": PROBING, **more})


def pod_context(sections: list[Section], last: Members = (), zone_label: str | None = None) -> MembershipContext:
    return MembershipContext("s", scraper, zone_label, last, (), None, lambda: True, log.get(), Sections(sections))


async def the_whole_set_of_the_living_is_said_sorted_and_who_dies_and_returns(open_: Open) -> None:
    async with machines(3) as made, open_(made, ()) as (store, answers):
        await store.list_(*made)
        await until(lambda: bool(answers) and answers[-1] == known(*made), "all three")
        before = answers[: answers.index(known(*made))]
        assert all(isinstance(a, Unknown) for a in before) or not store.waits_for_all, "nobody is told of a part of them"
        await store.kill(made[1])
        await until(lambda: answers[-1] == known(made[0], made[2]), "one died")
        assert made[1].scraper in store.membership.listed(), "it is still listed: what it had comes back to it"
        await made[1].start()
        await store.list_(*made)
        await until(lambda: answers[-1] == known(*made), "it is back")
        assert store.membership.silent() == ""


async def a_store_that_is_lost_changes_nobodys_life(open_: Open) -> None:
    async with machines(3) as made, open_(made, ()) as (store, answers):
        await store.list_(*made)
        await until(lambda: bool(answers) and answers[-1] == known(*made), "all three")
        await store.lose()
        seen = len(answers)

        def said(node: NodeState) -> bool:
            return any(text in node.reason for text in TROUBLE) or node.state == "unknown"

        await until(lambda: all(map(said, store.membership.nodes())), "people are told")
        assert all(a == known(*made) or isinstance(a, Unknown) for a in answers[seen:])
        await store.lose(back=True)
        await until(lambda: answers[-1] == known(*made) and not any(map(said, store.membership.nodes())), "back")


async def one_that_is_listed_later_joins_and_the_others_do_not_wait_for_it(open_: Open) -> None:
    async with machines(3) as made, open_(made, ()) as (store, answers):
        await store.list_(*made[:2])
        await until(lambda: bool(answers) and answers[-1] == known(*made[:2]), "two")
        seen = len(answers)
        await store.list_(*made)
        await until(lambda: answers[-1] == known(*made), "the third")
        assert all(a in (known(*made[:2]), known(*made)) for a in answers[seen:])


async def one_that_is_taken_out_of_the_list_leaves_by_a_plan(open_: Open) -> None:
    async with machines(3) as made, open_(made, ()) as (store, answers):
        await store.list_(*made)
        await until(lambda: bool(answers) and answers[-1] == known(*made), "all three")
        await store.list_(*made[1:])
        assert isinstance(store.membership, Rostered)
        roster = store.membership.roster
        await until(lambda: roster().left == (made[0].scraper,), "it left")
        await until(lambda: answers[-1] == known(*made[1:]), "it is no member")
        assert made[0].scraper not in store.membership.listed()
        await store.list_(*made)
        await until(lambda: answers[-1] == known(*made), "it is back")
        assert roster().left == ()


async def after_a_start_without_a_list_those_that_lived_before_are_asked(open_: Open) -> None:
    async with machines(3) as made:
        last = tuple(m.scraper for m in made)
        async with open_(made, last) as (store, answers):
            await until(lambda: bool(answers) and answers[-1] == known(*made), "those of before")
            await store.kill(made[2])
            await until(lambda: answers[-1] == known(*made[:2]), "its death is seen")


async def after_a_start_that_knows_all_who_are_listed_they_are_asked_again(open_: Open) -> None:
    async with machines(3) as made:
        last = tuple(m.scraper for m in made)
        async with open_(made, last, listed=True) as (store, answers):
            await until(lambda: bool(answers) and answers[-1] == known(*made), "all three")
            await store.kill(made[2])
            await until(lambda: answers[-1] == known(*made[:2]), "its death is seen")


ALL: list[Callable[[Open], Awaitable[None]]] = [
    the_whole_set_of_the_living_is_said_sorted_and_who_dies_and_returns,
    after_a_start_that_knows_all_who_are_listed_they_are_asked_again,
]
OF_A_LIST = [a_store_that_is_lost_changes_nobodys_life, one_that_is_listed_later_joins_and_the_others_do_not_wait_for_it]
OF_ONE_THAT_LEAVES_BY_A_PLAN = [
    one_that_is_taken_out_of_the_list_leaves_by_a_plan,
    after_a_start_without_a_list_those_that_lived_before_are_asked,
]


def scenarios(kind: type[Ground]) -> list[Callable[[Open], Awaitable[None]]]:
    """Those that this kind has to play."""
    return ALL + OF_A_LIST * kind.changes_its_list + OF_ONE_THAT_LEAVES_BY_A_PLAN * kind.leaves_by_plan
