"""Every path of the server: what it takes, what it answers, and why it may say no. ``openapi`` makes the document of it.

A test holds that the routes of the server are just these.
"""

from __future__ import annotations

from promring.web.answers.fleets import Fleet, Reshard, Sample, Service
from promring.web.answers.plans import Drained, Plan, Released, Reloaded, ReloadPlan, Undrained
from promring.web.answers.status import Action, Alert, EffectiveConfiguration, Event, Status
from promring.web.answers.targets import CoverageOfService, Place, Targets, Where
from promring.web.operation import HTML, JSON, Operation, Parameter

TEXT, STREAM = "text/plain", "text/event-stream"
SLICES = "application/x-promring-slices"
OPEN_METRICS = "application/openmetrics-text"


FLEET = Parameter("fleet", "A fleet.", "path", required=True)
SERVICE = Parameter("service", "A shard service.", "path", required=True)
SCRAPER = Parameter("scraper", "The id of a scraper, `host:port` or as the fleet's `identity` says.", "path", required=True)
LIMIT = Parameter("limit", "The first so many.", kind="integer", default=100, most=10_000)
WHERE_LIMIT = Parameter("limit", "The first so many.", kind="integer", default=20, most=100)
TARGET = Parameter("target", "An address, the value of a label, the URL of a scrape, or a part of one.", required=True)
WITHOUT = Parameter("without", "The id of a scraper that leaves; at most 100.", repeated=True)
JOINS = "A scraper that joins, or is drained no more: `host:port`, also `host:port,zone=a,weight=2`; at most 100."
WITH = Parameter("with", JOINS, repeated=True)
FORCE = Parameter(
    "force", "Also when targets that are scraped now would be scraped by nobody.", kind="boolean", default=False
)
FORCE_DRAIN = Parameter("force", "Also the last scraper that lives.", kind="boolean", default=False)
WAIT = Parameter(
    "wait", "A duration of at most 5m: the answer comes when it differs from what the request names, or then.", default="0"
)
NO_FLEET, NO_SERVICE = {404: "There is no such fleet."}, {404: "There is no such service."}
NO_PLAN = {503: "There is no plan yet, or the server is busy; `Retry-After` says when to ask again."}
BUSY = {503: "The server is busy; `Retry-After` says when to ask again."}
BAD = {400: "A parameter is wrong."}
NOT_LEADING = "This controller does not lead, or it is the last scraper that lives (`force=true` drains it all the same)."

