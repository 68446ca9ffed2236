"""Which texts are URLs of HTTP: those that Go's ``net/url``, and so Prometheus, takes.

Python's own readers mend what is written: they leave out line breaks and tabs, take digits of any script for a port, and
escape a lone ``%``. The URL that is asked would not be the one that stands in the file.
"""

from __future__ import annotations

import re

from yarl import URL

_SHAPE = re.compile(
    r"https?://"
    r"(?:[^/?#]*@)?"
    r"(?:\[[^\]]*\]|[^\x20/?#@:%{}|\\^`\[\]]*)(?::[0-9]*)?"  # the host: no escapes, none of the characters that Go refuses
    r"(?P<path>/[^?#]*)?(?:\?[^#]*)?(?P<fragment>#.*)?",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ADDRESS_WITH_ZONE = re.compile(r"\[[0-9A-Fa-f:.]*%(?!25)")


def http_url(text: str) -> URL:
    """Raises ValueError for what is no ``http://`` or ``https://`` URL with a host that can be asked."""
    found = None if _CONTROL.search(text) or _ADDRESS_WITH_ZONE.search(text) else _SHAPE.fullmatch(text)
    if found is None or any(_LONE_PERCENT.search(found[part] or "") for part in ("path", "fragment")):
        raise ValueError("no URL")
    url = URL(text)
    if not url.host or url.explicit_port == 0:
        raise ValueError("no URL of a host")
    return url
