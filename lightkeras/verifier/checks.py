"""The checks of the verifier: functions of a subject, which return a finding.

Most checks train fresh copies of the task for a few updates, on batches of a few of its examples. The cuts are
compared without dropout and with plain SGD, so that an update shows the gradient itself: Adam divides by the gradient's
size, and turns the rounding of a gradient that should be zero (of a bias before a softmax or a batch norm) into steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lightkeras.data import stages
from lightkeras.task import TaskModule
from lightkeras.trainer import Trainer
from lightkeras.training.step import loss_name
from lightkeras.utils import internals
from lightkeras.utils.seeds import seeded
from lightkeras.verifier.comparison import (
    ROUNDING,
    Difference,
    compare_repeated,
    compare_runs,
    difference,
    metrics_difference,
    share_of_loss_left,
    variable_paths,
)
from lightkeras.verifier.datasets import MAX_ROWS, hash_examples
from lightkeras.verifier.short_run import QUIET, copy_state
from lightkeras.verifier.subjects import (
    STEPS_PER_EPOCH,
    UPDATES,
    Subject,
    disable_randomness,
    random_layers,
    untracked_variables,
    wrap_method,
)
from lightkeras.verifier.two_devices import ONE_DEVICE, two_device_arguments

NOISE, MAX_NOISE_GROWTH = 1e-3, 100  # differences of this size are rounding; those of two pairs of runs vary so much
OVERFIT_UPDATES, MAX_LOSS_LEFT = 60, 0.9  # these updates on one batch leave at most this share of the loss


# ---- findings


class Finding(NamedTuple):
    """What a check returns: all of a `Result` but its name and claim."""

    status: str
    measured: float | None = None
    allowed: float | None = None
    note: str = ""


def _judge(measured: Difference | float, allowed: float, cause: str) -> Finding:
    """Passes if at most `allowed` was measured; `cause` is the note of a failure."""
    number = float(measured.measured if isinstance(measured, Difference) else measured)
    passed = number <= allowed
    return Finding("PASS" if passed else "FAIL", number, float(allowed), "" if passed else cause)


def _skip(reason: str) -> Finding:
    return Finding("SKIP", note=reason)


def _skip_random(subject: Subject) -> Finding | None:
    """A SKIP, if a layer draws random numbers that depend on the cut."""
    names = ", ".join(layer.name for layer in random_layers(subject.comparable.task))
    return _skip(f"not comparable: random layer {names}") if names else None


def _batch_norms(subject: Subject, unsynchronized_only: bool = False) -> str:
    """Lists the layers that take statistics over a batch: Keras' own, or of a class with such a name."""
    layers = internals.flatten_layers(subject.comparable.task)
    found = [layer for layer in layers if "BatchNorm" in type(layer).__name__]
    if unsynchronized_only:
        found = [layer for layer in found if getattr(layer, "synchronized", True) is False]
    return ", ".join(layer.name for layer in found)


# ---- the task as it is


def check_same_seed(subject: Subject) -> Finding:
    """Two runs with one seed, in what are two processes to the global generators."""
    found = subject.repeated
    if found.measured < NOISE and not subject.deterministic:
        cause = f"an operation that adds up in any order: try deterministic=True. {found.where}"
    elif found.measured < NOISE:
        cause = f"an operation rounds differently from run to run, in spite of deterministic=True. {found.where}"
    else:
        cause = (
            "a number drawn outside Keras' seed generators (np.random, random, tf.random, in a step or in setup()), or "
            f"layers made in __init__ instead of configure_model(). {found.where}"
        )
    return _judge(found, subject.allowed_if_repeated, cause)


def check_evaluation(subject: Subject) -> Finding:
    """Two validations of a trained task: its state before and after, and their results."""
    if not subject.has_evaluation:
        return _skip("the task has no test_step")
    task, data = subject.unmodified[0].task, subject.copy_few_data()
    before = _all_variables(task)
    validate = Trainer(**QUIET, devices=1, steps_per_execution=1, jit_compile=False).validate
    first, second = validate(task, data), validate(task, data)
    changes = {name: difference(value, before[name]) for name, value in _all_variables(task).items()}
    changed = variable_paths(task, [name for name, change in changes.items() if change])
    measured = max([*changes.values(), *metrics_difference([second], [first])])
    return _judge(measured, 0.0, _explain_evaluation(changed))


def _all_variables(task: TaskModule) -> dict[str, np.ndarray]:
    return {**copy_state(task), **{name: variable.numpy() for name, variable in untracked_variables(task).items()}}


