"""The process in which a Python target function runs: ``python -m promring.discovery.worker``, then
``module:function folder bytes memory``; with ``seconds`` after them the function is found, and not called, within that time.

Writes the function's result as JSON to standard output; what the function itself prints goes to standard error. ``bytes``:
the most that it may write; ``memory``: the most that it, and each process that it starts, may allocate.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
from functools import reduce

import msgspec

from promring.discovery.memory import bound


def main(name: str, folder: str, bytes_max: int, memory_bytes_max: int, find_within_s: int | None = None) -> None:
    bound(memory_bytes_max)
    if find_within_s is not None:
        signal.alarm(find_within_s)  # ends it, also when nobody is left to
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, bytes_max))  # beyond it a write fails
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    result = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.path.insert(0, folder)
    module_name, _, function_name = name.partition(":")
    function = reduce(getattr, function_name.split("."), importlib.import_module(module_name))
    if not callable(function):
        raise TypeError(f"{name} is not a function")
    if find_within_s is not None:
        return
    result.write(msgspec.json.encode(function()))
    result.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
