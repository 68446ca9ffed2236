"""What may be shown of secrets and of the texts that may repeat them.

Promises: a ``Secret`` shows ``***`` wherever it is printed; ``shown`` gives of a URL scheme, host, port and path, never
user, password, query or fragment, whatever the text is; ``hide`` takes every spelling of known secrets out of a text from
outside.
Not promised: a secret in the path of a URL is shown; so is one that was given in place of a file's name.
"""

from __future__ import annotations

import base64
import html
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"
HIDDEN_LEAST = 4
"""Characters: shorter values are no secrets, and taking each out would leave no text."""
PART = 8
SHOWN_MOST = 200
OPEN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "content-type",
        "if-none-match",
        "user-agent",
        "x-prometheus-refresh-interval-seconds",
        "x-promring-declined",
        "x-promring-have",
        "x-promring-outranked",
        "x-promring-untaken",
    }
)
"""Request headers, in lower case, that hold no secret. Every other one is taken for one."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://)|(//)")
_HOST_PORT = re.compile(r"([^\s/?#@:\[\]\\]+|\[[0-9A-Fa-f:.%]+\])?(:\d*)?(?=[/?#]|$)")
_SECRET_VARIABLE = re.compile(
    r"""[\w-]*(?:pass|token|secret|credential|api_?key|private_key)(?![\w-]*_file)[\w-]*["']?\s*:\s*("[^"\n]+"|'[^'\n]+'|[^\s,}]+)""",
    re.IGNORECASE,
)
_QUOTES = "'\"([{"
_TAIL = re.compile(r"['\"]?[:,;.)]*$")


class Secret:
    """A text that nothing shows by accident. Compares by its value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __str__(self) -> str:
        return HIDDEN

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)


class SecretUrl(Secret):
    """A URL whose query may hold a secret: it shows what ``shown`` does."""

    __slots__ = ()

    def __str__(self) -> str:
        return shown(self._value)


def shown(url: object) -> str:
    """``scheme://host:port/path`` of a URL, or of what was meant to be one."""
    text = url.reveal() if isinstance(url, SecretUrl) else str(url)
    scheme, separator, rest = _parts(text)
    is_url = _is_url(scheme, separator, rest)
    if not is_url and "@" in rest:  # a user and a password, or what was meant to be
        rest = rest.rpartition("@")[2]
    elif not is_url and separator and _HOST_PORT.match(rest) is None:
        rest = HIDDEN
    return f"{scheme}{separator}{re.split('[?#]', rest, maxsplit=1)[0]}"[:SHOWN_MOST]


def _parts(text: str) -> tuple[str, str, str]:
    """Scheme, ``://`` and what follows; without a scheme all is what follows."""
    match = _SCHEME.match(text)
    return (match[1] or "", match[2] or match[3], text[match.end() :]) if match else ("", "", text)


def _is_url(scheme: str, _: str, rest: str) -> bool:
    """Whether it is a URL of HTTP that begins with a host and no user."""
    return scheme.lower() in ("http", "https") and _HOST_PORT.match(rest) is not None


def scrub(text: str) -> str:
    """A message about somebody's text: without what looks like a user, a password or the query of a URL."""
    return re.sub(r"\S+", lambda word: _scrubbed(word[0]), text)


def _scrubbed(word: str) -> str:
    before, at, after = word.rpartition("@")
    scheme, slashes, _ = before.partition("//")
    if at and (slashes or ":" in before):
        word = f"{scheme if slashes else before[: len(before) - len(before.lstrip(_QUOTES))]}{slashes}{HIDDEN}@{after}"
    address, slashes, rest = word.partition("//")
    path, *query = re.split("[?#]", rest, maxsplit=1)
    if slashes and query and query[0].strip(_QUOTES):
        tail = _TAIL.search(query[0])
        word = f"{address}//{path}?{HIDDEN}{tail[0] if tail else ''}"
    return word


def secrets_of_url(url: str) -> Iterator[str]:
    """User information and query of a URL, whole and in parts, as they stand and decoded."""
    before, at, _ = url.rpartition("@")
    if at and not _is_url(*_parts(url)):
        before = _parts(before)[2]
        yield from (before, before.partition(":")[2], before.rpartition(":")[2])
    _, mark, query = url.partition("?")
    if mark:
        yield query
        for part in re.split("[&;#]", query):
            yield part.partition("=")[2]


def secrets_of_headers(headers: Mapping[str, str]) -> Iterator[str]:
    """The value of every header that is not known to be open; of ``Authorization`` its parts, too."""
    for name, value in headers.items():
        if name.lower() in OPEN_HEADERS:
            continue
        yield value
        scheme, space, given = value.partition(" ")
        if name.lower() == "authorization" and space:
            yield given
            if scheme.lower() == "basic":
                yield from _pair(given)


def secrets_in(value: object) -> Iterator[str]:
    """Of a value of a configuration, of whatever shape: what its texts have of users, passwords and queries."""
    if isinstance(value, str):
        yield from secrets_of_url(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from secrets_in(key)
            yield from secrets_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from secrets_in(inner)


def secrets_of_vars(text: str) -> Iterator[str]:
    """Values in a file of Ansible's variables whose names sound like secrets. Read line by line: it may be broken YAML."""
    for match in _SECRET_VARIABLE.finditer(text):
        yield match[1].strip().strip("'\"")


def hide(text: str, secrets: Iterable[str]) -> str:
    """``text`` with ``***`` for each of ``secrets``, in every spelling that an answer may repeat it in.

    A part of ``PART`` characters is hidden, too: an answer may repeat the beginning, and messages are cut.
    """
    lower = text.lower()
    lower = lower if len(lower) == len(text) else text
    hidden = bytearray(len(text))
    for part in {s[i : i + PART].lower() for s in _spellings(secrets) for i in range(max(1, len(s) - PART + 1))}:
        at = lower.find(part)
        while at >= 0:
            hidden[at : at + len(part)] = b"\1" * len(part)
            at = lower.find(part, at + 1)
    runs = itertools.groupby(range(len(text)), key=hidden.__getitem__)
    return (
        "".join(HIDDEN if is_hidden else "".join(text[i] for i in run) for is_hidden, run in runs) if any(hidden) else text
    )


def _spellings(secrets: Iterable[str]) -> set[str]:
    found = set[str]()
    for secret in secrets:
        for plain in {secret, unquote(secret), unquote_plus(secret)}:
            if len(plain) < HIDDEN_LEAST:
                continue
            coded = base64.b64encode(plain.encode("utf-8", "replace")).decode()
            found |= {plain, quote(plain, safe=""), quote(plain), quote_plus(plain), html.escape(plain), coded}
            found |= {repr(plain)[1:-1], json.dumps(plain)[1:-1], " ".join(plain.split())}
    return found


def _pair(given: str) -> Iterator[str]:
    try:
        pair = base64.b64decode(given, validate=True).decode()
    except ValueError:
        return
    yield from (pair, pair.partition(":")[2])
