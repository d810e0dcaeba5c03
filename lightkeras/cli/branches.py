"""`lightkeras branch`: trains a new run from a past update of another."""

from lightkeras.cli.parsing import make_parser, parse, read_command
from lightkeras.configuration import add_arguments, instantiate
from lightkeras.replaying.branching import train_branch
from lightkeras.replaying.recorded import Recorded
from lightkeras.report.record import CONFIG
from lightkeras.utils.checks import UsageError


def main(arguments: list[str]) -> int:
    """Runs `branch RUN --step K`, with any option of `fit` in place of the run's; returns the exit code."""
    if not arguments or arguments[0].startswith("-"):
        raise UsageError(f"Expected a run's folder: branch RUN --step K. Received: {' '.join(arguments) or 'nothing'}")
    recorded = Recorded(arguments[0])
    command = read_command("branch", ["--config", f"{recorded.folder / CONFIG}", *arguments[1:]])
    parser = make_parser(command)
    help_of_step = "the first update that is the branch's own, counted from 1"
    parser.add_argument("--step", type=int, default=None, metavar="K", help=help_of_step)
    add_arguments(parser, command.task_class, command.data_class)
    config = parse(parser, command)
    recorded.require_step(config.step)
    made = instantiate(parser, config)
    trainer = train_branch(recorded, config.step, made.trainer, made.task, made.data, command.trust)
    print(f"Run: {trainer.run_dir}")
    print(f"Both on one page: lightkeras report {recorded.folder} {trainer.run_dir}")
    return 128 + trainer.interrupted if trainer.interrupted else 0
