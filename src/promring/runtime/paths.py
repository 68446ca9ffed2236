"""Path templates: ``out/{service}/{scraper}.json`` → a path that stays where the operator put it.

A value that could leave its place (``../x``, ``a/b``, empty) is written as a digest. ``:`` becomes ``_``.
"""

from __future__ import annotations

import hashlib
import os
import re
import string
from pathlib import Path

from promring.model import Scraper

NAME_MOST = 200
"""A file system takes 255 bytes, and temporary files and notes add to a name."""
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def file_name(value: str) -> str:
    """``value`` as one path component: itself when it is plain and short, else 16 hex digits of its SHA-256."""
    name = value.replace(":", "_")
    if len(name) <= NAME_MOST and _SAFE.fullmatch(name):
        return name
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def render(template: str, service: str, scraper: Scraper) -> Path:
    """The path of one scraper's file. ``template`` is absolute and was checked by ``settings``."""
    return Path(
        template.format(
            service=file_name(service), scraper=file_name(scraper.id), host=file_name(scraper.host), port=scraper.port
        )
    )


def path_of(template: str, fleet: str, service: str, scraper: Scraper) -> str:
    """``render`` with the name of the fleet, too, and normal: two texts of one file are one text."""
    return os.path.normpath(render(of_fleet(template, fleet), service, scraper))


def of_fleet(template: str, fleet: str) -> str:
    """With the name of the fleet in the place of ``{fleet}``."""
    return template.replace("{fleet}", file_name(fleet))


def of_service(name: str, fleet: str, service: str) -> str:
    """A file name with the names of the service and its fleet in it."""
    return of_fleet(name, fleet).replace("{service}", file_name(service))


def own_folders(template: str) -> int:
    """How many of the last folders of a path promring names or fills: from the first that has a field, at least one."""
    folders = Path(template).parent.parts
    fixed = next((i for i, part in enumerate(folders) if _has_field(part)), len(folders))
    return max(1, len(folders) - fixed)


def _has_field(text: str) -> bool:
    return any(name is not None for _, name, _, _ in string.Formatter().parse(text))
