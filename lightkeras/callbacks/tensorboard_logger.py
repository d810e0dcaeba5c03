"""Scalars for TensorBoard."""

from pathlib import Path

import tensorflow as tf

from lightkeras.callbacks.base import Callback


class TensorBoardLogger(Callback):
    """Writes every record as scalars to `tensorboard/` in the run's folder, at the number of updates."""

    writes_files = chief_only = True
    _writer = None

    def on_train_begin(self, logs=None):
        self._writer = tf.summary.create_file_writer(str(Path(self.params["run_dir"]) / "tensorboard"))

    def on_log(self, record):
        self._write(record)

    def on_validation_end(self, record):
        self._write(record)

    def _write(self, record: dict) -> None:
        with self._writer.as_default(step=record["step"]):
            for name, value in record.items():
                if name != "step":
                    tf.summary.scalar(name, value)

    def on_epoch_end(self, epoch, logs=None):
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()

    def on_exception(self, error):
        if self._writer:
            self._writer.close()
