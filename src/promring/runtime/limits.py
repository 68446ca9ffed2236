"""What the system gives the process to work with: standard streams, file descriptors and threads."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading

DESCRIPTORS_MOST = 1 << 20
DESCRIPTORS_LEAST = 64
"""A start takes 30; each scraper, source and client takes some."""

THREADS_LEAST = 6
"""libuv, which uvloop uses, starts four with the first connection, and aborts without a word when it gets none."""


class LimitError(Exception):
    """There is less than a start needs. The text is for the operator."""


def open_standard_streams() -> None:
    """Give closed standard streams the null device: else the next file that is opened gets their number, and what a library
    writes to standard error goes into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115 - for good


def raise_descriptors() -> tuple[int, int]:
    """Raise the soft limit of file descriptors to the hard one, as Prometheus does. The limit before, and now.

    Raises ``LimitError`` when there are too few.
    """
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MOST if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MOST)
    if wanted > before:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    now = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if now != resource.RLIM_INFINITY and now < DESCRIPTORS_LEAST:
        raise LimitError(f"{now} file descriptors (ulimit -n) are too few: promring needs {DESCRIPTORS_LEAST} at least")
    return before, now


def try_threads() -> None:
    """Start as many threads as promring needs at least, and end them. Raises ``LimitError`` when there are fewer."""
    over, begun = threading.Event(), list[threading.Thread]()
    try:
        for _ in range(THREADS_LEAST):
            thread = threading.Thread(target=over.wait, daemon=True)
            thread.start()
            begun.append(thread)
    except RuntimeError as error:
        least = f"promring needs {THREADS_LEAST} more than it begins with"
        raise LimitError(f"{len(begun)} more threads (ulimit -u, TasksMax) are too few: {least}") from error
    finally:
        over.set()
        for thread in begun:
            thread.join()
