"""Random numbers keyed by seed and address: the same for an example whatever batch, replica or worker draws them."""

from lightkeras.random.threefry import normal, threefry, uniform

__all__ = ["normal", "threefry", "uniform"]
