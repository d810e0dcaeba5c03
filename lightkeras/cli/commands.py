"""The commands that train, evaluate, use and check a task."""

import inspect
from typing import Any

from rich.console import Console

from lightkeras.checkpoint import Checkpoint
from lightkeras.cli.exports import add_export_options, check_export_options, read_trial_data, show_export
from lightkeras.cli.parsing import Command, make_parser, make_training_parser, parse, print_config, run_of_config
from lightkeras.cli.predictions import save_predictions
from lightkeras.configuration import Parser, add_part, instantiate, read_part
from lightkeras.demo.app import import_gradio
from lightkeras.demo.demonstrated import require_demo
from lightkeras.demo.server import listen, serve
from lightkeras.distribution.accelerator import make_logical_cpus
from lightkeras.preview import print_preview, show
from lightkeras.runs import state as run_state
from lightkeras.runs.folder import open_checkpoint, task_name
from lightkeras.trainer import Trainer
from lightkeras.utils.checks import new_file
from lightkeras.utils.paths import as_path
from lightkeras.verifier.checks import CHECKS
from lightkeras.verifier.run_checks import check


def _fit(command: Command) -> int:
    parser = make_training_parser(command)
    add = parser.add_argument
    add(
        "--ckpt_path",
        type=str | None,
        default=None,
        help="resume a run: its folder, a checkpoint, last, best, or auto (start it if there is none)",
    )
    add(
        "--weights_path",
        type=str | None,
        default=None,
        help="start with the weights of a trained run: its folder, a checkpoint, last or best",
    )
    add(
        "--allow_changes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="what may differ in a resumed run, by the names that the error lists",
    )
    config = parse(parser, command)
    if command.print_config:
        print_config(parser, config, command)
        return 0
    run = instantiate(parser, config)
    trainer, ckpt_path = run.trainer, _in_run_of_config(config.ckpt_path, command)
    trainer.fit(run.task, run.data, ckpt_path, config.weights_path, config.allow_changes)
    if trainer.run_dir:
        print(f"Run: {trainer.run_dir}")
    return 128 + trainer.interrupted if trainer.interrupted else 0


def _in_run_of_config(ckpt_path: str | None, command: Command) -> str | None:
    """Makes "last", "best" and "auto" mean the run that `--config RUN/config.yaml` belongs to."""
    if ckpt_path not in ("last", "best", "auto") or (run := run_of_config(command)) is None:
        return ckpt_path
    return str(run / ckpt_path.replace("auto", "last"))


def _add_checkpoint(parser: Parser) -> None:
    parser.add_argument(
        "--ckpt_path", type=str | None, default="best", help="a run's folder, a checkpoint, best or last"
    )


def _open_checkpoint(command: Command) -> Checkpoint:
    root = command.values.get("trainer", {}).get("default_root_dir", "runs")
    return open_checkpoint(command.values.get("ckpt_path") or "best", as_path(root), task_name(command.task_class))


def _load_trained(command: Command) -> tuple[Parser, Any]:
    """Returns a parser with the options of Trainer and data of the training, and the checkpoint (None for help)."""
    saved = None if command.asks_for_help else _open_checkpoint(command)
    if saved is not None and not command.names_data:
        command.data_class, given = read_part("data", saved.state["data"], command.trust)
        command.values["data"] = {**given, **command.values.get("data", {})}
    parser = make_parser(command)
    _add_checkpoint(parser)
    parser.add_class_arguments(Trainer, "trainer")
    add_part(parser, "data", command.data_class)
    command.values.pop("task", None)  # the checkpoint has its arguments
    if command.name == "predict":
        parser.add_argument("--out", type=str, default="predictions.npz", help="new file for the arrays")
    return parser, saved


def _use(command: Command, parser: Parser, saved: Checkpoint, config: Any) -> Any:
    """Returns the result of `Trainer.COMMAND` for the saved task, built for the Trainer's devices and precision."""
    run = instantiate(parser, config)
    task, _, _ = run_state.load_run(saved, command.task_class, command.trust)
    run.data.load_state_dict(saved.state["data_state"])
    return getattr(run.trainer, command.name)(task, run.data, saved.path)


