"""The command line: `lightkeras fit | validate | test | predict | tune | bench NAME [options]`.

This module answers without TensorFlow; `commands.py` and `tune.py` do the work.
"""

import importlib
import importlib.metadata
import sys

from lightkeras.cli import registry
from lightkeras.utils.checks import LightkerasError, UsageError, nearest

REPORTS = ("report", "watch")
TUNING = ("tune", "find_lr", "find_batch_size")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    An error that lightkeras raises is shown in one line, unless `--debug` is given. Any other error comes from the
    user's own code or is a fault of ours: it is raised, so that Python shows the traceback.

    Returns:
        The exit code: 0, 1 after a failure, 2 for a wrong option, 130 after Ctrl-C and 143 after SIGTERM (the run is
        saved then, and `--ckpt_path last` resumes it).
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(registry.usage())
        return 0
    if arguments[0] == "--version":
        print(importlib.metadata.version("lightkeras"))
        return 0
    registry.search_current_folder_last()
    try:
        return _run(*arguments)
    except KeyboardInterrupt as error:
        _print_error("interrupted", error)
        return 130
    except LightkerasError as error:
        if "--debug" in arguments:
            raise
        _print_error(f"error: {error}", error)
        return 2 if isinstance(error, UsageError) else 1


def _run(command: str, *arguments: str) -> int:
    _require_known("command", command, registry.COMMANDS)
    if command == "launch":
        return importlib.import_module("lightkeras.distribution.launch").main([*arguments])
    if command == "replay":
        return importlib.import_module("lightkeras.cli.replays").main([*arguments])
    if command == "branch":
        return importlib.import_module("lightkeras.cli.branches").main([*arguments])
    if command in REPORTS:
        return importlib.import_module("lightkeras.cli.reports").main(command, [*arguments])
    if command == "bench":
        known = registry.benchmarks()
        name = arguments[0] if arguments else ""
        _require_known("benchmark", name, known)
        module, _, function = known[name].rpartition(".")
        return getattr(importlib.import_module(module), function)([*arguments[1:]])
    if not arguments or arguments in (("-h",), ("--help",)):
        print(registry.usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if ":" in arguments[0] and not arguments[0].startswith("-"):
        return importlib.import_module("lightkeras.cli.plain_models").run(command, [*arguments])
    parsing = importlib.import_module("lightkeras.cli.parsing")
    actions = importlib.import_module(f"lightkeras.cli.{'tune' if command in TUNING else 'commands'}").ACTIONS
    return actions[command](parsing.read_command(command, [*arguments]))


def _require_known(kind: str, name: str, known) -> None:
    if name not in known:
        raise UsageError(f"Expected a {kind}: one of {', '.join(known)}. Received: {name!r}.{nearest(name, known)}")


def _print_error(text: str, error: BaseException) -> None:
    for line in (f"lightkeras: {text}", *getattr(error, "__notes__", ())):
        print(line, file=sys.stderr)
