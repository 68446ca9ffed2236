"""What there is to say about discoveries that promring, or a Prometheus for it, does from now on: another machine asks, with
its own rights, files and neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from promring.importing import keys
from promring.importing.configuration import Job
from promring.importing.findings import Finding
from promring.importing.inside import host_of, is_loopback, leaves
from promring.importing.source import Node, get, text_of

_AWS = frozenset(f"{name}_sd_configs" for name in ("aws", "ec2", "ecs", "elasticache", "lightsail", "msk", "rds"))


def findings_of_discoveries(job: Job, who: str) -> Iterator[Finding]:
    """``who``: does them now."""
    done = f"now {who} asks there, on its own machine"
    for kind in job.discoveries:
        listed = job.get(kind)
        assert listed is not None  # it is not empty
        for number, item in enumerate(listed.items):
            if kind in keys.SERVERS_BY_DEFAULT and get(item, "server") is None:
                what = f"{keys.SERVERS_BY_DEFAULT[kind]} is asked for the targets"
                yield job.finding("PI017", what, done, item, f"{kind}[{number}]")
        for leaf in leaves(listed):
            text, under = leaf.node.real.text, f"{kind}{leaf.path}"
            local = text.startswith("unix:") or is_loopback(text)
            if kind != "static_configs" and leaf.key in keys.SERVERS | keys.THROUGH and local:
                what = f"{text if text.startswith('unix:') else host_of(text)} is asked for the targets"
                yield job.finding("PI017", what, done, leaf.node, under)
            elif leaf.key == "files":
                yield job.finding("PI017", "targets are read from files", f"{who} must have them", leaf.node, under)
        for takes, what, needs in _OF_THE_MACHINE:
            if any(takes(kind, item) for item in listed.items):
                yield job.finding("PI018", what, f"{who} needs {needs}", under=kind)


def _in_cluster(kind: str, item: Node) -> bool:
    outside = get(item, "api_server") is not None or get(item, "kubeconfig_file") is not None
    return kind == "kubernetes_sd_configs" and not outside


def _in_own_namespace(kind: str, item: Node) -> bool:
    own = text_of(get(get(item, "namespaces"), "own_namespace")).lower() in ("true", "yes", "on", "y")
    return kind == "kubernetes_sd_configs" and own


def _as_the_machine(kind: str, item: Node) -> bool:
    """Whether it has no credentials of its own: the machine's, or those of its environment, are taken."""
    match kind:
        case "gce_sd_configs":
            return True
        case "azure_sd_configs":
            return text_of(get(item, "authentication_method")) not in ("", "OAuth")
        case "openstack_sd_configs":
            return get(item, "identity_endpoint") is None
    return kind in _AWS and get(item, "access_key") is None


def _in_own_region(kind: str, item: Node) -> bool:
    return kind in _AWS and get(item, "region") is None


_OF_THE_MACHINE: tuple[tuple[Callable[[str, Node], bool], str, str], ...] = (
    (_in_cluster, "asks the Kubernetes that it runs in", "the service account of the old server"),
    (_in_own_namespace, "asks for the namespace that it runs in", "to run in that of the old server"),
    (_as_the_machine, "asks with the rights of the machine, or of its environment", "those of the old server"),
    (_in_own_region, "asks the region that it runs in", "to run in that of the old server, or region: to be written"),
)
