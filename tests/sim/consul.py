"""A fake Consul in fake time: catalogue with HTTP and TTL checks, sessions, one key store with locks, blocking queries.

It misbehaves as it is told: down, hanging, failing, hiding its catalogue, amnesiac, or answering from a server that lags.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import msgspec

from promring.runtime.http_client import HttpError, Response
from tests.sim.catalogue import Check, Entry, Key, Session

LOOK_S = 0.25
SERFS = "promring"


@dataclass
class Consul:
    """``healthy(url)``: whether a scraper answers its check; ``now``: the clock."""

    now: Callable[[], float]
    healthy: Callable[[str], bool]
    fault: str = ""
    """``down``, ``hang``, ``status 500``, ``hidden`` (no service at all is shown), ``empty`` (none of the scrapers' is)."""
    lags: int = 0
    """So many blocking queries are answered by a server that is behind: a lower index, half of the catalogue."""
    unseen: set[tuple[str, str]] = field(default_factory=set)
    """Controller and entry: this controller is told that the entry's check fails, whether it does or not."""
    index: int = 100
    entries: dict[str, Entry] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    confirmed_at: dict[str, float] = field(default_factory=dict)
    """When a controller was last told that it has the lock."""
    _delays: dict[str, float] = field(default_factory=dict)
    _boot: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _serial: int = 0

    # --- what happens to it ------------------------------------------------------------------------------------------

    def set_fault(self, fault: str) -> None:
        self.fault = fault
        self.cut()

    def cut(self) -> None:
        """Every request that waits ends with an error."""
        self._boot += 1
        self._bump(self.index)

    def forget(self) -> None:
        """Restarted without its data."""
        self.entries, self.keys, self.sessions, self._delays = {}, {}, {}, {}
        self.index = 10
        self.cut()

    def lag(self, answers: int) -> None:
        self.lags = answers
        self._bump(self.index)

    def holder(self) -> str:
        """The controller that has the lock."""
        sessions = [self.sessions[k.session].owner for k in self.keys.values() if k.session in self.sessions]
        return sessions[0] if sessions else ""

    def register(self, definition: dict[str, Any]) -> None:
        said = definition["Check"]
        now = self.now()
        if "TTL" in said:
            check = Check(_seconds(said["TTL"]), said["Status"], "", _seconds(said["DeregisterCriticalServiceAfter"]))
            check.due_at = now + check.every_s
        else:
            check = Check(_seconds(said["Interval"]), said.get("Status", "critical"), said["HTTP"])
            check.due_at = now + check.every_s * ((self._serial * 0.37) % 1)
        check.critical_since = now
        self._serial += 1
        self.entries[definition["ID"]] = Entry(definition, check)
        self._bump()

    async def run(self) -> None:
        """Its checks, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self.fault not in ("down", "hang"):
                self._look()

    def look_at_all(self) -> None:
        """Every HTTP check is due in one moment."""
        for entry in self.entries.values():
            if entry.check.url:
                entry.check.due_at = self.now()
        self._look()

    def _look(self) -> None:
        now = self.now()
        for session in [s for s in self.sessions.values() if now - s.renewed_at > 2 * s.ttl_s]:
            self._end(session)
        for name, entry in list(self.entries.items()):
            check = entry.check
            if check.due_at <= now:
                if check.url:
                    check.due_at = now + check.every_s
                    self._set(name, "passing" if self.healthy(check.url) else "critical")
                elif check.status == "passing":
                    self._set(name, "critical")
            if check.status == "critical" and check.gone_after_s and now - check.critical_since > check.gone_after_s:
                self._deregister(name)

    def _set(self, name: str, status: str) -> None:
        check = self.entries[name].check
        if check.status != status:
            check.status, check.critical_since = status, self.now()
            self._bump()
        if status == "critical":
            self._end_sessions(name)

    def _deregister(self, name: str) -> None:
        if self.entries.pop(name, None):
            self._bump()
        self._end_sessions(name)

    def _end_sessions(self, check: str) -> None:
        for session in [s for s in self.sessions.values() if s.check == check]:
            self._end(session)

    def _end(self, session: Session) -> None:
        del self.sessions[session.id]
        gone: list[str] = []
        for name, key in self.keys.items():
            if key.session == session.id:
                key.session = ""
                self._touch(key)
                self._delays[name] = self.now() + session.lock_delay_s
                if session.behavior == "delete":
                    gone.append(name)
        for name in gone:
            del self.keys[name]

    def _bump(self, to: int | None = None) -> None:
        self.index = self.index + 1 if to is None else to
        self._changed.set()
        self._changed = asyncio.Event()

    def _touch(self, key: Key) -> None:
        self._bump()
        key.modify_index = self.index

    # --- its HTTP API ------------------------------------------------------------------------------------------------

    async def answer(self, who: str, method: str, path: str, query: dict[str, str], body: Any) -> Response:
        """Raises ``HttpError``."""
        if self.fault == "down":
            raise HttpError("cannot connect to consul:8500: Connection refused")
        if self.fault == "hang":
            await self._until_cut(3600.0)
            raise HttpError("connection closed by the other side")
        if self.fault == "status 500":
            return _text(500, "No cluster leader")
        match path.strip("/").split("/")[1:]:
            case ["health", "service", name]:
                return await self._health(who, name, query)
            case ["catalog", "services"]:
                shown: dict[str, list[str]] = {} if self.fault == "hidden" else {"consul": []}
                return _json(shown | {e.definition["Name"]: [] for e in self._shown()})
            case ["agent", "self"]:
                return _json({"Config": {"NodeName": "agent", "Datacenter": "dc1"}})
            case ["agent", "service", "register"]:
                self.register(body)
                return _text(200, "")
            case ["agent", "service", "deregister", name]:
                self._deregister(name)
                return _text(200, "")
            case ["agent", "check", "pass", name]:
                return self._pass(name.removeprefix("service:"))
            case ["session", "create"]:
                return self._create_session(who, body)
            case ["session", "renew", name]:
                if name not in self.sessions:
                    return _text(404, f"Session id {name!r} not found")
                self.sessions[name].renewed_at = self.now()
                return _json([{"ID": name}])
            case ["session", "destroy", name]:
                if name in self.sessions:
                    self._end(self.sessions[name])
                return _text(200, "true")
            case ["kv", *names]:
                name = "/".join(names)
                return await self._get(who, name, query) if method == "GET" else self._release_key(name, query, body)
            case ["txn"]:
                return self._txn(who, body)
        raise AssertionError(path)

    async def _block(self, query: dict[str, str]) -> None:
        if "index" in query:
            seen, deadline = int(query["index"]), self.now() + _seconds(query["wait"])
            while self.index <= seen and self.now() < deadline and not self.lags:
                await self._until_cut(deadline - self.now())

    async def _until_cut(self, timeout_s: float) -> None:
        """Until something changed. Raises ``HttpError`` when the connection was cut."""
        boot = self._boot
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return
        if self._boot != boot:
            raise HttpError("connection closed by the other side")

    def _shown(self) -> list[Entry]:
        if self.fault == "hidden":
            return []
        return [e for e in self.entries.values() if self.fault != "empty" or e.definition["Name"] == SERFS]

    def differs_for(self, who: str, names: Collection[str]) -> None:
        """From now on ``who`` is told that the checks of these entries fail; what the others are told stays."""
        self.unseen = {(who, name) for name in names}
        self._bump()

    async def _health(self, who: str, name: str, query: dict[str, str]) -> Response:
        await self._block(query)
        entries = [e for e in self._shown() if e.definition["Name"] == name]
        index = self.index
        if self.lags and "index" in query:
            self.lags -= 1
            entries, index = entries[::2], max(1, int(query["index"]) - 7)
        return _json([_shown_entry(e, fails=(who, e.definition["ID"]) in self.unseen) for e in entries], index)

    def _pass(self, name: str) -> Response:
        entry = self.entries.get(name)
        if entry is None:
            return _text(404, f'Unknown check ID "service:{name}"')
        entry.check.due_at = self.now() + entry.check.every_s
        self._set(name, "passing")
        return _text(200, "")

    def _create_session(self, who: str, body: dict[str, Any]) -> Response:
        (check,) = body["ServiceChecks"]
        name = check["ID"].removeprefix("service:")
        entry = self.entries.get(name)
        if entry is None or entry.check.status != "passing":
            return _text(500, f"Missing service check {check['ID']!r} registration")
        self._serial += 1
        ends = _seconds(body["LockDelay"]), body["Behavior"], _seconds(body["TTL"]), self.now()
        session = Session(f"session-{self._serial}", name, who, *ends)
        self.sessions[session.id] = session
        return _json({"ID": session.id})

    async def _get(self, who: str, name: str, query: dict[str, str]) -> Response:
        await self._block(query)
        key = self.keys.get(name)
        if key is None:
            return _json(None, self.index, 404)
        self._confirm(who, key)
        shown = {"Key": name, "Value": key.value, "ModifyIndex": key.modify_index}
        return _json([shown | ({"Session": key.session} if key.session else {})], self.index)

    def _confirm(self, who: str, key: Key) -> None:
        session = self.sessions.get(key.session)
        if session is not None and session.owner == who:
            self.confirmed_at[who] = self.now()

    def _release_key(self, name: str, query: dict[str, str], body: bytes) -> Response:
        value = base64.b64encode(body).decode()
        key = self.keys.get(name)
        good = key is not None and key.session == query["release"] != ""
        if good and key is not None:
            key.session, key.value = "", value
            self._touch(key)
        return _text(200, "true" if good else "false")

    def _acquire(self, who: str, name: str, session: str, value: str) -> str:
        """Why not."""
        if session not in self.sessions:
            return f"invalid session {session!r}"
        key = self.keys.setdefault(name, Key())
        if key.session not in ("", session):
            return "failed to lock key: it is locked"
        if not key.session and self._delays.get(name, 0.0) > self.now():
            return "failed to lock key: lock-delay"
        key.session, key.value = session, value
        self._touch(key)
        self._confirm(who, key)
        return ""

    def _txn(self, who: str, body: list[dict[str, Any]]) -> Response:
        first, lock = (operation["KV"] for operation in body)
        there = self.keys.get(first["Key"])
        match first["Verb"]:
            case "check-not-exists":
                unchanged = there is None
            case "check-index":
                unchanged = there is not None and there.modify_index == first["Index"]
            case _:
                unchanged = there is not None and there.session == first["Session"]
        why_not = "" if unchanged else "stale"
        why_not = why_not or self._acquire(who, lock["Key"], lock["Session"], lock["Value"])
        return _text(409, why_not) if why_not else _json({"Results": []})


def _shown_entry(entry: Entry, *, fails: bool) -> dict[str, Any]:
    said = entry.definition
    status = "critical" if fails else entry.check.status
    service = {"ID": said["ID"], "Service": said["Name"], "Address": said.get("Address", ""), "Port": said.get("Port", 0)}
    return {
        "Node": {"Node": "agent", "Address": "127.0.0.1"},
        "Service": service | {"Meta": said.get("Meta")},
        "Checks": [{"CheckID": f"service:{said['ID']}", "Status": status, "ServiceID": said["ID"]}],
    }


def _seconds(text: str) -> float:
    number = re.fullmatch(r"([\d.]+)(ms|s|m)", text)
    assert number is not None, text
    return float(number[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[number[2]]


def _json(content: object, index: int = 1, status: int = 200) -> Response:
    return Response(status, {"x-consul-index": str(index)}, msgspec.json.encode(content))


def _text(status: int, text: str) -> Response:
    return Response(status, {}, text.encode())
