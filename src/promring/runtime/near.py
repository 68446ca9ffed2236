"""Did you mean? Names that look like one that is not known."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

NEAR_MOST, AMONG_MOST, LENGTH_MOST = 3, 2000, 200
HOSTS_MOST = 100
_PORT = re.compile(r":\d{1,5}\Z")
LIKE = 0.65


def meant(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` with the nearest of ``known``, the first ``AMONG_MOST`` of them; else an empty text."""
    import difflib  # only who has made a mistake waits for it

    found = difflib.get_close_matches(name[:LENGTH_MOST], list(islice(dict.fromkeys(known), AMONG_MOST)), NEAR_MOST, LIKE)
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def meant_host(name: str, known: Iterable[str]) -> str:
    """The same for ``host:port``, nothing for one that is known: first those of the same host, with or without its domain.
    Anybody may ask, and often: among more than ``HOSTS_MOST`` no others are looked for.
    """
    among = set(known)
    if name in among:
        return ""
    host = _first_label(name)
    same = sorted(one for one in among if _first_label(one) == host)[:NEAR_MOST]
    if same:
        return f"; did you mean {' or '.join(map(repr, same))}?"
    return meant(name, sorted(among)) if len(among) <= HOSTS_MOST else ""


def _first_label(text: str) -> str:
    """``prom-1`` of ``Prom-1.example.org:9090``; an IP address is whole."""
    host = _PORT.sub("", text).lower()
    return host if ":" in host or host.replace(".", "").isdigit() else host.partition(".")[0]
