"""What the expression of each alert asks, of the numbers of one process. Pure.

A condition gives the series that it is true of, with the value of the expression. ``promring.rules.test.yml`` proves the
expressions in ``promtool``; a test runs it through these, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from promring.web.alerts.readings import Numbers, Readings, Series

Condition = Callable[[Readings], Numbers]
SLOW_SHARE, SLOW_S = 0.99, 30.0
FLAPS, LAPSES = 20, 1.5
ENDING_SHARE, ENDING_S = 0.15, {"certificate": 604800.0, "authority": 2592000.0}
RISES_S: Mapping[str, float] = {
    "promring_takeovers_total": 3600.0,
    "promring_lease_lapses_total": 600.0,
    "promring_state_failures_total": 900.0,
    "promring_delivery_lag_seconds_bucket": 900.0,
    "promring_unforeseen_total": 3600.0,
    "promring_loads_failures_total": 900.0,
    "promring_probes_total": 600.0,
    "promring_reshards_total": 3600.0,
    "promring_deliveries_total": 300.0,
    "promring_discovery_failures_total": 900.0,
}
"""The span of ``increase`` and ``rate`` in the rules, in seconds."""


def above(least: float, name: str, **only: str) -> Condition:
    """More than ``least``."""
    return lambda readings: {series: value for series, value in readings.now(name, **only).items() if value > least}


def is_(wanted: float, name: str) -> Condition:
    return lambda readings: {series: value for series, value in readings.now(name).items() if value == wanted}


def old(name: str, most_s: float) -> Condition:
    """A time stamp that is more than ``most_s`` ago."""

    def asked(readings: Readings) -> Numbers:
        ages = {series: readings.at - value for series, value in readings.now(name).items()}
        return {series: age for series, age in ages.items() if age > most_s}

    return asked


def rose(name: str, *, over: float = 0.0, label: str = "", among: Collection[str] = ()) -> Condition:
    """By more than ``over`` within the span of ``RISES_S``; ``among``: values of ``label``."""

    def asked(readings: Readings) -> Numbers:
        rises = readings.rise(name).items()
        return {s: value for s, value in rises if value > over and (not label or dict(s)[label] in among)}

    return asked


def share_above(part: str, whole: str, most: float) -> Condition:
    def asked(readings: Readings) -> Numbers:
        wholes = readings.now(whole)
        shares = {s: value / wholes[s] for s, value in readings.now(part).items() if wholes.get(s)}
        return {series: share for series, share in shares.items() if share > most}

    return asked


def _locked_out(readings: Readings) -> Numbers:
    return rose("promring_takeovers_total")(readings) | is_(1, "promring_locked_out")(readings)


def _nobody_up(readings: Readings) -> Numbers:
    up, unknown = (readings.now("promring_scrapers", state=state) for state in ("up", "unknown"))
    untold = {_without(series, "state") for series, value in unknown.items() if value}
    return {one: value for series, value in up.items() if not value and (one := _without(series, "state")) not in untold}


def _held(readings: Readings) -> Numbers:
    return {s: value for s, value in is_(1, "promring_plan_held")(readings).items() if ("reason", "warming_up") not in s}


def _not_scraped(readings: Readings) -> Numbers:
    unproved = readings.now("promring_unproved_targets")
    uncovered = readings.now("promring_uncovered_targets").items()
    return {series: lacking for series, value in uncovered if (lacking := value - unproved.get(series, 0.0)) > 0}


def _failing(readings: Readings) -> Numbers:
    """Of a source that gave a list long ago, or never."""
    name = "promring_discovery_last_success_timestamp_seconds"
    late, ever = old(name, 900)(readings), readings.now(name)
    rises = rose("promring_discovery_failures_total")(readings).items()
    return {series: rise for series, rise in rises if series in late or series not in ever}


def _not_asking(readings: Readings) -> Numbers:
    """Of several controllers one does not know whether a scraper asks another one."""
    if any(readings.now("promring_lock").values()):
        return {}
    return old("promring_scraper_last_ask_timestamp_seconds", 300)(readings)


def _certificate_ends(readings: Readings) -> Numbers:
    begins = readings.now("promring_certificate_start_timestamp_seconds")
    found: Numbers = {}
    for kind, most_s in ENDING_S.items():
        for series, end in readings.now("promring_certificate_expiry_timestamp_seconds", kind=kind).items():
            if series in begins and end - readings.at < min(ENDING_SHARE * (end - begins[series]), most_s):
                found[series] = end - readings.at
    return found


def _flapping(readings: Readings) -> Numbers:
    found: Numbers = {}
    for series, rise in readings.rise("promring_reshards_total").items():
        if dict(series)["reason"] in ("scrapers", "drain"):
            rest = _without(series, "reason")
            found[rest] = found.get(rest, 0.0) + rise
    return {series: value for series, value in found.items() if value > FLAPS}


def _slow(readings: Readings) -> Numbers:
    rises: dict[Series, list[tuple[float, float]]] = {}
    for series, rise in readings.rise("promring_delivery_lag_seconds_bucket").items():
        rises.setdefault(_without(series, "le"), []).append((float(dict(series)["le"]), rise))
    quantiles = {series: _quantile(sorted(buckets)) for series, buckets in rises.items()}
    return {series: seconds for series, seconds in quantiles.items() if seconds > SLOW_S}


def _quantile(buckets: list[tuple[float, float]]) -> float:
    """As ``histogram_quantile``: between the ends of a bucket by share; of the last one its lower end. NaN: nothing was."""
    wanted, below, end = SLOW_SHARE * buckets[-1][1], 0.0, 0.0
    if not wanted:
        return math.nan
    for upper, count in buckets:
        if count >= wanted:
            return end if upper == math.inf else end + (upper - end) * (wanted - below) / (count - below)
        below, end = count, upper
    return math.nan


def _without(series: Series, label: str) -> Series:
    return tuple((name, value) for name, value in series if name != label)


CONDITIONS: Mapping[str, Condition] = {
    "PromringNotReady": is_(0, "promring_ready"),
    "PromringNoLeader": is_(0, "promring_leader_known"),
    "PromringLockedOut": _locked_out,
    "PromringLeaseLapses": rose("promring_lease_lapses_total", over=LAPSES),
    "PromringReloadFailed": is_(0, "promring_config_last_reload_successful"),
    "PromringStateNotSaved": rose("promring_state_failures_total"),
    "PromringSlow": _slow,
    "PromringConnectionsShort": share_above("promring_http_connections", "promring_http_connections_max", 0.9),
    "PromringDescriptorsShort": share_above("process_open_fds", "process_max_fds", 0.9),
    "PromringUnforeseen": rose("promring_unforeseen_total"),
    "PromringCertificateEnds": _certificate_ends,
    "PromringNoScraperUp": _nobody_up,
    "PromringScraperDown": above(0, "promring_scrapers", state="down"),
    "PromringScraperExcluded": above(0, "promring_scrapers_excluded"),
    "PromringMembershipUnknown": old("promring_membership_last_success_timestamp_seconds", 120),
    "PromringScraperListFails": old("promring_scraper_list_last_success_timestamp_seconds", 120),
    "PromringPlanHeld": _held,
    "PromringNoRoomForLoss": above(0, "promring_lacking_load_after_loss", of="scraper"),
    "PromringLoadsUnknown": rose("promring_loads_failures_total"),
    "PromringScraperNotAsking": _not_asking,
    "PromringListNotTaken": old("promring_scraper_untaken_timestamp_seconds", 300),
    "PromringProbesImpossible": rose("promring_probes_total", label="outcome", among=("distrusted", "not_made")),
    "PromringFlapping": _flapping,
    "PromringDrainStuck": above(0, "promring_draining_targets"),
    "PromringHandOverStuck": above(0, "promring_handing_over_targets"),
    "PromringDeliveryFailing": rose("promring_deliveries_total", label="outcome", among=("failed", "unsent", "refused")),
    "PromringTargetsUnplaced": above(0, "promring_unplaced_targets"),
    "PromringTargetsNotScraped": _not_scraped,
    "PromringTargetsUnproved": above(0, "promring_unproved_targets"),
    "PromringTargetsDoubled": above(0, "promring_doubled_targets"),
    "PromringAuditOld": old("promring_coverage_timestamp_seconds", 600),
    "PromringSourceFailing": _failing,
    "PromringDiscoveryBehindFailing": above(0, "promring_discovery_behind_failing"),
    "PromringSourceDoubted": is_(1, "promring_source_doubted"),
    "PromringEntriesRefused": above(0, "promring_discovery_refused_entries"),
}
"""By alert. Those that are missing are about what the process cannot know: whether it answers, other controllers, agents."""
