"""What goes wrong, and whose fault it is."""

from __future__ import annotations

from collections.abc import Sequence

from promring.model.targets import TargetPool
from promring.runtime.redact import scrub

PROBLEM_MOST = 2000
"""Characters of one error of a configuration."""


class PromringError(Exception):
    """Base of every error that promring raises on purpose. Its text is for the operator: one line, names the entry."""


class ConfigError(PromringError):
    """The configuration is at fault. ``problems`` has one line an error, all that were found, without credentials."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = [scrub(problem[:PROBLEM_MOST]) for problem in problems]
        super().__init__("\n".join(self.problems))


class DiscoveryError(PromringError):
    """A target source gave no usable answer; its last good list stays.

    ``pool`` is not None when only a part of it failed and could be replaced by the last good one of that part: then it is
    whole, if partly stale. ``remembered``: a part of it is from before the start, so that it is no answer of this run.
    ``retry_after_s``: how long the source asks to be left alone; 0: it did not say.
    """

    def __init__(
        self, text: str, pool: TargetPool | None = None, *, remembered: bool = False, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(text)
        self.pool, self.remembered, self.retry_after_s = pool, remembered, retry_after_s


class PlacementError(PromringError):
    """Nothing can be placed so: the text names what is wrong (a weight, a load, no scraper)."""


class StoreError(PromringError):
    """Consul, etcd or Kubernetes gave no usable answer; the last facts stay. ``status``: HTTP's, or 0."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class ConsulError(StoreError):
    """Consul gave no usable answer."""


class EtcdError(StoreError):
    """etcd gave no usable answer. ``code``: gRPC's, 0 when it did not say one."""

    def __init__(self, text: str, status: int = 0, code: int = 0) -> None:
        super().__init__(text, status)
        self.code = code


class KubernetesError(StoreError):
    """Kubernetes' API gave no usable answer. ``retry_after_s``: so long it asks to wait; 0: it does not say."""

    def __init__(self, text: str, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(text, status)
        self.retry_after_s = retry_after_s


class ListenError(PromringError):
    """The web server's address cannot be had."""
