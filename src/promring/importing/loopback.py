"""Which targets of a job are the server itself: their address is a loopback address, and relabelling leaves it one.

Known are those of lists that can be read here. Behind an exporter on another machine a loopback address is that machine,
wherever the scraper is.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from promring.importing.configuration import Job
from promring.importing.inside import OWN_NAME, host_of, is_loopback
from promring.importing.lists import ADDRESS, groups_of, groups_written, relabelled, rules_understood

_SHORT = re.compile("[a-z0-9_-]*[a-z_-][a-z0-9_-]*")


class Own(NamedTuple):
    """``shown``: a target that is the server itself, empty: there is none; ``all``: whether no target is another one."""

    shown: str = ""
    all: bool = False


def own_targets(job: Job) -> Own:
    """Reads the files of the job's lists."""
    groups, whole = groups_of(job)
    rules = rules_understood(job)
    first, others = "", not whole
    for group in groups:
        labels = {"job": job.name, **group.labels}
        for address in group.addresses:
            if not (_is_own(address) and _is_own(relabelled(rules, address, labels).get(ADDRESS, ""))):
                others = True
            elif not first:
                first = f"{address} of {group.file}" if group.file else address
            if first and others:
                return Own(first)
    return Own(first, not others)


def _is_own(address: str) -> bool:
    """Whether each server means itself by this address, that of its environment too, such as ``%{HOSTNAME}:9100``."""
    return is_loopback(address) or OWN_NAME.match(address) is not None


def short_names(job: Job) -> set[str]:
    """Hosts of its lists, after relabelling, that have no domain and are no address: who they are depends on who asks."""
    rules = rules_understood(job)
    made = {
        host_of(relabelled(rules, address, {"job": job.name, **group.labels}).get(ADDRESS, ""))
        for group in groups_written(job)
        for address in group.addresses
    }
    return {host for host in made if _SHORT.fullmatch(host) and not is_loopback(host)}
