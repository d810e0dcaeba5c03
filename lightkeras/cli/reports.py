"""`lightkeras report` and `lightkeras watch`: they read runs' folders, and need no TensorFlow."""

import argparse

from lightkeras.report import make_report, write_report
from lightkeras.report.watch import watch
from lightkeras.utils.checks import new_file, require
from lightkeras.utils.paths import as_path, local_path


def main(command: str, arguments: list[str]) -> int:
    """Runs `report` or `watch` with its options; returns the exit code."""
    return {"report": _report, "watch": _watch}[command](arguments)


def _report(arguments: list[str]) -> int:
    """Writes RUN/report.html; of several runs, a new file."""
    parser = argparse.ArgumentParser(prog="lightkeras report", allow_abbrev=False, description=_report.__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or that of a search")
    parser.add_argument("--out", help="a new file; without it RUN/report.html, or comparison.html of several runs")
    options = parser.parse_args(arguments)
    folders = [as_path(run) for run in options.runs]
    require(len(set(folders)) == len(folders), "RUN", "different folders", options.runs)
    if len(folders) == 1 and options.out is None:
        path = write_report(folders[0])
    else:
        path = new_file("--out", options.out or "comparison.html")
        path.write_text(make_report(*folders), encoding="utf-8")
    print(f"Report: {path}")
    return 0


def _watch(arguments: list[str]) -> int:
    """Serves the report of a run while it trains; Ctrl-C ends."""
    parser = argparse.ArgumentParser(prog="lightkeras watch", allow_abbrev=False, description=_watch.__doc__)
    parser.add_argument("run", metavar="RUN", help="a run's folder, or that of a search")
    parser.add_argument("--port", type=int, default=8765, help="port; 0 takes any free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on: others than this machine's own "
                        "let anyone in the network read the run")  # fmt: skip
    options = parser.parse_args(arguments)
    watch(local_path(options.run), options.host, options.port)
    return 0
