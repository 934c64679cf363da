"""What the compiler made of each kernel, read from its machine code."""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["Resources", "resources"]

_REGISTERS, _FRAME_SIZE = 0x2F, 0x11
"""EIATTR_REGCOUNT and EIATTR_FRAME_SIZE: attributes with a symbol and a value."""

_SIZED = 4
"""The format of an attribute that has its size before it; the others are 4 bytes in all."""


@dataclass(frozen=True)
class Resources:
    """registers: of a thread. stack: bytes of a thread's local memory, where spilled registers lie, and arrays that are
    indexed by what the compiler does not know.
    """

    registers: int
    stack: int


def resources(cubin: bytes) -> dict[str, Resources]:
    """By kernel, what each uses."""
    sections = _sections(cubin)
    names = _symbols(cubin, sections)
    found: dict[int, dict[str, int]] = {_REGISTERS: {}, _FRAME_SIZE: {}}
    place, data = 0, sections[".nv.info"][1]
    while place < len(data):
        form, attribute, size = struct.unpack_from("<BBH", data, place)
        place += 4
        if form == _SIZED:
            if attribute in found:
                symbol, value = struct.unpack_from("<II", data, place)
                found[attribute][names[symbol]] = value
            place += size
    kernels = [name.removeprefix(".text.") for name in sections if name.startswith(".text.")]
    return {name: Resources(found[_REGISTERS][name], found[_FRAME_SIZE][name]) for name in kernels}


def _sections(elf: bytes) -> dict[str, tuple[int, bytes]]:
    """By name, a section's type and contents."""
    assert elf[:5] == b"\x7fELF\x02", "64 bits"
    (table,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    heads = [struct.unpack_from("<IIQQQQ", elf, table + k * size) for k in range(count)]
    strings = heads[names][4]
    no_bits = 8
    return {
        _text(elf, strings + name): (kind, b"" if kind == no_bits else elf[offset : offset + length])
        for name, kind, _, _, offset, length in heads
    }


def _symbols(elf: bytes, sections: dict[str, tuple[int, bytes]]) -> list[str]:
    table, strings = sections[".symtab"][1], sections[".strtab"][1]
    return [_text(strings, struct.unpack_from("<I", table, place)[0]) for place in range(0, len(table), 24)]


def _text(data: bytes, place: int) -> str:
    return data[place : data.index(b"\0", place)].decode()
