"""Scalars for TensorBoard."""

from typing import Any

import tensorflow as tf
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.log_values import numbers_of
from lightkeras.utils.paths import os_errors, truncate


class TensorBoardLogger(Callback):
    """Writes every record as scalars to `tensorboard/` in the run's folder, at the number of updates.

    Every start of a run writes a file of its own. A checkpoint holds the lengths of the files, and a resumed run cuts
    them there: later events are written again, and stand there once.
    """

    order = 30
    writes_files = chief_only = True
    _writer: Any = None

    def on_train_begin(self, logs=None):
        self._folder = self.run.folder / "tensorboard"
        self._before = [path.name for path in self._folder.glob("*")]
        self._writer = tf.summary.create_file_writer(str(self._folder))

    def on_log(self, record):
        self._write(record)

    def on_validation_end(self, record):
        self._write(record)

    def _write(self, record: dict) -> None:
        """Writes all values in one event: one `tf.summary.scalar` per value takes several times as long."""
        event = summary_pb2.Summary()
        for name, value in numbers_of(record).items():
            if name != "step":
                event.MergeFrom(scalar_pb(name, value))
        with os_errors(), self._writer.as_default():
            tf.summary.experimental.write_raw_pb(event.SerializeToString(), step=record["step"])

    def on_epoch_end(self, epoch, logs=None):
        self._flush()

    def _flush(self) -> None:
        with os_errors():
            self._writer.flush()

    def on_train_end(self, logs=None):
        with os_errors():
            self._writer.close()

    def on_exception(self, error):
        if self._writer:
            self.on_train_end()

    def state_dict(self):
        self._flush()
        return {"sizes": {path.name: path.stat().st_size for path in sorted(self._folder.glob("*"))}}

    def load_state_dict(self, state):
        """Cuts earlier files to their lengths at the checkpoint."""
        sizes = state.get("sizes", {})  # older checkpoints have none
        for path in (self._folder / name for name in self._before if sizes):
            if path.name in sizes:
                truncate(path, sizes[path.name])
            else:
                path.unlink()
