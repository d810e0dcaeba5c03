"""Checks of Keras' callbacks, and of others written for Keras, before the first update."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import keras

from lightkeras.callbacks.profiler import Profiler
from lightkeras.training.optimizers import SeveralOptimizers
from lightkeras.utils import internals
from lightkeras.utils.checks import ArgumentError

if TYPE_CHECKING:
    from lightkeras.task import TaskModule

UP = {
    "acc", "accuracy", "auc", "bleu", "chrf", "cider", "coverage", "dice", "f1", "fbeta", "iou", "map", "meteor",
    "ndcg", "precision", "psnr", "r2", "recall", "reward", "rouge", "sensitivity", "similarity", "specificity", "ssim",
}  # fmt: skip
DOWN = {
    "bits", "cer", "cost", "crossentropy", "deviation", "distance", "divergence", "error", "fid", "hinge", "kid",
    "loss", "mae", "mape", "mse", "msle", "nll", "perplexity", "regret", "residual", "rmse", "wer",
}  # fmt: skip
CHANGES_RATE = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)
_RATE = ("learning_rate", "lr")


def find_direction(name: str, task: "TaskModule") -> str | None:
    """Returns "min" or "max", the better direction of a metric: the task's own, its class's, or by its words.

    Args:
        name: The metric's name, with or without "val_".
        task: The task, built.

    Returns:
        None for a name whose words say nothing, or both.
    """
    plain, (monitor, mode) = name.removeprefix("val_"), task.monitor
    kinds = {**task.test_sums.kinds, **task.train_sums.kinds}
    known = [*kinds, monitor.removeprefix("val_")]
    if plain not in known:  # of a named data set: val_NAME_metric
        plain = max((metric for metric in known if plain.endswith(f"_{metric}")), key=len, default=plain)
    if plain == monitor.removeprefix("val_"):
        return mode
    if own := getattr(kinds.get(plain), "direction", None):
        return own
    words = set(re.findall(r"[a-z]+\d?(?![a-z])", plain.lower()))
    words |= {word.rstrip("0123456789") for word in words}
    if plain.lower().endswith("loss"):
        return "min"
    found = {"max"} if words & UP else set()
    found |= {"min"} if words & DOWN else set()
    return found.pop() if len(found) == 1 else None


def set_direction(callback: keras.callbacks.Callback, task: "TaskModule") -> None:
    """Decides `mode="auto"` of a callback with a `monitor`: Keras would look at `model.metrics` after an epoch.

    Raises:
        ArgumentError: The direction of the metric is not known.
    """
    if getattr(callback, "mode", None) != "auto" or getattr(callback, "monitor_op", None) is not None:
        return
    monitor = getattr(callback, "monitor", None)
    if monitor is None:
        return
    ranks = getattr(callback, "save_best_only", True)  # else Keras wants a direction, and uses none
    direction = find_direction(monitor, task) or (None if ranks else "min")
    if direction is None:
        name = type(callback).__name__
        raise ArgumentError(
            f'Expected `mode` of {name} to be "min" or "max", as nothing says whether less or more of {monitor!r} is '
            f'better. Received: mode="auto". Pass {name}(monitor={monitor!r}, mode="max"), or name the metric in '
            f"`{type(task).__name__}.monitor`."
        )
    callback.mode = direction


def reject_swaps(callback: keras.callbacks.Callback, task: "TaskModule") -> None:
    """Rejects Keras' `SwapEMAWeights` beside a task, whose averages the library exchanges itself.

    Raises:
        ArgumentError: It is one.
    """
    if isinstance(callback, keras.callbacks.SwapEMAWeights) and task.exchanges_averages:
        raise ArgumentError(
            "Expected `callbacks` of a task to be without SwapEMAWeights: validation uses the averages already. "
            f"Received: {callback!r}"
        )


def reject_two_profilers(callbacks: Iterable[keras.callbacks.Callback]) -> None:
    """Rejects Keras' `TensorBoard(profile_batch=...)` beside a profile of ours: TensorFlow has one profiler.

    Raises:
        ArgumentError: There are both.
    """
    ours = [one for one in callbacks if isinstance(one, Profiler)]
    keras_own = [one for one in callbacks if isinstance(one, keras.callbacks.TensorBoard) and internals.profiles(one)]
    if (len(ours) and len(keras_own)) or len(keras_own) > 1:
        raise ArgumentError(
            "Expected one profile in a run, as TensorFlow has one profiler. Received: "
            f"{'profiler=' + repr(str(ours[0].range)) if ours else 'TensorBoard(profile_batch=...)'} and "
            "TensorBoard(profile_batch=...). Use one of the two."
        )


def check_optimizer_use(callback: keras.callbacks.Callback, task: "TaskModule") -> None:
    """Rejects a callback that needs what the task's optimizers do not have: a rate to set, or to be one.

    Raises:
        ArgumentError: It sets a learning rate that follows a schedule, or reads `model.optimizer` of several.
    """
    uses = _optimizer_uses(callback)
    sets_rate = isinstance(callback, CHANGES_RATE) or any(uses.get(name) for name in _RATE)
    scheduled = [name for name, one in task.optimizers.items() if _is_scheduled(one)]
    who = type(callback).__name__
    if sets_rate and len(task.optimizers) == 1 and scheduled:
        schedule = type(internals.learning_rate_variable(task.optimizers[scheduled[0]])).__name__
        raise ArgumentError(
            f"Expected a number as the learning rate of the optimizer {task.optimizers[scheduled[0]].name!r} beside "
            f"{who}, which sets it. Received: a schedule, {schedule}. Use one of the two."
        )
    known = SeveralOptimizers(task.optimizers)
    missing = [name for name, sets in uses.items() if sets or not hasattr(known, name)]
    if len(task.optimizers) > 1 and (isinstance(callback, CHANGES_RATE) or missing):
        what = f"uses model.optimizer.{missing[0]}" if missing else "sets the learning rate of one optimizer"
        raise ArgumentError(
            f"Expected callbacks for several optimizers ({', '.join(task.optimizers)}). Received: {who}, which {what}. "
            "Use model.optimizers[NAME] in a callback of your own, or give the optimizers schedules "
            "(keras.optimizers.schedules) in configure_optimizers(). The library logs every learning rate."
        )


def _is_scheduled(optimizer: keras.optimizers.Optimizer) -> bool:
    schedule = keras.optimizers.schedules.LearningRateSchedule
    return isinstance(internals.learning_rate_variable(optimizer), schedule)


def _optimizer_uses(callback: keras.callbacks.Callback) -> dict[str, bool]:
    """Finds the attributes of `model.optimizer` that the code of a callback uses, and whether it sets them.

    Code that asks for an attribute by its name (`hasattr`), or for a schedule, knows what to do without. Code whose
    source is not there cannot be looked at.
    """
    found: dict[str, bool] = {}
    for kind in type(callback).__mro__:
        if kind.__module__.split(".")[0] in ("keras", "lightkeras", "builtins"):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
        except (OSError, TypeError, SyntaxError):  # made in a console
            continue
        asked = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        asks = any(getattr(node, "attr", getattr(node, "id", "")) == "LearningRateSchedule" for node in ast.walk(tree))
        for name, sets in _attributes(tree):
            if name not in asked:
                found[name] = found.get(name, False) or (sets and not asks)
    return found


def _attributes(tree: ast.AST) -> Iterable[tuple[str, bool]]:
    """Finds `X` of each `....optimizer.X`, also by way of a local name, with the way it is used."""

    def is_optimizer(node: Any) -> bool:
        return isinstance(node, ast.Attribute) and node.attr == "optimizer"

    given = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and is_optimizer(node.value)]
    local = {target.id for node in given for target in node.targets if isinstance(target, ast.Name)}
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        if is_optimizer(owner) or (isinstance(owner, ast.Name) and owner.id in local):
            found[node.attr] = found.get(node.attr, False) or isinstance(node.ctx, ast.Store)
        elif node.attr == "assign" and isinstance(owner, ast.Attribute) and is_optimizer(owner.value):
            found[owner.attr] = True
    return found.items()
