"""What the host computes for a state that was pulled is what the board answers: classes, certainties, early exits."""

import numpy as np
import pytest
from blobs import tiny_blob, tiny_samples
from enrolment import Enrolment

from tinycl.board.sim import SimBoard
from tinycl.learn import board_head, kernels
from tinycl.learned import Learned
from tinycl.shared.state import NEVER_SURE


@pytest.mark.parametrize("target_permille", [0, 1001])
def test_answers_are_the_boards(target_permille: int) -> None:
    blob = tiny_blob(target_permille=target_permille, early_epochs=4)
    x = np.concatenate([tiny_samples(label, 20, 5, 120) for label in (0, 1, 2, 10, 11)])
    learner = Enrolment(blob, kernels).learner
    latents = np.zeros((len(x), learner.inputs), np.int8)
    for row, sample in zip(latents, x, strict=True):
        learner.sample[:] = sample.tobytes()
        learner.backbone.latents(learner.sample, len(learner.blob.features) - 1, row.view(np.uint8), 0)
    with SimBoard() as board:
        board.client.send_blob(blob)
        for label in (10, 11):
            board.client.enrol(f"class {label}", tiny_samples(label, 16, 0, 90))
        before = board.client.status()
        classes, certainty = board.client.predict(x)
        status = board.client.status()
        learned = Learned(board.client.pull())
    answers = board_head.predict(learned, latents)
    assert answers.classes.tolist() == classes.tolist()
    assert answers.certainty.tolist() == np.rint(certainty * 255).astype(int).tolist()
    assert status["asked"] - before["asked"] == len(x)
    assert status["left_early"] - before["left_early"] == answers.early.sum()
    assert status["sure"] == learned.parsed.sure
    if not target_permille:
        assert learned.early_weights is None and status["sure"] == NEVER_SURE
