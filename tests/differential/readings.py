"""What promring makes of a target list, in the form in which Prometheus' and vmagent's reading of it is compared."""

from __future__ import annotations

import json
import re

from testbed.sdoracle import Targets

from promring.core.fragment import decode, fragments
from promring.discovery.groups import from_yaml, read_pool
from promring.discovery.intervals import INTERVAL, ends_vmagent
from promring.discovery.json_list import read_pieces
from promring.discovery.list_file import is_empty
from promring.discovery.uniform import UniformPieces
from promring.model import DiscoveryError, TargetPool

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def read(name: str, text: bytes) -> TargetPool | None:
    """What promring makes of a list; None: refused."""
    if is_empty(text):
        return None  # FileSource refuses it before it is parsed
    try:
        groups = read_pieces(text, name, UniformPieces(0).take) if name.endswith(".json") else from_yaml(text, name)
        return read_pool(groups, name, size_bytes=len(text))
    except DiscoveryError as error:
        said = str(error)
    assert said.startswith(name), "an error names the list"
    assert "\n" not in said
    return None


def targets_of(pool: TargetPool) -> Targets:
    return frozenset(frozenset({("__address__", one.address), *one.labels.items()}) for one in map(decode, fragments(pool)))


def passing(theirs: Targets) -> Targets:
    """Without the targets that promring leaves out of a list, as ``docs/compatibility.md`` says."""
    found = {target for target in theirs if (address := dict(target).get("__address__")) and not CONTROLS.search(address)}
    found = {target for target in found if not ends_vmagent(dict(target).get(INTERVAL, "x"))}
    return frozenset(target for target in found if all(name for name, _ in target))


def shown(targets: Targets | None) -> str:
    return "refused" if targets is None else json.dumps(sorted(sorted(one) for one in targets), ensure_ascii=False)[:300]
