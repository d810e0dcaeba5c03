"""All that a run leaves behind, to be compared with that of another."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from lightkeras import checkpoint as files

CLOCK = ("_per_second", "goodput", "mfu", "sizes")  # what differs: speeds, and the lengths of files that hold them


def outcome(run: Path) -> dict:
    """The run's last checkpoint, its logs, its samples."""
    saved = files.load_checkpoint(files.latest_checkpoint(run / "checkpoints"))
    samples = {path.name: path.read_bytes() for path in sorted((run / "samples").glob("*"))}
    return {
        "arrays": saved.arrays,
        "state": _without_clock(saved.state),
        "rows": (run / "metrics.csv").read_text(encoding="utf-8").splitlines(),
        "events": scalars(run / "tensorboard"),
        "samples": samples,
    }


def assert_same(ours: dict, theirs: dict) -> None:
    """To the bit."""
    assert ours["arrays"].keys() == theirs["arrays"].keys()
    for name, array in theirs["arrays"].items():
        np.testing.assert_array_equal(ours["arrays"][name], array, err_msg=name)
    for part in ("state", "rows", "events", "samples"):
        assert ours[part] == theirs[part], part


def scalars(folder: Path) -> list[tuple[int, str, float]]:
    """(step, name, value) of every scalar in TensorBoard's event files, speeds left out, in the order of the steps."""
    found = []
    for path in sorted(folder.glob("events*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if not value.tag.endswith(CLOCK):
                    found.append((event.step, value.tag, float(tf.make_ndarray(value.tensor))))
    return sorted(found)


def _without_clock(state):
    if not isinstance(state, dict):
        return state
    return {name: _without_clock(value) for name, value in state.items() if not name.endswith(CLOCK)}
