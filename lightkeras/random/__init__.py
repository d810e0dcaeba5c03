"""Random numbers keyed by seed and address: the same for an example whatever batch, replica or worker draws them."""

from lightkeras.random.draws import bernoulli, dropout, integers, normal, uniform
from lightkeras.random.keys import keyed_draws
from lightkeras.random.threefry import threefry

__all__ = ["bernoulli", "dropout", "integers", "keyed_draws", "normal", "threefry", "uniform"]
