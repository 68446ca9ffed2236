"""SIGHUP while a daemon starts: what a daemon needs takes seconds to load on a busy machine, and a signal nobody handles
ends the process. A tool that has just written the configuration may ask for a reload at that moment.
"""

from __future__ import annotations

import signal

_held: list[int] = []


def hold_hangups() -> None:
    """From now on a SIGHUP does not end the process: it waits for whoever handles it."""
    signal.signal(signal.SIGHUP, lambda number, _: _held.append(number))


def was_held() -> bool:
    """Whether one came since; once."""
    found = bool(_held)
    _held.clear()
    return found
