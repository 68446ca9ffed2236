"""Settings of every test."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from promring.telemetry import log

pytest_plugins = ["tests.garbage", "tests.again", "tests.rows", "tests.room", "tests.order", "tests.leaks", "tests.costs"]

# No deadline: a slow machine is not a failure. Derandomized in CI, so that a red build is red again; failing examples
# are printed with their seed everywhere.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, max_examples=100)
settings.register_profile("local", deadline=None, print_blob=True, max_examples=100)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """What a test, or a command that it runs, configures of the log lasts until that test ends."""
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    yield
    structlog.configure(**config)
    root.handlers, root.level = handlers, level


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """What promring logs."""
    stream = io.StringIO()
    log.configure("info", stream=stream)
    yield stream
    log.configure()
