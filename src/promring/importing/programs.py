"""Asks Prometheus' own programs whether a configuration is one.

A build without a discovery (Debian's 2.42 has no Kubernetes, no Consul), or one that is older than a key, refuses what
others take: such a line is no problem of the file, and is counted apart.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from promring.demo.process import find
from promring.importing import keys
from promring.model import PromringError

TIMEOUT_S = 60.0
_LINE = re.compile(r"line (\d{1,9}): (.*)", re.ASCII)
"""A text that the program repeats may have a number that is longer than any line's."""
_NOT_BUILT_IN = re.compile(r"field (\w+) not found in type")
_UTF8 = re.compile(r"is not a valid (label name|'target_label')|is invalid for \w+ action")
_VERSION = re.compile(r"version ((\d+)\.[\w.+-]*)")
UTF8, UTF8_SINCE = "names in UTF-8", 3
_LISTEN_NOWHERE = "127.0.0.1:99999"
"""No port: a Prometheus that has read its configuration ends there, and not with ``CONFIG_REFUSED``."""
CONFIG_REFUSED = 2


class ProgramError(PromringError):
    """A program did not run, or gave no answer in time."""


@dataclass
class Answer:
    """``refused``: line (0: unknown) and what; ``lacks``: discoveries and keys that the build does not have."""

    refused: list[tuple[int, str]] = field(default_factory=list)
    lacks: set[str] = field(default_factory=set)

    program: str = ""
    path: Path | None = None
    others: list[Answer] = field(default_factory=list)
    """Of the user's own programs that refuse what this one takes."""

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """The lower, the better it can judge the file: what a program lacks, it takes unseen."""
        return bool(self.lacks), bool(self.refused), len(self.lacks)

    @property
    def accepted(self) -> bool:
        return not self.refused and not self.lacks


def here(*names: str) -> tuple[list[Path], list[Path]]:
    """The programs with these names: the user's own, which are on PATH, and others that ``find`` knows."""
    own = [Path(found) for name in names if (found := shutil.which(name))]
    return own, [path for name in names if (path := find(name)) and path not in own]


def verdict(config: Path) -> Answer | None:
    """The best of what the user's own programs say: one that takes it, else one that lacks nothing, else one that only
    lacks something. Where all of them lack something, also what others say. An older program may refuse what a newer one
    takes, and the other way round: which of them the user's servers are is not known here. None: there is no program.
    Raises ``ProgramError``.
    """
    own, others = here("promtool", "prometheus3", "prometheus")
    answers = [ask(program, config) for program in own]
    best = min(answers, key=lambda one: (one.rank, -_major(one)), default=None)
    for program in others:
        if best is not None and (best.accepted or best.refused):
            break
        answer = ask(program, config)
        if best is None or answer.rank < best.rank:
            best = answer
    if best is not None and not best.refused:
        best.others = [one for one in answers if one.refused]
    return best


def _major(answer: Answer) -> int:
    """Of what refuses a file, the newest one is heard."""
    return version(answer.path)[1] if answer.refused and answer.path is not None else 0


def ask(program: Path, config: Path) -> Answer:
    """What ``promtool``, or a Prometheus server that ends before it listens, says. Raises ``ProgramError``."""
    found = _asked(program, config.absolute())  # it runs in the file's folder
    found.program, found.path = program.name, program
    names = [(line, what) for line, what in found.refused if _UTF8.search(what)]
    if names and version(program)[1] < UTF8_SINCE:
        found.refused = [one for one in found.refused if one not in names]
        found.lacks.add(UTF8)
    return found


def version(program: Path) -> tuple[str, int]:
    """Its version, and the first number of that; 0: it does not say. Raises ``ProgramError``."""
    found = _VERSION.search(_run([program, "--version"], program.absolute())[1])
    return (found[1], int(found[2])) if found else ("", 0)


def described(program: Path) -> str:
    """Which one of several it is. Raises ``ProgramError``."""
    return f"{program} {version(program)[0]}".rstrip()


def _asked(program: Path, config: Path) -> Answer:
    if program.name.startswith("promtool"):
        status, text = _run([program, "check", "config", "--syntax-only", config], config)
        return Answer() if status == 0 else answer_in(text)
    with tempfile.TemporaryDirectory(prefix="promring-import-") as folder:
        options = [f"--config.file={config}", f"--web.listen-address={_LISTEN_NOWHERE}", f"--storage.tsdb.path={folder}"]
        status, text = _run([program, *options, "--log.level=error"], config)
    return answer_in(text) if status == CONFIG_REFUSED else Answer()


def _run(arguments: Sequence[str | Path], config: Path) -> tuple[int, str]:
    try:
        done = subprocess.run(  # noqa: S603  programs that were found on this machine
            [str(one) for one in arguments],
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            cwd=config.parent,
            env={**os.environ, "GOMAXPROCS": "2"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramError(f"{arguments[0]}: {error}") from error
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def answer_in(text: str) -> Answer:
    """From what is printed: lines with numbers where there are any, each once, else the error as it is."""
    found = Answer()
    text = _unescaped(text)
    for line in text.splitlines():
        numbered = _LINE.search(line)
        if numbered is None:
            continue
        field_name = _NOT_BUILT_IN.match(numbered[2])
        if field_name is not None and field_name[1] in keys.DISCOVERIES | keys.NEWER:
            found.lacks.add(field_name[1])
        else:
            found.refused.append((int(numbered[1]), numbered[2].rstrip('"')))
    if not found.refused and not found.lacks:
        failed = [line.partition("FAILED:")[2] or line for line in text.splitlines() if "FAILED" in line or "err=" in line]
        found.refused.append((0, " ".join((failed or text.splitlines() or ["refused"])[0].split())))
    found.refused = [*dict.fromkeys(found.refused)]
    return found


def _unescaped(text: str) -> str:
    """Where a server logs its error as one quoted text."""
    quoted = re.search(r'err=("(?:[^"\\]|\\.)*")', text)
    if quoted is None:
        return text
    try:
        said = str(json.loads(quoted[1]))
        return "FAILED: " + said.encode(errors="replace").decode()  # half of a surrogate pair is no text
    except ValueError:
        return text
