"""A7: whatever can change something needs a POST with the token, from a program or from promring's own page."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from promring.web.operation import Operation
from promring.web.operations import OPERATIONS
from tests.rows import Seen
from tests.unit.test_openapi import path_of
from tests.unit.test_web import Running, running

BEARER = {"Authorization": "Bearer sesame"}
OTHERS: dict[str, dict[str, str]] = {
    "no token": {},
    "an empty token": {"Authorization": "Bearer "},
    "a wrong token": {"Authorization": "Bearer sesam"},
    "a longer token": {"Authorization": "Bearer sesame2"},
    "the token in another scheme": {"Authorization": "Basic sesame"},
    "the token as a cookie": {"Cookie": "token=sesame; Authorization=Bearer%20sesame"},
    "a page of another site, with the token": {**BEARER, "Origin": "http://evil.example"},
    "a form of another site, with the token": {
        **BEARER,
        "Sec-Fetch-Site": "cross-site",
        "Content-Type": "application/x-www-form-urlencoded",
    },
    "a page of no site, with the token": {**BEARER, "Origin": "null"},
}
READS = ("GET", "HEAD", "OPTIONS")


async def asked(r: Running, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> int:
    async with r.session.request(method, r.url + path, headers=headers, data=body, allow_redirects=False) as answer:
        return answer.status


def writes() -> list[Operation]:
    return [operation for operation in OPERATIONS if operation.write]


@pytest.mark.row("A7", did="every operation that writes, with no token, a wrong one, as a cookie, by GET, from other sites")
async def test_nothing_is_written_without_the_token_by_reading_or_from_another_site(tmp_path: Path, seen: Seen) -> None:
    async with running(tmp_path, shared=True) as r:
        before = await r.data("/api/v1/services")
        answers = {}
        for operation, (how, headers) in itertools.product(writes(), OTHERS.items()):
            body = (tmp_path / "promring.yml").read_bytes() if operation.takes else None
            answers[operation.path, how] = await asked(r, operation.method, path_of(operation, r), headers, body)
        for operation, method in itertools.product(writes(), READS):
            answers[operation.path, method] = await asked(r, method, path_of(operation, r), BEARER)
        assert {key: status for key, status in answers.items() if status not in (401, 403, 405)} == {}
        after = await r.data("/api/v1/services")
        assert [one["generation"] for one in after] == [one["generation"] for one in before]
        drained = [one["id"] for service in after for one in service["scrapers"] if one["drained"]]
        assert drained == []
        seen(f"{len(answers)} requests, all refused, nothing changed")


def test_whatever_is_not_a_read_is_marked_as_a_write() -> None:
    assert [one.path for one in OPERATIONS if (one.method != "GET") != one.write] == []
