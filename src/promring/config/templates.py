"""Templates of the configuration: paths and host names with the fields ``{fleet} {service} {scraper} {host} {port}``."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from promring.config.values import base_folder

FIELDS = {"fleet", "service", "scraper", "host", "port"}
SUFFIXES = (".json", ".yml", ".yaml")
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def read_as_pattern(path: str) -> str:
    """Why a Prometheus (2.42, 3.5; vmagent does not care) may not find a file of this path; mostly empty."""
    odd = sorted({c for c in path if c in "*?[\\"})
    return (
        f"Prometheus reads {' '.join(odd)} in the names of its lists as a pattern, and may not find this file" if odd else ""
    )


def _fields(text: str) -> set[str]:
    """Raises ValueError for what is no template of ours."""
    try:
        parts = [part for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise ValueError(f"{text!r}: only plain {{name}} fields")
    fields = {str(name) for _, name, _, _ in parts}
    if fields - FIELDS:
        raise ValueError(f"{text!r}: unknown {_braced(fields - FIELDS)}; there is {_braced(FIELDS)}")
    return fields


def _braced(names: Iterable[str]) -> str:
    return " ".join(f"{{{name}}}" for name in sorted(names))


def _local(text: str, info: ValidationInfo) -> str:
    fields = _fields(text)
    if not text.endswith(SUFFIXES):
        raise ValueError(f"{text!r} must end in .json, .yml or .yaml, or Prometheus does not read it")
    if "scraper" not in fields and not {"host", "port"} <= fields:
        raise ValueError(f"{text!r} must contain {{scraper}}, or {{host}} and {{port}}: each scraper has its own file")
    if "{" in text.partition("/")[0] and not text.startswith("/"):
        raise ValueError(f"{text!r}: the first folder must be fixed")
    return str(Path(str(base_folder(info)).replace("{", "{{").replace("}", "}}"), text))


def _remote(text: str) -> str:
    _fields(text)
    if not text.startswith("/") or not text.endswith(SUFFIXES) or "\0" in text or "\n" in text:
        raise ValueError(f"{text!r} must be an absolute path that ends in .json, .yml or .yaml")
    return text


def _host(text: str) -> str:
    if text.replace("{host}", "h", 1) != text and HOST.fullmatch(text.replace("{host}", "h")):
        return text
    raise ValueError(f"{text!r} must contain {{host}} and be a host name with it")


LocalTemplate = Annotated[str, AfterValidator(_local)]
"""Of files here, absolute; each scraper has its own."""
RemoteTemplate = Annotated[str, AfterValidator(_remote)]
"""Of files on the scrapers' machines, absolute."""
HostTemplate = Annotated[str, AfterValidator(_host)]
"""Of host names, with ``{host}``."""
