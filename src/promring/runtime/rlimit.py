"""The most memory that a worker process may take, so that what it is fed does not end promring."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

BYTES_MAX = 4 * 1024**3
"""Five million targets, each a group of its own, take 3.5 GB in a Python function."""


def bound(bytes_max: int) -> None:
    """For this process and, each by itself, those that it starts: beyond ``bytes_max`` an allocation fails.

    Of address space only what can be written counts (RLIMIT_DATA), as runtimes reserve much more than they use. When the
    machine itself has no memory left, the kernel ends such a process before any other.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = bytes_max if hard == resource.RLIM_INFINITY else min(bytes_max, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    with contextlib.suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text("1000")
