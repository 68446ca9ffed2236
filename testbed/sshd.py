"""A real sshd on loopback with keys of its own, which lets in whoever runs it.

As root it needs the user ``sshd``: where there is none, it runs in a mount namespace whose ``/etc/passwd`` has one.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import pwd
import signal
import subprocess
from pathlib import Path

from promring.demo.process import Process, StartError, find, free_port

PRIVSEP_FOLDER = Path("/run/sshd")
_IN_NAMESPACE = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'


def make_key(path: Path, kind: str = "ed25519") -> Path:
    """A key pair at ``path`` and ``path.pub``, unless it is there. Raises StartError without ssh-keygen."""
    if not path.exists():
        if (program := find("ssh-keygen")) is None:
            raise StartError("ssh-keygen is not here")
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([program, "-q", "-t", kind, "-N", "", "-C", path.name, "-f", path], check=True)
    return path


class SshdProcess(Process):
    """Lets the user who runs it in with the private key ``user_key``. It logs to ``log_file``."""

    def __init__(self, program: Path, folder: Path, user_key: Path, *, address: str = "127.0.0.1", port: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.address, self.port, self.user = address, port or free_port(address), getpass.getuser()
        self.host_key = make_key(folder / "host_key")
        (folder / "authorized_keys").write_bytes(user_key.with_name(f"{user_key.name}.pub").read_bytes())
        settings = {
            "Port": self.port,
            "ListenAddress": address,
            "HostKey": self.host_key,
            "AuthorizedKeysFile": folder / "authorized_keys",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "UsePAM": "no",
            "UseDNS": "no",
            "StrictModes": "no",
            "PidFile": "none",
            "MaxStartups": "1000",
            "LogLevel": "VERBOSE",
            "SetEnv": f"HOME={folder}",  # not what the user's ~/.bashrc does
        }
        config = folder / "sshd_config"
        config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        arguments: list[str | Path] = [program, "-D", "-e", "-f", config]
        if os.geteuid() == 0:
            with contextlib.suppress(OSError):
                PRIVSEP_FOLDER.mkdir(mode=0o755, exist_ok=True)
            arguments = [*_with_privsep_user(folder), *arguments]
        libraries = f"{program.parent}:{os.environ.get('LD_LIBRARY_PATH', '')}".removesuffix(":")
        super().__init__(arguments, folder / "sshd.log", {"LD_LIBRARY_PATH": libraries})

    def known_hosts_line(self, host_key: Path | None = None) -> str:
        key = (host_key or self.host_key).with_suffix(".pub").read_text().split()
        return f"[{self.address}]:{self.port} {key[0]} {key[1]}\n"

    async def is_ready(self) -> bool:
        """Whether it says the ssh version."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection(self.address, self.port)
            try:
                async with asyncio.timeout(2):
                    return (await reader.readline()).startswith(b"SSH-2.0")
            except TimeoutError:
                return False
            finally:
                writer.close()
        return False

    def log_lines(self, text: str) -> int:
        """How many lines of the log have ``text``."""
        log = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return sum(text in line for line in log.splitlines())

    def sessions(self) -> list[int]:
        """The processes that serve its connections, and what runs in them."""
        return _below(self.pid) if self.running else []

    def signal_all(self, number: int) -> None:
        """To it and all that it started: frozen, it answers nobody, not even those who are in."""
        below = self.sessions()
        self.signal(number)
        _signal(below, number)

    def cut_sessions(self) -> None:
        """kill -9 of whoever serves a connection; the listener, and what the connection started, go on."""
        _signal(_children().get(self.pid, []), signal.SIGKILL)

    async def kill(self) -> None:
        below = self.sessions()
        await super().kill()
        _signal(below, signal.SIGKILL)

    async def stop(self, timeout_s: float = 10.0) -> int:
        below = self.sessions()
        status = await super().stop(timeout_s)
        _signal(below, signal.SIGKILL)
        return status


def _with_privsep_user(folder: Path) -> list[str | Path]:
    try:
        pwd.getpwnam("sshd")
    except KeyError:
        passwd = folder / "passwd"
        users = Path("/etc/passwd").read_text()
        passwd.write_text(f"{users}sshd:x:64999:65534:sshd:{PRIVSEP_FOLDER}:/usr/sbin/nologin\n")
        return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", _IN_NAMESPACE, "sh", passwd]
    return []


def _children() -> dict[int, list[int]]:
    """The processes of this machine by their parent. Linux only."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    return children


def _below(pid: int) -> list[int]:
    """All descendants of a process."""
    children = _children()
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)
