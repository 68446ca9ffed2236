"""The plan from a configuration alone: reads its facts once. Loaded by ``promring plan`` where no controller is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from promring.cli import options
from promring.cli.output import say, working
from promring.config.settings import FleetOfServices, Settings
from promring.core.preview import preview
from promring.model import Members, PromringError
from promring.read_facts import read_facts
from promring.rules import policy_of
from promring.runtime.near import meant
from promring.telemetry import log
from promring.web.answers.plans import Plan
from promring.web.views.plans import described, plan_of, why_not
from promring.web.views.room import room_of


def planned(config_file: Path, fleet: str | None, without: Sequence[str], joining: Sequence[str]) -> Plan:
    """The plan of all services of a fleet. Ends the command with a message when the facts, or the plan,
    cannot be had.
    """
    settings = options.load_or_exit(config_file)
    log.configure("error")
    chosen = _chosen(settings, fleet, without)
    try:
        new = [chosen.keys.joining(text) for text in joining]
        with working(f"{chosen.name}: reading who its scrapers are, and its lists"):
            members, listed, pool = asyncio.run(read_facts(settings, chosen, config_file, log.get()))
        found = preview(pool, members, policy_of(chosen), without=without, joining=new, listed=_with_shares(listed, members))
    except (PromringError, ValueError) as error:
        raise click.ClickException(why_not(error)) from error
    if chosen.keys.placement.loads.learns:
        say("loads are learnt by a controller that runs: here each target counts 1", err=True)
    room = room_of(found.after, policy_of(chosen))
    return plan_of(described(found), chosen.name, "configuration", room)


def _with_shares(listed: Members, members: Members) -> Members:
    """Who is listed, with the share that each has when it lives and is not drained, as the controller has them."""
    every = {s.id: replace(s, draining=False) for s in (*members, *listed)}
    return tuple(sorted(every.values()))


def _chosen(settings: Settings, named: str | None, without: Sequence[str]) -> FleetOfServices:
    """The fleet that is named; else the only one, or the only one that lists the scrapers that leave."""
    fleets = {fleet.name: fleet for fleet in settings.every_fleet}
    if named is not None:
        if named not in fleets:
            raise click.UsageError(f"--fleet: no fleet {named!r}; there is {', '.join(fleets)}{meant(named, fleets)}")
        return fleets[named]
    found, hint = list(fleets.values()), ""
    if len(found) > 1 and without:
        listed = {fleet.name: {fleet.keys.scraper(node).id for node in fleet.keys.listed} for fleet in found}
        found = [one for one in found if set(without) <= listed[one.name]]
        every = sorted(set().union(*listed.values()))
        hint = next((meant(name, every) for name in without if name not in every), "")
    if len(found) != 1:
        there = ", ".join(one.name for one in found) or ", ".join(fleets)
        raise click.UsageError(f"--fleet: which one? There is {there}{hint}")
    return found[0]
