"""What commands say, and the exit codes that scripts rely on, where it would lead somebody wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_fleet_commands import invoked

PLACE: dict[str, Any] = {"service": "node", "target": "t:1", "load": 1, "preference": ["a:1"], "reason": "ring"}
OWNED = PLACE | {"scraper": "a:1", "scrapers": ["a:1"]}
OWNERLESS = PLACE | {"scraper": None, "scrapers": [], "reason": "no_room"}
KEPT = OWNERLESS | {"besides": [{"scraper": "b:1", "why": "hand_over"}]}


@pytest.mark.parametrize(
    ("targets", "code"),
    [([OWNED], 0), ([OWNED, OWNERLESS], 0), ([KEPT], 0), ([OWNERLESS], 1), ([OWNERLESS, OWNERLESS], 1)],
)
def test_a_target_that_is_listed_and_that_nobody_has_is_exit_1_as_the_help_says(targets: list[Any], code: int) -> None:
    answer = {"targets": targets, "near": [], "total": len(targets), "truncated": False, "unready": []}
    result, _ = invoked({"/api/v1/where": (200, answer)}, "where", "t:1")
    assert result.exit_code == code


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({}, "no service has the target t:1"),
        ({"unready": [{"service": "db", "reason": "db: no source answers"}]}, "no service with a plan has the target t:1"),
        ({"truncated": True}, "t:1 was not found, and not everything was looked at: the search ended after 2 s"),
    ],
)
def test_nobody_is_told_that_no_service_has_a_target_when_not_all_of_them_were_searched(
    part: dict[str, Any], said: str
) -> None:
    answer = {"targets": [], "near": [], "total": 0, "truncated": False, "unready": []} | part
    result, _ = invoked({"/api/v1/where": (200, answer)}, "where", "t:1")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, said)
