"""The client of etcd's gateway and its lock, on a gateway that says what a healthy etcd does not."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from promring.config.load import loads
from promring.demo.process import free_port
from promring.election.store import LockState
from promring.etcd.access import Access
from promring.etcd.client import PERMISSION_DENIED, Client
from promring.etcd.lock import EtcdLockStore
from promring.model import ConfigError, EtcdError
from tests.fakes.etcd import FakeGateway, Said

GRANTED: Said = (200, {"ID": "77", "TTL": "5"})
KEPT: Said = (200, {"result": {"ID": "77", "TTL": "5"}})
ENDED: Said = (200, {"result": {"ID": "77"}})
TAKEN: Said = (200, {"succeeded": True, "responses": [{"response_put": {}}]})
NOT_TAKEN: Said = (200, {"header": {"revision": "9"}})


def read(*, lease: str = "77", revision: int = 8, note: bytes = b"") -> Said:
    """What stands in both keys. Without a lease, as somebody put it by hand."""
    lock = {"create_revision": str(revision), "mod_revision": str(revision), "value": "YQ=="}
    lock |= {"lease": lease} if lease else {}
    kept = {"kvs": [{"mod_revision": "3", "value": base64.b64encode(note).decode()}]} if note else {}
    ranges = [{"kvs": [lock]} if revision else {}, kept]
    return 200, {"succeeded": True, "responses": [{"response_range": one} for one in ranges]}


@asynccontextmanager
async def stored(answers: dict[str, list[Said]]) -> AsyncIterator[tuple[FakeGateway, EtcdLockStore, list[float]]]:
    """A store, its gateway, and its clock."""
    clock = [1000.0]
    async with FakeGateway(answers) as gateway, Client(Access((gateway.url,))) as client:
        yield gateway, EtcdLockStore(client, "promring/leader", "me", 5.0, clock=lambda: clock[0]), clock


class Nothing(msgspec.Struct):
    pass


# --- the client ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refused",
    [
        (400, {"error": "etcdserver: user name is empty", "code": 3, "message": "etcdserver: user name is empty"}),
        (401, {"code": 16, "message": "etcdserver: invalid auth token"}),
        (401, {"error": {"grpc_code": 16, "code": 16, "message": "etcdserver: invalid auth token"}}),
        (400, {"code": 3, "message": "etcdserver: revision of auth store is old"}),
    ],
    ids=["no name", "expired", "expired, of a stream", "users have changed"],
)
@pytest.mark.row("E1", did="the three ways in which etcd refuses a token")
async def test_a_token_that_does_not_do_is_renewed_once(tmp_path: Path, refused: Said) -> None:
    (tmp_path / "password").write_text("secret\n")
    answers = {"kv/range": [refused, (200, {})], "auth/authenticate": [(200, {"token": "abc.7"})]}
    async with FakeGateway(answers) as gateway:
        access = Access((gateway.url,), username="me", password_file=tmp_path / "password")
        async with Client(access) as client:
            await client.call("kv/range", {}, Nothing)
            await client.call("kv/range", {}, Nothing)
    assert gateway.tokens["kv/range"] == ["", "abc.7", "abc.7"], "raw, and used again"
    assert ("auth/authenticate", {"name": "me", "password": "secret"}) in gateway.calls


async def test_a_wrong_password_is_said_without_it_and_not_tried_again_at_once(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    wrong = {"code": 3, "message": "etcdserver: authentication failed, invalid user ID or password: secret"}
    answers = {"kv/range": [(400, {"code": 3, "message": "user name is empty"})], "auth/authenticate": [(400, wrong)]}
    async with FakeGateway(answers) as gateway:
        access = Access((gateway.url,), username="me", password_file=tmp_path / "password")
        async with Client(access) as client:
            for _ in range(5):
                with pytest.raises(EtcdError, match="authentication failed") as found:
                    await client.call("kv/range", {}, Nothing)
                assert "secret" not in str(found.value)
    assert gateway.asked("auth/authenticate") == 1


@pytest.mark.row("E2", did="one member of etcd is sick")
async def test_a_member_that_cannot_is_passed_over_and_asked_last() -> None:
    sick = {"kv/range": [(503, {"code": 14, "message": "etcdserver: no leader"})]}
    async with FakeGateway(sick) as bad, FakeGateway({"kv/range": [(200, {})]}) as good:
        closed = f"http://127.0.0.1:{free_port()}"
        async with Client(Access((closed, bad.url, good.url))) as client:
            for _ in range(3):
                await client.call("kv/range", {}, Nothing)
        assert (bad.asked("kv/range"), good.asked("kv/range")) == (1, 3)


async def test_when_no_member_can_every_one_is_named() -> None:
    async with FakeGateway({"kv/range": [(503, {"code": 14, "message": "no leader"})]}) as bad:
        closed = f"http://127.0.0.1:{free_port()}"
        async with Client(Access((closed, bad.url))) as client:
            with pytest.raises(EtcdError, match=f"{closed}.*; .*{bad.url}.*no leader"):
                await client.call("kv/range", {}, Nothing)


async def test_what_every_member_would_say_is_asked_once() -> None:
    denied = {"kv/range": [(403, {"code": 7, "message": "etcdserver: permission denied"})]}
    async with FakeGateway(denied) as one, FakeGateway(denied) as other:
        async with Client(Access((one.url, other.url))) as client:
            with pytest.raises(EtcdError) as found:
                await client.call("kv/range", {}, Nothing)
        assert found.value.code == PERMISSION_DENIED
        assert other.asked("kv/range") == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"[" * 100_000, b'{"token": 7}', b"\xff"], ids=len)
async def test_an_answer_that_is_none_is_an_error(body: bytes) -> None:
    class Text(msgspec.Struct):
        token: str

    async with FakeGateway({"x": [(200, body)]}) as gateway, Client(Access((gateway.url,))) as client:
        with pytest.raises(EtcdError, match="malformed"):
            await client.call("x", {}, Text)
    async with FakeGateway({"x": [(500, body)]}) as gateway, Client(Access((gateway.url,))) as client:
        with pytest.raises(EtcdError, match="status 500"):
            await client.call("x", {}, Text)


# --- the lock --------------------------------------------------------------------------------------------------------


@pytest.mark.row("E4", did="a leader of etcd that was frozen calls a lease dead that lives")
async def test_a_lease_that_is_called_dead_while_its_key_stands_is_an_error_and_not_lost() -> None:
    answers = {"lease/grant": [GRANTED], "kv/txn": [TAKEN, read()], "lease/keepalive": [KEPT, ENDED, KEPT]}
    async with stored(answers) as (_, store, _):
        await store.take(LockState())
        assert (await store.read()).ours
        assert (await store.read()).ours
        with pytest.raises(EtcdError, match="keeps the lock's key"):
            await store.read()
        assert (await store.read()).ours


async def test_a_lease_that_has_ended_is_replaced_at_the_next_try() -> None:
    gone: Said = (404, {"code": 5, "message": "etcdserver: requested lease not found"})
    answers = {"lease/grant": [GRANTED, (200, {"ID": "78", "TTL": "5"})], "kv/txn": [gone, TAKEN, read(lease="78")]}
    async with stored(answers) as (_, store, _):
        assert await store.take(LockState()) == "the lease has ended"
        assert await store.take(LockState()) == ""
        assert (await store.read()).ours


@pytest.mark.row("E6", did="a controller tries again and again to take a lock that another holds")
async def test_one_lease_is_enough_for_many_tries() -> None:
    async with stored({"lease/grant": [GRANTED], "kv/txn": [NOT_TAKEN]}) as (gateway, store, _):
        for _ in range(5):
            assert await store.take(LockState()) == "another was faster"
        assert gateway.asked("lease/grant") == 1


@pytest.mark.row("E7", did="the key of the lock is put without a lease")
async def test_a_key_without_a_lease_is_held_until_it_has_not_changed_for_twice_the_ttl() -> None:
    stands = {"kv/txn": [read(lease="", note=b"n"), read(lease=""), read(lease="", revision=9), read(lease="", revision=9)]}
    async with stored(stands) as (_, store, clock):
        seen = await store.read()
        assert (seen.held, seen.ours, seen.note) == (True, False, b"n")
        clock[0] += 9.0
        assert (await store.read()).held
        clock[0] += 9.0
        assert (await store.read()).held, "it has changed"
        clock[0] += 10.1
        seen = await store.read()
        assert (seen.held, seen.version) == (False, 9), "it is taken as it was read"


async def test_what_is_asked_of_etcd_takes_only_what_is_free_and_never_puts_the_key_without_a_lease() -> None:
    answers = {
        "lease/grant": [GRANTED],
        "kv/txn": [TAKEN, read(), TAKEN],
        "lease/keepalive": [KEPT],
        "lease/revoke": [(200, {})],
    }
    async with stored(answers) as (gateway, store, _):
        await store.take(LockState(version=5))
        seen = await store.read()
        assert await store.renew(seen, b"note")
        assert await store.renew(seen), "nothing to write"
        await store.release(b"last")
    key, note = (base64.b64encode(x).decode() for x in (b"promring/leader", b"promring/leader/note"))
    take, _, renew, release = (body for path, body in gateway.calls if path == "kv/txn")
    unchanged = {"key": key, "target": "MOD", "mod_revision": "5"}
    assert take["compare"] == [unchanged, {"key": key, "target": "LEASE", "lease": "0"}]
    assert take["success"] == [{"request_put": {"key": key, "value": "bWU=", "lease": "77"}}]
    ours = [{"key": key, "target": "CREATE", "create_revision": "8"}]
    assert renew == {"compare": ours, "success": [{"request_put": {"key": note, "value": "bm90ZQ=="}}]}
    assert release["compare"] == ours
    assert release["success"][1] == {"request_delete_range": {"key": key}}
    assert gateway.calls[-1] == ("lease/revoke", {"ID": "77"})


async def test_a_missing_right_is_named() -> None:
    async with stored({"kv/txn": [(403, {"code": 7, "message": "permission denied"})]}) as (_, store, _):
        with pytest.raises(EtcdError, match="readwrite on promring/leader and promring/leader/note"):
            await store.read()


async def test_who_may_not_touch_the_key_any_more_gives_no_sign_of_life() -> None:
    """Servers that ask for no right there would keep its lease, and the lock from everybody, for ever."""
    denied: Said = (403, {"code": 7, "message": "permission denied"})
    answers = {"lease/grant": [GRANTED], "kv/txn": [TAKEN, read(), denied, denied, read()], "lease/keepalive": [KEPT]}
    async with stored(answers) as (gateway, store, _):
        await store.take(LockState())
        assert (await store.read()).ours
        for _ in range(2):
            with pytest.raises(EtcdError, match="readwrite on"):
                await store.read()
        assert gateway.asked("lease/keepalive") == 1, "the one with the read that was refused"
        assert not (await store.read()).ours, "what its old lease still holds may end at any moment"


# --- settings --------------------------------------------------------------------------------------------------------

REST = """
shard_services:
  - {name: x, scrapers: {probe: {nodes: ["a:1"]}}, targets: [{file: {files: [a.json]}}], delivery: [{http_sd: {}}]}
