"""How often a Prometheus applied what it discovered, by scrape pool, and how many targets that were, as its metrics say.
While the first number of a pool stays, so do its targets. Prometheus applies all pools whenever a discovery of one says
something, so a new number does not say that the targets changed; another number of targets does, before relabelling or after
it. Prometheus counts after it applied, so what is read after the numbers is not older than they are. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from promring.discovery.engine_failures import Cause, failures_of, not_started

_BEGAN = re.compile(rb"^process_start_time_seconds (\S+)$", re.MULTILINE)
_NUMBERS = re.compile(
    rb'^prometheus_target_scrape_pool_(sync_total|targets)\{scrape_job="((?:[^"\\\n]|\\.)*+)"\} (\S+)$',
    re.MULTILINE,
)
_DISCOVERED = re.compile(
    rb'^prometheus_sd_discovered_targets\{config="((?:[^"\\\n]|\\.)*+)",name="scrape"\} (\S+)$',
    re.MULTILINE,
)
_REFUSED = re.compile(rb"^prometheus_config_last_reload_successful 0$", re.MULTILINE)
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
_ESCAPED = re.compile(r"\\[\\\"n]")


@dataclass(frozen=True, slots=True)
class Applied:
    """``life``: numbers of one life can be compared; ``syncs``: by scrape pool, as they are printed; ``sizes``: likewise
    how many targets it has, and how many it had before relabelling, as far as that is said; ``refused``: whether it refused
    its newest configuration, and goes on with the one before; ``began``: when, in seconds since the epoch; ``failures``: how
    often its discoveries failed; ``not_started``: how many of them could not be started; ``listed``: how many targets a
    scrape pool has, by name.
    """

    life: Hashable
    syncs: Mapping[str, bytes]
    sizes: Mapping[str, Sequence[bytes]]
    refused: bool = False
    began: float = 0.0
    failures: Mapping[Cause, float] = field(default_factory=dict)
    not_started: int = 0
    listed: Mapping[str, float] = field(default_factory=dict)


def applied_of(metrics: bytes, life: Hashable) -> Applied | None:
    """``life``: what the caller knows of it, beside the start of the process. None: the metrics do not say."""
    began = _BEGAN.search(metrics)
    syncs, sizes, listed = dict[str, bytes](), dict[str, list[bytes]](), dict[str, float]()
    for kind, name, number in _NUMBERS.findall(metrics):
        if kind == b"sync_total":
            syncs[_unescaped(name)] = number
        else:
            sizes[_unescaped(name)], listed[_unescaped(name)] = [number], _number(number)
    for name, number in _DISCOVERED.findall(metrics):
        sizes.setdefault(_unescaped(name), []).append(number)
    if not began or not syncs:
        return None
    return Applied(
        (life, began[1]),
        syncs,
        sizes,
        refused=_REFUSED.search(metrics) is not None,
        began=_number(began[1]),
        failures=failures_of(metrics),
        not_started=not_started(metrics),
        listed=listed,
    )


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _unescaped(name: bytes) -> str:
    return _ESCAPED.sub(lambda found: _ESCAPES[found[0]], name.decode("utf-8", "replace"))
