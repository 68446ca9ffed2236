"""Target lists from hypothesis: well-formed ones of odd content, and well-formed ones that were damaged.

``LISTS=1000 LISTS_RANDOM=1 pytest tests/differential`` draws more, and others in each run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("LISTS", "200"))

_letters = st.text(st.sampled_from("abz09_-.:/ é漢😀\\\"'{}%#,;@!&*<=~"), min_size=1, max_size=12)
_addresses = st.one_of(
    _letters,
    st.from_regex(r"[a-z]{1,8}(\.[a-z]{2,5})?:[0-9]{1,5}", fullmatch=True),
    st.sampled_from(
        ["a:1", "b:1", "https://x/y?z=1", "null", "~", "yes", "12", "1e3", "[::1]:9100", "<<", "=", "a: b", "- x", "#"]
    ),
)
_names = st.one_of(
    st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,6}", fullmatch=True),
    st.sampled_from(["__param_x", "__scheme__", "__tmp", "__meta_x", "job", "instance", "x", "y", "on", "null_"]),
)
_values = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        ["", "null", "~", "yes", "12", "0x1f", "2020-01-01", "1_000", " x ", "a\nb", "it's", '"', "{{ x }}", "\u2028"]
    ),
)
_groups = st.lists(
    st.fixed_dictionaries(
        {"targets": st.lists(_addresses, max_size=4)},
        optional={"labels": st.dictionaries(_names, _values, max_size=4)},
    ),
    max_size=4,
)
_damage = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from([*" \n\"[]{},:\\x0-~&*!|>'#%\t", "null", "é", "<<", "\\u0"])),
    max_size=3,
)


def _damaged(text: str, damage: list[tuple[int, str]]) -> str:
    """``text`` with a few characters replaced."""
    for at, what in damage:
        place = at % (len(text) + 1)
        text = text[:place] + what + text[place + 1 :]
    return text


@st.composite
def _list(draw: st.DrawFn) -> tuple[str, str]:
    """The ending of its file, and the text."""
    groups: Any = draw(_groups)
    ending, text = draw(st.sampled_from(["json", "yml"])), ""
    if ending == "json":
        text = json.dumps(groups, ensure_ascii=draw(st.booleans()))
    else:
        text = yaml.safe_dump(
            groups,
            allow_unicode=draw(st.booleans()),
            default_flow_style=draw(st.booleans()),
            width=draw(st.sampled_from([20, 80])),
        )
    return ending, _damaged(text, draw(_damage)) if draw(st.booleans()) else text


def generated_lists() -> Iterator[tuple[str, bytes]]:
    """The same ones in each run: a scraper takes seconds for a batch, so they are drawn first and compared together."""
    drawn: dict[tuple[str, str], None] = {}

    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        derandomize="LISTS_RANDOM" not in os.environ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(_list())
    def draw(one: tuple[str, str]) -> None:
        drawn[one] = None

    draw()
    for n, (ending, text) in enumerate(drawn):
        yield f"generated-{n}.{ending}", text.encode("utf-8", "surrogatepass")
