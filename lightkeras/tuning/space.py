"""The space of a search: ranges and choices by the names of arguments, as KerasTuner's `HyperParameters`.

In YAML or as a dict, a name is `task.`, `data.` or `trainer.` and an argument's name::

    task.units: {int: [128, 1024, 128]}               # lowest, highest, step: 128, 256, ..., 1024
    task.dropout: {float: [0.0, 0.5, 0.1]}            # 0.0, 0.1, ..., 0.5
    task.learning_rate: {float: [1e-4, 1e-2, log]}
    data.batch_size: {choice: [32, 64], default: 64}
    task.nesterov: {bool: }
    task.momentum: {float: [0.5, 0.99], when: {task.optimizer: [sgd]}}   # only if an earlier choice is one of these
"""

import contextlib
import inspect
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine import hyperparameters as kinds

from lightkeras.utils import internals
from lightkeras.utils.checks import ArgumentError, nearest, require
from lightkeras.utils.paths import local_path
from lightkeras.utils.yaml_files import read_yaml

KINDS = ("int", "float", "choice", "bool")
SAMPLINGS = ("linear", "log")
GROUPS = ("task", "data", "trainer")


def search_space(given: Any) -> keras_tuner.HyperParameters:
    """Makes the space of a search.

    Args:
        given: A dict as in the file's docstring, the path of a YAML file with one, KerasTuner's own `HyperParameters`,
            or a function that takes one and declares parameters (`lambda hp: hp.Int("task.units", 1, 9)`).

    Raises:
        ValueError: The space is empty, a kind is unknown, or a range is empty.
        FileNotFoundError: There is no such file.
    """
    if isinstance(given, str | Path):
        require(local_path(given).is_file(), "space", "a YAML file of ranges", str(given), FileNotFoundError)
        given = read_yaml(given, "space")
    space = _with_grids(_declare_space(given))
    require(bool(space.space), "space", f"at least one argument to search ({', '.join(KINDS)}); it is empty", given)
    for parameter in space.space:
        _check_range(parameter)
    return space


def _with_grids(space: keras_tuner.HyperParameters) -> keras_tuner.HyperParameters:
    """Replaces each float with a step by the choice of its values, as they are written.

    KerasTuner adds steps up in binary: it never tries the 0.5 of [0, 0.5, 0.1], and tries 0.30000000000000004.
    """
    config = space.get_config()
    grids = [(part, part["config"]) for part in config["space"] if part["class_name"] == "Float"]
    for part, given in grids:
        if given["step"] is None:
            continue
        name, ends = given["name"], (given["min_value"], given["max_value"])
        _check_step(name, given["step"], *ends, given["sampling"])
        values = list_grid(*ends, given["step"], given["sampling"])
        default = values[0] if given["default"] is None else given["default"]
        require(default in values, f"{name}.default", f"one of the values {values}", default)
        chosen = {"name": name, "default": default, "conditions": given["conditions"]}
        part.update(class_name="Choice", config={**chosen, "values": values, "ordered": True})
    return keras_tuner.HyperParameters.from_config(config)


def list_grid(lowest: float, highest: float, step: float, sampling: str) -> list[float]:
    """Lists the values from `lowest` to `highest`, which is one of them where it lies on the grid.

    Args:
        lowest, highest: The ends.
        step: Added from value to value; multiplied for "log" and "reverse_log".
        sampling: "linear", "log" or "reverse_log".
    """
    start, end, by = (Decimal(repr(float(number))) for number in (lowest, highest, step))
    values = [start]
    while (following := values[-1] + by if sampling == "linear" else values[-1] * by) <= end:
        values.append(following)
    if sampling == "reverse_log":
        values = [start + end - value for value in reversed(values)]
    return [float(value) for value in values]


def _declare_space(given: Any) -> keras_tuner.HyperParameters:
    if isinstance(given, keras_tuner.HyperParameters):
        return given.copy()
    space = keras_tuner.HyperParameters()
    if isinstance(given, Callable):
        _declare_all(given, space)
        return space
    known = isinstance(given, dict | None)
    require(known, "space", "a dict, a YAML file, HyperParameters or a function of them", given)
    for name, how in (given or {}).items():
        _declare(space, name, how)
    return space


def _declare_all(declare: Callable, space: keras_tuner.HyperParameters) -> None:
    """Calls a function until it declares nothing new: conditional parameters appear only when their choice is made."""
    waiting, seen = [()], []
    while waiting:
        declared = space.copy()
        declared.values.update({condition.name: condition.values[0] for condition in waiting.pop()})
        declared.ensure_active_values()
        declare(declared)
        known = [(parameter.name, parameter.conditions) for parameter in space.space]
        space.merge([one for one in declared.space if (one.name, one.conditions) not in known])
        new = [scope for scope in declared.inactive_scopes if scope not in seen]
        waiting, seen = waiting + new, seen + new


def _declare(space: keras_tuner.HyperParameters, name: str, how: Any) -> None:
    """Adds one parameter in the YAML form."""
    form = f"{{KIND: values}} with one KIND of {', '.join(KINDS)}, and optionally `default` and `when`"
    require(isinstance(how, dict), name, form, how)
    found = [kind for kind in KINDS if kind in how]
    require(len(found) == 1 and not set(how) - {*KINDS, "default", "when"}, name, form, how)
    options = {"default": how["default"]} if "default" in how else {}
    with contextlib.ExitStack() as scopes:
        for parent, values in (how.get("when") or {}).items():
            known = internals.is_declared(space, parent)
            require(known, f"{name}.when", "the name of a parameter declared before", parent)
            scopes.enter_context(space.conditional_scope(parent, values if isinstance(values, list) else [values]))
        _ADD[found[0]](space, name, how[found[0]], options)


