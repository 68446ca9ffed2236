"""The garbage collector looks through what a test makes, and not each time through all that was loaded for 4,000 tests.

A process of the tests holds the modules and the items of all tests. Each full collection went through all of them. What is
there when all tests are read is set aside instead, with what of it is garbage: to find that took each of ten workers a third
of a second, to keep it takes some MB. What a test leaves is collected as before.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
