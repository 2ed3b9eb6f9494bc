"""A firmware image as a UF2 file, the form in which an RP2040's boot drive takes it. Depends on nothing.

UF2 is a row of blocks of 512 bytes, each with an address and 256 bytes for it; blocks may be written in any order.
"""

import struct

FLASH = 0x10000000
RP2040_FAMILY = 0xE48BFF56
PAGE_BYTES = 256
FAMILY_PRESENT = 0x2000
HEAD = struct.Struct("<8I")  # two magic numbers, flags, address, bytes, block number, number of blocks, family
MAGIC = (0x0A324655, 0x9E5D5157)
END = struct.pack("<I", 0x0AB16F30)


def pack(image: bytes, base: int = FLASH, family: int = RP2040_FAMILY) -> bytes:
    """An image that begins at `base` of the flash; its last page is filled up with 0xff, as erased flash reads."""
    pages = [image[i : i + PAGE_BYTES].ljust(PAGE_BYTES, b"\xff") for i in range(0, len(image), PAGE_BYTES)]
    blocks = []
    for number, page in enumerate(pages):
        head = HEAD.pack(*MAGIC, FAMILY_PRESENT, base + number * PAGE_BYTES, PAGE_BYTES, number, len(pages), family)
        blocks.append((head + page).ljust(508, b"\0") + END)
    return b"".join(blocks)