def _parse_range(name: str, values: Any, number: Callable) -> dict:
    """Converts `[lowest, highest]`, optionally with a step and "log" or "linear", to KerasTuner's arguments."""
    values = list(values) if isinstance(values, list | tuple) else [values]
    sampling = values.pop() if values and values[-1] in SAMPLINGS else "linear"
    form = '[lowest, highest], optionally with a step and "log"'
    try:
        numbers = [number(value) for value in values]  # YAML 1.1 reads 1e-4 as a string
    except (TypeError, ValueError):
        numbers = []
    require(len(numbers) in (2, 3), name, form, values)
    step = {"step": numbers[2]} if len(numbers) == 3 else {}
    given = {"min_value": numbers[0], "max_value": numbers[1], "sampling": sampling, **step}
    _check_order(name, numbers[0], numbers[1], sampling)
    _check_step(name, step.get("step"), numbers[0], numbers[1], sampling)
    return given


def _to_int(value: Any) -> int:
    if isinstance(value, bool) or float(value) != int(value):
        raise ArgumentError(value)
    return int(value)


def _parse_choices(name: str, values: Any) -> list:
    require(isinstance(values, list | tuple) and len(values) > 0, name, "a list of values to choose from", values)
    same = len({type(value) for value in values}) == 1 and all(isinstance(v, int | float | str) for v in values)
    require(same, name, "a list of numbers, strings or bools, all of one type", values)
    require(len(set(values)) == len(values), name, "a list of different values", values)
    return list(values)


_ADD = {
    "int": lambda space, name, values, options: space.Int(name, **_parse_range(name, values, _to_int), **options),
    "float": lambda space, name, values, options: space.Float(name, **_parse_range(name, values, float), **options),
    "choice": lambda space, name, values, options: space.Choice(name, _parse_choices(name, values), **options),
    "bool": lambda space, name, values, options: space.Boolean(name, **options),
}


def _check_range(parameter: kinds.HyperParameter) -> None:
    if isinstance(parameter, kinds.Int | kinds.Float):
        least, most = parameter.min_value, parameter.max_value
        _check_order(parameter.name, least, most, parameter.sampling)
        _check_step(parameter.name, parameter.step, least, most, parameter.sampling)


def _check_order(name: str, lowest: float, highest: float, sampling: str) -> None:
    require(lowest < highest, name, "a range whose lowest value is below its highest", [lowest, highest])
    require(sampling != "log" or lowest > 0, name, "a range above 0, to be searched by logarithms", [lowest, highest])


def _check_step(name: str, step: float | None, lowest: float, highest: float, sampling: str) -> None:
    if step is not None and sampling == "linear":
        width = Decimal(repr(highest)) - Decimal(repr(lowest))
        require(0 < Decimal(repr(step)) <= width, name, "a range with a step above 0 and at most its width", step)
    elif step is not None:
        require(step > 1, name, "a range with a step above 1, by which each value is multiplied", step)


def check_names(space: keras_tuner.HyperParameters, classes: dict[str, Callable], taken: tuple[str, ...] = ()) -> None:
    """Checks that every parameter is an argument of its class.

    Args:
        space: The space.
        classes: The task's, the data's and the Trainer's class (or function) by group: "task", "data", "trainer".
        taken: Names that the search decides itself.

    Raises:
        ValueError: A parameter is not; the message suggests the nearest argument.
    """
    known = [f"{group}.{name}" for group, kind in classes.items() for name in _arguments(kind)]
    for parameter in space.space:
        name = parameter.name
        kind = classes.get(name.split(".")[0])
        groups = list(classes)
        owner = kind.__name__ if kind else f"{', '.join(groups)} ({', '.join(f'{group}.NAME' for group in groups)})"
        expected = f"an argument of {owner}.{nearest(name, known)}"
        require(name in known, "space", expected, name)
        require(name not in taken, "space", f"without {', '.join(taken)}, which the search decides", name)


def _arguments(kind: Callable) -> list[str]:
    called = kind.__init__ if isinstance(kind, type) else kind
    return [name for name in inspect.signature(called).parameters if name != "self"]


def extremes(parameter: kinds.HyperParameter) -> list:
    """Returns the values with which to check a parameter's type: all choices, or both ends of a range."""
    if isinstance(parameter, kinds.Int | kinds.Float):
        return [parameter.min_value, parameter.max_value]
    return list(parameter.values)


def parameter_names(space: keras_tuner.HyperParameters) -> list[str]:
    """Lists the names in a space, each once."""
    return list(dict.fromkeys(parameter.name for parameter in space.space))


def with_values(config: dict[str, dict], values: dict[str, Any]) -> dict[str, dict]:
    """Copies a configuration with the values of a trial; KerasTuner's own (`tuner/...`) are left out."""
    changed = {group: dict(arguments) for group, arguments in config.items()}
    for name, value in values.items():
        group, _, argument = name.partition(".")
        if argument:
            changed[group][argument] = value
    return changed
