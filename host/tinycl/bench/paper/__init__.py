"""The paper's experiments: streams of classes through the board's own learner, against baselines on the same latents."""
