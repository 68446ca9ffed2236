"""Namespaces that a sleeping process holds, a switch that joins them, and a network that can be cut.

A holder ends with the process that made it, also when that is killed with -9. The kernel then removes its namespaces, cables
and addresses, so that nothing has to be swept. Needs Linux, root, ``ip`` (iproute2), ``unshare``, ``nsenter`` and
``setpriv``; ``available`` says what is missing. ``machines`` builds whole machines on this.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from promring.demo.process import StartError, find

NOBODY = "02:00:00:00:de:ad"
START_S = 30.0


class Holder:
    """A network namespace of its own, and what else ``kinds`` says in the words of unshare. ``pid``: of a process in it."""

    def __init__(self, name: str, *kinds: str) -> None:
        self.name = name
        isolated = ["setpriv", "--pdeathsig=KILL", "unshare", "--net", *kinds, "--fork", "--kill-child", "sleep", "infinity"]
        self._holder = subprocess.Popen(isolated, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.pid = self._first_process()
        self.ip("link set lo up")

    def ip(self, command: str) -> None:
        """Run ``ip`` in its network, with the programs and process numbers of this side. Raises ``StartError``."""
        done = subprocess.run(
            self.in_network([*_program(), *command.split()]), capture_output=True, text=True, timeout=START_S, check=False
        )
        if done.returncode:
            raise StartError(f"{self.name}: ip {command}: {' '.join(done.stderr.split())}")

    def in_network(self, arguments: Sequence[str | Path]) -> list[str]:
        """The command that runs ``arguments`` in its network, as the same process: signals and PR_SET_PDEATHSIG hold."""
        return ["nsenter", f"--target={self.pid}", "--net", *map(str, arguments)]

    def leave(self) -> None:
        """End all of its processes, and wait until they are gone."""
        self._holder.kill()
        self._holder.wait()

    def _first_process(self) -> int:
        children, deadline = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children"), time.monotonic() + START_S
        while self._holder.poll() is None and time.monotonic() < deadline:
            found = children.read_text().split()
            if found and Path(f"/proc/{found[0]}/comm").read_text() == "sleep\n":
                return int(found[0])
            time.sleep(0.01)
        self.leave()
        raise StartError(f"{self.name}: unshare made no namespaces")


class Switch(Holder):
    """A bridge in a network of its own, which no other network is joined to until somebody is plugged in."""

    def __init__(self) -> None:
        super().__init__("switch")
        self._ports = 0
        self.ip("link add bridge type bridge")
        self.ip("link set bridge up")

    def plug(self, one: Holder, *addresses: str) -> None:
        """Join it by its ``eth0``, which gets these addresses, each with the length of its prefix."""
        self._cable("eth0", one.pid)
        for address in addresses:
            one.ip(f"addr add {address} dev eth0")
        one.ip("link set eth0 up")

    def plug_this_side(self, link: str, address: str) -> None:
        """Join the network of this process by ``link``. Raises ``StartError`` when there is one of that name."""
        self._cable(link, os.getpid())
        _ip(f"addr add {address} dev {link}")
        _ip(f"link set {link} up")

    def _cable(self, end: str, pid: int) -> None:
        self._ports += 1
        self.ip(f"link add port{self._ports} type veth peer name {end} netns {pid}")
        self.ip(f"link set port{self._ports} master bridge up")


class Network:
    """Namespaces by the names given, which can be cut in one direction or both without a packet filter. A context manager,
    around the processes that run in them.

    Each has an address, ``10.231.x.1``, ``.2``, …; this side, the test, is ``10.231.x.254`` and reaches each at all times.
    No other network of this machine has the same ``x``.

    A cut is a false neighbour entry: the one that is cut off goes on sending, to an Ethernet address that nobody has. So
    packets are lost in silence and in one direction, as by a DROP rule, also for connections that are open; a blackhole
    route would tell the sender, and a link that is down cuts both ways and from everybody.
    """

    def __init__(self, *names: str) -> None:
        assert 0 < len(names) < 254
        self.names = names
        self._x = 0
        self._made: dict[str, Holder] = {}
        self._cut: set[tuple[str, str]] = set()

    def __enter__(self) -> Network:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(StartError):  # at once: the kernel takes its time
            _ip(f"link del {self.link}")
        for one in self._made.values():
            one.leave()

    @property
    def link(self) -> str:
        """The end of the cable on this side."""
        return f"promring{self._x}"

    def address(self, name: str) -> str:
        """Where processes of a namespace listen. All of its ports are free."""
        return f"10.231.{self._x}.{self.names.index(name) + 1}"

    def arguments(self, name: str, arguments: Sequence[str | Path]) -> list[str]:
        """The command that runs ``arguments`` there, as the same process."""
        return self._made[name].in_network(arguments)

    def partition(self, a: str, b: str, *, one_way: bool = False) -> None:
        """From now on nothing that ``a`` sends reaches ``b``, nor, unless ``one_way``, the other way round."""
        for source, destination in [(a, b)] if one_way else [(a, b), (b, a)]:
            self._neighbour("replace", source, destination, f"lladdr {NOBODY} nud permanent")
            self._cut.add((source, destination))

    def heal(self) -> None:
        """Everybody reaches everybody again."""
        for source, destination in self._cut:
            self._neighbour("del", source, destination)
        self._cut.clear()

    def _neighbour(self, verb: str, source: str, destination: str, rest: str = "") -> None:
        self._made[source].ip(f"neigh {verb} {self.address(destination)} dev eth0 {rest}")

    def _build(self) -> None:
        switch = self._made["the switch"] = Switch()
        self._claim(switch)
        for name in self.names:
            self._made[name] = Holder(name)
            switch.plug(self._made[name], f"{self.address(name)}/24")

    def _claim(self, switch: Switch) -> None:
        """A number of a network that is ours alone: who can make the link of that name has it."""
        for self._x in random.sample(range(1, 255), 254):
            try:
                return switch.plug_this_side(self.link, f"10.231.{self._x}.254/24")
            except StartError as error:
                if "exists" not in str(error):
                    raise
        raise StartError("all 254 networks are taken")


@functools.cache
def available() -> str:
    """Why namespaces cannot be had, "" when they can: it was tried."""
    for program in ("ip", "unshare", "nsenter", "setpriv"):
        if find(program) is None:
            return f"{program} is not here" + ("; scripts/fetch-servers gets it" if program == "ip" else "")
    if os.geteuid() != 0:
        return "namespaces need root"
    try:
        with Network("a", "b") as network:
            network.partition("a", "b")
    except (StartError, OSError) as error:
        return f"no network namespaces on this machine: {error}"
    return ""


def _program() -> list[str]:
    program = find("ip")
    if program is None:
        raise StartError("ip (iproute2) is not here")
    libraries = program.parent / "libmnl.so.0"  # next to it where the machine has none, see scripts/fetch-servers
    return ["env", f"LD_LIBRARY_PATH={program.parent}", str(program)] if libraries.exists() else [str(program)]


def _ip(command: str) -> None:
    """On this side. Raises ``StartError`` with what ``ip`` says."""
    done = subprocess.run([*_program(), *command.split()], capture_output=True, text=True, timeout=START_S, check=False)
    if done.returncode:
        raise StartError(f"ip {command}: {' '.join(done.stderr.split())}")
