"""Bugs of locks that are not in Consul, and of services that move to another fleet, to plant as those of ``planted``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from promring.etcd.lock import EtcdLockStore
from promring.fleet import succession
from promring.kubernetes.lock import KubernetesLockStore

Places = list[tuple[Any, str, Any]]


def no_sign_of_life() -> Places:
    """At etcd a lease that was granted once is taken to live for ever."""

    async def alive(_: EtcdLockStore) -> bool:
        return True

    return [(EtcdLockStore, "_keep_alive", alive)]


def the_key_outlives_its_lease() -> Places:
    """At etcd the lock's key is put without its lease, so that it never ends."""
    real = EtcdLockStore._transaction

    async def transaction(self: EtcdLockStore, compare: Any, then: Any) -> Any:
        puts = [{"request_put": {**one["request_put"], "lease": "0"}} if "request_put" in one else one for one in then]
        return await real(self, compare, puts)

    return [(EtcdLockStore, "_transaction", transaction)]


def a_lease_never_expires() -> Places:
    """At Kubernetes whoever stands in the Lease holds it, dead or alive."""
    real = KubernetesLockStore.__init__

    def init(self: KubernetesLockStore, *args: Any) -> None:
        real(self, *args, clock=lambda: 0.0)

    return [(KubernetesLockStore, "__init__", init)]


def claims_keep_their_salt() -> Places:
    """What was held in one fleet is not found again in another one."""
    return [(succession, "salt_of", lambda *_: 0)]


LOCK_BUGS: Mapping[str, Callable[[], Places]] = {
    bug.__name__: bug for bug in (no_sign_of_life, the_key_outlives_its_lease, a_lease_never_expires, claims_keep_their_salt)
}
