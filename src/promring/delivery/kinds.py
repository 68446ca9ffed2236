"""The kinds of delivery: one row each."""

from __future__ import annotations

from typing import Annotated

from promring.config.kinds import OneOf, Table
from promring.delivery.settings import DeliverySettings

KINDS = Table(
    DeliverySettings,
    {
        "http_sd": "promring.delivery.http_sd:HttpSdSettings",
        "file": "promring.delivery.file:FileSettings",
        "ssh": "promring.delivery.ssh:SshSettings",
        "ansible": "promring.delivery.ansible:AnsibleSettings",
        "command": "promring.delivery.command:CommandSettings",
    },
)
AnyDelivery = Annotated[DeliverySettings, OneOf(KINDS)]
"""One entry of ``delivery``: exactly one kind."""
