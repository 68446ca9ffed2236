"""Machines of our own on one network: each with a name, addresses, processes and files that nobody else sees.

A machine is a set of Linux namespaces: network, processes, host name, mounts. ``/etc``, ``/opt``, ``/var``, ``/root``,
``/srv`` and ``/usr/local`` are those of this machine to begin with; what is written there is in memory, and gone with the
machine. The addresses are whatever is asked for, those of a documentation too: the network is a bridge in a namespace that
no other network is joined to. So what a page tells an operator to type can be run as it stands.

Promises: a machine that is left takes its processes along, also when this process is killed. Stands on ``netns``, and needs
what that needs; ``available`` says what is missing.
"""

from __future__ import annotations

import ctypes
import functools
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO
from urllib.request import urlopen

from promring.demo.process import StartError
from testbed import netns
from testbed.netns import Holder, Switch

PRIVATE = ("/etc", "/opt", "/var", "/root", "/srv", "/usr/local")
SYSTEMCTL = Path(__file__).parent / "systemctl"
"""A program that stands for systemd's where none runs."""
_CLONE_NEWNET = 0x40000000


class Machine(Holder):
    """One of them. ``run`` and ``start`` take a line of shell."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "--mount", "--uts", "--pid", "--mount-proc")

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
        there = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--pid"]
        return [*there, "bash", "-c", f"cd /root || exit\n{line}"]  # nsenter's --wd is looked up before it is there

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

    def furnish(self) -> None:
        """Its own name and files."""
        lines = ["set -e", f"hostname {self.name}", "mount -t tmpfs none /mnt"]
        for folder in PRIVATE:
            room = "/mnt" + folder.replace("/usr/", "/usr-")
            lines += [
                f"mkdir -p {room}/upper {room}/work",
                f"mount -t overlay overlay -o lowerdir={folder},upperdir={room}/upper,workdir={room}/work {folder}",
            ]
        made = self.run("\n".join(lines))
        if made.returncode:
            raise StartError(f"{self.name}: {made.stdout}")

    def furnish_system(self) -> None:
        """Of ``/usr``, too, what is written is in memory: packages may be installed. ``systemctl`` is ``SYSTEMCTL`` then."""
        room = "/mnt/usr"
        made = self.run(
            f"mkdir -p {room}/upper {room}/work && "
            f"mount -t overlay overlay -o lowerdir=/usr,upperdir={room}/upper,workdir={room}/work /usr && "
            f"install -m 755 {shlex.quote(str(SYSTEMCTL))} /usr/local/bin/systemctl"
        )
        if made.returncode:
            raise StartError(f"{self.name}: {made.stdout}")

    def _join_network(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{self.pid}/ns/net") as network:
            if libc.setns(network.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")


class Machines:
    """Machines by name, each with its addresses: all reach each other, by name, too. Use as a context manager."""

    def __init__(self, addresses: Mapping[str, Sequence[str]]) -> None:
        self._addresses = addresses
        names = "".join(f"{where[0]} {name}\n" for name, where in addresses.items())
        self._hosts = f"127.0.0.1 localhost\n{names}"
        self._switch: Switch | None = None
        self._made: dict[str, Machine] = {}

    def __enter__(self) -> Machines:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for one in filter(None, (*self._made.values(), self._switch)):
            one.leave()

    def __getitem__(self, name: str) -> Machine:
        return self._made[name]

    def _build(self) -> None:
        switch = self._switch = Switch()
        for name, addresses in self._addresses.items():
            machine = self._made[name] = Machine(name)
            machine.furnish()
            switch.plug(machine, *(f"{address}/8" for address in addresses))
            machine.write("/etc/hosts", self._hosts)
            machine.write("/etc/resolv.conf", "nameserver 127.0.0.1\n")  # nobody: refused at once, not after seconds


@functools.cache
def available() -> str:
    """Why machines cannot be had, "" when they can: it was tried."""
    if why := netns.available():
        return why
    try:
        with Machines({"a": ["10.0.0.1"]}):
            return ""
    except (StartError, OSError) as error:
        return f"no namespaces on this machine: {error}"
