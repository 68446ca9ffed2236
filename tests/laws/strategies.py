"""Fleets for the laws: scrapers, targets, policies."""

from __future__ import annotations

from hypothesis import strategies as st

from promring.core.placement import Policy
from promring.core.pool import build_pool
from promring.model import Members, Scraper, TargetGroup, TargetPool

label_names = st.sampled_from(["env", "job", "zone", "__param_module", "__scheme__", "__metrics_path__"])
labels = st.dictionaries(label_names, st.text(max_size=5), max_size=3)


def members(*, least: int = 1, most: int = 9) -> st.SearchStrategy[Members]:
    def made(ports: set[int]) -> Members:
        return tuple(sorted(Scraper(f"10.0.0.1:{p}", "10.0.0.1", p) for p in ports))

    return st.sets(st.integers(1, 65535), min_size=least, max_size=most).map(made)


addresses = st.sets(st.tuples(st.integers(0, 255), st.integers(1, 65535)), max_size=400).map(
    lambda pairs: [f"10.1.0.{host}:{port}" for host, port in sorted(pairs)]
)
Groups = tuple[TargetGroup, ...]
groups: st.SearchStrategy[Groups] = st.lists(
    st.builds(TargetGroup.of, st.lists(st.integers(1, 60).map(lambda n: f"10.1.0.{n}:9100"), max_size=8), labels),
    max_size=12,
).map(tuple)
policies = st.builds(
    Policy,
    virtual_nodes=st.sampled_from([1, 3, 64, 512]),
    load_factor=st.sampled_from([None, 1.0, 1.05, 1.10, 1.5, 3.0]),
)


def pool_of(names: list[str]) -> TargetPool:
    return build_pool([(TargetGroup.of(names),)])
