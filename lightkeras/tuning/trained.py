"""The runs of trials that have ended."""

from pathlib import Path
from typing import Any

import keras

from lightkeras.runs.folder import newest_run
from lightkeras.tuning.trial_files import SearchError
from lightkeras.utils.paths import Folder


def require_run(folder: Path, name: str) -> Folder:
    """Returns the newest run in a trial's folder.

    Args:
        folder: The trial's folder.
        name: The folder of the runs in it.

    Raises:
        SearchError: There is none.
    """
    run = newest_run(folder, name)
    if run is None:
        raise SearchError(f"Expected the run of the best trial in {folder}. Received: none is there")
    return run


def load_model(subject: Any, folder: Path, config: dict[str, dict]) -> keras.Model:
    """Returns the plain Keras model of the newest run in a trial's folder, with its best weights.

    Args:
        subject: What the search trains; its `prepare` builds the model.
        folder: The trial's folder.
        config: The trial's configuration.
    """
    quiet = {"enable_progress_bar": False, "limit_test_batches": 1, "default_root_dir": str(folder)}
    made = subject.prepare({**config, "trainer": {**config["trainer"], **quiet}})
    held_out, run = made.data.get("validation_data"), require_run(folder, made.name)
    first = made.data["data"] if held_out is None else held_out  # its first batch makes the model's variables
    made.trainer.test(made.model, first, str(run), batch_size=made.data.get("batch_size"))
    return made.model
