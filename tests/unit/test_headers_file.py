"""The file of headers for an http source: what can stand in a request, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from promring.discovery.http import headers_in
from promring.model import DiscoveryError

FILE = Path("/headers")


def test_names_and_values_of_one_line_are_taken() -> None:
    assert headers_in(b"X-Token: abc\nX-Number: 7\n", FILE) == {"X-Token": "abc", "X-Number": "7"}


@pytest.mark.parametrize(
    "content",
    ['"": x', "a b: x", r'"a\nb": x', "é: x", r'a: "x\ny"', r'a: "x\ry"', r'a: "\u2028"', r'a: "x\ty"', "a: [x]", ""],
)
def test_what_cannot_stand_in_a_request_is_refused_without_being_repeated(content: str) -> None:
    with pytest.raises(DiscoveryError) as error:
        headers_in(content.encode(), FILE)
    assert str(error.value) == "/headers: must be lines of `Name: value`"
