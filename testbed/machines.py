"""Machines of our own on one network: each with a name, addresses, processes and files that nobody else sees.

A machine is a set of Linux namespaces: network, processes, host name, mounts. ``/etc``, ``/opt``, ``/var``, ``/root``,
``/srv`` and ``/usr/local`` are those of this machine to begin with; what is written there is in memory, and gone with the
machine. The addresses are whatever is asked for, those of a documentation too: the network is a bridge in a namespace that
no other network is joined to. So what a page tells an operator to type can be run as it stands.

Promises: a machine that is left takes its processes along, also when this process is killed. Needs Linux, root, ``ip``,
``unshare``, ``nsenter`` and ``setpriv``; ``available`` says what is missing.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO
from urllib.request import urlopen

from promring.demo.process import StartError, find

PRIVATE = ("/etc", "/opt", "/var", "/root", "/srv", "/usr/local")
_ISOLATED = [
    *("setpriv", "--pdeathsig=KILL"),  # who is killed takes the machine along
    *("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *("sleep", "infinity"),
]
START_S = 30.0
_CLONE_NEWNET = 0x40000000


class Machine:
    """One of them. ``run`` and ``start`` take a line of shell."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._holder = subprocess.Popen(_ISOLATED, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.pid = self._first_process()

    def run(self, line: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run it by bash in ``/root``, and wait. Standard error goes where standard output goes."""
        return subprocess.run(
            self.arguments(line),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, line: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Run it by bash until it ends or the machine is left; its output goes to ``log``."""
        return subprocess.Popen(self.arguments(line), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def arguments(self, line: str) -> list[str]:
        """The command that runs a line of shell there."""
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--pid", "--wd=/root", "bash", "-c", line]

    def fetch(self, url: str, timeout_s: float = 10.0) -> bytes:
        """What a server answers to GET as seen from there. Raises ``OSError`` when it does not."""
        with ThreadPoolExecutor(1, initializer=self._join_network) as thread:  # only that thread is there
            return thread.submit(lambda: bytes(urlopen(url, timeout=timeout_s).read())).result()  # noqa: S310 of a test

    def write(self, path: str, text: str) -> None:
        """A file there, with the folders that it needs."""
        made = self.run(
            f"mkdir -p {shlex.quote(str(Path(path).parent))}; printf %s {shlex.quote(text)} > {shlex.quote(path)}"
        )
        if made.returncode:
            raise StartError(f"{self.name}: {made.stdout}")

    def leave(self) -> None:
        """Kill all of its processes, and wait until they are gone."""
        self._holder.kill()
        self._holder.wait()

    def furnish(self) -> None:
        """Its own name and files."""
        lines = ["set -e", f"hostname {self.name}", "mount -t tmpfs none /mnt"]
        for folder in PRIVATE:
            room = "/mnt" + folder.replace("/usr/", "/usr-")
            lines += [
                f"mkdir -p {room}/upper {room}/work",
                f"mount -t overlay overlay -o lowerdir={folder},upperdir={room}/upper,workdir={room}/work {folder}",
            ]
        made = self.run("\n".join([*lines, "ip link set lo up"]))
        if made.returncode:
            raise StartError(f"{self.name}: {made.stdout}")

    def _join_network(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{self.pid}/ns/net") as network:
            if libc.setns(network.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def _first_process(self) -> int:
        children, deadline = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children"), time.monotonic() + START_S
        while self._holder.poll() is None and time.monotonic() < deadline:
            found = children.read_text().split()
            if found and Path(f"/proc/{found[0]}/comm").read_text() == "sleep\n":
                return int(found[0])
            time.sleep(0.01)
        self.leave()
        raise StartError(f"{self.name}: unshare made no namespaces")


class Machines:
    """Machines by name, each with its addresses: all reach each other, by name, too. Use as a context manager."""

    def __init__(self, addresses: Mapping[str, Sequence[str]]) -> None:
        self._addresses = addresses
        names = "".join(f"{where[0]} {name}\n" for name, where in addresses.items())
        self._hosts = f"127.0.0.1 localhost\n{names}"
        self._made: dict[str, Machine] = {}

    def __enter__(self) -> Machines:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self._made.values():
            machine.leave()

    def __getitem__(self, name: str) -> Machine:
        return self._made[name]

    def _build(self) -> None:
        switch = self._made["switch"] = Machine("switch")
        _wire(switch, "ip link add bridge type bridge")
        _wire(switch, "ip link set bridge up")
        for number, (name, addresses) in enumerate(self._addresses.items()):
            machine = self._made[name] = Machine(name)
            machine.furnish()
            port = f"port{number}"
            _wire(switch, f"ip link add {port} type veth peer name eth0 netns {machine.pid}")
            _wire(switch, f"ip link set {port} master bridge up")
            joined = [f"ip addr add {address}/8 dev eth0" for address in addresses]
            _must(machine, " && ".join([*joined, "ip link set eth0 up"]))
            machine.write("/etc/hosts", self._hosts)
            machine.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")  # nobody: refused at once, not after seconds


def _wire(switch: Machine, command: str) -> None:
    """In its network, but with the process numbers of this side, which say whose end of a cable is whose."""
    arguments = ["nsenter", f"--target={switch.pid}", "--net", *command.split()]
    made = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if made.returncode:
        raise StartError(f"{command}: {made.stderr}")


def _must(machine: Machine, line: str) -> None:
    if (made := machine.run(line)).returncode:
        raise StartError(f"{machine.name}: {line}: {made.stdout}")


@functools.cache
def available() -> str:
    """Why machines cannot be had, "" when they can: it was tried."""
    for program in ("ip", "unshare", "nsenter", "setpriv"):
        if find(program) is None:
            return f"{program} is not here"
    if os.geteuid() != 0:
        return "namespaces need root"
    try:
        with Machines({"a": ["10.0.0.1"]}):
            return ""
    except (StartError, OSError) as error:
        return f"no namespaces on this machine: {error}"
