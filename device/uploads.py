# Objects that arrive over the line: written to flash block by block, found again after any cut, verified before use.
# Allocates one block of BLOCK_BYTES while an upload is open.
import struct
from hashlib import sha256

from shared import blob as b
from shared import errors
from shared.errors import TinyclError

BLOCK_BYTES = 4096  # written to flash at once, never while bytes may be under way


class Uploads:
    """store: the Store; pulse: called while a long file is read back."""

    def __init__(self, store, pulse):
        self.store = store
        self.pulse = pulse
        self.now = None  # the open one: [file, bytes, fingerprint, bytes so far, block, name]
        self.ready = ""  # name of a complete and verified one

    def begin(self, payload):
        """bytes u32, fingerprint u32, afresh u8: begins an upload, or goes on with one that was cut, by whatever. Answers with
        the size of a block, the byte to go on from and the fingerprint of all before it, each u32."""
        if len(payload) != 9:
            raise TinyclError("an upload is opened with 9 bytes, not with %d: update the host" % len(payload), errors.FORMAT)
        size, mark, afresh = struct.unpack("<IIB", payload)
        if not 0 < size <= b.MAX_BLOB_BYTES:
            raise TinyclError(
                "an object of %d bytes, 1 to %d are possible: send a smaller one" % (size, b.MAX_BLOB_BYTES), errors.NO_ROOM
            )
        store = self.store
        self.close()
        self.ready = ""
        name = store.upload_name(size, mark)
        for other in store.uploads():
            if afresh or other != name:
                store.remove(other)
        done = store.size(name)
        done = done - done % BLOCK_BYTES if done < size else size
        store.check_room([size - done], "an object of %d bytes" % size)
        block = bytearray(BLOCK_BYTES)
        found = self.fingerprint(name, done, block) if done else 0
        f = open(store.path(name), "r+b" if done else "wb")
        f.seek(done)
        self.now = [f, size, mark, done, block, name]
        return struct.pack("<III", BLOCK_BYTES, done, found)

    def fingerprint(self, name, size, block):
        """The first four bytes of the SHA-256 of the first `size` bytes of a file. A CRC-32 would not do: bytes that end with
        their own CRC-32, as a learned state does, all have the same one."""
        found = sha256()
        view = memoryview(block)
        with open(self.store.path(name), "rb") as f:
            while size:
                n = f.readinto(view[: min(size, len(block))])
                if not n:
                    break
                found.update(view[:n])
                size -= n
                self.pulse()
        return int.from_bytes(found.digest()[:4], "little")

    def take(self, payload):
        """The next bytes, which must not cross a block. The answer to a block's last piece comes after the block is on flash
        for good, so that nothing is under way while flash is written, and nothing that was answered for can be lost."""
        if not self.now:
            raise TinyclError("no upload is open: open one first", errors.SEQUENCE)
        f, size, _, done, block, _ = self.now
        n = len(payload)
        room = min(BLOCK_BYTES - done % BLOCK_BYTES, size - done)
        if not 0 < n <= room:
            raise TinyclError("%d bytes at %d, expected are 1 to %d: open the upload again" % (n, done, room), errors.SEQUENCE)
        start = done % BLOCK_BYTES
        block[start : start + n] = payload
        done += n
        if done % BLOCK_BYTES == 0 or done == size:
            try:
                f.write(memoryview(block)[: start + n])
                f.flush()
            except OSError:
                self.close()
                raise
        self.now[3] = done
        return struct.pack("<I", done)

    def finish(self, payload):
        """Verifies the upload by its fingerprint, read back from flash."""
        if not self.now:
            raise TinyclError("no upload is open: open one first", errors.SEQUENCE)
        _, size, mark, done, block, name = self.now
        if done != size:
            raise TinyclError("the upload has %d of %d bytes: send the rest" % (done, size), errors.TOO_FEW)
        self.close()
        found = self.fingerprint(name, size, block)
        if found != mark:
            self.store.remove(name)
            raise TinyclError("the upload has fingerprint 0x%08x, not 0x%08x: send it again" % (found, mark), errors.FORMAT)
        self.ready = name

    def close(self):
        """What is on flash of an open upload stays: it can be gone on with."""
        now, self.now = self.now, None
        if now:
            try:
                now[0].close()
            except OSError:  # a full flash: every block was on flash before it was answered, and `finish` reads all of them
                pass

    def drop(self):
        """Removes all of them from flash."""
        self.close()
        self.ready = ""
        for name in self.store.uploads():
            self.store.remove(name)

    def complete(self):
        """Name of the upload that is complete and verified."""
        if not self.ready or not self.store.exists(self.ready):
            raise TinyclError("no complete upload: send one first", errors.SEQUENCE)
        return self.ready
