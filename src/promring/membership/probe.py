"""Membership without Consul: the scrapers that the configuration lists, each asked by an active HTTP check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from promring.config.kinds import Problem
from promring.config.node import Node, Nodes
from promring.membership import DirectCheck, MembershipContext, ScraperSettings
from promring.membership.probing import ProbeKeys, ProbeMembership


class ProbeScrapers(ProbeKeys, ScraperSettings):
    """``nodes``: the scrapers; the other keys: how each is asked."""

    kind = "probe"
    lists_all = True

    nodes: Nodes

    def relations(self) -> Iterator[Problem]:
        yield from self.problems()

    @property
    def listed(self) -> Sequence[Node]:
        return self.nodes

    @property
    def direct_check(self) -> DirectCheck:
        return DirectCheck(self.path, self.timeout)

    @property
    def said(self) -> str:
        return "probes"

    def membership(self, context: MembershipContext) -> ProbeMembership:
        scrapers = tuple(map(context.scraper, self.nodes))
        return ProbeMembership(context.name, scrapers, self, context.log, context.api)
