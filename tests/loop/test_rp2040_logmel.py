"""The log-mel front end on the emulated RP2040, where numbers have 31 bits and the FFT's stage is ARMv6-M assembler that runs
nowhere else: equal to NumPy to the bit, and nothing taken from the heap. Needs `make firmware`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tinycl.board.repl import Repl
from tinycl.board.rp2040 import Rp2040Board
from tinycl.data import logmel

pytest_plugins = ["emulated"]
FRONT_END = (Path(__file__).parents[1] / "device/front_end.py").read_text().split("if __name__")[0]
HOP, MELS = 320, 32


@pytest.fixture(scope="module")
def chip(firmware: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repl]:
    """A board's REPL with front_end.py."""
    board = Rp2040Board(flash=tmp_path_factory.mktemp("rp2040") / "logmel.img")
    try:
        board.deploy()
        board.start()
        with board.repl() as repl:
            repl.execute(FRONT_END)
            assert repl.execute("print('sensors.thumb' in sys.modules)").split() == ["True"]
            yield repl
    finally:
        board.close()


def sounds() -> np.ndarray:
    """int16 [k, 832], two frames each: silence, the loudest there are, clicks, tones and noise from soft to clipping."""
    t, rng = np.arange(832), np.random.default_rng(9)
    made = [0 * t, 0 * t - 32768, np.where(t % 2, 32767, -32768), np.where(np.sin(0.07 * t) > 0, 32767, -32768)]
    made += [np.where(t % 256 == 130, -32768, 0), np.where(t == 400, 1, 0), 32767 * np.sin(0.3927 * t), 2 * np.sin(0.9 * t)]
    made += [rng.normal(0, level, 832) for level in (0.7, 40, 2000, 20000, 1e6)]
    return np.array([np.clip(np.rint(x), -32768, 32767) for x in made]).astype(np.int16)


@pytest.mark.parametrize("steps", ["viper", "Plain"])
def test_equal_to_numpy_to_the_bit(chip: Repl, steps: str) -> None:
    settings = logmel.Settings(832, HOP, MELS)
    clips = sounds() if steps == "viper" else sounds()[[1, 3, 10]]  # the definition takes 0.13 s of the chip a frame
    for i, clip in enumerate(clips):
        expected = [logmel.log_energies(clip[None], settings), logmel.features(clip[None], settings)]
        code = f"print(answer({steps}, sound(unhexlify({clip.tobytes().hex()!r})), {HOP}, {MELS}))"
        assert chip.execute(code, 120.0, "a clip").split() == [x.tobytes().hex() for x in expected], i


def test_a_frame_takes_nothing_from_the_heap(chip: Repl) -> None:
    """Not the definition either: none of its numbers needs more than a 32-bit board's small integers."""
    assert chip.execute("print(bytes_of(viper), bytes_of(Plain))", 120.0, "six frames").split() == ["0", "0"]
