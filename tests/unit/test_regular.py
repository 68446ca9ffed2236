"""Files of others are read whole, up to a bound, and cost what is in them."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from promring.runtime import regular

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 2 * regular.PIECE_BYTES + 1])
def test_all_of_a_file_and_no_more_than_the_bound(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    path = tmp_path / "file"
    path.write_bytes(content[:size])
    assert regular.read(path, size) == content[:size]
    assert regular.read(path, size + 100) == content[:size]
    with open(path, "rb") as file:
        file.seek(size // 2)
        assert regular.read_most(file, 7) == content[size // 2 : size][:7]
        assert regular.read_most(file, 512 * MIB) == content[size // 2 : size][7:]
    if size:
        with pytest.raises(regular.TooLargeError, match=f"larger than {size - 1} bytes"):
            regular.read(path, size - 1)


def test_a_file_whose_size_nobody_knows_beforehand_is_read_to_its_end() -> None:
    """Those of /proc have the size 0."""
    path = Path("/proc/self/environ")
    assert path.stat().st_size == 0
    assert regular.read(path, MIB) == path.read_bytes()
    with pytest.raises(OSError, match="larger than 3") as caught:
        regular.read(path, 3)
    assert caught.value.errno == errno.EFBIG


def test_a_small_list_takes_no_memory_for_the_largest_one(tmp_path: Path) -> None:
    """Python's ``read(n)`` takes memory for ``n`` bytes at once; here a process may have little more than it has."""
    path = tmp_path / "list.json"
    path.write_text('[{"targets": ["a:1"]}]')
    program = f"""
import resource, time
from pathlib import Path
from promring.agent.asking import SLICE_BYTES_MAX
from promring.discovery.list_file import ListFile
from promring.discovery.list_rules import ANY
from promring.discovery.stamps import Stamps
from promring.runtime import regular
path, has = {str(path)!r}, int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (has + {64 * MIB}, resource.RLIM_INFINITY))
file = ListFile(path, ANY, Stamps(time.monotonic), 300.0)
file.take(file.open())
print(len(file.last), len(regular.read(Path(path), SLICE_BYTES_MAX)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.split(), done.returncode) == (["1", "22"], 0), done.stderr
