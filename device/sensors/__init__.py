# What turns a sensor's values into the samples of a backbone, each the same to the bit as the host's loaders make them.
# Depends on shared/ once a function is called.


def log_mel(*sizes):
    """LogMel(samples, hop, mels) of shared/logmel.py, which says what it allocates, with the fastest steps of this firmware."""
    from shared.logmel import LogMel, Plain

    try:
        from . import logmel as steps
    except (SyntaxError, ImportError, ValueError):  # no viper emitter, or a .mpy for another board
        steps = Plain
    return LogMel(*sizes, steps=steps)
