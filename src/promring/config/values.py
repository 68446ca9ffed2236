"""The values that a configuration is made of, each with its limits: spans of time, paths, names, URLs.

Promises: a value that comes through is usable as it is. Spans of time are seconds (float), paths are absolute. Kinds and
sections are models of these values; how values relate to each other is in ``relations``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PosixPath
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from promring.runtime.duration import PATTERN, parse_duration
from promring.runtime.redact import SecretUrl, shown
from promring.runtime.urls import http_url

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SIZE = re.compile(r"([0-9]{1,6})(MiB|GiB)")
_UNITS = {"MiB": 1024**2, "GiB": 1024**3}
SERVICES_MAX, NODES_MAX, ENTRIES_MAX = 1_000, 10_000, 1_000
"""Of a configuration, of a fleet, and of every other list: more is a mistake, and would hold a reload up."""


class Model(BaseModel):
    """A mapping of the configuration: unknown keys are refused, types are not converted, nothing changes afterwards. How it
    is validated is built when it first is: most are parts of another one, and never by themselves.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True, defer_build=True)


def _duration(value: object, info: ValidationInfo) -> float:
    """In a file a span has its unit; a number in code is seconds."""
    if info.context is None and isinstance(value, float):
        return value
    if value is None:
        raise ValueError("must be a duration such as 500ms, 5s or 1m, and has no value")
    return parse_duration(value)


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("must be longer than 0s")
    return value


def base_folder(info: ValidationInfo) -> Path:
    """The folder that relative paths start from: that of the configuration file, as with Prometheus."""
    base: Path = (info.context or {}).get("base", Path())
    return base


def _absolute(path: object, info: ValidationInfo) -> Path:
    if not isinstance(path, str | Path) or not str(path):
        raise ValueError("is not a path")
    return Path(base_folder(info), path)


def _http_path(text: str) -> str:
    if not re.fullmatch(r"/\S*", text):
        raise ValueError(f"{shown(text)!r} must begin with / and have no space")
    return text


def _size(text: object, info: ValidationInfo) -> int:
    """In a file a size has its unit; a number in code is bytes."""
    if info.context is None and isinstance(text, int) and not isinstance(text, bool):
        return text
    found = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is not a size such as 512MiB or 2GiB")
    return int(found[1]) * _UNITS[found[2]]


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(f"{text!r} must match {NAME.pattern}")
    return text


class SecretPath(PosixPath):
    """A file that holds one line that is sent: a token, a password, a name, the value of a header."""


def _secret_path(path: Path) -> SecretPath:
    return SecretPath(path)


def _http_url(text: object) -> SecretUrl:
    if isinstance(text, SecretUrl):
        text = text.reveal()
    try:
        url = http_url(text if isinstance(text, str) else "")
    except ValueError:
        raise ValueError(f"{shown(text)!r} is not an http:// or https:// URL") from None
    if url.user or url.password:
        raise ValueError("put credentials into keys of their own (bearer_token_file, basic_auth, …), not into the URL")
    return SecretUrl(str(text))


SPAN = WithJsonSchema({"title": "span of time", "anyOf": [{"type": "string", "pattern": PATTERN}, {"const": 0}]})
"""As it stands in a file."""
Duration = Annotated[float, BeforeValidator(_duration), SPAN]
"""Seconds."""
Interval = Annotated[float, BeforeValidator(_duration), AfterValidator(_positive), SPAN]
"""Seconds, more than none."""
SIZE = WithJsonSchema({"title": "size", "type": "string", "pattern": f"^{_SIZE.pattern}$"})
"""As it stands in a file."""
Size = Annotated[int, BeforeValidator(_size), SIZE]
"""Bytes."""
AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
SecretLinePath = Annotated[AbsolutePath, AfterValidator(_secret_path)]
Name = Annotated[str, AfterValidator(_name)]
HttpUrl = Annotated[SecretUrl, PlainValidator(_http_url), WithJsonSchema({"title": "URL", "type": "string"})]
UserName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]
"""On a scraper's machine."""
Port = Annotated[int, Field(ge=1, le=65535)]
HttpPath = Annotated[str, AfterValidator(_http_path), WithJsonSchema({"type": "string", "pattern": r"^/[^\s]*$"})]
LabelName = Annotated[str, Field(min_length=1, max_length=512)]
"""Prometheus 3 takes any UTF-8 name."""


def key_of_file(model: Model, why: str, keys: Sequence[str]) -> str:
    """That of ``keys`` whose file the text ``why`` begins with, else the first."""
    return next((key for key in keys if why.startswith(f"{getattr(model, key)}: ")), keys[0])
