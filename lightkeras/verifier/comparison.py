"""How far two short runs differ, and where the difference is first seen."""

from typing import Any, NamedTuple

import numpy as np

from lightkeras.task import TaskModule
from lightkeras.verifier.short_run import ShortRun

ROUNDING = 1e-5  # allowed difference of two cuts of one run, relative to |value| + FLOOR
FLOOR = 0.2
LEAST_SCALE = 1e-3  # of a variable whose repeated values are compared: some are zero but for rounding


class Difference(NamedTuple):
    """How far a run is from its reference.

    Attributes:
        measured: The largest difference.
        where: A sentence that says where it was seen.
        first_update: The index of the first update that differs; None if none does.
        loss_ratio: The loss of that update, as a share of the reference's.
    """

    measured: float
    where: str
    first_update: int | None
    loss_ratio: float


def compare_repeated(run: ShortRun, reference: ShortRun, allowed: float) -> Difference:
    """Compares two runs that should be equal, each variable at its own scale: it may hold zeros but for rounding."""
    return compare_runs(run, reference, allowed, floor=None)


def compare_runs(
    run: ShortRun, reference: ShortRun, allowed: float = ROUNDING, floor: float | None = FLOOR
) -> Difference:
    """Compares every metric, validation and variable of two runs; without a `floor`, each at its own scale."""
    of_metrics = LEAST_SCALE if floor is None else floor
    updates = metrics_difference(run.records, reference.records, of_metrics)
    first = next((index for index, value in enumerate(updates) if value > allowed), None)
    found = {f"in update {index + 1}": value for index, value in enumerate(updates)}
    found["in a validation"] = max(metrics_difference(run.validations, reference.validations, of_metrics), default=0.0)
    epochs = [difference(means, reference.epochs[name], of_metrics) for name, means in run.epochs.items()]
    found["in an epoch's means"] = max(epochs, default=0.0)
    for name, value in state_difference(run, reference, floor).items():
        found[f"in {variable_paths(run.task, [name])}"] = value
    largest = max(found, key=found.__getitem__)
    where = f"First seen in update {first + 1}" if first is not None else f"Seen {largest}"
    return Difference(found[largest], where, first, _loss_ratio(run, reference, first))


def _loss_ratio(run: ShortRun, reference: ShortRun, update: int | None) -> float:
    if update is None or not reference.losses[update]:
        return 1.0
    return run.losses[update] / reference.losses[update]


def difference(value: Any, reference: Any, floor: float | None = 0.0) -> float:
    """Returns the largest |value - reference| / (|reference| + floor); infinity if shapes differ or one is NaN.

    It is at most `rtol` exactly where `np.allclose(value, reference, rtol, atol=rtol * floor)` holds. A `floor` of None
    is the largest number in `reference`; integers, such as the states of seed generators, then have none.
    """
    if floor is None:
        floor = _scale(np.asarray(reference))
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    if value.shape != reference.shape:
        return float("inf")
    same = (value == reference) | (np.isnan(value) & np.isnan(reference))
    with np.errstate(divide="ignore", invalid="ignore"):  # a gap to 0 is infinite
        gap = np.where(same, 0.0, np.abs(value - reference))
        relative = np.divide(gap, np.abs(reference) + floor, out=np.zeros_like(gap), where=gap != 0)
    return float(np.max(np.nan_to_num(relative, nan=np.inf, posinf=np.inf), initial=0.0))


def _scale(values: np.ndarray) -> float:
    if not np.issubdtype(values.dtype, np.floating):
        return 0.0
    return max(LEAST_SCALE, float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0)))


def metrics_difference(records: list[dict], reference: list[dict], floor: float = 0.0) -> list[float]:
    """Returns the difference of the metrics, record by record."""
    if len(records) != len(reference):
        return [float("inf")]
    pairs = zip(records, reference, strict=True)
    return [difference(list(a.values()), [b[name] for name in a], floor) for a, b in pairs]


def state_difference(run: ShortRun, reference: ShortRun, floor: float | None = 0.0) -> dict[str, float]:
    """Returns the difference of the final state, by variable."""
    return {name: difference(value, reference.state[name], floor) for name, value in run.state.items()}


def share_of_loss_left(losses: list[float]) -> float:
    """Returns the share of the first loss that is left at the end (of a negative loss: below 1 where it falls)."""
    first, last = losses[0], float(np.mean(losses[-5:]))
    return 1 - (first - last) / max(abs(first), 1e-12)


def variable_paths(task: TaskModule, keys: list[str]) -> str:
    """Lists state variables by the names that users know."""
    variables = task.state_variables()
    return ", ".join(variables[key].path if key in variables else key for key in keys)
