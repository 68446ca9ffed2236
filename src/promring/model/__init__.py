"""The nouns. Frozen values that every layer may hold; no I/O, no clock, no logging.

Owns: what a fact is (``Known``, ``Empty``, ``Unknown``), scrapers, target groups, the pool, placement, plan, slices.
Promises: values here are never changed after they were built; equal facts compare equal.
Flow: adapters make answers of these, ``core`` turns them into a ``Placement`` and ``Slice``s, deliveries carry those.
"""

from __future__ import annotations

from promring.model.errors import (
    PROBLEM_MOST,
    ConfigError,
    ConsulError,
    DiscoveryError,
    EtcdError,
    KubernetesError,
    ListenError,
    PlacementError,
    PromringError,
    StoreError,
)
from promring.model.facts import Answer, Empty, Fact, Known, T, Unknown, Waiting
from promring.model.plans import Move, Moved, Placement, Plan
from promring.model.scrapers import (
    NONE_FAILING,
    WEIGHT_MOST,
    Failing,
    Members,
    NodeState,
    Reply,
    Scraper,
    ServiceScraper,
    join_host_port,
)
from promring.model.slices import EPOCH_FOLLOWED_MOST, EPOCH_MOST, Generation, Slice
from promring.model.targets import (
    SEPARATOR,
    Bounds,
    Fingerprint,
    Keys,
    Loads,
    Owners,
    Release,
    Rows,
    TargetGroup,
    TargetPool,
)
from promring.model.times import LONG_AGO, NEVER_ENDS

__all__ = [
    "EPOCH_FOLLOWED_MOST",
    "EPOCH_MOST",
    "LONG_AGO",
    "NEVER_ENDS",
    "NONE_FAILING",
    "PROBLEM_MOST",
    "SEPARATOR",
    "WEIGHT_MOST",
    "Answer",
    "Bounds",
    "ConfigError",
    "ConsulError",
    "DiscoveryError",
    "Empty",
    "EtcdError",
    "Fact",
    "Failing",
    "Fingerprint",
    "Generation",
    "Keys",
    "Known",
    "KubernetesError",
    "ListenError",
    "Loads",
    "Members",
    "Move",
    "Moved",
    "NodeState",
    "Owners",
    "Placement",
    "PlacementError",
    "Plan",
    "PromringError",
    "Release",
    "Reply",
    "Rows",
    "Scraper",
    "ServiceScraper",
    "Slice",
    "StoreError",
    "T",
    "TargetGroup",
    "TargetPool",
    "Unknown",
    "Waiting",
    "join_host_port",
]
