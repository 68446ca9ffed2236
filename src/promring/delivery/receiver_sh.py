"""The receiver on other hosts, ``receiver.sh``: how it is called, and what it answers.

The same bytes are used by ssh and by Ansible. Over ssh the program and its arguments come on the stdin of ``sh -s``, and the
bytes of the slice follow when it asks for them. Ansible brings one file: the program, a list, and the bytes of all slices.
Flow: ``ssh_push`` and ``ansible_inventory`` send it, ``ssh_hosts`` and ``ansible_push`` read the answers.
"""

from __future__ import annotations

import math
import re
import secrets
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import BinaryIO, NamedTuple

from promring.delivery.receiver import Envelope, RefusedError, note_of, parse_generation, refusal
from promring.model import Generation, PromringError, Slice

PROGRAM = Path(__file__).with_name("receiver.sh").read_bytes()
LIST = b"# slices\n"
_ANSWER = re.compile(r"promring ([0-9]{1,6}) (at|need|remark|written|same|reload|refused|error)\b ?(.*)")
REMEDIES = {
    "note_ignored": "it is written anew",
    "folder_writable_by_all": "chmod o-w, or give it the sticky bit",
}
"""What the receiver may remark, and the remedy."""


class SdFile(NamedTuple):
    """A slice, and the name that its file shall have."""

    name: str
    body: bytes
    sha256: str
    generation: Generation

    @classmethod
    def of(cls, name: str, slice_: Slice) -> SdFile:
        return cls(name, slice_.body, slice_.sha256, slice_.generation)


class Answer(NamedTuple):
    """A line that the receiver says of the slice with that number: ``at``, ``need``, ``remark``, ``written``, ``same``,
    ``reload``, ``refused`` or ``error``; ``text`` is what follows the word.
    """

    number: int
    word: str
    text: str = ""


class TroubleError(PromringError):
    """The receiver could not take the slice; the text says why."""


def to_stdin(path: str, offer: Envelope, patience_s: float, own: int = 1) -> bytes:
    """What ``sh -s`` is given first. ``patience_s``: how long the bytes of the slice may take; ``own``: how many of the last
    folders of ``path`` may not be symlinks.
    """
    size, seconds = len(offer.body), math.ceil(patience_s) + 5
    arguments = ("ask", path, offer.generation, offer.sha256, size, secrets.token_hex(8), seconds, own)
    return f"set -- {shlex.join(map(str, arguments))}\n".encode("utf-8", "surrogateescape") + PROGRAM


def write_bundle(file: BinaryIO, slices: Sequence[SdFile]) -> None:
    """The program, the list, and the bytes. Names have no white space."""
    file.write(PROGRAM + LIST)
    begins = sum(len(one.body) for one in slices)
    for one in slices:
        size, word = len(one.body), secrets.token_hex(8)
        file.write(f"{one.generation} {one.sha256} {size} {word} {begins} {one.name}\n".encode())
        begins -= size
    file.write(b"\n")
    for one in slices:
        file.write(one.body)


def parse_answer(line: str) -> Answer | None:
    """None: somebody else said it."""
    match = _ANSWER.fullmatch(line.strip())
    return None if match is None else Answer(int(match[1]), match[2], match[3])


def was_written(answer: Answer, generation: Generation, path: PurePath) -> bool:
    """Whether the slice of ``generation`` is there since now; else it was there before.

    Raises ``RefusedError`` when the receiver has a newer one, ``TroubleError`` when it could not take the slice.
    """
    match answer.word:
        case "written" | "reload":
            return True
        case "same":
            return False
        case "refused":
            try:
                have = parse_generation(answer.text)
            except ValueError as error:
                raise TroubleError(f"an answer that is none: {error}") from None
            if have < generation:  # no receiver does that: a controller must not follow its number
                raise TroubleError(f"it has generation {have} and refuses the newer {generation}")
            raise RefusedError(refusal(have, generation, note_of(path)), have)
        case "error" if answer.text:
            raise TroubleError(answer.text)
    raise TroubleError(f"an answer that is none: {f'{answer.word} {answer.text}'.strip()!r}")
