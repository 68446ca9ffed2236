"""The fenced blocks of the documentation, as the tests that run or check them need them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"(?:^ *<!-- block: (?P<marker>.*?) -->\n)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_ON = re.compile(r"# on ([\w., ]+)$")
_FILE = re.compile(r"# (/\S+)")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    marker: str
    """What ``<!-- block: … -->`` on the line above says: why it is not checked as others of its language are."""

    @property
    def machines(self) -> list[str]:
        """Where it is typed, as its first line says: ``# on 10.0.0.1, 10.0.0.2``."""
        found = _ON.match(self.text.partition("\n")[0])
        return found[1].split(", ") if found else []

    @property
    def file(self) -> str:
        """The file that it is, as its first line says: ``# /etc/promring/promring.yml``."""
        found = _FILE.match(self.text)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """In the order of the page."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        indent = len(found["indent"])
        before = text[: found.start()]
        yield Block(
            page=str(page.relative_to(ROOT)),
            line=before.count("\n") + 1,
            language=found["language"],
            text="".join(line[indent:] if line.strip() else "\n" for line in found["text"].splitlines(keepends=True)),
            marker=found["marker"] or "",
        )


def commands(block: Block) -> list[str]:
    """Its lines without comments, a continued one in one piece."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    return [line for raw in joined.splitlines() if (line := re.sub(r"(^|\s+)#\s.*$", "", raw).rstrip())]