def _explain_evaluation(changed: str) -> str:
    if not changed:
        return "evaluation is random: two validations differ"
    if "seed_generator" in changed:
        return (
            f"test_step draws from {changed}: give layers training=False (cells of Keras' recurrent layers with "
            "dropout draw all the same: put Dropout layers between them instead)"
        )
    return f"test_step updates {changed}: give layers training=False, assign nothing"


def check_retrace(subject: Subject) -> Finding:
    """The traces that a run makes after its first epoch."""
    _, traces = subject.unmodified
    cause = (
        f"{', '.join(traces)} is traced again: a Python value that changes is an argument of a tf.function, a shape "
        "changes, or make_train_function is forced. Keep the value in a variable"
    )
    return _judge(traces.total(), 0, cause)


def check_resume(subject: Subject) -> Finding:
    """A run resumed within the second epoch."""
    whole, _ = subject.unmodified
    step = STEPS_PER_EPOCH + 1
    path = f"{whole.trainer.run_dir}/checkpoints/step_{step:09d}"
    resumed = subject.train_with_checkpoints(subject.copy_task(3), 3, ckpt_path=path)
    rest = whole._replace(records=whole.records[step:], validations=whole.validations[1:])
    found = compare_repeated(resumed, rest, subject.allowed_if_repeated)
    repeated = subject.repeated if found.measured > subject.allowed_if_repeated else None
    if repeated and found.measured <= MAX_NOISE_GROWTH * repeated.measured < NOISE * MAX_NOISE_GROWTH:
        return _skip(f"not comparable: two runs from the start differ too, by {repeated.measured:.1g} (see same_seed)")
    suspects = ", ".join(untracked_variables(whole.task)) or "an attribute in Python, np.random"
    cause = (
        f"something that training changes is in no checkpoint ({suspects}): make it with "
        f"self.add_weight(trainable=False). {found.where}"
    )
    return _judge(found, subject.allowed_if_repeated, cause)


# ---- cuts, without randomness and with SGD


def check_replicas(subject: Subject) -> Finding:
    """Two replicas, each with half of the batch."""
    if not two_device_arguments():
        return _skip(ONE_DEVICE)
    if random := _skip_random(subject):
        return random
    found = compare_runs(subject.train_comparable(**two_device_arguments()), subject.comparable)
    unsynchronized = _batch_norms(subject, unsynchronized_only=True)
    if unsynchronized:
        cause = f"statistics of each replica: BatchNormalization(synchronized=True) in {unsynchronized}"
    else:
        cause = _explain_halves(found)
    return _judge(found, ROUNDING, cause)


def check_micro_batches(subject: Subject) -> Finding:
    """Two micro-batches, each with half of the batch."""
    if names := _batch_norms(subject):
        return _skip(f"not comparable: {names} takes its statistics from each micro-batch")
    if random := _skip_random(subject):
        return random
    found = compare_runs(subject.train_comparable(micro_batches=2), subject.comparable)
    return _judge(found, ROUNDING, _explain_halves(found))


def _explain_halves(found: Difference) -> str:
    """The likely cause, if two halves of a batch do not make the update of the whole."""
    if found.first_update == 0 and any(abs(found.loss_ratio - wrong) < 0.01 for wrong in (0.5, 2.0)):
        return f"half or twice the loss: of (sum, weight), one is a mean and the other a sum. {found.where}"
    if found.first_update == 0:
        return f"the loss of a row depends on the other rows of its batch. {found.where}"
    if found.first_update is not None and found.first_update % STEPS_PER_EPOCH == STEPS_PER_EPOCH - 1:
        return f"a short batch differs: the loss is a mean. Return (sum, weight): the library divides. {found.where}"
    return (
        "the losses agree, the update does not: gradients are changed before they are reduced. Clip with "
        f"Trainer(gradient_clip_val=...), and let `minimize` apply. {found.where}"
    )


def check_eager(subject: Subject) -> Finding:
    """The step, op by op."""
    found = compare_runs(subject.train_comparable(run_eagerly=True), subject.comparable)
    cause = (
        "the compiled step keeps the value that Python had at the trace (self.global_step, np.random, a counter): take "
        f"it from the batch or from a variable. {found.where}"
    )
    return _judge(found, ROUNDING, cause)


def check_xla(subject: Subject) -> Finding:
    """The step, compiled by XLA."""
    if random := _skip_random(subject):
        return random
    found = compare_runs(subject.train_comparable(jit_compile=True), subject.comparable)
    return _judge(found, ROUNDING, f"XLA computes an operation differently (tf.random). {found.where}")


