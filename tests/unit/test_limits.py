"""What a start needs of the system."""

from __future__ import annotations

import threading

import pytest

from promring.runtime.limits import THREADS_LEAST, LimitError, try_threads


def test_a_start_with_too_few_threads_says_so_and_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    before, start, room = threading.active_count(), threading.Thread.start, [THREADS_LEAST]

    def limited(thread: threading.Thread) -> None:
        if not room[0]:
            raise RuntimeError("can't start new thread")
        room[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    try_threads()
    assert threading.active_count() == before
    room[0] = THREADS_LEAST - 1
    said = f"{THREADS_LEAST - 1} more threads .* are too few: promring needs {THREADS_LEAST} more than it begins with"
    with pytest.raises(LimitError, match=said):
        try_threads()
    assert threading.active_count() == before
