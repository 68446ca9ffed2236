"""The least ACL rules that promring needs, and what it says when one of them is missing: on Consul 1.8 and 1.14."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from testbed.consul import ConsulProcess

from promring.cli import main
from promring.consul.catalogue import Catalogue
from promring.consul.client import Access, Client
from promring.consul.lock import ConsulLockStore
from promring.consul.registration import Registration, is_free
from promring.consul.watch import HealthWatch
from promring.election.leadership import Leadership
from promring.election.loop import Election, Lease
from promring.membership.consul import NOT_YET, ConsulMembership
from promring.membership.watching import watch as watch_members
from promring.model import Answer, ConsulError, Known, Members, Scraper, Unknown
from promring.runtime.http_client import HttpError, new_session, request
from promring.telemetry.log import Logger
from tests.fakes.slices import serving
from tests.rows import Seen
from tests.waiting import until

MANAGEMENT = "11111111-2222-3333-4444-555555555555"
NODE = "test"
SCRAPERS_WRITE = 'service "{name}" {{ policy = "write" }}'
SCRAPERS_READ = 'service "{name}" {{ policy = "read" }}'
NODES_READ = 'node_prefix "" { policy = "read" }'
KEY_WRITE = 'key "{name}/leader" {{ policy = "write" }}'
SESSION_WRITE = f'session "{NODE}" {{ policy = "write" }}'
PROMRING_WRITE = 'service "promring" { policy = "write" }'
LOCK = [KEY_WRITE, SESSION_WRITE, PROMRING_WRITE]


DOCUMENTED = (Path(__file__).parents[2] / "docs/operations.md").read_text().partition("```hcl\n")[2].partition("```")[0]
"""The rules on the page, for its own names."""


def documented() -> list[str]:
    """For the names that are used here."""
    named = DOCUMENTED.replace("scrape_prometheus_node_exporter", "{name}").replace("promring/leader", "{name}/leader")
    rules = [line.partition("#")[0].strip() for line in named.replace("controller-1", NODE).splitlines()]
    return [rule.replace("{ policy", "{{ policy").replace('" }', '" }}') for rule in rules if rule]


class Lines(list[tuple[str, dict[str, Any]]]):
    """A log that is kept."""

    def info(self, event: str, **more: Any) -> None:
        self.append((event, more))

    warning = error = info

    def bind(self, **_: Any) -> Lines:
        return self

    def errors(self, event: str) -> list[str]:
        return [str(more.get("error", "")) for name, more in self if name == event]


@dataclass(frozen=True)
class Case:
    """``rules`` of the token; what is said about the first thing that it lacks. ``registers``, ``locks``: what it is for."""

    name: str
    rules: Sequence[str]
    missing: str = ""
    registers: bool = True
    locks: bool = False


CASES = [
    Case("least-to-read", [SCRAPERS_READ, NODES_READ], registers=False),
    Case("least-to-register", [SCRAPERS_WRITE, NODES_READ]),
    Case("least-with-the-lock", [SCRAPERS_WRITE, NODES_READ, *LOCK], locks=True),
    Case("as-documented", documented(), locks=True),
    Case("nothing", [], 'service "{name}" write'),
    Case("nothing-to-read", [], 'node_prefix "" read', registers=False),
    Case("no-nodes", [SCRAPERS_WRITE], 'node_prefix "" read'),
    Case("no-nodes-to-read", [SCRAPERS_READ], 'node_prefix "" read', registers=False),
    Case("no-service", [NODES_READ], 'service "{name}" read', registers=False),
    Case("read-only", [SCRAPERS_READ, NODES_READ], 'service "{name}" write'),
    Case("no-key", [SCRAPERS_WRITE, NODES_READ, SESSION_WRITE, PROMRING_WRITE], 'key "{name}/leader" write', locks=True),
    Case("no-session", [SCRAPERS_WRITE, NODES_READ, KEY_WRITE, PROMRING_WRITE], "session", locks=True),
    Case("no-promring", [SCRAPERS_WRITE, NODES_READ, KEY_WRITE, SESSION_WRITE], 'service "promring" write', locks=True),
    Case(
        "key-read-only",
        [SCRAPERS_WRITE, NODES_READ, KEY_WRITE.replace("write", "read"), SESSION_WRITE, PROMRING_WRITE],
        'key "{name}/leader" write',
        locks=True,
    ),
]


@asynccontextmanager
async def denying(program: Path, folder: Path) -> AsyncIterator[tuple[ConsulProcess, aiohttp.ClientSession]]:
    """A Consul that denies by default, with its ACL system up."""
    known = "initial_management" if program.name == "consul14" else "master"
    acl = {"enabled": True, "default_policy": "deny", "tokens": {known: MANAGEMENT}}
    consul = ConsulProcess(program, folder, extra={"acl": acl, "primary_datacenter": "dc1"})
    await consul.start()
    try:
        async with new_session() as session:

            async def up() -> bool:
                try:
                    return bool(await asked(consul, session, "GET", "/v1/catalog/nodes"))
                except (AssertionError, HttpError):
                    return False

            await until(up, "Consul with its ACL system", 60)
            yield consul, session
    finally:
        await consul.stop()


async def asked(consul: ConsulProcess, session: aiohttp.ClientSession, method: str, path: str, body: object = None) -> Any:
    headers = {"X-Consul-Token": MANAGEMENT}
    response = await request(session, method, f"{consul.url}{path}", timeout_s=10, headers=headers, json=body)
    assert response.status == 200, response.text()
    return json.loads(response.body or b"null")


def rules_of(case: Case) -> str:
    return "\n".join(rule.format(name=case.name) if "{{" in rule else rule for rule in case.rules)


async def token_of(consul: ConsulProcess, session: aiohttp.ClientSession, case: Case) -> str:
    policy = {"Name": case.name, "Rules": rules_of(case)}
    await asked(consul, session, "PUT", "/v1/acl/policy", policy)
    token = {"Policies": [{"Name": case.name}]}
    return str((await asked(consul, session, "PUT", "/v1/acl/token", token))["SecretID"])


@dataclass
class Tried:
    case: Case
    lines: Lines
    answers: list[Answer[Members]]
    leadership: Leadership

    @property
    def said(self) -> list[str]:
        """All that was logged as a reason."""
        return [str(more.get("error", "")) for _, more in self.lines if more.get("error")]

    def done(self) -> bool:
        if self.case.missing:
            return any(self.case.missing.format(name=self.case.name) in text for text in self.said)
        members = bool(self.answers) and isinstance(self.answers[-1], Known) and len(self.answers[-1].value) == 2
        return members and (not self.case.locks or self.leadership.leads())


@asynccontextmanager
async def running(consul: ConsulProcess, token: str, case: Case) -> AsyncIterator[Tried]:
    """Membership and lock with that token, as a controller has them."""
    tried = Tried(case, Lines(), [], Leadership(alone=False))
    log = cast(Logger, tried.lines)
    nodes = [("127.0.0.1", 1), ("127.0.0.1", 2)]
    everyone = tuple(Scraper(f"{host}:{port}", host, port) for host, port in nodes)
    async with Client(Access(consul.address, token=token)) as client:
        watch = HealthWatch(client, case.name, Catalogue(lambda n, _: Scraper(f"{n[0]}:{n[1]}", *n)), log)
        wanted = Registration(case.name, {node: {} for node in nodes}, "/", 3600.0, 1.0) if case.registers else None
        membership = ConsulMembership(client, watch, wanted, log, everyone)
        lock = Election(
            ConsulLockStore(client, f"{case.name}/leader", case.name, 3.0),
            Lease(case.name, 3.0),
            tried.leadership,
            informed=lambda: True,
            highest=lambda: 0,
            drained=dict,
            log=log,
        )
        tasks = [asyncio.create_task(watch_members(case.name, membership, tried.answers.append, log))]
        tasks += [asyncio.create_task(lock.run())] if case.locks else []
        try:
            yield tried
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.row(59, did=f"{len(CASES)} tokens, each with its own set of ACL rules, on Consul 1.8.7 and 1.14.11")
async def test_the_least_rules_suffice_and_a_missing_one_is_named_once(
    tmp_path: Path, each_consul: Path, seen: Seen
) -> None:
    async with denying(each_consul, tmp_path) as (consul, session):
        for name in ("least-to-read", "no-nodes-to-read", "no-service"):  # somebody else registered these
            for port in (1, 2):
                there = {"ID": f"{name}-{port}", "Name": name, "Address": "127.0.0.1", "Port": port}
                await asked(consul, session, "PUT", "/v1/agent/service/register", there)

        async def tried(case: Case) -> None:
            async with running(consul, await token_of(consul, session, case), case) as one:
                try:
                    await until(one.done, f"{case.name}: {case.missing or 'it works'}", 60)
                except AssertionError as error:
                    raise AssertionError(f"{error}; said {set(one.said)}, answers {one.answers[-1:]}") from None
                before = len(one.said)
                await asyncio.sleep(3)
                assert len(one.said) - before <= 1, f"{case.name}: said again and again: {one.said[before:]}"
                if case.missing and not case.registers:
                    assert isinstance(one.answers[-1], Unknown), "filtered is not none"

        await asyncio.gather(*(tried(case) for case in CASES))
    good = sum(not case.missing for case in CASES)
    seen(f"{good} least sets work, {len(CASES) - good} name the rule they lack, once")


async def test_before_the_first_run_a_check_knows_whether_the_token_may_register(tmp_path: Path, each_consul: Path) -> None:
    """A token with all rights sees nothing in an empty Consul, as one without any does."""
    async with denying(each_consul, tmp_path / "consul") as (consul, session):
        for case in (one for one in CASES if one.registers and not one.locks):
            async with Client(Access(consul.address, token=await token_of(consul, session, case))) as client:
                if not case.missing:
                    assert await is_free(client, case.name)
                    continue
                with pytest.raises(ConsulError, match="the token must have") as refused:
                    await is_free(client, case.name)
                missing = case.missing.format(name=case.name).replace('node_prefix ""', 'node ""')
                assert missing in str(refused.value)
        file, (least,) = tmp_path / "promring.yml", [one for one in CASES if one.name == "least-to-register"]
        (tmp_path / "token").write_text((await token_of(consul, session, replace(least, name="first"))) + "\n")
        (tmp_path / "targets.json").write_text('[{"targets": ["t:1"]}]')
        async with serving(web.Application()) as url:
            node = url.removeprefix("http://")
            first = {"service": "first", "register": {"nodes": [node], "check": {"path": "/nowhere"}}}
            service = {"name": "x", "targets": [{"file": {"files": ["targets.json"]}}], "delivery": [{"http_sd": {}}]}
            settings: dict[str, Any] = {"consul": {"address": consul.address, "token_file": "token"}}
            settings["shard_services"] = [{**service, "scrapers": {"consul": first}}]
            file.write_text(json.dumps(settings))
            dead = await checked(file)
            assert dead.exit_code == 1
            assert f"{NOT_YET}; {node}: " in dead.stderr
        async with serving(ready_app()) as url:
            first["register"] = {"nodes": [url.removeprefix("http://")]}
            file.write_text(json.dumps(settings))
            good = await checked(file)
            assert (good.exit_code, good.stderr) == (0, "")
            assert f"x: scrapers: 1 alive of 1; {NOT_YET}" in good.stdout.splitlines()
        assert "first" not in await asked(consul, session, "GET", "/v1/catalog/services"), "nothing is written"


def ready_app() -> web.Application:
    async def ready(_: web.Request) -> web.Response:
        return web.Response(text="ready")

    app = web.Application()
    app.router.add_get("/-/ready", ready)
    return app


async def checked(file: Path) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["check", str(file), "--online"])


@pytest.mark.parametrize("missing", [SESSION_WRITE, KEY_WRITE], ids=["session", "key"])
async def test_a_right_that_is_taken_away_is_known_before_it_is_needed(
    tmp_path: Path, each_consul: Path, missing: str
) -> None:
    """A session goes on without the right to make another, and a locked key without the right to write it."""
    case = Case("taken-away", [SCRAPERS_WRITE, NODES_READ, *LOCK], locks=True)
    async with denying(each_consul, tmp_path) as (consul, session):
        token = tmp_path / "token"
        token.write_text(await token_of(consul, session, case))
        async with Client(Access(address=consul.url, token_file=token)) as client:
            lock = ConsulLockStore(client, f"{case.name}/leader", "one", 5.0)
            assert await lock.take(await lock.read()) == ""
            assert await lock.renew(await lock.read(), b"a note")
            held = await lock.read()
            assert await lock.lacks(b"a note") == ""
            assert (await lock.read()).version == held.version, "asking changes nothing"
            less = {missing: missing.replace("write", "read")}
            rules = rules_of(replace(case, rules=[less.get(rule, rule) for rule in case.rules]))
            (policy,) = [p for p in await asked(consul, session, "GET", "/v1/acl/policies") if p["Name"] == case.name]
            await asked(consul, session, "PUT", f"/v1/acl/policy/{policy['ID']}", {"Name": case.name, "Rules": rules})

            async def is_named() -> bool:
                seen = await lock.read()
                assert seen.ours
                lacks = await lock.lacks(seen.note)
                return missing.partition(" ")[0] in lacks and "write" in lacks

            await until(is_named, "the right is named while the lock is ours", 60)
            if missing == KEY_WRITE:  # not "another has it", which would be asked again and again
                with pytest.raises(ConsulError, match="the token must have: key"):
                    await lock.renew(await lock.read(), b"another note")
            whole = {"Name": case.name, "Rules": rules_of(case)}
            await asked(consul, session, "PUT", f"/v1/acl/policy/{policy['ID']}", whole)

            async def is_back() -> bool:
                return await lock.lacks((await lock.read()).note) == ""

            await until(is_back, "nothing is lacking", 60)
            await lock.release(b"a note")


@pytest.mark.parametrize("left", ["read", "deny"])
async def test_who_may_not_touch_the_lock_any_more_does_not_keep_it_from_others(
    tmp_path: Path, each_consul: Path, left: str
) -> None:
    """Its session needs no such right, and would go on for ever."""
    case = Case("barred", [SCRAPERS_WRITE, NODES_READ, *LOCK], locks=True)
    async with denying(each_consul, tmp_path) as (consul, session):
        token = await token_of(consul, session, case)
        async with (
            Client(Access(address=consul.url, token=token)) as client,
            Client(Access(address=consul.url, token=MANAGEMENT)) as another,
        ):
            lock, other = (ConsulLockStore(one, f"{case.name}/leader", "one", 5.0) for one in (client, another))
            assert await lock.take(await lock.read()) == ""
            rules = rules_of(case).replace(
                KEY_WRITE.format(name=case.name), f'key "{case.name}/leader" {{ policy = "{left}" }}'
            )
            (policy,) = [p for p in await asked(consul, session, "GET", "/v1/acl/policies") if p["Name"] == case.name]
            await asked(consul, session, "PUT", f"/v1/acl/policy/{policy['ID']}", {"Name": case.name, "Rules": rules})

            async def is_barred() -> bool:
                try:
                    seen = await lock.read()
                    await lock.renew(seen, f"{asyncio.get_running_loop().time()}".encode())
                except ConsulError as error:
                    return error.status == 403
                return False

            await until(is_barred, "the key is refused", 60)

            async def is_taken() -> bool:
                with contextlib.suppress(ConsulError):
                    await lock.read()  # it goes on asking
                return await other.take(await other.read()) == ""

            await until(is_taken, "another has the lock", 60)
            whole = {"Name": case.name, "Rules": rules_of(case)}
            await asked(consul, session, "PUT", f"/v1/acl/policy/{policy['ID']}", whole)

            async def is_back() -> bool:
                try:
                    seen = await lock.read()
                except ConsulError:
                    return False
                return seen.held and not seen.ours

            await until(is_back, "it reads the lock again", 60)
            await other.release(b"a note")

            async def is_ours() -> bool:
                return await lock.take(await lock.read()) == ""

            await until(is_ours, "it has the lock again", 60)
            await lock.release(b"a note")


async def test_a_check_that_the_agent_forgot_is_made_again(tmp_path: Path, each_consul: Path) -> None:
    """An agent deregisters the service of a controller that was frozen for a minute, and knows nothing when it comes without
    its data. With ACLs 1.8 says so in other words than without.
    """
    case = Case("forgotten", LOCK, locks=True)
    async with denying(each_consul, tmp_path) as (consul, session):
        token = await token_of(consul, session, case)
        async with Client(Access(address=consul.url, token=token)) as client:
            lock = ConsulLockStore(client, f"{case.name}/leader", "one", 5.0)
            assert await lock.take(await lock.read()) == ""
            known = await asked(consul, session, "GET", "/v1/agent/services")
            (ours,) = [name for name in known if name.startswith("promring-")]
            await asked(consul, session, "PUT", f"/v1/agent/service/deregister/{ours}")

            async def is_ours() -> bool:
                seen = await lock.read()
                return seen.ours or (not seen.held and await lock.take(seen) == "")

            await until(is_ours, "the lock again")
            again = await asked(consul, session, "GET", "/v1/agent/services")
            assert [name for name in again if name.startswith("promring-")] != [ours]
