"""The machines of the test bed: what is done on one stays there."""

from __future__ import annotations

import os

import pytest
from testbed.machines import Machines, available


def test_what_is_written_in_the_folder_where_one_types_is_on_that_machine_only() -> None:
    if why := available():
        pytest.skip(why)
    name = f"left-{os.getpid()}"
    with Machines({"a": ["10.0.0.1"], "b": ["10.0.0.2"]}) as machines:
        assert machines["a"].run(f"pwd; echo there > {name}; cat /root/{name}").stdout == "/root\nthere\n"
        assert machines["b"].run(f"ls {name}").returncode != 0
        assert not os.path.lexists(f"/root/{name}")
