"""What ``promring completion`` prints, in the shells that it is for: a Tab writes what the running controller has."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from promring.demo.process import find
from tests.fakes.controller import FakeController, status


@pytest.fixture
def surroundings(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables with which a shell finds promring, and promring a controller; nothing of the person who runs the tests."""
    with FakeController({"/api/v1/fleets": (200, status()["fleets"])}) as fake:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        yield {"PATH": path, "PROMRING_URL": fake.url, "HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "TERM": "dumb"}


def program(name: str) -> Path:
    found = find(name)
    if found is None:
        pytest.skip(f"no {name}: scripts/fetch-servers gets one")
    return found


def in_fish(line: str, variables: dict[str, str]) -> dict[str, str]:
    """What fish would offer for a line, with what it says of each."""
    fish = program("fish")
    script = "promring completion fish | source; complete -C $argv[1]"
    out = subprocess.run(
        [fish, "--no-config", "-c", script, "--", line],
        env={**variables, "LD_LIBRARY_PATH": str(fish.parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert out.stderr == ""
    return {name: said for name, _, said in (one.partition("\t") for one in out.stdout.splitlines())}


def test_fish_completes_names_and_shows_the_whole_of_what_is_said_of_them(surroundings: dict[str, str]) -> None:
    found = in_fish("promring drain ", surroundings)
    assert found == {"10.0.0.1:9090": "node, up", "10.0.0.2:9090": "node, up"}
    assert in_fish("promring drain 10.0.0.2:", surroundings).keys() == {"10.0.0.2:9090"}
    assert in_fish("promring stat", surroundings).keys() == {"status"}


class Zsh:
    """An interactive zsh on a terminal."""

    def __init__(self, variables: dict[str, str], folder: Path) -> None:
        zsh = program("zsh").resolve()
        lines = ["PS1='> '", 'autoload -Uz compinit; compinit -u -D; eval "$(promring completion zsh)"']
        if (modules := next(zsh.parents[1].glob("usr/lib/*/zsh/*"), None)) is not None:  # not where it was built for
            shared = zsh.parents[1] / "usr/share/zsh/functions"
            (folder / ".zshenv").write_text(f"module_path=({modules})\nfpath=({shared}/**/*(/) {shared}/*.zwc)\n")
        (folder / ".zshrc").write_text("\n".join(lines) + "\n")
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execve(zsh, ["zsh", "-d", "-i"], variables)

    def until(self, wanted: str) -> None:
        """It writes this, soon or on a busy machine later."""
        seen, ends = "", time.monotonic() + 60
        while wanted not in seen:
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, ends - time.monotonic()))
            assert ready, f"not {wanted!r} but {seen!r}"
            seen += os.read(self._terminal, 65536).decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def close(self) -> None:
        os.close(self._terminal)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def test_zsh_completes_names_that_have_a_colon(surroundings: dict[str, str], tmp_path: Path) -> None:
    zsh = Zsh(surroundings, tmp_path)
    try:
        zsh.until("> ")
        zsh.type("promring dra\t")
        zsh.until("promring drain ")
        zsh.type("10.0.0.2\t")
        zsh.until("10.0.0.2:9090 ")
        zsh.type("--fle\t")
        zsh.until("--fleet ")
        zsh.type("\t")
        zsh.until("node ")
    finally:
        zsh.close()
