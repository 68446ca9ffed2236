"""Loads for ``promring simulate --loads``: what somebody's own targets weigh, from a file.

The file is the answer of a Prometheus query (an instant vector, as ``/api/v1/query`` gives it), or text with a number a
line. A figure that cannot be is left out, as the daemon leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from promring.core.learning import FIGURE_MOST
from promring.model import Loads
from promring.runtime import regular

FILE_BYTES_MAX = 256 * 1024 * 1024


class LoadsFileError(Exception):
    """The text says in one line what is wrong with the file."""


def read_loads(path: Path) -> tuple[Loads, int]:
    """int64, shape (n,), n > 0: samples a scrape of each target; and how many figures were left out. Raises
    ``LoadsFileError``. Blocks.
    """
    try:
        content = regular.read(path, FILE_BYTES_MAX)
    except OSError as error:
        raise LoadsFileError(f"{path}: {error.strerror}") from error
    figures = np.fromiter(_of_query(path, content) if content.lstrip()[:1] == b"{" else _of_lines(path, content), np.float64)
    good = figures[(figures >= 0) & (figures <= FIGURE_MOST)]  # NaN compares as false
    if not len(good):
        raise LoadsFileError(f"{path}: no figure in it")
    return np.maximum(np.rint(good), 1).astype(np.int64), len(figures) - len(good)


def _of_query(path: Path, content: bytes) -> Iterator[float]:
    from promring.loads import LoadError, vector

    try:
        for _, value in vector.samples(content):
            yield value
    except LoadError as error:
        raise LoadsFileError(f"{path}: {error}") from error


def _of_lines(path: Path, content: bytes) -> Iterator[float]:
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield float(line)
        except ValueError:
            said = line[:40].decode(errors="replace")
            raise LoadsFileError(f"{path}:{number}: {said!r} is no number") from None