PAGE = Parameter("page", "Which hundred.", kind="integer", default=1)
REASON = Parameter("reason", "Why, for the list of actions and the log; at most 200 characters.")
PAGES = (
    Operation("GET", "/", "The page: every fleet and its services.", media=[HTML]),
    Operation("GET", "/fleets/{fleet}", "The page of a fleet.", media=[HTML], parameters=[FLEET], errors=NO_FLEET),
    Operation("GET", "/services/{service}", "The page of a service.", media=[HTML], parameters=[SERVICE], errors=NO_SERVICE),
    Operation(
        "GET",
        "/services/{service}/lists/{kind}",
        "The page of targets that are missing, unproved, doubled, dropped or down.",
        media=[HTML],
        parameters=[SERVICE, Parameter("kind", "Which list.", "path", required=True), PAGE],
        errors={404: "There is no such service or list."},
    ),
    Operation(
        "GET",
        "/services/{service}/targets/{target}",
        "The page of a target.",
        media=[HTML],
        parameters=[SERVICE, Parameter("target", "Its `id`.", "path", required=True)],
        errors={404: "There is no such service or target."} | NO_PLAN,
    ),
    Operation(
        "GET",
        "/fleets/{fleet}/scrapers/{scraper}",
        "The page of a scraper, and of its targets.",
        media=[HTML],
        parameters=[
            FLEET,
            SCRAPER,
            Parameter("service", "Targets of this service; default: the first."),
            Parameter("q", "Targets with this in their address or labels."),
            PAGE,
        ],
        errors={404: "There is no such fleet or scraper."},
    ),
    Operation(
        "GET",
        "/fleets/{fleet}/plan",
        "The page that says what would move if a scraper died, were drained, or came back.",
        media=[HTML],
        parameters=[
            FLEET,
            Parameter("without", "The id of the scraper that dies or is drained."),
            Parameter("with", "The id of a drained scraper that comes back."),
        ],
        errors=NO_FLEET,
    ),
    Operation(
        "GET",
        "/events",
        "The page of events.",
        media=[HTML],
        parameters=[
            Parameter("level", "`warn` or `error`: those, and worse."),
            Parameter("fleet", "Of this fleet."),
            Parameter("service", "Of this service."),
        ],
    ),
    Operation("GET", "/alerts", "The page of alerts, and of the rules that they come from.", media=[HTML]),
    Operation(
        "GET",
        "/config",
        "The page of every value in force.",
        media=[HTML],
        parameters=[
            Parameter("q", "Those with this in their key or value."),
            Parameter("said", "`1`: only those that are no defaults."),
            PAGE,
        ],
    ),
    Operation("GET", "/runbooks", "What to do about each alert.", media=[HTML]),
    Operation("GET", "/where", "The page that finds a target.", media=[HTML], parameters=[Parameter("target", TARGET.text)]),
    Operation(
        "GET",
        "/static/{name}",
        "Style and script of the page.",
        media=["text/css", "text/javascript"],
        parameters=[Parameter("name", "A file.", "path", required=True)],
        errors={404: "There is no such file."},
    ),
)
PROCESS = (
    Operation("GET", "/-/healthy", "200 while the process lives.", media=[TEXT]),
    Operation(
        "GET",
        "/-/ready",
        "200 once every fleet had a plan, of one service at least, from scrapers that were known.",
        media=[TEXT],
        errors={503: "Not yet: a line for each reason, as text."},
    ),
    Operation(
        "GET",
        "/-/leader",
        "200 while this controller leads, without a lock always: for a load balancer that sends scrapers to the leader.",
        media=[TEXT],
        errors={503: "It does not lead: who does, as text."},
    ),
    Operation("GET", "/metrics", "Prometheus metrics.", media=[TEXT]),
    Operation(
        "POST",
        "/-/reload",
        "Reads the configuration again, builds all of it, and takes it. Text for people unless JSON is accepted.",
        Reloaded,
        media=[JSON, TEXT],
        parameters=[FORCE, REASON],
        errors={400: "It is bad, cannot be built, or would lose targets: nothing is changed."},
        write=True,
    ),
)
SLICE = (
    Operation(
        "GET",
        "/sd/{service}/{scraper}",
        "The slice of a scraper, as Prometheus http_sd. `[]` only for one that decidedly has no targets.",
        media=[JSON],
        parameters=[
            SERVICE,
            SCRAPER,
            WAIT,
            Parameter("If-None-Match", "What the asker has, by `ETag`.", "header"),
        ],
        errors={
            304: "The asker has it already.",
            400: "`wait` is no duration.",
            404: "There is no such service, or it has no http_sd delivery.",
            406: "Neither gzip nor identity is accepted.",
            503: "There is no plan yet, or the scraper is not in it: keep what you have.",
        },
    ),
    Operation(
        "GET",
        "/sd/{scraper}",
        "All slices of one scraper, for its agent.",
        media=[SLICES],
        parameters=[
            SCRAPER,
            WAIT,
            Parameter("X-Promring-Have", "Marks of the slices that the asker has.", "header"),
            Parameter("X-Promring-Declined", "Marks of slices that it does not want now.", "header"),
        ],
        errors={
            400: "`wait` is no duration.",
            404: "No service has an http_sd delivery.",
            406: "Neither gzip nor identity is accepted.",
            503: "Nothing was decided for this scraper yet: keep what you have.",
        },
    ),
)
READS = (
    Operation("GET", "/api/v1/status", "Everything at once.", Status),
    Operation(
        "GET",
        "/api/v1/events",
        "The newest events, oldest first. As server-sent events a stream, which begins after `Last-Event-ID`, else after"
        " `since`, else with what comes next; each message is one event.",
        list[Event],
        media=[JSON, STREAM],
        parameters=[
            Parameter("since", "Those after this id.", kind="integer", default=0),
            Parameter("fleet", "Those of this fleet and of its services."),
            Parameter("service", "Those of this service and of its whole fleet."),
            Parameter("limit", "The newest so many.", kind="integer", default=100),
            Parameter("Last-Event-ID", "Of a stream: the id of the last event that was seen.", "header"),
        ],
        errors=BAD | {404: "There is no such fleet or service."} | BUSY,
    ),
    Operation("GET", "/api/v1/fleets", "Every fleet.", list[Fleet]),
    Operation("GET", "/api/v1/fleets/{fleet}", "A fleet.", Fleet, parameters=[FLEET], errors=NO_FLEET | NO_PLAN),
    Operation(
        "GET",
        "/api/v1/fleets/{fleet}/plan",
        "What the controller would do now, or if these scrapers left or joined. Touches nothing.",
        Plan,
        parameters=[FLEET, WITHOUT, WITH],
        errors=NO_FLEET | NO_PLAN | {400: "There can be no such plan."},
    ),
    Operation(
        "GET",
        "/api/v1/fleets/{fleet}/reshards",
        "What became of a fleet's plan lately, the newest first. Kept in memory.",
        list[Reshard],
        parameters=[FLEET],
        errors=NO_FLEET | NO_PLAN,
    ),
    Operation(
        "GET",
        "/api/v1/fleets/{fleet}/history",
        "Coverage, balance and moves of the last six hours, one sample in 15 seconds, the oldest first. Kept in memory.",
        list[Sample],
        parameters=[FLEET],
        errors=NO_FLEET | NO_PLAN,
    ),
    Operation(
        "GET", "/api/v1/actions", "Who had promring do what, and why, the newest first. Kept in memory.", list[Action]
    ),
    Operation(
        "GET",
        "/api/v1/alerts",
        "Which of promring's own alert rules are true of this controller: those that fire first, the worst first.",
        list[Alert],
    ),
    Operation(
        "GET",
        "/api/v1/config",
        "Every value in force, with the line of the file that says it; secrets, and free text that may have one, are `***`.",
        EffectiveConfiguration,
        errors=BUSY,
    ),
    Operation("GET", "/api/v1/services", "Every service.", list[Service]),
    Operation("GET", "/api/v1/services/{service}", "A service.", Service, parameters=[SERVICE], errors=NO_SERVICE | NO_PLAN),
    Operation(
        "GET",
        "/api/v1/services/{service}/targets",
        "Its targets and who has them.",
        Targets,
        parameters=[
            SERVICE,
            Parameter("q", "Those with this in their address or labels."),
            Parameter("scraper", "Those of this scraper."),
            LIMIT,
        ],
        errors=BAD | {404: "There is no such service, or no such scraper in its plan."} | NO_PLAN,
    ),
    Operation(
        "GET",
        "/api/v1/services/{service}/coverage",
        "What the scrapers were last seen scraping.",
        CoverageOfService,
        parameters=[SERVICE, LIMIT],
        errors=BAD | NO_SERVICE | {503: "Nobody was asked yet, the audit is off, or the server is busy."},
    ),
    Operation(
        "GET",
        "/api/v1/where",
        "Where a target is, and why there.",
        Where,
        parameters=[TARGET, Parameter("service", "In this service only."), WHERE_LIMIT],
        errors=BAD | NO_SERVICE | BUSY,
    ),
    Operation(
        "GET",
        "/api/v1/services/{service}/where",
        "The same in one service.",
        list[Place],
        parameters=[SERVICE, TARGET, WHERE_LIMIT],
        errors=BAD | {404: "There is no such service or target; the text has names that look alike."} | NO_PLAN,
    ),
    Operation("GET", "/api/v1/openapi.json", "This document, without an envelope.", media=[JSON]),
)
WRITES = (
    Operation(
        "POST",
        "/api/v1/plan",
        "What a reload with the configuration in the body would do. Touches nothing.",
        ReloadPlan,
        parameters=[
            Parameter("name", "Of its file, for messages.", default="<sent>"),
            Parameter("fleet", "Of this fleet only, by its name or that of one of its services."),
            WITHOUT,
            WITH,
        ],
        errors={
            **{400: "The configuration is bad, or there can be no such plan.", 413: "The configuration is too long."},
            408: "The body did not come in time.",
            415: "The body has a Content-Encoding.",
        },
        write=True,
        takes="application/yaml",
    ),
    Operation(
        "POST",
        "/api/v1/fleets/{fleet}/release",
        "Takes the newest facts about the scrapers for right, once.",
        Released,
        parameters=[FLEET, REASON],
        errors=NO_FLEET | {409: "Nothing is held that a person could let go."} | NO_PLAN,
        write=True,
    ),
    Operation(
        "POST",
        "/api/v1/services/{service}/release",
        "Takes the newest lists of a service for right, once.",
        Released,
        parameters=[SERVICE, REASON],
        errors=NO_SERVICE | {409: "Nothing is held that a person could let go."} | NO_PLAN,
        write=True,
    ),
    Operation(
        "POST",
        "/api/v1/fleets/{fleet}/scrapers/{scraper}/drain",
        "Takes everything of all services from a scraper, make before break, until it is undrained.",
        Drained,
        parameters=[FLEET, SCRAPER, REASON, FORCE_DRAIN],
        errors={404: "There is no such fleet or scraper.", 409: NOT_LEADING} | NO_PLAN,
        write=True,
    ),
    Operation(
        "POST",
        "/api/v1/fleets/{fleet}/scrapers/{scraper}/undrain",
        "Lets a drained scraper have its share again.",
        Undrained,
        parameters=[FLEET, SCRAPER, REASON],
        errors={404: "There is no such fleet or scraper.", 409: "This controller does not lead."} | NO_PLAN,
        write=True,
    ),
)
OPERATIONS: tuple[Operation, ...] = (*READS, *WRITES, *SLICE, *PROCESS, *PAGES)
