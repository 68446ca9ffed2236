"""Names that are resolved, and then are not: what is answered, and what is said of them."""

from __future__ import annotations

import socket

import pytest

from promring.runtime import resolver
from promring.runtime.resolver import GONE_SAID_MOST, Names, Resolver
from promring.telemetry import log

INFO = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.1.1", 0))


class Zone:
    """``known``: the names that there are."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)

    def look_up(self, host: str, *_: object, **__: object) -> list[object]:
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [INFO]


async def resolved(names: Names, *hosts: str) -> list[str]:
    return [found["host"] for host in hosts for found in await Resolver(names).resolve(host)]


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.partition(" msg=")[2] for line in capsys.readouterr().err.splitlines()]


async def test_a_name_that_is_gone_is_asked_at_its_last_address_which_is_said_once_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("info", "logfmt")
    monkeypatch.setattr(resolver, "FRESH_S", 0.0)
    zone = Zone("a.test")
    names = Names(zone.look_up)
    assert await resolved(names, "a.test") == ["10.1.1.1"]
    zone.known.clear()
    for _ in range(3):
        assert await resolved(names, "a.test") == ["10.1.1.1"]
    assert names.is_gone("a.test")
    gone = 'name_not_resolved name=a.test error="Name or service not known" note="its last address is asked: 10.1.1.1"'
    assert lines(capsys) == [gone]
    zone.known.add("a.test")
    assert await resolved(names, "a.test") == ["10.1.1.1"]
    assert not names.is_gone("a.test")
    assert lines(capsys) == ["name_resolved_again name=a.test address=10.1.1.1"]


async def test_a_name_that_never_was_is_an_error_and_no_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "logfmt")
    names = Names(Zone().look_up)
    with pytest.raises(socket.gaierror):
        await resolved(names, "a.test")
    assert not names.is_gone("a.test")
    assert lines(capsys) == []


async def test_when_all_names_are_gone_only_the_first_are_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("info", "logfmt")
    monkeypatch.setattr(resolver, "FRESH_S", 0.0)
    hosts = [f"h{n}.test" for n in range(2 * GONE_SAID_MOST)]
    zone = Zone(*hosts)
    names = Names(zone.look_up)
    await resolved(names, *hosts)
    zone.known.clear()
    await resolved(names, *hosts)
    assert len(lines(capsys)) == GONE_SAID_MOST
    zone.known.update(hosts)
    await resolved(names, *hosts)
    assert len(lines(capsys)) == GONE_SAID_MOST, "those that were said to be gone are said to be back"
    assert not any(map(names.is_gone, hosts))
