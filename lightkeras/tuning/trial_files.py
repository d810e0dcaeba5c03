"""The files in a trial's folder."""

from pathlib import Path
from typing import Any

from lightkeras.utils.checks import LightkerasError

RESULT = "result.json"  # written when the trial has ended
JOB = "job.json"  # the trial's configuration, objective and budget
LOG = "log.txt"  # everything the trial printed
LOCK = ".lock"


class SearchError(LightkerasError, ValueError):
    """The search cannot start or be resumed."""


def trial_folder(folder: Path, trial_id: str) -> Path:
    """Returns the folder of a trial in its search's folder."""
    return folder / "trials" / trial_id


def failed_result(reason: str) -> dict[str, Any]:
    """Returns the content of `result.json` for a trial that failed."""
    nothing = dict.fromkeys(("score", "step", "seconds", "run"))
    return {"status": "FAILED", "reason": reason, **nothing, "values": []}
