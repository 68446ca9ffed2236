"""Every command that asks a controller, against what is none, or hangs half-way: it ends, with one line and exit code 1."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pytest

from tests.fakes.bad_server import (
    OK,
    Behaviour,
    again_and_again,
    bad_server,
    body,
    hangs_after,
    never_reads,
    resets_after,
    says,
)

HTML = b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\x1b[31mnginx\x07</body></html>\r\n"
PROXY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HANGING: Mapping[str, Behaviour] = {
    "says nothing": never_reads,
    "half a status line": hangs_after(b"HTTP/1.1 2"),
    "half a header": hangs_after(OK + b"Content-Le"),
    "half a body": hangs_after(OK + b"Content-Length: 1000\r\n\r\n" + b'{"status":"succ'),
    "half a chunk": hangs_after(CHUNKED + b"ff\r\n{"),
    "a body that drips": again_and_again(OK + b"Content-Length: 100000\r\n\r\n", b" ", 0.2),
    "a header that drips": again_and_again(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.2),
    "a body without an end": again_and_again(OK + b"\r\n", b" " * 65536, 0.05),
    "continue for ever": again_and_again(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
}
BROKEN: Mapping[str, Behaviour] = {
    "closes at once": says(b""),
    "resets at once": resets_after(b""),
    "resets in the header": resets_after(OK),
    "resets in the body": resets_after(OK + b"Content-Length: 1000\r\n\r\n{"),
    "closes in the body": says(OK + b"Content-Length: 1000\r\n\r\n{"),
    "no HTTP": says(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "binary": says(bytes(range(256)) * 20),
    "a long line": says(b"HTTP/1.1 200 " + b"x" * 100_000),
    "headers without an end": says(OK + b"X: y\r\n" * 100_000),
    "a status that is none": says(b"HTTP/1.1 abc\r\n\r\n"),
    "a length that is none": says(OK + b"Content-Length: many\r\n\r\n{}"),
    "a length that is negative": says(OK + b"Content-Length: -5\r\n\r\n{}"),
    "a length without an end": says(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}"),
    "a chunk that is none": says(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"),
    "a chunk that is negative": says(CHUNKED + b"-5\r\n{}\r\n0\r\n\r\n"),
    "a chunk without an end": says(CHUNKED + b"f" * 30 + b"\r\n{}\r\n0\r\n\r\n"),
    "nothing": body(b""),
    "text": body(b"hello\x1b[2J\r\n", head=b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"),
    "a proxy's page": body(HTML, head=PROXY),
    "a page that is no error": body(HTML, head=b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"),
    "a redirect to itself": body(b"", head=b"HTTP/1.1 302 Found\r\nLocation: /api/v1/status\r\n"),
    "a redirect to an odd place": body(b"", head=b"HTTP/1.1 301 x\r\nLocation: http://u:p@\x1b[31m\xff/\r\n"),
    "packed": body(b"\x1f\x8b\x08\x00\x00\x00\x00\x00", head=OK + b"Content-Encoding: gzip\r\n"),
    "deep": body(b"[" * 200_000),
    "deep data": body(b'{"status":"success","data":' + b"[" * 200_000),
    "an older promring": body(b'{"status":"success","data":{"services":{}}}'),
    "data of another kind": body(b'{"status":"success","data":[[1]]}'),
    "no data": body(b'{"status":"success"}'),
    "an error without words": body(b'{"status":"error"}', head=b"HTTP/1.1 500 x\r\n"),
    "an error of many lines": body(b'{"status":"error","error":"a\\nb\\u001b[31m\\u2028c"}', head=b"HTTP/1.1 500 x\r\n"),
    "an error that is no text": body(b'{"status":"error","error":{"a":1}}', head=b"HTTP/1.1 500 x\r\n"),
    "Prometheus": body(b'{"status":"success","data":{"resultType":"vector","result":[]}}'),
}
ALWAYS = (
    "says nothing",
    "half a body",
    "a body without an end",
    "closes at once",
    "a long line",
    "a redirect to an odd place",
    "a proxy's page",
    "deep data",
    "an older promring",
    "an error of many lines",
)
"""A server for each way in which a command can fail; eighteen processes for each of all forty run with `--long`."""

SAID = (
    "status|status -o json|status -o yaml|where t:1|where t:1 -o json|events|events -o yaml|events --follow"
    "|alerts|alerts -o json|config|config --no-defaults|reload"
    "|drain a:1 --fleet x|drain a:1|drain a:1 --timeout 5m|undrain a:1|release x"
)
COMMANDS = [line.split() for line in SAID.split("|")]


def run(commands: list[list[str]], url: str) -> list[tuple[int, str, str]]:
    """What each of them did: exit code, standard output, standard error."""
    given = json.dumps([[*command, "--url", url] for command in commands])
    argv = [sys.executable, "-m", "tests.hostile.at_once"]
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=True, timeout=300)
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


def check(commands: list[list[str]], url: str) -> None:
    """Of each: nothing on standard output, one printable line on standard error that says which controller, exit code 1. A
    plan that nobody answers is made from the file instead, which is none here: two lines, and 2.
    """
    wrong = []
    for command, (code, out, err) in zip(commands, run(commands, url), strict=True):
        said = err.splitlines(keepends=True)
        whole = url in said[0] and len(err) < 600 and all(one.endswith("\n") and one[:-1].isprintable() for one in said)
        offline = (
            command[0] == "plan" and len(said) == 2 and said[0].startswith("no controller is asked: no promring answers")
        )
        told = (code, len(said), said[0][:7]) == (1, 1, "Error: ") or (offline and code == 2 and ".yml:1: " in said[1])
        if out or not whole or not told:
            wrong.append((" ".join(command), code, out[-300:], err[-600:]))
    assert wrong == []


def chosen(kinds: Iterable[str], always: Collection[str]) -> list[object]:
    return [pytest.param(kind, marks=[] if kind in always else [pytest.mark.long]) for kind in kinds]


@pytest.mark.parametrize("kind", chosen([*HANGING, *BROKEN], ALWAYS))
def test_a_command_ends_with_one_line_whatever_answers(kind: str) -> None:
    with bad_server({**HANGING, **BROKEN}[kind]) as address:
        check(COMMANDS, f"http://{address}")


@pytest.mark.parametrize(
    "kind",
    chosen(["says nothing", "closes at once", "resets at once", "no HTTP", "a proxy's page"], ["says nothing", "no HTTP"]),
)
def test_a_command_ends_with_one_line_whatever_answers_where_tls_should_be(kind: str, tmp_path: Path) -> None:
    with bad_server({**HANGING, **BROKEN}[kind]) as address:
        new = tmp_path / "new.yml"
        new.write_text("shard_services: []")
        check([*COMMANDS, ["plan"], ["plan", "--config.file", str(new)]], f"https://{address}")
