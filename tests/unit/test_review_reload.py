"""Findings of a review, as tests that fail."""

from __future__ import annotations



from tests.unit.test_reload_decisions import NODES, decisions, of, remembered, service, settings


def test_a_reload_that_adds_room_is_not_refused_for_what_has_no_room_now() -> None:
    """60 targets, capacity 20, three scrapers, one drained: it keeps its 20, for which nobody has room. A fourth is added."""
    policy = {"placement": {"capacity": 20, "load_factor": None}}
    old, new = settings(service(**policy)), settings(service(nodes=[*NODES, "10.0.0.4:9090"], **policy))
    drained = of(old).scraper(of(old).listed[0]).id
    memory = remembered(of(old), drained=[drained])
    found = decisions(old, new, {"pool": memory})
    assert not [one.line for one in found if one.loss]


def test_a_reload_that_raises_the_capacity_a_little_is_not_refused() -> None:
    old = settings(service(placement={"capacity": 20, "load_factor": None}))
    new = settings(service(placement={"capacity": 25, "load_factor": None}))
    drained = of(old).scraper(of(old).listed[0]).id
    found = decisions(old, new, {"pool": remembered(of(old), drained=[drained])})
    assert not [one.line for one in found if one.loss]
