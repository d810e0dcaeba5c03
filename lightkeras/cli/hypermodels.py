"""`lightkeras tune` and `fit` of `package.module:Name`: a `keras_tuner.HyperModel`, its class, or `build(hp)`.

Its data comes from the function that `--data` names, or `load_data` of the same module, as that of a plain model.
"""

import functools
from typing import Any

import keras_tuner

from lightkeras.cli.tune import add_search, run_search
from lightkeras.configuration import Parser, parsed_values
from lightkeras.keras_models.functions import LOAD_DATA, build_model, find_function, load_data_of
from lightkeras.trainer import Trainer
from lightkeras.tuning import hypermodels
from lightkeras.tuning.hypermodel_subject import HyperModelSubject
from lightkeras.utils.checks import UsageError, require


def run(name: str, given: Any, path: str, options: list[str]) -> int:
    """Runs a command on a HyperModel.

    Args:
        name: The command.
        given: The HyperModel, its class, or the function.
        path: "package.module:Name".
        options: The options.

    Returns:
        The exit code.
    """
    if name not in ACTIONS:
        raise UsageError(f"Expected tune or fit for a HyperModel, {path}. Received: {name}")
    parser = _make_parser(name, path)
    config = parser.parse_args(options)
    load = find_function(config.data) if config.data else load_data_of(given)
    return ACTIONS[name](parser, config, given, load)


def _make_parser(name: str, path: str) -> Parser:
    parser = Parser(prog=f"lightkeras {name} {path}", allow_abbrev=False)
    add = parser.add_argument
    add("--config", action="config", help="YAML file with any of the options below")
    add("--debug", action="store_true", help="show the traceback of every error")
    add("--data", type=str | None, metavar="MODULE:FUNCTION", help=f"gives the data ({LOAD_DATA})")
    parser.add_class_arguments(Trainer, "trainer")
    if name == "tune":
        add_search(parser, space=False)
    else:
        add("--hp", type=dict, default={}, help="hyperparameters by name; the others have their defaults")
        add("--ckpt_path", type=str | None, help="a run's folder, a checkpoint, last, best or auto")
    parser.prepare([path.partition(".")[0].partition(":")[0]], {})
    return parser


def _tune(parser: Parser, config: Any, given: Any, load: Any) -> int:
    trainer = {**parsed_values(parser, config)["trainer"], "enable_progress_bar": False, "enable_model_summary": False}
    folder = config.folder or f"tuning/{getattr(given, '__name__', type(given).__name__)}"
    return run_search(given, folder, config, None, load, (), {"trainer": trainer})


def _fit(parser: Parser, config: Any, given: Any, load: Any) -> int:
    """Trains the model of chosen hyperparameters, as a trial does."""
    subject = HyperModelSubject(given, load)
    _check_names(subject, config.hp)
    hp = keras_tuner.HyperParameters()
    hp.values = dict(config.hp)
    trainer = parser.instantiate(config).trainer
    model = build_model(trainer, functools.partial(subject.hypermodel.build, hp))
    hypermodels.fit(subject.hypermodel, hp, model, trainer, subject.data, config.ckpt_path)
    if trainer.run_dir:
        print(f"Run: {trainer.run_dir}")
    return 128 + trainer.interrupted if trainer.interrupted else 0


def _check_names(subject: HyperModelSubject, values: dict[str, Any]) -> None:
    """Rejects a hyperparameter that neither `build` nor `fit` declares."""
    declared = keras_tuner.HyperParameters()
    if values:
        subject.search_space(declared)
    known = sorted({one.name for one in declared.space})
    for name in values:
        require(name in known, "--hp", f"one of {', '.join(known)}", name, UsageError)


ACTIONS = {"tune": _tune, "fit": _fit}
