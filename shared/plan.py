# The memory plan: every large buffer of the learner, with its size, from the blob alone. The host computes it before it sends
# anything and puts its sizes into the blob; the board computes it again, compares, and allocates from it.
# Runs unchanged under CPython and MicroPython. Allocates a short list of tuples.
from array import array

from .blob import RUNG_INTS, Blob, pack
from .errors import FormatError, PlanError

RESERVE_BYTES = 16384  # left free beside the plan: frames, metrics and the interpreter's own small objects


def buffers(blob, top):
    """[(name, typecode, items)] for a ladder that ends at rung `top`.

    Typecode B has 1 byte an item, i has 4, w (a weight, logit or error) 4 with integer kernels, a float's width with ulab.
    """
    exit_, hidden = blob.rungs[top * RUNG_INTS], blob.rungs[top * RUNG_INTS + 1]
    weight_bytes, quant_ints, activation_bytes = blob.needs(exit_)
    inputs = blob.features[exit_]
    classes = blob.max_classes
    head = classes * (1 + inputs + hidden)
    units = hidden * (1 + inputs)
    return [
        ("weights", "B", weight_bytes),
        ("quant", "i", quant_ints),
        ("sample", "B", blob.sample_bytes),
        ("activation_a", "B", activation_bytes),
        ("activation_b", "B", activation_bytes),
        ("features", "B", inputs + hidden),
        ("replay", "B", classes * blob.per_class * inputs),
        ("stage", "B", blob.max_samples * inputs),
        ("head", "w", head),
        ("hidden", "w", units),
        ("head_before", "w", head),
        ("hidden_before", "w", units),
        ("logits", "w", classes),
        ("errors", "w", classes),
        ("hidden_errors", "w", hidden),
        ("sums", "i", inputs),
        # a head of its own for the first exit, where samples may leave at it
        ("early", "w", classes * (1 + blob.features[0]) if exit_ and blob.early_epochs else 0),
    ]


def item_bytes(code, weight_bytes):
    """Bytes of one item of a typecode of `buffers`."""
    return 1 if code == "B" else 4 if code == "i" else weight_bytes


def total_bytes(plan, weight_bytes=4):
    """Bytes of a plan."""
    return sum([items * item_bytes(code, weight_bytes) for _, code, items in plan])


def add_plan(sections):
    """The sections of a blob with PLAN added: the bytes of each rung's plan, for the board to hold its own against."""
    rungs = len(sections["RUNG"]) // (4 * RUNG_INTS)
    blob = Blob(pack(dict(sections, PLAN=bytes(4 * rungs))))
    totals = array("i", [total_bytes(buffers(blob, top)) for top in range(rungs)])
    return dict(sections, PLAN=bytes(totals))


def fit(blob, free_bytes, weight_bytes=4):
    """(top, plan): the longest ladder whose plan leaves RESERVE_BYTES free. Raises PlanError with numbers if none does."""
    for top in range(len(blob.rungs) // RUNG_INTS - 1, -1, -1):
        plan = buffers(blob, top)
        if total_bytes(plan) != blob.plan[top]:
            raise FormatError(
                "the blob plans %d bytes for rung %d, this side %d: bring host and board to the same version"
                % (blob.plan[top], top, total_bytes(plan))
            )
        if total_bytes(plan, weight_bytes) + RESERVE_BYTES <= free_bytes:
            return top, plan
    need = total_bytes(plan, weight_bytes)
    largest = max([(items * item_bytes(code, weight_bytes), name) for name, code, items in plan])
    raise PlanError(
        "the smallest model needs %d bytes and a reserve of %d, the board has %d free (largest buffer: %s, %d bytes): "
        "lower --per-class or --samples, or use a board with more memory"
        % (need, RESERVE_BYTES, free_bytes, largest[1], largest[0])
    )
