"""The one loop that every membership is listened to by.

Promises: who joins and who leaves, an empty answer, no answer and an answer after that are one log line each, whatever the
kind; a membership that ends by an unforeseen error is run again, with back-off, and says ``Unknown`` meanwhile. A kind only
sends full sets.
"""

from __future__ import annotations

from promring.membership import Membership, Publish
from promring.model import Answer, Empty, Known, Members, Unknown, Waiting
from promring.runtime.text import few
from promring.runtime.unforeseen import Lasting, kept_alive
from promring.telemetry.log import Logger, difference


async def watch(name: str, membership: Membership, publish: Publish, log: Logger) -> None:
    """Until cancelled. ``name``: what the scrapers are called in the log lines."""
    changes = Changes(name, log)

    def hear(answer: Answer[Members]) -> None:
        publish(answer)
        changes.say(answer)

    await kept_alive("membership", lambda: membership.run(hear), log, unknown=lambda why: hear(Unknown(why)))


NAMED_MOST = 100
"""Living scrapers that a line names: of a thousand that start one by one a thousand lines would be 15 MB."""


class Changes:
    """Log lines about who lives."""

    def __init__(self, name: str, log: Logger) -> None:
        self._name, self._log = name, log
        self._last: Answer[Members] | None = None
        self._failing, self._lasting = False, Lasting()
        self._living: list[str] = []
        """The scrapers of the last line about them."""

    def say(self, answer: Answer[Members]) -> None:
        last, self._last = self._last, answer
        if answer is last or answer == last or isinstance(answer, Waiting):
            return
        if isinstance(answer, Unknown):
            if self._lasting.is_news("", answer.reason, begins=not self._failing):
                self._log.warning("membership_gives_no_answer", srv_name=self._name, error=answer.reason)
            self._failing = True
            return
        if self._failing:
            self._failing = False
            self._log.info("membership_answers_again", srv_name=self._name)
        if isinstance(answer, Known):
            self._say_living(answer.value)
        elif isinstance(answer, Empty):
            self._living = []
            self._log.warning("service_has_no_healthy_node", srv_name=self._name)

    def _say_living(self, members: Members) -> None:
        before, self._living = self._living, [scraper.id for scraper in members]
        draining = " ".join(scraper.id for scraper in members if scraper.draining)
        self._log.info(
            "service_node_change_by_healthy_check",
            srv_name=self._name,
            num=len(members),
            detail=few(self._living, NAMED_MOST, " "),
            **({"in_maintenance": draining} if draining else {}),
            **difference(before, self._living),
        )