"""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("controllers: {lock: {etcd: {}}}", "needs the section `etcd:` with endpoints"),
        ("etcd: {endpoints: []}", "at least 1 item"),
        ("etcd: {endpoints: ['ftp://a:1']}", "is not host:port"),
        ("etcd: {endpoints: ['unix:///x']}", "is not host:port"),
        ("etcd: {endpoints: ['http://u:p@a:1']}", "credentials do not belong in the address"),
        ("etcd: {username: me}", "username and password_file go together"),
        ("etcd: {endpoints: ['http://a:1'], tls: {}}", "with tls every endpoint is https"),
        ("etcd: {}\ncontrollers: {lock: {etcd: {ttl: 2s}}}", "whole seconds from 3s to 60s"),
        ("etcd: {}\ncontrollers: {lock: {etcd: {ttl: 3500ms}}}", "whole seconds from 3s to 60s"),
        ("etcd: {}\nconsul: {}\ncontrollers: {lock: {etcd: {}, consul: {}}}", "exactly one of: consul, etcd"),
    ],
)
def test_a_section_or_lock_that_cannot_be_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        loads(text + REST, base=tmp_path)


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("{}", ("http://127.0.0.1:2379",)),
        ("{endpoints: ['a:1', 'https://b:2']}", ("http://a:1", "https://b:2")),
        ("{endpoints: ['a:1', 'https://b:2'], tls: {insecure_skip_verify: true}}", ("https://a:1", "https://b:2")),
    ],
)
def test_endpoints_are_https_with_tls(tmp_path: Path, text: str, urls: tuple[str, ...]) -> None:
    section = loads(f"etcd: {text}{REST}", base=tmp_path).etcd
    assert section is not None
    assert section.access().endpoints == urls
