"""The kinds of locks: one row each."""

from __future__ import annotations

from typing import Annotated

from promring.config.kinds import OneOf, table
from promring.consul.lock import ConsulLockSettings
from promring.election import LockSettings
from promring.etcd.lock import EtcdLockSettings
from promring.kubernetes.lock import KubernetesLockSettings

KINDS = table(
    ConsulLockSettings,
    EtcdLockSettings,
    KubernetesLockSettings,
)
AnyLock = Annotated[LockSettings, OneOf(KINDS)]
"""What ``controllers.lock`` chooses: exactly one kind."""
