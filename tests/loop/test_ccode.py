"""What a board has learned, pulled, turned into C and compiled: the board's predictions to the bit, at every kind of rung."""

import shutil
import subprocess
from pathlib import Path

import make_blobs
import numpy as np
import pytest
from blobs import random_backbone, tiny_blob, tiny_samples
from click.testing import CliRunner

from tinycl import ccode
from tinycl.board.sim import SimBoard
from tinycl.cli import main
from tinycl.errors import UserError
from tinycl.learned import Learned
from tinycl.model.export import Settings, export
from tinycl.shared import fixed, state

MAIN = """
#include <stdio.h>
#include "model.h"
int main(void) {
    static int8_t x[%d];
    uint8_t certainty;
    while (fread(x, 1, sizeof x, stdin) == sizeof x) {
        const int32_t c = model_predict(x, &certainty);
        printf("%%d %%d %%s\\n", (int)c, certainty, model_classes[c]);
    }
    return 0;
}
"""
STRICT = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-unused-parameter")

SURE = 100


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("cc")
    if not found:
        pytest.skip("no C compiler on this machine: install one that is called cc")
    return found


def run_c(compiler: str, folder: Path, x: np.ndarray, *options: str) -> list[list[str]]:
    """(class, certainty in 1/255, name) of each sample by the compiled header in `folder`."""
    (folder / "main.c").write_text(MAIN % x[0].size)
    program = folder / "main"
    command = [compiler, *STRICT, *options, "-I", str(folder), str(folder / "main.c"), "-o", str(program), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = subprocess.run([str(program)], input=x.tobytes(), capture_output=True, check=True).stdout.decode()
    return [line.split(" ", 2) for line in said.splitlines()]


@pytest.mark.usefixtures("micropython")
@pytest.mark.parametrize("target, noise, rung", [(0, 30, 0), (1001, 127, 1)], ids=["linear", "grown"])
def test_c_predicts_what_the_board_predicts(compiler: str, tmp_path: Path, target: int, noise: int, rung: int) -> None:
    """As it learned: linear, and with hidden units, which this noise earns it."""
    blob = tiny_blob(target_permille=target)
    (tmp_path / "blob.tcb").write_bytes(blob)
    test = np.concatenate([tiny_samples(c, 40, seed=3, noise=70) for c in range(5)])
    with SimBoard() as board:
        board.client.send_blob(blob)
        board.client.enrol("new", tiny_samples(3, 20, seed=1, noise=noise))
        board.client.enrol('größer \\ "one"??/', tiny_samples(4, 20, seed=1, noise=noise))
        classes, certainty = board.client.predict(test)
        names = list(board.client.classes())
        pulled = board.client.pull()
    (tmp_path / "eight.tcs").write_bytes(pulled)
    options = ["export", "--c", str(tmp_path / "eight.tcs"), "--blob", str(tmp_path / "blob.tcb"), "--out", str(tmp_path / "c")]
    said = CliRunner().invoke(main, options)
    assert said.exit_code == 0 and "5 classes" in said.output, said.output
    found = run_c(compiler, tmp_path / "c", test)
    assert [int(row[0]) for row in found] == classes.tolist() and len(set(classes.tolist())) > 2
    assert [int(row[1]) for row in found] == np.rint(certainty * 255).astype(int).tolist()
    assert [row[2] for row in found] == [names[c] for c in classes]
    assert Learned(pulled).parsed.rung == rung


def learned(blob: bytes, rung: int, inputs: int, units: int, classes: int, seed: int, early: int = 0) -> Learned:
    """A legal state with weights up to the limit, latents of no meaning; early: inputs of the first exit's own head, with
    weights small enough that its certainties differ."""
    import struct
    from binascii import crc32

    from tinycl.shared.blob import Blob

    g = np.random.default_rng(seed)
    w = g.integers(-fixed.W_MAX, fixed.W_MAX + 1, state.weight_count(classes, inputs, units)).astype("<i4")
    if early:
        w = np.concatenate([w, g.integers(-(1 << 17), 1 << 17, classes * (1 + early)).astype("<i4")])
    body = b"".join(state.class_entry(f"c{k}", 1, 0, k) for k in range(classes)) + w.tobytes() + bytes(classes * inputs)
    fields = rung, 7, Blob(blob).id, classes, inputs, units, 1, 0, len(body), early, SURE if early else state.NEVER_SURE
    head = struct.pack(state.HEAD_FORMAT, state.MAGIC, state.VERSION, *fields)
    return Learned(head + body + struct.pack("<I", crc32(head + body)))


def reference(blob_data: bytes, model: Learned, x: np.ndarray) -> list[tuple[int, int]]:
    """(class, certainty in 1/255) by the NumPy kernels, which the golden vectors hold against the board's."""
    from backbone import Backbone

    from tinycl.learn import kernels as k
    from tinycl.shared.blob import RUNG_INTS, Blob
    from tinycl.shared.plan import buffers

    blob, p = Blob(blob_data), model.parsed
    leave = blob.rungs[p.rung * RUNG_INTS]
    made = {name: np.zeros(n, np.int8 if code == "B" else np.int32) for name, code, n in buffers(blob, p.rung)}
    net = Backbone(blob, made, k)
    last, hidden = model.weights
    out = []
    for sample in x:
        features = np.zeros(p.inputs + p.units, np.int8)
        net.latents(sample.reshape(-1), leave, features, 0)
        z = np.zeros(len(last), np.int32)
        k.dense(last.reshape(-1), last.shape[1], len(last), 1, features, 0, p.inputs, z)
        if p.units:
            g = np.zeros(p.units, np.int32)
            k.dense(hidden.reshape(-1), hidden.shape[1], p.units, 1, features, 0, p.inputs, g)
            k.relu(g, p.units, features, p.inputs)
            k.dense(last.reshape(-1), last.shape[1], len(last), 1 + p.inputs, features, p.inputs, p.units, z)
        e = np.zeros(len(last), np.int32)
        k.softmax(z, len(last), e)
        out.append((int(z.argmax()), int(e[z.argmax()]) * 255 // k.ONE))
    return out


@pytest.mark.parametrize("rung, inputs, units", [(0, 16, 0), (1, 16, 4), (2, 16, 8), (3, 40, 8)])
@pytest.mark.parametrize("options", [(), ("-O3", "-ffast-math", "-march=native")], ids=["plain", "fast-math"])
def test_weights_up_to_the_limit_at_every_rung(
    compiler: str, tmp_path: Path, rung: int, inputs: int, units: int, options: tuple[str, ...]
) -> None:
    """Exact, so that no order of sums and no fused multiplication changes a bit."""
    blob = tiny_blob()
    model = learned(blob, rung, inputs, units, 6, seed=rung)
    x = np.random.default_rng(5).integers(-128, 128, (60, 8, 8, 1)).astype(np.int8)
    ccode.write(ccode.generate(model, blob), tmp_path)
    assert [(int(c), int(p)) for c, p, _ in run_c(compiler, tmp_path, x, *options)] == reference(blob, model, x)


@pytest.mark.parametrize("shape, modality", [((128, 1, 6), "motion"), ((32, 32, 1), "sound"), ((32, 32, 3), "image")])
def test_every_modality(compiler: str, tmp_path: Path, shape: tuple[int, int, int], modality: str) -> None:
    """Signals with kernels along time, depthwise layers: what the kernels make of them, to the bit."""
    backbone = random_backbone(shape, modality=modality)
    inputs = backbone.features(1)
    head = np.zeros((2, 1 + backbone.features(0)), np.int32)
    made = Settings(per_class=1, max_classes=4)
    blob = export(backbone, head, np.zeros((2, 1, *shape), np.int8), ["a", "b"], "x", 0, 1, made, ((0, 0), (1, 0)))
    model = learned(blob, 1, inputs, 0, 4, seed=4)
    x = np.random.default_rng(5).integers(0, 128, (12, *shape)).astype(np.int8)
    ccode.write(ccode.generate(model, blob), tmp_path)
    found = [(int(c), int(p)) for c, p, _ in run_c(compiler, tmp_path, x)]
    assert found == reference(blob, model, x)
    assert backbone.forward(x).any(1).all()  # latents that are not all zero


@pytest.mark.usefixtures("micropython")
@pytest.mark.parametrize("early", [0, 16])
def test_a_deeper_exit_on_the_board(compiler: str, tmp_path: Path, early: int) -> None:
    """A board that takes over a state of the highest rung, with weights of all sizes, says what the C says."""
    blob = tiny_blob()
    model = learned(blob, 3, 40, 8, 3, 3, early)
    x = np.random.default_rng(6).integers(-128, 128, (60, 8, 8, 1)).astype(np.int8)
    with SimBoard() as board:
        board.client.send_blob(blob)
        board.client.push(model.data)
        classes, certainty = board.client.predict(x)
        left = board.client.status()["left_early"]
    assert 0 < left < len(x) if early else left == 0
    ccode.write(ccode.generate(model, blob), tmp_path)
    found = [(int(c), int(p)) for c, p, _ in run_c(compiler, tmp_path, x)]
    assert found == list(zip(classes.tolist(), np.rint(certainty * 255).astype(int).tolist(), strict=True))
    assert len(set(classes.tolist())) == 3


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    blob = tiny_blob()
    model = learned(blob, 0, 16, 0, 3, seed=0)
    with pytest.raises(UserError, match=r"learned with blob [0-9a-f]{8}, this one is [0-9a-f]{8}: name its own --blob"):
        ccode.generate(model, make_blobs.tiny())
    with pytest.raises(UserError, match="rung 1 with 16 inputs and 5 units"):
        ccode.generate(learned(blob, 1, 16, 5, 3, seed=0), blob)
    with pytest.raises(UserError, match="no name in C"):
        ccode.generate(model, blob, "my-model")
    (tmp_path / "cut.tcs").write_bytes(model.data[:-9])
    said = CliRunner().invoke(main, ["export", "--c", str(tmp_path / "cut.tcs"), "--blob", str(tmp_path / "cut.tcs")])
    assert said.exit_code == 1 and said.output.startswith("tinycl: ")


def test_the_numbers_of_a_model_are_those_of_its_tables(compiler: str, tmp_path: Path) -> None:
    blob = tiny_blob()
    model = ccode.generate(learned(blob, 3, 40, 8, 6, seed=1), blob)
    ccode.write(model, tmp_path)
    (tmp_path / "only.c").write_text('#include "model.h"\nint32_t f(const int8_t *x) { return model_predict(x, 0); }\n')
    subprocess.run(
        [compiler, "-O1", "-c", "-I", str(tmp_path), str(tmp_path / "only.c"), "-o", str(tmp_path / "o.o")], check=True
    )
    assert model.head_bytes == 8 * (6 * (1 + 40 + 8) + 8 * (1 + 40)) < model.flash_bytes < model.head_bytes + 4000
    if shutil.which("nm"):
        said = subprocess.run(["nm", "-S", str(tmp_path / "o.o")], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in said.splitlines() if len(line.split()) == 4]
        assert sum(int(r[1], 16) for r in rows if r[2] == "b") == model.ram_bytes
