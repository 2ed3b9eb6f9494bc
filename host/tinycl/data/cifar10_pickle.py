# CIFAR-10's Python batches without trusting them: a pickle is a program, so this one may only do what the published six do.
# Its instructions are looked through before any is run, and NumPy's names stand for small classes of our own: nothing of NumPy
# is called by the file. Depends on NumPy for the array at the end.

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError

MAX_BYTES = 64 << 20  # a published batch has 31 MB
MAX_MEMO = 1 << 20  # the C unpickler makes its memo as large as the largest index asks for
MAX_NESTS = 16  # tuples, and things used again: a batch has six and none; many make a small file that takes for ever to hash
# Python 2's protocol 2, as the batches were written, and what Python 3 writes when it saves one anew.
OPCODES = frozenset(
    (
        *("PROTO", "FRAME", "STOP", "MARK", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
        *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1"),
        *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("SHORT_BINSTRING", "BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINUNICODE", "SHORT_BINUNICODE"),
        *("BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"),
    )
)
ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # NumPy 2 renamed it


class _Type:
    """Stands for numpy.dtype: only unsigned bytes."""

    def __init__(self, *arguments: Any) -> None:
        if arguments[:1] not in ((b"u1",), ("u1",)):
            raise pickle.UnpicklingError("an array of another type than u1")  # no repr of what the file made: it may not end

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, which mean nothing for bytes."""


class _Array:
    """Stands for numpy.ndarray while it is put together."""

    value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _Type) or not isinstance(data, bytes):
            raise pickle.UnpicklingError(f"an array made from {type(kind).__name__} and {type(data).__name__}")
        if not all(isinstance(n, int) and n >= 0 for n in shape) or math.prod(shape) != len(data):
            raise pickle.UnpicklingError(f"an array with {len(data)} bytes, which its shape does not fit")
        self.value = np.frombuffer(data, np.uint8).reshape(shape, order="F" if fortran else "C")


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if kind is not _Array:
        raise pickle.UnpicklingError("an array of another class than ndarray")
    return _Array()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ARRAY_MODULES and name == "_reconstruct":
            return _reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _Array if name == "ndarray" else _Type
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_pickle(path: Path) -> tuple[np.ndarray, list[int]]:
    """(data uint8 [n, 3072], labels) of one batch. Raises DataError for other pickles, naming what they ask for."""
    todo = "this is no batch of CIFAR-10; fetch it again"
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"{path.name}: {size} bytes, a batch has at most {MAX_BYTES}: {todo}")
    data = path.read_bytes()
    nests = {"TUPLE": 0, "BINGET": 0}
    try:
        for code, argument, position in pickletools.genops(data):
            if code.name not in OPCODES:
                raise pickle.UnpicklingError(f"instruction {code.name} at byte {position}")
            if code.name == "LONG_BINPUT" and int(argument or 0) > MAX_MEMO:
                raise pickle.UnpicklingError(f"memo {argument} at byte {position}, {MAX_MEMO} at most")
            for kind in nests:
                nests[kind] += kind in code.name
                if nests[kind] > MAX_NESTS:
                    raise pickle.UnpicklingError(f"{nests[kind]} times {kind}, {MAX_NESTS} at most")
        made = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as e:  # a hostile program fails in any way it likes; none of them is worth a traceback
        raise DataError(f"{path.name}: {size} bytes that are refused ({str(e)[:200]}): {todo}") from e
    if not isinstance(made, dict):
        raise DataError(f"{path.name}: holds 1 {type(made).__name__}, a batch is a dictionary: {todo}")
    entries = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in made.items()}
    planes, labels = entries.get("data"), entries.get("labels")
    if not isinstance(planes, _Array) or planes.value is None or not isinstance(labels, list):
        raise DataError(f"{path.name}: {len(entries)} entries, `data` (an array) and `labels` (a list) are needed: {todo}")
    if not all(type(label) is int for label in labels):
        raise DataError(f"{path.name}: {len(labels)} labels that are not all whole numbers: {todo}")
    return planes.value, labels