def check_steps_per_execution(subject: Subject) -> Finding:
    """Three updates in each call."""
    reference = subject.comparable
    run = subject.train_comparable(steps_per_execution=STEPS_PER_EPOCH, log_every_n_steps=UPDATES)
    found = compare_runs(run._replace(records=reference.records), reference)
    cause = f"something in Python counts on being called for every update: count in a variable. {found.where}"
    return _judge(found, ROUNDING, cause)


def check_padding(subject: Subject) -> Finding:
    """More rows of weight 0 in every batch."""
    if random := _skip_random(subject):
        return random
    found = compare_runs(subject.train_comparable(extra_rows=MAX_ROWS // 2), subject.comparable)
    if norms := _batch_norms(subject):
        cause = f"padding enters the statistics of {norms} (give it a mask), or the loss. {found.where}"
    else:
        cause = (
            "padding rows enter the loss: multiply by batch['weight'] before the sum, and return the sum of the "
            f"weights beside it, not a number of rows. {found.where}"
        )
    return _judge(found, ROUNDING, cause)


# ---- without a reference


def check_overfit(subject: Subject) -> Finding:
    """Many updates on one batch, without randomness and with the task's own optimizers."""
    task = subject.copy_task()
    wrap_method(task, "configure_model", lambda configure, data: (configure(data), disable_randomness(task)))
    one_batch = {"max_steps": OVERFIT_UPDATES, "overfit_batches": 1, "limit_val_batches": 0}
    run = subject.train(task, subject.copy_few_data(), **one_batch)
    names = [loss_name(optimizer) for optimizer in task.optimizers]
    left = {name: share_of_loss_left([record[name] for record in run.records]) for name in names}
    best = min(left, key=left.__getitem__)
    cause = (
        f"{OVERFIT_UPDATES} updates on one batch leave {left[best]:.0%} of {best}: no gradient arrives "
        "(stop_gradient, argmax, rounding), targets do not match inputs, or the learning rate is far off"
    )
    return _judge(left[best], MAX_LOSS_LEFT, cause)


def check_splits(subject: Subject) -> Finding:
    """The examples, or their groups, that two splits share; and whether the splits are the same each time."""
    hashes = _hash_splits(subject)
    if moved := [name for name, found in _hash_splits(subject).items() if found != hashes[name]]:
        cause = "each time: a generator without a seed draws it, as np.random.default_rng() does. Give it a seed"
        return Finding("FAIL", float(len(moved)), 0.0, f"another {' and '.join(moved)} split {cause}")
    if len(hashes) < 2:
        return _skip("the data has neither validation nor test data")
    names = list(hashes)
    pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
    shared = {f"{a} and {b}": len(hashes[a] & hashes[b]) for a, b in pairs}
    kind = f"values of {subject.group!r}" if subject.group else "examples"
    counts = ", ".join(f"{count} in {pair}" for pair, count in shared.items() if count)
    return _judge(sum(shared.values()), 0, f"the splits share {kind}: {counts}. Split before repeating anything")


def _hash_splits(subject: Subject) -> dict[str, set[bytes]]:
    hashes = {}
    for stage, names in {"fit": ("train_dataset", "val_dataset"), "test": ("test_dataset",)}.items():
        data = subject.prepare_data(stage)
        for name in names:
            with seeded(subject.task.seed):  # as the Trainer does
                if getattr(data, name)() is None:
                    continue
            with seeded(subject.task.seed):
                sets = stages.require_datasets(data, name)
            found = [hash_examples(dataset, subject.group) for dataset in sets.values()]
            hashes[name.removesuffix("_dataset")] = set().union(*found)  # named sets may share examples
    return hashes


class Check(NamedTuple):
    """A check: the sentence that should hold, and the function that tries it."""

    claim: str
    function: Callable[[Subject], Finding]


CHECKS = {
    "same_seed": Check("two runs with one seed are equal", check_same_seed),
    "replicas": Check("two replicas make the update of one", check_replicas),
    "micro_batches": Check("two micro-batches make the update of one batch", check_micro_batches),
    "eager": Check("op by op, the step does the same", check_eager),
    "xla": Check("compiled by XLA, the step does the same", check_xla),
    "steps_per_execution": Check("three updates in a call do the same", check_steps_per_execution),
    "padding": Check("more padding changes nothing", check_padding),
    "evaluation": Check("evaluation changes nothing", check_evaluation),
    "retrace": Check("nothing is traced after the first epoch", check_retrace),
    "overfit": Check("the loss of one batch falls", check_overfit),
    "resume": Check("stopped and resumed, a run ends the same", check_resume),
    "splits": Check("the splits share no example", check_splits),
}
