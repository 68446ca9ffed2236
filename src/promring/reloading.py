"""Reads the configuration for a reload, and says what a reload would do. Blocks; touches nothing that runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from promring import trial
from promring.config.load import Loaded, load_with_lines, loads_with_lines
from promring.config.settings import Settings
from promring.model import ConfigError
from promring.reload.decisions import Question, decide
from promring.reload.foresight import Now, foresee
from promring.web.answers.plans import ReloadPlan
from promring.web.views.plans import reload_plan


def read(config_file: Path, running: Settings, try_access: Callable[[], None]) -> Loaded:
    """The configuration in the file, tried where it differs from what is ``running``. Raises ``ConfigError``."""
    loaded = load_with_lines(config_file, pipes=False)
    found = loaded.lines(trial.problems(loaded.settings, config_file, running))
    try:
        try_access()
    except ConfigError as error:
        found += error.problems
    if found:
        raise ConfigError(found)
    return loaded


def foreseen(config_file: Path, now: Now, text: bytes, question: Question) -> ReloadPlan:
    """What a reload would do with this ``text`` in the place of the file. Raises ``ConfigError``, and ``PromringError`` for
    what is asked and cannot be.
    """
    loaded = loads_with_lines(text, name=question.name, base=config_file.absolute().parent)
    if found := loaded.lines(trial.problems(loaded.settings, config_file, now.settings, sent=True)):
        raise ConfigError(found)
    then = foresee(now, loaded.settings, question)
    return reload_plan(decide(now.settings, loaded.settings, now.known, then), then)
