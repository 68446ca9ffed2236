"""The keys of ``audit``."""

from __future__ import annotations

from promring.config.values import Interval, Model


class AuditKeys(Model):
    interval: Interval = 30.0
    second_opinion: bool = True
    timeout: Interval = 5.0
