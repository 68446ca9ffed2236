"""Shows what would move: of one fleet, who takes how much."""

from __future__ import annotations

from promring.cli.output import say, say_table, until
from promring.runtime.text import counted
from promring.web.answers.fleets import Room
from promring.web.answers.plans import Plan, PlannedScraper, Preview


def show_plan(plan: Plan) -> None:
    """With what is drained and held now."""
    _show_moves(plan.fleet, plan)
    for one in plan.held:
        say(f"held{until(one.until)}, and not a part of this: {one.detail}")
    if plan.drained:
        say(f"drained: {', '.join(plan.drained)}")
    if plan.room:
        say(room_line(plan.room))
    _show_outcome(plan)


def show_preview(fleet: str, preview: Preview) -> None:
    _show_moves(fleet, preview)
    _show_outcome(preview)


def _show_moves(fleet: str, preview: Preview) -> None:
    bound = "" if preview.most is None else f", at most {preview.most} a scraper"
    owned = sum(s.before or 0 for s in preview.scrapers)  # with replicas a target counts once for each owner
    what = "targets" if owned <= preview.targets else "owners of targets"
    share = preview.moved / owned if owned else 0.0
    say(f"{fleet}: {preview.moved} of {owned} {what} would move ({share:.1%}){bound}")


def _show_outcome(preview: Preview) -> None:
    _show_fit(preview)
    zoned, loaded = bool(preview.zones), preview.load != preview.targets
    numbers = ["now", "then", "gains", "gives", *["load now", "load then"] * loaded]
    rows = [_row(s, zoned=zoned, loaded=loaded) for s in preview.scrapers]
    say_table(["scraper", *["zone"] * zoned, *numbers], rows, right=numbers)
    for z in preview.zones:
        scrapers = f"{z.scrapers_before} -> {counted(z.scrapers_after, 'scraper')}"
        say(f"zone {z.zone or '(none)'}: {scrapers}, {z.before} -> {counted(z.after, 'target')}")


def _row(s: PlannedScraper, *, zoned: bool, loaded: bool) -> list[str]:
    cells = [s.id, *[s.zone or "-"] * zoned, _cell(s.before), _cell(s.after), str(s.gains or ""), str(s.gives or "")]
    return [*cells, *([_cell(s.load_before), _cell(s.load_after)] if loaded else [])]


def _show_fit(preview: Preview) -> None:
    fits = preview.fits
    if not fits.all:
        more = fits.unplaced - len(fits.unplaced_targets)
        named = ", ".join(fits.unplaced_targets) + (f" and {more} more" if more > 0 else "")
        say(f"DOES NOT FIT: {counted(fits.unplaced, 'target', 'lack')} an owner (load {fits.unplaced_load}): {named}")
    if preview.no_room:
        kept = "of a drained scraper they stay with it while it lives, of a dead one nobody scrapes them"
        say(f"{preview.no_room} of them have an owner now: {kept}")
    if fits.too_heavy:
        say(f"too heavy for its scraper, and there alone: {', '.join(fits.too_heavy_targets)}")


def room_line(room: Room) -> str:
    """How many scrapers are needed, and how many there are."""
    zone = "" if room.after_zone is None else f", {room.after_zone} to lose a zone"
    weight = "" if room.weight == 1 else f" of weight {room.weight:g}"
    return (
        f"room: load {room.load} needs {counted(room.needed, 'scraper')}{weight}, at most {room.each} each"
        f" ({room.after_scraper} to lose one{zone}); {room.scrapers} there"
    )


def _cell(value: int | None) -> str:
    return "-" if value is None else str(value)
