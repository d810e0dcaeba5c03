"""Waits for what W&B writes while it is offline."""

import time
from pathlib import Path

from lightkeras.callbacks import wandb_files

SECONDS = 60.0


def history(folder: Path) -> tuple[set[str], list[dict]]:
    """The run ids in a folder of offline runs that have ended, and the rows of all, in the order of the starts."""
    ids, rows = set(), []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.parent.name):
        found = _wait_for_exit(path)
        ids |= {record.run.run_id for record in found if record.WhichOneof("record_type") == "run"}
        rows += wandb_files.history(path)
    return ids, rows


def _wait_for_exit(path: Path) -> list:
    """The records of a run that has ended: W&B's service writes them some seconds later."""
    began = time.monotonic()
    while not (found := wandb_files.records(path)) or found[-1].WhichOneof("record_type") != "exit":
        assert time.monotonic() - began < SECONDS, f"{path} does not end"
        time.sleep(0.05)
    return found
