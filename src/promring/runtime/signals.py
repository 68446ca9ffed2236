"""Signals that stop the process, and those that ask it to reload.

Promises: the first SIGINT or SIGTERM asks for the stop, and ends the process itself ``STOP_S`` later whatever hangs; a
second one ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from promring.runtime.hangups import was_held

STOP_S = 5.0


class StopSignals:
    """``stopping`` is called with the name of the first signal."""

    def __init__(self, stopping: Callable[[str], None]) -> None:
        self.stop = asyncio.Event()
        self._stopping = stopping

    @contextlib.contextmanager
    def handled(self, on_hangup: Callable[[], None]) -> Iterator[None]:
        """``on_hangup``: at each SIGHUP."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_stop_signal, number)
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
        if was_held():  # whoever asked may mean a newer file than the one that was read
            on_hangup()
        yield
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)

    def _on_stop_signal(self, number: int) -> None:
        if self.stop.is_set():
            os._exit(128 + number)
        self.stop.set()
        self._stopping(signal.Signals(number).name)
        watchdog = threading.Timer(STOP_S, os._exit, [1])  # also ends threads that hang in a system call
        watchdog.daemon = True
        try:
            watchdog.start()
        except RuntimeError:  # there is no thread to be had: the kernel ends the process instead
            signal.setitimer(signal.ITIMER_REAL, STOP_S)
