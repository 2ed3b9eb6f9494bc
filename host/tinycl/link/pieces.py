"""How data is cut into payloads of numbered requests. Depends on the wire format only."""

from collections.abc import Iterator

from tinycl.shared.wire import HEAD_BYTES, MAX_BODY, MIN_BODY


def pieces(data: bytes, line_bytes: int) -> Iterator[bytes]:
    """A generator that cuts data into payloads whose frames have at most line_bytes (64 or more) on the line: as long as the
    bytes that have to be escaped allow."""
    most = min(line_bytes, HEAD_BYTES + MAX_BODY) - HEAD_BYTES - MIN_BODY - 5  # number and CRC-32 may need escapes too
    at = 0
    while at < len(data):
        n = min(most, len(data) - at)
        while True:
            part = data[at : at + n]
            over = n + part.count(b"\x03") + part.count(b"\x7d") + part.count(b"\x7e") - most
            if over <= 0:
                break
            n -= (over + 1) // 2
        yield part
        at += n
