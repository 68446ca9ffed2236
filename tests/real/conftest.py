"""Real servers for the tests in this folder. On a laptop without them they skip; in CI they must run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from promring.demo.process import Process, find
from tests.nursery import Nursery

HERE = Path(__file__).parent
BUILT = {"consul14": "build-consul", "sdoracle": "build-sdoracle", "kube-apiserver": "build-kube-apiserver"}
"""Programs that a script builds with Go."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = {path: HERE in path.parents for path in {item.path for item in items}}
    for item in items:
        if here[item.path]:
            item.add_marker(pytest.mark.real)


NURSERY: pytest.StashKey[Nursery] = pytest.StashKey()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Daemons of these tests are forked. Here, so that it is there before ``tests.leaks`` looks what a test begins with."""
    if sys.platform == "linux" and NURSERY not in item.config.stash:
        item.config.stash[NURSERY] = nursery = Nursery()
        item.config.add_cleanup(nursery.close)
        Process.begin = nursery.begin


def server(name: str) -> Path:
    """The program of a server, or the end of this test."""
    program = find(name)
    if program is None:
        line = f"{name} is not here; scripts/{BUILT.get(name, 'fetch-servers')} gets it"
        if os.environ.get("CI") and name not in ("prometheus3", "vmagent", "etcd", "etcdctl", *BUILT):
            pytest.fail(line)
        pytest.skip(line)
    return program


@pytest.fixture
def consul_program() -> Path:
    return server("consul")


@pytest.fixture(params=["consul", "consul14"])
def each_consul(request: pytest.FixtureRequest) -> Path:
    """Debian's 1.8.7, and 1.14."""
    return server(request.param)


@pytest.fixture
def vmagent_program() -> Path:
    return server("vmagent")


@pytest.fixture
def prometheus_program() -> Path:
    return server("prometheus")
