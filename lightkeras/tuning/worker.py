"""The process of a worker that `lightkeras tune --workers N` starts: `FOLDER SECONDS PARENT`."""

import sys

from lightkeras.tuning.isolated import end_with_parent


def main(arguments: list[str]) -> int:
    """Works on the search in a folder until its chief has no more trials; the exit code."""
    folder, seconds, parent = arguments
    end_with_parent(int(parent))
    from lightkeras.tuning.tuner import Tuner

    tuner = Tuner.load(folder, max_time=None if seconds == "None" else float(seconds))
    tuner.search()
    return 128 + tuner.interrupted if tuner.interrupted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
