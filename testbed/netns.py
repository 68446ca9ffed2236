"""A network of namespaces of our own, which can be cut in one direction or both without a packet filter.

Owns one bridge on this side, ``10.231.x.254``, and for each name a namespace, ``10.231.x.1``, ``.2``, …, joined to it by a
veth pair. A process runs in it through ``arguments``; whoever is on this side, the test, reaches each of them at all times.

A cut is a false neighbour entry: who is cut off goes on sending, to an Ethernet address that nobody has. So packets are lost
in silence and in one direction, as by a DROP rule, also for connections that are open; a blackhole route would tell the
sender, and a link that is down cuts both ways and from everybody.

Promises: names and addresses that no other network of this machine has, and nothing of it after the exit; what a killed
process left is removed by the next one. Needs Linux, root and ``ip`` (iproute2); ``available`` says what is missing.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from promring.demo.process import StartError, find

NOBODY = "02:00:00:00:de:ad"
_NAME = re.compile(r"promring-(\d+)-(\d+)-\w+")


class Network:
    """Namespaces by the names given. Use as a context manager, around the processes that run in them."""

    def __init__(self, *names: str) -> None:
        assert 0 < len(names) < 254
        self.names = names
        self._x = 0
        self._cut: set[tuple[str, str]] = set()

    def __enter__(self) -> Network:
        _sweep()
        self._x = _claim()
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for i, name in enumerate(self.names):
            with contextlib.suppress(StartError):
                _ip(f"link del {_port(self._x, i)}")
            with contextlib.suppress(StartError):
                _ip(f"netns del {self.namespace(name)}")
        with contextlib.suppress(StartError):
            _ip(f"link del {_bridge(self._x)}")

    def namespace(self, name: str) -> str:
        return f"promring-{os.getpid()}-{self._x}-{name}"

    def address(self, name: str) -> str:
        """Where processes of a namespace listen. All of its ports are free."""
        return f"10.231.{self._x}.{self.names.index(name) + 1}"

    def arguments(self, name: str, arguments: Sequence[str | Path]) -> list[str]:
        """The command that runs ``arguments`` there, as the same process: signals and PR_SET_PDEATHSIG hold."""
        return [*_program(), "netns", "exec", self.namespace(name), *map(str, arguments)]

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
        _ip(f"-n {self.namespace(source)} neigh {verb} {self.address(destination)} dev eth0 {rest}")

    def _build(self) -> None:
        bridge = _bridge(self._x)
        _ip(f"addr add 10.231.{self._x}.254/24 dev {bridge}")
        _ip(f"link set {bridge} up")
        for i, name in enumerate(self.names):
            namespace, port = self.namespace(name), _port(self._x, i)
            _ip(f"netns add {namespace}")
            _ip(f"link add {port} type veth peer name eth0 netns {namespace}")
            _ip(f"link set {port} master {bridge} up")
            _ip(f"-n {namespace} addr add {self.address(name)}/24 dev eth0")
            _ip(f"-n {namespace} link set lo up")
            _ip(f"-n {namespace} link set eth0 up")


@functools.cache
def available() -> str:
    """Why namespaces cannot be had, "" when they can: it was tried."""
    if find("ip") is None:
        return "ip (iproute2) is not here; scripts/fetch-servers gets it"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with Network("a", "b") as network:
            network.partition("a", "b")
    except StartError as error:
        return f"no network namespaces on this machine: {error}"
    return ""


def _claim() -> int:
    """A number of a network that is ours alone: who can make the bridge of that name has it."""
    for x in random.sample(range(1, 255), 254):
        try:
            _ip(f"link add {_bridge(x)} type bridge")
        except StartError as error:
            if "exists" not in str(error):
                raise
        else:
            return x
    raise StartError("all 254 networks are taken")


def _sweep() -> None:
    """Remove the networks of processes that are gone."""
    for line in _ip("netns list").splitlines():
        if (found := _NAME.match(line)) and not Path("/proc", found[1]).exists():
            _sweep_one(found[0], int(found[2]))


def _sweep_one(namespace: str, x: int) -> None:
    with contextlib.suppress(StartError):
        _ip(f"netns del {namespace}")  # one sweeper gets through, and the bridge goes last: until then nobody claims x again
        for port in Path("/sys/class/net").glob(_port(x, 0)[:-1] + "*"):
            with contextlib.suppress(StartError):  # the kernel is removing it
                _ip(f"link del {port.name}")
        _ip(f"link del {_bridge(x)}")


def _bridge(x: int) -> str:
    return f"promring{x}"


def _port(x: int, i: int) -> str:
    return f"promring{x}-{i}"


def _program() -> list[str]:
    program = find("ip")
    if program is None:
        raise StartError("ip (iproute2) is not here")
    libraries = program.parent / "libmnl.so.0"  # next to it where the machine has none, see scripts/fetch-servers
    return ["env", f"LD_LIBRARY_PATH={program.parent}", str(program)] if libraries.exists() else [str(program)]


def _ip(command: str) -> str:
    """Its output. Raises ``StartError`` with what ``ip`` says."""
    done = subprocess.run([*_program(), *command.split()], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode != 0:
        raise StartError(f"ip {command}: {' '.join(done.stderr.split())}")
    return done.stdout
