"""Past updates of a run, executed again: `lk.replay` and `lightkeras replay`."""

from lightkeras.replaying.moment import Moment, replay

__all__ = ["Moment", "replay"]
