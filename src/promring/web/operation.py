"""How an operation of the HTTP API is described."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

JSON, HTML = "application/json", "text/html"


@dataclass(frozen=True, slots=True)
class Parameter:
    """``where``: ``query``, ``header`` or ``path``; ``kind``: a type of JSON schema; ``repeated``: may come again."""

    name: str
    text: str
    where: str = "query"
    kind: str = "string"
    repeated: bool = False
    required: bool = False
    default: str | int | bool | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """``answer``: the type of ``data`` in the envelope; None: no envelope, but ``media``. ``errors``: why, by status;
    ``write``: it needs the token; ``takes``: the media type of its body.
    """

    method: str
    path: str
    text: str
    answer: object = None
    media: Sequence[str] = (JSON,)
    parameters: Sequence[Parameter] = ()
    errors: dict[int, str] = field(default_factory=dict)
    write: bool = False
    takes: str = ""

    @property
    def id(self) -> str:
        """A word for generated clients."""
        words = self.path.replace("{", "").replace("}", "").replace("-/", "").replace("api/v1/", "").replace(".", "/")
        verb = "page" if HTML in self.media else self.method.lower()
        return "_".join([verb, *filter(None, words.split("/"))]).replace("-", "_")
