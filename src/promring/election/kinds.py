"""The kinds of locks: one row each."""

from __future__ import annotations

from typing import Annotated

from promring.config.kinds import OneOf, Table
from promring.election import LockSettings

KINDS = Table(
    LockSettings,
    {
        "consul": "promring.consul.lock:ConsulLockSettings",
        "etcd": "promring.etcd.lock:EtcdLockSettings",
        "kubernetes": "promring.kubernetes.lock:KubernetesLockSettings",
    },
)
AnyLock = Annotated[LockSettings, OneOf(KINDS)]
"""What ``controllers.lock`` chooses: exactly one kind."""
