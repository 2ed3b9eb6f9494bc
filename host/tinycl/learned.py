"""What a board has learned, as one portable file (shared/STATE.md): read, checked and shown on the host."""

import io
from binascii import crc32
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tinycl.shared import state
from tinycl.shared.errors import FormatError


@dataclass(frozen=True)
class Learned:
    """A verified portable file. Raises FormatError where it is cut, changed, or no such file."""

    data: bytes

    def __post_init__(self) -> None:
        head = self.parsed
        enrolled = [one for one in head.classes if one[2]]
        raw = len(self.data) - head.end
        samples = sum(count for _, count, _, _ in enrolled)
        size = raw // samples if samples else 0
        if raw != samples * size or (samples and not size):
            raise FormatError(f"{raw} bytes of raw samples for {samples} samples: pull the state again")
        at = head.end
        for name, count, _, crc in enrolled:
            if crc32(self.data[at : at + count * size]) != crc:
                raise FormatError(f"the {count} samples of class '{name}' are not what the state says: pull it again")
            at += count * size

    @staticmethod
    def head(data: bytes) -> Any:
        """The state at the start of a file, without the samples behind it (shared.state.State)."""
        return state.State(io.BytesIO(data))

    @cached_property
    def parsed(self) -> Any:
        return self.head(self.data)

    @property
    def names(self) -> list[str]:
        return [name for name, _, _, _ in self.parsed.classes]

    @property
    def enrolled(self) -> dict[str, int]:
        """Classes taught to the board, each with the samples that it keeps."""
        return {name: count for name, count, uid, _ in self.parsed.classes if uid}

    @cached_property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """(last layer [classes, 1 + inputs + units], hidden layer [units, 1 + inputs]): int32 with 20 fraction bits, biases
        first (they count 127 / 128)."""
        p = self.parsed
        n = len(p.classes)
        flat = np.frombuffer(self.data, "<i4", state.weight_count(n, p.inputs, p.units), p.weights_at)
        last = n * (1 + p.inputs + p.units)
        return flat[:last].reshape(n, -1), flat[last:].reshape(p.units, 1 + p.inputs)

    @cached_property
    def early_weights(self) -> np.ndarray | None:
        """Last layer of the first exit's own head, int32 [classes, 1 + its inputs], or None where there is none."""
        p = self.parsed
        if not p.early_inputs:
            return None
        rows = len(p.classes)
        before = state.weight_count(rows, p.inputs, p.units)
        flat = np.frombuffer(self.data, "<i4", rows * (1 + p.early_inputs), p.weights_at + 4 * before)
        return flat.reshape(rows, -1)

    @cached_property
    def latents(self) -> list[np.ndarray]:
        """Replay memory: for each class its latents, int8 [samples, inputs]."""
        p = self.parsed
        if not p.latents_at:
            raise FormatError("a learned state of version 1 holds no latents: pull it from a board with a newer agent")
        at = p.latents_at
        out = []
        for _, count, _, _ in p.classes:
            out.append(np.frombuffer(self.data, np.int8, count * p.inputs, at).reshape(count, p.inputs))
            at += count * p.inputs
        return out

    def facts(self) -> dict[str, Any]:
        """What a person wants to know about the file."""
        p = self.parsed
        return {
            "bytes": len(self.data),
            "blob": f"{p.blob_id:08x}",
            "rung": p.rung,
            "commit": p.sequence,
            "classes": {name: {"samples": count, "enrolled": bool(uid)} for name, count, uid, _ in p.classes},
        }
