"""Fixtures of several files; a file may have one of the same name of its own."""

from __future__ import annotations

import time

import pytest

from tests.ahead import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found, real = Clock(), time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + found.ahead)
    return found
