"""The commands for a plain Keras model: `lightkeras fit package.module:build_model`.

`build_model` takes no required argument and returns a compiled model. Its data comes from the function that `--data`
names, or `load_data` of the same module: a DataModule, the data itself, or a dict of the keywords of `Trainer.fit` with
the entry "data", and "test_data" and "predict_data" for the commands of these names. `--model.NAME` sets an argument of
`build_model`.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from lightkeras.cli.predictions import save_predictions
from lightkeras.configuration import Parser
from lightkeras.data import DataModule
from lightkeras.distribution.accelerator import make_logical_cpus
from lightkeras.distribution.strategies import make_strategy
from lightkeras.preview import print_preview, show
from lightkeras.trainer import Trainer, seed_everything
from lightkeras.utils.checks import UsageError, nearest, new_file
from lightkeras.verifier.plain_models import check_model

COMMANDS = ("show", "fit", "validate", "test", "predict", "check")
LOAD_DATA = "load_data"
STAGES = {"validate": "validation_data", "test": "test_data", "predict": "predict_data"}
SHOWN = ("data", "validation_data", "batch_size")
TESTED = ("test_data", "predict_data")  # not for `fit`


def run(name: str, arguments: list[str]) -> int:
    """Runs a command on the model of a function.

    Args:
        name: The command.
        arguments: "package.module:function", and the options.

    Returns:
        The exit code.
    """
    if name not in COMMANDS:
        raise UsageError(f"Expected one of {', '.join(COMMANDS)} for a function that builds a model. Received: {name}")
    if name == "check":
        make_logical_cpus(2)  # before TensorFlow starts
    build = find_function(arguments[0])
    parser = _make_parser(name, build)
    config = parser.parse_args(arguments[1:])
    load = find_function(config.data) if config.data else _load_data_of(build)
    given = vars(config.model) if "model" in config else {}
    return ACTIONS[name](parser, config, lambda: build(**given), load)


def find_function(name: str) -> Callable:
    """Returns the function of "package.module:function".

    Raises:
        UsageError: There is none, or it has required arguments.
    """
    module, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UsageError(f"Expected package.module:function. Received: {name} ({error})") from error
    function = getattr(found, attribute, None)
    if not callable(function):
        raise UsageError(f"Expected a function of {module}. Received: {attribute!r}.{nearest(attribute, dir(found))}")
    required = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    if required:
        raise UsageError(f"Expected {name} to have defaults for all arguments. Received: none of {', '.join(required)}")
    return function


def _load_data_of(build: Callable) -> Callable:
    function = getattr(importlib.import_module(build.__module__), LOAD_DATA, None)
    if function is None:
        raise UsageError(
            f"Expected --data package.module:function, or a function `{LOAD_DATA}` beside {build.__name__}. "
            "Received: neither"
        )
    return function


def _make_parser(name: str, build: Callable) -> Parser:
    parser = Parser(prog=f"lightkeras {name} {build.__module__}:{build.__name__}", allow_abbrev=False)
    add = parser.add_argument
    add("--config", action="config", help="YAML file with any of the options below")
    add("--debug", action="store_true", help="show the traceback of every error")
    add("--data", type=str | None, default=None, metavar="MODULE:FUNCTION", help=f"gives the data ({LOAD_DATA})")
    if name != "check":
        default = None if name == "fit" else "best"
        add("--ckpt_path", type=str | None, default=default, help="a run's folder, a checkpoint, last, best or auto")
        parser.add_class_arguments(Trainer, "trainer")
    if name == "fit":
        add("--allow_changes", nargs="+", default=[], metavar="NAME", help="what may differ in a resumed run")
    if name == "predict":
        add("--out", type=str, default="predictions.npz", help="new file for the arrays")
    parser.prepare([build.__module__.partition(".")[0]], {})
    if inspect.signature(build).parameters:
        parser.add_function_arguments(build, "model")
    return parser


def _build(trainer: Trainer, build: Callable[[], keras.Model]) -> keras.Model:
    """Builds the model under the Trainer's strategy, by its seed."""
    seed_everything(trainer.seed)
    strategy: tf.distribute.Strategy = make_strategy(trainer.devices, trainer.strategy)
    with strategy.scope():
        return build()


def as_keywords(loaded: Any) -> dict[str, Any]:
    """Returns the keywords of `Trainer.fit` that the data function gave, or makes them of the data itself."""
    return dict(loaded) if isinstance(loaded, dict) and "data" in loaded else {"data": loaded}


def _fit_keywords(loaded: Any) -> dict[str, Any]:
    return {name: one for name, one in as_keywords(loaded).items() if name not in TESTED}


def _data_of_stage(stage: str, given: dict[str, Any]) -> Any:
    """Returns the data of a stage: that of its name, or a DataModule that has all.

    Raises:
        UsageError: The data function gives none.
    """
    name = STAGES[stage]
    if isinstance(given["data"], DataModule):
        return given["data"]
    if given.get(name) is None:
        raise UsageError(f'Expected the data function to give "{name}" for {stage}. Received: {", ".join(given)}')
    return given[name]


def _fit(parser: Parser, config: Any, build: Callable, load: Callable) -> int:
    trainer = parser.instantiate(config).trainer
    data = _fit_keywords(load())
    trainer.fit(_build(trainer, build), ckpt_path=config.ckpt_path, allow_changes=config.allow_changes, **data)
    if trainer.run_dir:
        print(f"Run: {trainer.run_dir}")
    return 128 + trainer.interrupted if trainer.interrupted else 0


def _show(parser: Parser, config: Any, build: Callable, load: Callable) -> int:
    trainer = parser.instantiate(config).trainer
    given = {name: one for name, one in _fit_keywords(load()).items() if name in SHOWN}
    print_preview(show(_build(trainer, build), **given, **trainer.init_args | {"callbacks": None}))
    return 0


def _evaluate(parser: Parser, config: Any, build: Callable, load: Callable) -> int:
    trainer, given = parser.instantiate(config).trainer, as_keywords(load())
    stage = "validate" if "validate" in parser.prog.split() else "test"
    data = _data_of_stage(stage, given)
    model = _build(trainer, build)
    found = getattr(trainer, stage)(model, data, config.ckpt_path, batch_size=given.get("batch_size"))
    for name, value in found.items():
        print(f"{name:<30}{value:.6f}")
    return 0


def _predict(parser: Parser, config: Any, build: Callable, load: Callable) -> int:
    trainer, given, path = parser.instantiate(config).trainer, as_keywords(load()), new_file("--out", config.out)
    data = _data_of_stage("predict", given)
    model = _build(trainer, build)
    save_predictions(trainer.predict(model, data, config.ckpt_path, batch_size=given.get("batch_size")), path)
    return 0


def _check(parser: Parser, config: Any, build: Callable, load: Callable) -> int:
    report = check_model(build, _fit_keywords(load()))
    Console().print(report)
    return 0 if report.passed else 1


ACTIONS = {"show": _show, "fit": _fit, "validate": _evaluate, "test": _evaluate, "predict": _predict, "check": _check}
