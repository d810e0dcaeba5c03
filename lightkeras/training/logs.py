"""Metric sums on the device, and Keras' logs that read them only when somebody looks."""

import functools

import tensorflow as tf

from lightkeras.metrics import WeightedMean


class MetricSums:
    """Sums and weights of the metrics over many steps, kept on the device.

    Args:
        kinds: The class of every metric by name.

    Attributes:
        values: Sums and weights, float64 (metrics, 2).
        non_finite: The first update whose sum was not a finite number, or -1, int64 (metrics,).
    """

    def __init__(self, kinds: dict[str, type[WeightedMean]]):
        self.kinds = kinds
        self.reset()

    def reset(self) -> None:
        """Sets all sums to zero."""
        self.values = tf.zeros((len(self.kinds), 2), tf.float64)
        self.non_finite = tf.fill((len(self.kinds),), tf.constant(-1, tf.int64))

    def results(self, values) -> dict[str, float]:
        """Divides sums (metrics, 2): `self.values`, or the difference of two such."""
        return {
            name: kind.from_sums(row).result() for (name, kind), row in zip(self.kinds.items(), values, strict=True)
        }


class Logs(dict):
    """Metric values by name, read from the device on the first look; then like any dict.

    Keys exist from the start. Copying or pickling gives a plain dict.
    """

    def __init__(self, sums: MetricSums):
        super().__init__(dict.fromkeys(sums.kinds))
        self._pending = (sums, sums.values)

    def _read(self) -> None:
        if self._pending:
            (sums, values), self._pending = self._pending, None
            super().update(sums.results(values.numpy()))

    def __reduce__(self):
        return dict, (dict(self),)


def _read_first(name: str):
    """Makes the method `name` of a dict that reads the values first."""
    method = getattr(dict, name)

    @functools.wraps(method)
    def read_first(self, *args, **kwargs):
        self._read()
        return method(self, *args, **kwargs)

    return read_first


for _name in (
    "__getitem__", "__setitem__", "__delitem__", "__iter__", "__reversed__", "__repr__", "__eq__", "__ne__", "__or__",
    "__ror__", "__ior__", "get", "items", "keys", "values", "copy", "update", "setdefault", "pop", "popitem", "clear",
):  # fmt: skip
    setattr(Logs, _name, _read_first(_name))
