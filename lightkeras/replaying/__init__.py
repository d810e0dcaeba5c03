"""Past updates of a run, executed again: `lk.replay`, `lk.branch` and their commands."""

from lightkeras.replaying.branching import branch
from lightkeras.replaying.moment import Moment, replay

__all__ = ["Moment", "branch", "replay"]
