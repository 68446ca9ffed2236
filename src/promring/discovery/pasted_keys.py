"""What blocks of Prometheus have in common, and what is known of their keys without loading how they are asked.

``PASTED``: their keys, and the class in ``pasted.py`` that each is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from promring.config.document import KeyPath
from promring.config.kinds import Problem
from promring.config.values import ENTRIES_MAX
from promring.discovery import Source, SourceContext, SourceSettings

SUFFIX = "_sd_configs"
_STATIC = "static_configs"
PASTED: Mapping[str, str] = {
    "consul_sd_configs": "ConsulSdConfigs",
    "dns_sd_configs": "DnsSdConfigs",
    "file_sd_configs": "FileSdConfigs",
    "http_sd_configs": "HttpSdConfigs",
    _STATIC: "StaticConfigs",
}
ON_SCRAPERS = frozenset(
    (
        *("job_name", "relabel_configs", "metric_relabel_configs", "scheme", "metrics_path", "params", "honor_labels"),
        *("honor_timestamps", "scrape_interval", "scrape_timeout", "sample_limit", "target_limit", "body_size_limit"),
    )
)
"""Keys of a job that say how it scrapes."""


def hint(key: str) -> str:
    """What to do with a key of Prometheus that promring does not have; mostly empty."""
    if key in ON_SCRAPERS:
        return f"{key}: this stays in the job on the scrapers; targets has its discovery only"
    if not key.endswith(SUFFIX) or key in PASTED:
        return ""
    return f"{key}: let a Prometheus discover these, and take them with targets: [{{prometheus: {{url, scrape_pool}}}}]"


_TEXTS = frozenset(
    (
        *("server", "token", "datacenter", "namespace", "partition", "tag_separator", "services", "tags", "node_meta"),
        *("names", "username", "password", "credentials", "bearer_token", "values", "secrets", "proxy_connect_header"),
    )
)
"""Keys of blocks whose values, whatever they look like, are texts for Prometheus, also those in lists and mappings below."""


def is_text(path: KeyPath) -> bool:
    """Whether Prometheus takes the value at this place for a text, as it stands there: in a pasted block."""
    kind = next((i for i, key in enumerate(path) if key in PASTED), None)
    if kind is None:
        return False
    if path[kind] == _STATIC:
        return len(path) > kind + 3  # below targets or labels of a group
    return any(key in _TEXTS for key in path[kind + 1 :])


_TEXTS_LISTED = frozenset(("services", "tags", "node_meta", "names"))
"""Whose values are texts, and which without a value are read as an empty one."""


def _given(block: object) -> object:
    """A block without the keys that have no value: they have their defaults for Prometheus."""
    if not isinstance(block, dict):
        return block
    return {k: v for k, v in block.items() if v is not None and not (v == "" and k in _TEXTS_LISTED)}


class Blocks(SourceSettings):
    """A list of blocks of one kind. ``block``: what each of them is."""

    joins = True
    block: ClassVar[type[SourceSettings]]

    blocks: tuple[SourceSettings, ...]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> CoreSchema:
        if not hasattr(cls, "block"):  # no kind of its own
            return handler(source)
        block = core_schema.no_info_before_validator_function(_given, handler.generate_schema(cls.block))
        blocks = core_schema.list_schema(block, min_length=1, max_length=ENTRIES_MAX)
        return core_schema.no_info_after_validator_function(lambda found: cls.model_construct(blocks=tuple(found)), blocks)

    @property
    def parts(self) -> Sequence[SourceSettings]:
        return self.blocks

    @property
    def source_name(self) -> str:
        return self.kind

    @abstractmethod
    def source(self, context: SourceContext) -> Source:
        """Of the whole list; where each block is a source of its own nobody asks for it."""

    def relations(self) -> Iterator[Problem]:
        for i, block in enumerate(self.blocks):
            yield from (((i, *path), what) for path, what in block.relations())

    def trial(self, folder: Path, patience_s: float) -> Iterator[Problem]:
        for i, block in enumerate(self.blocks):
            yield from (((i, *path), what) for path, what in block.trial(folder, patience_s))

    def doubts(self) -> Iterator[Problem]:
        for i, block in enumerate(self.blocks):
            yield from (((i, *path), what) for path, what in block.doubts())
