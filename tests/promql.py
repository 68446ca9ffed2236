"""Names and labels in a query, well enough for the alert rules and the dashboard that promring ships."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy/prometheus/promring.rules.yml"
_SELECTOR = re.compile(r"\b(promring_\w+|process_\w+|up)\b(?:\{([^}]*)\})?")
_GROUPING = re.compile(r"\b(?:by|on|without) \(([^)]*)\)")


def alerts() -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric with the labels that it is chosen by; histograms without ``_bucket``, which has the label ``le``."""
    for name, matchers in _SELECTOR.findall(query):
        yield name.removesuffix("_bucket"), set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", matchers))


def grouped_by(query: str) -> set[str]:
    return {label.strip() for labels in _GROUPING.findall(query) for label in labels.split(",")}