def _evaluate(command: Command) -> int:
    parser, saved = _load_trained(command)
    for name, value in _use(command, parser, saved, parse(parser, command)).items():
        print(f"{name:<30}{value:.6f}")
    return 0


def _predict(command: Command) -> int:
    if hasattr(command.task_class, "predict_command"):
        return _own_predict(command)
    parser, saved = _load_trained(command)
    config = parse(parser, command)
    path = new_file("--out", config.out)
    save_predictions(_use(command, parser, saved, config), path)
    return 0


def _own_predict(command: Command) -> int:
    """Calls the task's own `predict_command`: its arguments are the options, and it needs neither Trainer nor data.

    It returns a text, or texts that are printed as they come.
    """
    parser = make_parser(command)
    _add_checkpoint(parser)
    parser.add_argument("--trainer.default_root_dir", type=str, default="runs", help="the folder of the runs")
    parser.add_method_arguments(command.task_class, "predict_command")
    command.values = {key: value for key, value in command.values.items() if key not in ("task", "data")}
    config = parse(parser, command)
    task = run_state.load_task(_open_checkpoint(command), command.task_class, command.trust)
    names = list(inspect.signature(command.task_class.predict_command).parameters)[1:]  # without self
    texts = task.predict_command(**{name: config[name] for name in names})
    for text in [texts] if isinstance(texts, str) else texts:
        print(text, flush=True)
    return 0


def _export(command: Command) -> int:
    """Exports a trained task, and prints the difference of each endpoint from the task."""
    parser = make_parser(command)
    add_export_options(parser)
    command.values = {key: value for key, value in command.values.items() if key not in ("task", "data")}
    config = parse(parser, command)
    check_export_options(config)
    task = run_state.load_task(_open_checkpoint(command), command.task_class, command.trust)
    read_trial_data(task)
    return show_export(config, task.export(config.out, config.format))


def _demo(command: Command) -> int:
    """Serves the page of a trained task until Ctrl-C."""
    parser = make_parser(command)
    add = parser.add_argument
    _add_checkpoint(parser)
    add("--trainer.default_root_dir", type=str, default="runs", help="the folder of the runs")
    add("--port", type=int, default=7860, help="port; 0 takes any free one")
    add("--host", type=str, default="127.0.0.1", help="address to listen on: others than this machine's own let anyone "
        "in the network use the demo")  # fmt: skip
    command.values = {key: value for key, value in command.values.items() if key not in ("task", "data")}
    config = parse(parser, command)
    require_demo(command.task_class)
    import_gradio()
    with listen(config.host, config.port) as opened:
        task = run_state.load_task(_open_checkpoint(command), command.task_class, command.trust)
        serve(task.demo(), config.host, opened)
    return 0


def _show(command: Command) -> int:
    """Prints what a run with these options will be."""
    parser = make_training_parser(command)
    config = parse(parser, command)
    if command.print_config:
        print_config(parser, config, command)
        return 0
    run = instantiate(parser, config)
    print_preview(show(run.task, run.data, **run.trainer.init_args | {"callbacks": None}))
    return 0


def _check(command: Command) -> int:
    """Prints the verifier's report; the exit code is 1 if a check fails."""
    make_logical_cpus(2)  # before TensorFlow starts
    parser = make_parser(command)
    add = parser.add_argument
    add("--only", nargs="+", default=None, metavar="CHECK", help=f"only these of {', '.join(CHECKS)}")
    add("--group", type=str | None, default=None, help="entry of a batch that no two splits may share")
    add("--deterministic", action="store_true", help="use deterministic operations: results are equal to the bit")
    add_part(parser, "task", command.task_class)
    add_part(parser, "data", command.data_class)
    command.values.pop("trainer", None)
    config = parse(parser, command)
    pair = instantiate(parser, config)
    options = {name: config[name] for name in ("only", "group", "deterministic")}
    report = check(pair.task, pair.data, **options)
    Console().print(report)
    return 0 if report.passed else 1


ACTIONS = {
    "show": _show, "fit": _fit, "validate": _evaluate, "test": _evaluate, "predict": _predict, "export": _export,
    "check": _check, "demo": _demo,
}  # fmt: skip
