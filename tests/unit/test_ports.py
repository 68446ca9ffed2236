"""Ports of test servers: two processes never get the same one, also while its server is down."""

import subprocess
import sys

from promring.demo.process import BLOCK, free_port

ASK = f"""
import sys
from promring.demo.process import free_port
print(*(free_port() for _ in range({BLOCK * 3})), flush=True)
sys.stdin.read()
"""


def test_two_processes_are_never_given_the_same_port() -> None:
    ours = {free_port() for _ in range(BLOCK * 3)}
    assert len(ours) == BLOCK * 3
    with subprocess.Popen([sys.executable, "-c", ASK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        theirs = {int(port) for port in other.stdout.readline().split()}
        assert len(theirs) == BLOCK * 3
        assert not ours & theirs
        ours |= {free_port() for _ in range(BLOCK * 3)}  # while the other one lives
        assert not ours & theirs
        other.stdin.close()
