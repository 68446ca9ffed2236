"""Which targets relabelling makes equal: one server scrapes them once.

On scrapers that share them each would be scraped, because an entry of a slice has a label of its own, and because two
scrapers know nothing of each other. A Prometheus that discovers makes one of them before they are shared.

Known are those of lists that can be read here. Where it cannot be known what one of the rules does, nothing is said.
"""

from __future__ import annotations

from itertools import islice

from promring.importing.configuration import Job
from promring.importing.lists import ADDRESS, every_rule, groups_of, relabelled

LOOKED_AT = 100_000
"""Targets of one job; each costs some microseconds a rule."""
_META = "__meta_"


def made_equal(job: Job) -> str:
    """Two of them, in words; empty: none are known. Reads the files of the job's lists."""
    rules = every_rule(job)
    if not rules:
        return ""
    groups, _ = groups_of(job)
    entries = ((address, group.labels) for group in groups for address in group.addresses)
    seen: dict[frozenset[tuple[str, str]], tuple[str, frozenset[tuple[str, str]]]] = {}
    for address, labels in islice(entries, LOOKED_AT):
        if not (made := relabelled(rules, address, {"job": job.name, **labels})):
            continue  # it is dropped
        made.setdefault("instance", made.get(ADDRESS, ""))
        entry = (address, frozenset(labels.items()))
        first = seen.setdefault(frozenset((k, v) for k, v in made.items() if not k.startswith(_META)), entry)
        if first != entry:
            return f"{first[0]} and {address}" if first[0] != address else f"two entries of {address}"
    return ""
