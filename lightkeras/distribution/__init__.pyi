"""The public names with their homes, for editors and type checkers; `__init__.py` imports them when first used."""

from .replicas import all_reduce_sum as all_reduce_sum
from .strategies import make_strategy as make_strategy
