"""What each job of a Prometheus says of itself, from its ``/api/v1/status/config``.

A Prometheus lists its targets with labels of the job among those that were discovered: ``job``, ``__scheme__``,
``__metrics_path__``, ``__param_*``, ``__scrape_interval__``, ``__scrape_timeout__``, and since 3.13 how it reads histograms.
What only the job said does not belong to the target: the job of the scraper says it again, and with the engine's interval it
would never be scraped.

Reads parser events: no object of the text's choice is made, aliases are ignored. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

JOBS_MAX = 100_000
DEPTH_MAX = 64
"""Of a value that is skipped. libyaml takes a time that grows with the square of the depth."""
PARAMETER = "__param_"
DISCOVERY = "_sd_configs"
OF_JOB = {
    "job_name": "job",
    "scheme": "__scheme__",
    "metrics_path": "__metrics_path__",
    "scrape_interval": "__scrape_interval__",
    "scrape_timeout": "__scrape_timeout__",
    "scrape_native_histograms": "__scrape_native_histograms__",
    "always_scrape_classic_histograms": "__always_scrape_classic_histograms__",
    "convert_classic_histograms_to_nhcb": "__convert_classic_histograms_to_nhcb__",
}
_Loader = getattr(yaml, "CLoader", yaml.Loader)  # its parser only
_Start = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_End = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


class Job(NamedTuple):
    """``own``: the labels that it gives to each target that has not got them, with their values; ``kinds``: of its
    discovery, such as ``dns``.
    """

    own: tuple[tuple[str, str], ...]
    kinds: frozenset[str] = frozenset()

    def strip(self, labels: dict[str, str]) -> None:
        """Take out of the labels of a target what the job says; in place."""
        for name, value in self.own:
            if labels.get(name) == value:
                del labels[name]


def unknown_job(name: str) -> Job:
    """For a job that the configuration does not show: as Prometheus has it where nothing is said."""
    return Job((("job", name), ("__scheme__", "http"), ("__metrics_path__", "/metrics")))


def jobs_of(text: str) -> Mapping[str, Job]:
    """By name. Raises ValueError for what is no configuration."""
    events = _events(text)
    found: dict[str, Job] = {}
    try:
        for event in events:
            if isinstance(event, yaml.MappingStartEvent):
                break
            if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
                raise ValueError("it is no mapping")
        for key, value in _pairs(events):
            if key != "scrape_configs" or not isinstance(value, yaml.SequenceStartEvent):
                _skip(events, value)
                continue
            for item in _items(events):
                name, job = _job(events, item)
                found[name] = job
                if len(found) > JOBS_MAX:
                    raise ValueError(f"more than {JOBS_MAX} jobs")
    except (yaml.YAMLError, StopIteration) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None
    return found


def _events(text: str) -> Iterator[Any]:
    yield from yaml.parse(text, Loader=_Loader)


def _job(events: Iterator[Any], start: Any) -> tuple[str, Job]:
    """Raises ValueError."""
    if not isinstance(start, yaml.MappingStartEvent):
        raise ValueError("a job that is no mapping")
    own, kinds = dict[str, str](), set[str]()
    for key, value in _pairs(events):
        if key.endswith(DISCOVERY):
            kinds.add(key.removesuffix(DISCOVERY))
        if key in OF_JOB and isinstance(value, yaml.ScalarEvent):
            own[OF_JOB[key]] = value.value
        elif key == "params" and isinstance(value, yaml.MappingStartEvent):
            own |= {f"{PARAMETER}{name}": first for name, first in _parameters(events)}
        else:
            _skip(events, value)
    if "job" not in own:
        raise ValueError("a job without a name")
    return own["job"], Job(tuple(own.items()), frozenset(kinds))


def _parameters(events: Iterator[Any]) -> Iterator[tuple[str, str]]:
    """The first value of each, as Prometheus puts it into a label."""
    for name, values in _pairs(events):
        if not isinstance(values, yaml.SequenceStartEvent):
            _skip(events, values)
            continue
        first: str | None = None
        for item in _items(events):
            if first is None and isinstance(item, yaml.ScalarEvent):
                first = item.value
            else:
                _skip(events, item)
        if first is not None:
            yield name, first


def _pairs(events: Iterator[Any]) -> Iterator[tuple[str, Any]]:
    """Keys and the first events of their values, which the caller takes to their ends."""
    for key in events:
        if isinstance(key, yaml.MappingEndEvent):
            return
        if not isinstance(key, yaml.ScalarEvent):
            _skip(events, key)
        yield key.value if isinstance(key, yaml.ScalarEvent) else "", next(events)


def _items(events: Iterator[Any]) -> Iterator[Any]:
    """The first event of each item, which the caller takes to its end."""
    for item in events:
        if isinstance(item, yaml.SequenceEndEvent):
            return
        yield item


def _skip(events: Iterator[Any], start: Any) -> None:
    """To the end of a value. Raises ValueError."""
    depth = int(isinstance(start, _Start))
    while depth:
        event = next(events)
        depth += isinstance(event, _Start) - isinstance(event, _End)
        if depth > DEPTH_MAX:
            raise ValueError(f"nested deeper than {DEPTH_MAX}")
