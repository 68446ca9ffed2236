"""What a run of ``ansible-playbook`` is given: its inventory, and the slices as files.

Nothing of a slice is a variable: its bytes are a file. With the playbook that comes along the slices of a host are one file,
behind ``receiver.sh``; a playbook of one's own gets one slice a host, as a file of the name that it shall have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from promring.delivery.receiver_sh import SdFile, write_bundle

FILES = Path(__file__).parent / "ansible_files"


@dataclass(frozen=True, slots=True)
class Host:
    """One host of the inventory. ``name``, ``variables`` and names of files must be safe to be templates; bodies need not.
    A playbook of one's own takes one file a host.
    """

    name: str
    files: Sequence[SdFile] = field(repr=False)
    variables: Mapping[str, str | int | bool | Sequence[str]]
    shared: bool = False
    """Whether other services have files there, too."""


def write_inventory(folder: Path, hosts: Sequence[Host], *, receiver: bool) -> None:
    """The inventory, and beside it what is sent: ``receiver``: all files of a host in one, behind the receiver; else its
    one file, under the name that it shall have.
    """
    listed = {}
    for index, host in enumerate(hosts):
        place = folder / "slices" / str(index)
        place.mkdir(parents=True)
        if receiver:
            own: dict[str, str | bool | list[str]] = {"promring_receiver": str(_bundle(place / "receiver.sh", host.files))}
            own |= {"promring_file_names": [file.name for file in host.files], "promring_shared": host.shared}
        else:
            file = host.files[0]
            (place / file.name).write_bytes(file.body)
            own = {"src_sd_file_name": str(place / file.name), "promring_sha256": file.sha256}
            own |= {"promring_generation": str(file.generation)}
        listed[host.name] = {**host.variables, "dest_sd_file_name": host.files[0].name, **own}
    (folder / "inventory.json").write_text(json.dumps({"all": {"hosts": listed}}))
    (folder / "ansible.cfg").write_text("[defaults]\n")


def _bundle(path: Path, files: Sequence[SdFile]) -> Path:
    with open(path, "wb") as bundle:
        write_bundle(bundle, files)
    return path
