"""The kinds of delivery: one row each."""

from __future__ import annotations

from typing import Annotated

from promring.config.kinds import OneOf, table
from promring.delivery.ansible import AnsibleSettings
from promring.delivery.command import CommandSettings
from promring.delivery.file import FileSettings
from promring.delivery.http_sd import HttpSdSettings
from promring.delivery.settings import DeliverySettings
from promring.delivery.ssh import SshSettings

KINDS = table(
    HttpSdSettings,
    FileSettings,
    SshSettings,
    AnsibleSettings,
    CommandSettings,
)
AnyDelivery = Annotated[DeliverySettings, OneOf(KINDS)]
"""One entry of ``delivery``: exactly one kind."""
