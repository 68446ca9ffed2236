"""What a request says of the answer it wants: ``If-None-Match``, ``Accept`` and ``Accept-Encoding``, as RFC 9110 has them.

Promises: any text is understood, or taken as if it were not there; proxies weaken, join and rewrite both.
"""

from __future__ import annotations

import re

HEADER_MOST = 4096
_TAGS = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\U0010ffff]*")')
_WEIGHT = re.compile(r"[01](\.[0-9]{0,3})?")
_CODING = re.compile(r"\s*([\w!#$%&'*+.^`|~-]+)\s*(?:;\s*[qQ]\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?")


class IfNoneMatch:
    """RFC 9110, 13.1.2: a list of entity tags, compared weakly, or ``*`` for whatever there is."""

    def __init__(self, header: str) -> None:
        self._any = header.strip() == "*"
        self._tags = frozenset(_TAGS.findall(header[:HEADER_MOST]))

    @property
    def is_empty(self) -> bool:
        """Whether the client names nothing that it has."""
        return not self._any and not self._tags

    def has(self, etag: str) -> bool:
        return self._any or etag in self._tags


def prefers_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics is named in an ``Accept`` header, and nothing that is plain text is liked more."""
    weights: dict[str, float] = {}
    for part in accept[:HEADER_MOST].lower().split(","):
        media, *parameters = (text.strip() for text in part.split(";"))
        liked = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        weights.setdefault(media, float(liked) if _WEIGHT.fullmatch(liked) else 0.0)
    open_metrics = weights.get("application/openmetrics-text", 0.0)
    return open_metrics > 0 and open_metrics >= weights.get("text/plain", 0.0)


def chosen_coding(header: str, *, small: bool = False) -> str | None:
    """RFC 9110, 12.5.3: ``gzip``, ``identity``, or None when neither is taken. gzip unless identity is liked more, or is
    taken at all for something ``small``.
    """
    weights: dict[str, float] = {}
    for part in header[:HEADER_MOST].lower().split(","):
        if (match := _CODING.fullmatch(part)) is not None:
            weights.setdefault(match[1].removeprefix("x-"), float(match[2] or 1))
    others = weights.get("*")
    gzip = weights.get("gzip", others or 0.0)
    identity = weights.get("identity", 0.001 if others is None else others)
    if gzip > 0 and gzip >= min(identity, 1.0) and not (small and identity > 0):
        return "gzip"
    return "identity" if identity > 0 else None
