"""The commands for a plain Keras model: `lightkeras fit package.module:build_model`.

`build_model` takes no required argument and returns a compiled model. Its data comes from the function that `--data`
names, or `load_data` of the same module: a DataModule, the data itself, or a dict of the keywords of `Trainer.fit` with
the entry "data", and "test_data" and "predict_data" for the commands of these names. `--model.NAME` sets an argument of
`build_model`.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from rich.console import Console

from lightkeras.cli import hypermodels
from lightkeras.cli.exports import add_export_options, export_checkpoint
from lightkeras.cli.predictions import save_predictions
from lightkeras.cli.tune import add_search, run_search
from lightkeras.configuration import Parser, parsed_values
from lightkeras.data import DataModule
from lightkeras.distribution.accelerator import make_logical_cpus
from lightkeras.keras_models.functions import (
    LOAD_DATA,
    as_keywords,
    build_model,
    find_function,
    find_named,
    fit_keywords,
    load_data_of,
)
from lightkeras.preview import print_preview, show
from lightkeras.trainer import Trainer
from lightkeras.tuning.hypermodels import is_hypermodel
from lightkeras.utils.checks import UsageError, new_file
from lightkeras.verifier.plain_models import check_model

COMMANDS = ("show", "fit", "validate", "test", "predict", "export", "check", "tune")
SHOWN = ("data", "validation_data", "batch_size")
STAGES = {"validate": "validation_data", "test": "test_data", "predict": "predict_data"}


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
    if is_hypermodel(given := find_named(arguments[0])):
        return hypermodels.run(name, given, arguments[0], arguments[1:])
    build = find_function(arguments[0])
    parser = _make_parser(name, build)
    config = parser.parse_args(arguments[1:])
    chosen = functools.partial(build, **_model_arguments(config))
    if name == "export":
        return export_checkpoint(config, chosen)
    return ACTIONS[name](parser, config, chosen, _find_data(config, build))


def _model_arguments(config: Any) -> dict[str, Any]:
    return dict(vars(config.model)) if "model" in config else {}


def _find_data(config: Any, build: Callable) -> functools.partial:
    """Returns the function that gives the data: "package.module:function", or a search's `{function, init_args}`."""
    given = config.data if isinstance(config.data, dict) else {"function": config.data}
    function = find_function(given["function"]) if given.get("function") else load_data_of(build)
    return functools.partial(function, **given.get("init_args", {}))


def _make_parser(name: str, build: Callable) -> Parser:
    parser = Parser(prog=f"lightkeras {name} {build.__module__}:{build.__name__}", allow_abbrev=False)
    add = parser.add_argument
    add("--config", action="config", help="YAML file with any of the options below")
    add("--debug", action="store_true", help="show the traceback of every error")
    if name == "export":
        add_export_options(parser)
    else:
        help_of_data = f"gives the data ({LOAD_DATA})"
        add("--data", type=str | dict | None, default=None, metavar="MODULE:FUNCTION", help=help_of_data)
    if name not in ("check", "tune", "show", "export"):
        default = None if name == "fit" else "best"
        add("--ckpt_path", type=str | None, default=default, help="a run's folder, a checkpoint, last, best or auto")
    if name not in ("check", "export"):
        parser.add_class_arguments(Trainer, "trainer")
    if name == "tune":
        add_search(parser)
    if name == "fit":
        add("--allow_changes", nargs="+", default=[], metavar="NAME", help="what may differ in a resumed run")
    if name == "predict":
        add("--out", type=str, default="predictions.npz", help="new file for the arrays")
    parser.prepare([build.__module__.partition(".")[0]], {})
    if inspect.signature(build).parameters:
        parser.add_function_arguments(build, "model")
    return parser


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
    data = fit_keywords(load())
    trainer.fit(build_model(trainer, build), ckpt_path=config.ckpt_path, allow_changes=config.allow_changes, **data)
    if trainer.run_dir:
        print(f"Run: {trainer.run_dir}")
    return 128 + trainer.interrupted if trainer.interrupted else 0


def _show(parser: Parser, config: Any, build: Callable, load: Callable) -> int:
    trainer = parser.instantiate(config).trainer
    given = {name: one for name, one in fit_keywords(load()).items() if name in SHOWN}
    print_preview(show(build_model(trainer, build), **given, **trainer.init_args | {"callbacks": None}))
    return 0


def _evaluate(parser: Parser, config: Any, build: Callable, load: Callable) -> int:
    trainer, given = parser.instantiate(config).trainer, as_keywords(load())
    stage = "validate" if "validate" in parser.prog.split() else "test"
    data = _data_of_stage(stage, given)
    model = build_model(trainer, build)
    found = getattr(trainer, stage)(model, data, config.ckpt_path, batch_size=given.get("batch_size"))
    for name, value in found.items():
        print(f"{name:<30}{value:.6f}")
    return 0


def _predict(parser: Parser, config: Any, build: Callable, load: Callable) -> int:
    trainer, given, path = parser.instantiate(config).trainer, as_keywords(load()), new_file("--out", config.out)
    data = _data_of_stage("predict", given)
    model = build_model(trainer, build)
    save_predictions(trainer.predict(model, data, config.ckpt_path, batch_size=given.get("batch_size")), path)
    return 0


def _check(parser: Parser, config: Any, build: Callable, load: Callable) -> int:
    report = check_model(build, fit_keywords(load()))
    Console().print(report)
    return 0 if report.passed else 1


def _tune(parser: Parser, config: Any, build: functools.partial, load: functools.partial) -> int:
    values = {**parsed_values(parser, config)["trainer"], "enable_progress_bar": False, "enable_model_summary": False}
    groups = {"task": build.keywords, "data": load.keywords, "trainer": values}
    folder = config.folder or f"tuning/{build.func.__name__}"
    return run_search(build.func, folder, config, config.space, load.func, (), groups)


ACTIONS = {
    "show": _show, "fit": _fit, "validate": _evaluate, "test": _evaluate, "predict": _predict, "check": _check,
    "tune": _tune,
}  # fmt: skip
