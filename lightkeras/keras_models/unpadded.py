"""Addressed data as Keras' `fit` hands it over."""

from typing import Any

import numpy as np
import tensorflow as tf


class Unpadded:
    """Until `as_keras` is there."""

    def __init__(self, dataset: Any):
        self._dataset, self.batch_size = dataset, dataset.batch_size
        self._short = len(dataset) * dataset.batch_size != dataset.size
        self.gather_from_memory = dataset.gather_from_memory and (lambda row: self._trim(dataset.gather_from_memory(row)))
        self._cached = {}

    def _trim(self, batch):
        weight = batch["weight"] if isinstance(batch, dict) else batch[2]
        count = tf.cast(tf.reduce_sum(weight), tf.int32)
        batch = {k: v for k, v in batch.items() if k != "weight"} if isinstance(batch, dict) else batch[:2]
        if isinstance(batch, tuple) and batch[1] is None:
            batch = batch[0]
        return tf.nest.map_structure(lambda rows: rows[:count], batch) if self._short else batch

    def index_table(self, seed, epoch, steps):
        return self._dataset.index_table(seed, epoch, steps)

    def stream(self, *args, **kwargs):
        return self._dataset.stream(*args, **kwargs).map(lambda *b: self._trim(b if len(b) > 1 else b[0]))

    @property
    def element_spec(self):
        return self.stream(epochs=1).element_spec

    def cached_stream(self, strategy, steps, by_replica):
        return self._cached.setdefault(steps, self.stream(epochs=1, steps=steps))

    def in_order(self, rows):
        return np.asarray(rows)

    def __getattr__(self, name):
        return getattr(self._dataset, name)
