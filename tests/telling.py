"""What a controller reads in the note of another one."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from promring.election.leadership import Leadership


def hears(leadership: Leadership, **facts: Any) -> None:
    """Whoever leads says ``facts``, fields of ``Told``; the others of them are as they were."""
    leadership.shared.hear(replace(leadership.told, **facts))
