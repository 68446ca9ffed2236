"""The process in which a Python target function runs: ``python python_worker.py``, then
``function folder bytes memory``; with ``seconds`` after them the function is found, and not called, within that time.
``function``: ``module:function``, or the name of an entry point of ``promring.targets``.

The function's settings, if it has any, come as JSON on standard input. Writes its result as JSON to standard output,
awaited if it is to be; what the function itself prints goes to standard error. ``bytes``: the most that it may write;
``memory``: the most that it, and each process that it starts, may allocate.

It is started for each fetch, so it loads only what it needs, when it needs it.
"""

from __future__ import annotations

import importlib
import inspect
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Iterator
from functools import reduce

import msgspec

from promring.runtime.rlimit import bound

ENTRY_POINTS = "promring.targets"
BYTES = (bytes, bytearray, memoryview)
PLAIN = (str, int, float, type(None))


def main(name: str, folder: str, bytes_max: int, memory_bytes_max: int, find_within_s: int | None = None) -> None:
    bound(memory_bytes_max)
    if find_within_s is not None:
        signal.alarm(find_within_s)  # ends it, also when nobody is left to
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, bytes_max))  # beyond it a write fails
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    result = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.path.insert(0, folder)
    function = _found(name)
    if not callable(function):
        raise TypeError(f"{name} is not a function")
    if find_within_s is not None:
        return
    given = sys.stdin.buffer.read()
    listed = function(msgspec.json.decode(given)) if given else function()
    if inspect.isawaitable(listed):
        import asyncio

        listed = asyncio.run(_awaited(listed))
    result.write(_json(listed))
    result.close()


def _json(listed: object) -> bytes:
    """Raises TypeError for bytes, which would become base64, and for what is no text, number or list; the text says where
    bytes are.
    """
    body, rest = msgspec.json.encode(listed), [listed]  # first: what contains itself is refused by that
    while rest:
        one = rest.pop()
        if isinstance(one, dict):
            rest.extend(one.values())
        elif isinstance(one, list | tuple | set | frozenset):
            rest.extend(one)
        elif isinstance(one, BYTES):
            raise TypeError(next(f"{place} is {said}, not text" for place, said in _bytes_in(listed, "the result")))
        elif not isinstance(one, PLAIN):
            rest.append(msgspec.to_builtins(one, builtin_types=BYTES, str_keys=True))
    return body


def _bytes_in(value: object, place: str) -> Iterator[tuple[str, str]]:
    """Where they are, and what they look like."""
    if isinstance(value, BYTES):
        yield place, f"{type(value).__name__}: {bytes(value)[:40]!r}"
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _bytes_in(inner, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple | set | frozenset):
        for number, inner in enumerate(value):
            yield from _bytes_in(inner, f"{place}[{number}]")
    elif not isinstance(value, PLAIN):
        yield from _bytes_in(msgspec.to_builtins(value, builtin_types=BYTES, str_keys=True), place)


def _found(name: str) -> object:
    """Raises what the import does, and LookupError."""
    module_name, colon, function_name = name.partition(":")
    if colon:
        return reduce(getattr, function_name.split("."), importlib.import_module(module_name))
    from importlib import metadata

    points = [*metadata.entry_points(group=ENTRY_POINTS, name=name)]
    if not points:
        raise LookupError(f"there is no entry point {name!r} of {ENTRY_POINTS}")
    return points[0].load()


async def _awaited(listed: Awaitable[object]) -> object:
    return await listed


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())}\n")  # the last line says all of it
        sys.exit(1)
