"""What an agent says once while it runs."""

from __future__ import annotations

from pathlib import Path

from promring.delivery.bundle import DECLINED, HAVE
from promring.telemetry.log import Logger


class Said:
    def __init__(self, log: Logger) -> None:
        self._log = log
        self._open, self._cut, self._dropped = False, set[str](), set[str]()

    def opened(self, folder: Path, *, to_all: bool) -> None:
        """``to_all``: whoever is on the machine may replace a slice, and says then what is scraped."""
        if to_all and not self._open:
            self._open = True
            self._log.warning("folder_writable_by_all", path=str(folder), remedy="chmod o-w, or give it the sticky bit")

    def cut(self, controller: str, after_s: float) -> None:
        """A long poll ended before its time."""
        if controller not in self._cut:
            self._cut.add(controller)
            note = "a proxy between, or a restart: the next ones are shorter"
            self._log.info("long_poll_cut", controller=controller, after_s=round(after_s, 1), note=note)

    def dropped(self, controller: str) -> None:
        """The headers of a question did not arrive."""
        if controller not in self._dropped:
            self._dropped.add(controller)
            note = "a proxy must let them pass: without them nothing counts as taken, and all is sent again and again"
            self._log.warning("headers_left_out", controller=controller, headers=f"{HAVE},{DECLINED}", note=note)
