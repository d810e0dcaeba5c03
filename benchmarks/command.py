"""The options of every benchmark, and the output of its tables."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import report
from benchmarks.harness import Entry
from lightkeras.utils.checks import require, require_choice
from lightkeras.utils.paths import local_path

PRECISIONS = ("32", "bf16-mixed", "16-mixed")
XLA = {"auto": "auto", "on": True, "off": False}
COMMON = ("rounds", "out", "plot", "compare", "threshold", "relative", "only")


def run(
    name: str, about: str, defaults: dict[str, Any], arguments: list[str],
    measure: Callable[[argparse.Namespace], list[report.Table]], rounds: int = 7,
) -> int:  # fmt: skip
    """A benchmark's command.

    Args:
        name: The benchmark's name.
        about: What it measures.
        defaults: Its settings, each with its default: options of the same names.
        arguments: Of the command line.
        measure: Takes the options, gives the tables.
        rounds: Rounds by default.

    Returns:
        The exit code: 0, or 1 if a competitor is slower than in the report of `--compare`.

    Raises:
        ArgumentError: An option is wrong.
    """
    chosen = parser(name, about, defaults, rounds).parse_args(arguments)
    if chosen.compare:
        require(chosen.compare.is_file(), "compare", "an earlier report", str(chosen.compare))
    old = json.loads(chosen.compare.read_text(encoding="utf-8")) if chosen.compare else None
    for path in (chosen.out, chosen.plot):
        require(
            path is None or path.parent.is_dir(), "out", "a file in an existing folder", str(path), FileNotFoundError
        )
    settings = {key: getattr(chosen, key) for key in defaults}
    tables = measure(chosen)
    for table in tables:
        report.show(table)
    report.write(chosen.out, name, settings, tables)
    if chosen.plot:
        report.plot(chosen.plot, tables)
    if not old:
        return 0
    worse = report.compare(old, name, settings, tables, chosen.threshold, chosen.relative)
    if worse:
        print(f"Slower by more than {chosen.threshold:.0%}: {'; '.join(worse)}", file=sys.stderr)
    return int(bool(worse))


def parser(name: str, about: str, defaults: dict[str, Any], rounds: int) -> argparse.ArgumentParser:
    """A parser with the options of every benchmark, and one for each of `defaults`."""
    layout = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(prog=f"lightkeras bench {name}", description=about, formatter_class=layout)
    made.add_argument("--rounds", type=_positive, default=rounds, help=f"timed rounds, interleaved ({rounds})")
    made.add_argument("--out", type=local_path, default=local_path(f"bench_{name}.json"), help="file for every sample")
    made.add_argument("--plot", type=local_path, help="PNG file for the tables as a picture")
    made.add_argument("--compare", type=local_path, help="an earlier report; exit code 1 if one is slower now")
    made.add_argument("--threshold", type=float, default=0.1, help="of --compare: share that counts as slower (0.1)")
    made.add_argument("--relative", action="store_true", help="compare the ratios, not the times")
    made.add_argument("--only", nargs="+", metavar="NAME", help="only competitors whose names have one of these")
    for key, value in defaults.items():
        kind = {int: _positive}.get(type(value), type(value))
        made.add_argument(f"--{key}", type=kind, default=value, help=f"({value})")
    return made


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"Expected a positive int. Received: {text}")
    return value


def select(entries: dict[str, Entry], only: list[str] | None) -> dict[str, Entry]:
    """The competitors whose names have one of the texts of `--only`; all where there are none.

    Raises:
        ValueError: No name has one of them.
    """
    kept = {name: e for name, e in entries.items() if not only or any(text.lower() in name.lower() for text in only)}
    require(bool(kept), "only", f"parts of the names {', '.join(entries)}", only)
    return kept


def variants(precisions: str, xla: str) -> dict[str, tuple[dict[str, str], dict[str, Any]]]:
    """Every precision with and without XLA: the columns that tell which, and the Trainer's arguments, by a short name.

    Args:
        precisions: With commas between them.
        xla: "auto", "on", "off", with commas between them.
    """
    made = {}
    for precision in listed("precisions", precisions, PRECISIONS):
        for one in listed("xla", xla, XLA):
            words = [precision] * (precision != "32") + [f"XLA {one}"] * (one != "auto")
            columns = {"XLA": one, "precision": precision}
            made[", ".join(words)] = columns, {"precision": precision, "jit_compile": XLA[one]}
    return made


def listed(name: str, text: str, known) -> list[str]:
    """The names in `text`, with commas between them.

    Raises:
        ValueError: One is not `known`.
    """
    names = [part.strip() for part in text.split(",")]
    for one in names:
        require_choice(name, one, known)
    return names
