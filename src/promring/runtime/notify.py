"""What the process tells systemd, as ``sd_notify(3)`` has it: ready, reloading, stopping, and that it lives.

Promises: nothing is said without ``NOTIFY_SOCKET``; saying takes no time and cannot fail the caller; the sign of life comes
from the event loop, so one that stands still is noticed. Children do not inherit the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

KEYS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notify:
    """Takes its variables out of ``environ``."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        address, usec, pid = (environ.pop(key, "") for key in KEYS)
        self._address = _address(address)
        mine = not pid or pid == str(os.getpid())
        self.watchdog_s = int(usec) / 1e6 if usec.isascii() and usec.isdigit() and mine and self._address else 0.0
        """A sign of life is wanted so often at least; 0: none is."""

    def ready(self) -> None:
        self._say("READY=1")

    def reloading(self) -> None:
        """Until ``ready``."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._say("STOPPING=1")

    async def live(self) -> None:
        """For ever: signs of life from the event loop, three in the time that systemd waits."""
        while self.watchdog_s:
            self._say("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / 3)
        await asyncio.Event().wait()

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            out.sendto("\n".join(lines).encode(), self._address)


def _address(text: str) -> str:
    """Of a path or of an abstract socket (``@name``); others (``vsock:``) are not spoken."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""
