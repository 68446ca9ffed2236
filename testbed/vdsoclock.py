"""The wall clock of one running process set forward or back, whatever language it is written in.

A process reads its clocks from a library that the kernel maps into it (the vDSO). ``VdsoClock`` writes into the private copy
of one process: from then on ``clock_gettime``, ``gettimeofday`` and ``time`` ask the kernel by a system call and add an
offset to ``CLOCK_REALTIME``. Go programs (Prometheus, Consul, etcd) ask nothing else, so libfaketime cannot reach them.

Promises that ``jump`` moves the wall clock of that process alone, at once, and that monotonic and boot time go on. Does not
promise anything for its children, or for the times of files. Linux on x86-64 only, by whoever may write to the memory of
that process.
"""

from __future__ import annotations

import os
import platform
import signal
import struct
from collections.abc import Callable
from pathlib import Path

CLOCK_GETTIME, GETTIMEOFDAY, TIME = 228, 96, 201
"""System calls of x86-64."""
_MOV_EAX, _SYSCALL, _RET = b"\xb8", b"\x0f\x05", b"\xc3"
Code = Callable[[int, int], bytes]
"""Machine code that stands at the first number, and finds the offset at the second, both from the start of the vDSO."""


def unavailable() -> str:
    """Why it cannot be had, "" when it can."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return "the vDSO of Linux on x86-64 is needed"
    return "" if "[vdso]" in Path("/proc/self/maps").read_text() else "this kernel maps no vDSO"


class VdsoClock:
    """Of process ``pid``, which is stopped for a moment while its clock is prepared. Ends with the process."""

    def __init__(self, pid: int) -> None:
        self._pid, self.offset_s = pid, 0
        start, end = _mapping(pid)
        with open(f"/proc/{pid}/mem", "rb") as memory:
            memory.seek(start)
            image = memory.read(end - start)
        room = (len(image.rstrip(b"\0")) + 63) // 64 * 64
        self._offset_at = start + room
        code = {
            "__vdso_clock_gettime": _replacement(CLOCK_GETTIME, by_id=True),
            "__vdso_gettimeofday": _replacement(GETTIMEOFDAY),
            "__vdso_time": _replacement_of_time(),
        }
        at, writes, jumps = room + 8, [(start + room, bytes(8))], []
        for name, entry in _functions(image).items():
            if name in code:
                made = code[name](at, room)
                writes.append((start + at, made))
                jumps.append((start + entry, b"\xe9" + struct.pack("<i", at - entry - 5)))
                at += (len(made) + 15) // 16 * 16
        assert len(jumps) == len(code), "the vDSO has the functions that programs use"
        assert at <= len(image), "the vDSO has room behind its code"
        os.kill(pid, signal.SIGSTOP)
        try:
            self._write([*writes, *jumps])
        finally:
            os.kill(pid, signal.SIGCONT)

    def jump(self, by_s: int) -> None:
        """Set the clock forward, or back when negative."""
        self.offset_s += by_s
        self._write([(self._offset_at, struct.pack("<q", self.offset_s))])

    def _write(self, writes: list[tuple[int, bytes]]) -> None:
        with open(f"/proc/{self._pid}/mem", "r+b", buffering=0) as memory:
            for at, what in writes:
                memory.seek(at)
                memory.write(what)


def _mapping(pid: int) -> tuple[int, int]:
    line = next(one for one in Path(f"/proc/{pid}/maps").read_text().splitlines() if one.endswith("[vdso]"))
    start, end = line.split()[0].split("-")
    return int(start, 16), int(end, 16)


def _functions(image: bytes) -> dict[str, int]:
    """Offsets of the dynamic symbols of an ELF image."""
    (table,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, table + i * size) for i in range(count)]
    found = {}
    for section in sections:
        if section[1] == 11:  # SHT_DYNSYM; its ``sh_link`` is the table of names
            names = sections[section[6]][4]
            for at in range(section[4], section[4] + section[5], 24):
                name, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", image, at)
                start = names + name
                found[image[start : image.index(b"\0", start)].decode()] = value
    return found


def _replacement(number: int, *, by_id: bool = False) -> Code:
    """The system call, then the offset is added to the seconds in the answer. ``by_id``: the first argument is a clock."""

    def made(at: int, offset: int) -> bytes:
        head = _MOV_EAX + struct.pack("<i", number) + _SYSCALL
        if by_id:  # edi: which clock, rsi: the answer
            head += b"\x85\xc0\x75\x13"  # test eax,eax; jnz end
            head += b"\x85\xff\x74\x05\x83\xff\x05\x75\x0a"  # test edi,edi; jz add; cmp edi,CLOCK_REALTIME_COARSE; jne end
        else:  # rdi: the answer, may be 0
            head += b"\x48\x85\xff\x74\x0a"  # test rdi,rdi; jz end
        load = b"\x4c\x8b\x1d" + _beside(at + len(head), offset)  # mov r11,[offset]
        add = b"\x4c\x01\x1e" if by_id else b"\x4c\x01\x1f"  # add [rsi] or [rdi],r11
        return head + load + add + _RET

    return made


def _replacement_of_time() -> Code:
    def made(at: int, offset: int) -> bytes:
        asked = _MOV_EAX + struct.pack("<i", TIME) + b"\x57\x31\xff" + _SYSCALL + b"\x5f"  # rdi is 0 for the call
        add = b"\x48\x03\x05" + _beside(at + len(asked), offset)  # add rax,[offset]
        return asked + add + b"\x48\x85\xff\x74\x03\x48\x89\x07" + _RET  # test rdi,rdi; jz end; mov [rdi],rax

    return made


def _beside(at: int, offset: int) -> bytes:
    """Where ``offset`` is, seen from the end of an instruction of 7 bytes that begins at ``at``."""
    return struct.pack("<i", offset - (at + 7))
