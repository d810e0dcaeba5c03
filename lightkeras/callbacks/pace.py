"""The time that the rest of a run takes, from the updates and the ends of epochs made so far."""

OLD = 0.5  # the weight of what was measured before the last epoch


class Pace:
    """Measures updates, and apart from them what comes between epochs: validation, samples, checkpoints.

    The first call, which traces and compiles, does not count. The latest epochs count most. Times are seconds of one
    clock.
    """

    def __init__(self) -> None:
        self._updates = self._seconds = 0.0
        self._ends = self._between = 0.0
        self._at: float | None = None
        self._step = 0

    def begin_epoch(self, now: float, step: int) -> None:
        """Begins an epoch; what passed since the last update belongs to the end of the epoch before."""
        if self._at is None:
            return
        self._ends, self._between = OLD * self._ends + 1, OLD * self._between + now - self._at
        self._updates, self._seconds = OLD * self._updates, OLD * self._seconds
        self._at, self._step = now, step

    def count(self, now: float, step: int) -> None:
        """Counts the updates since the last call."""
        if self._at is not None:
            self._updates, self._seconds = self._updates + step - self._step, self._seconds + now - self._at
        self._at, self._step = now, step

    def remaining(self, now: float, updates: int, ends: int) -> float | None:
        """Returns the seconds that this number of updates and of ends of epochs take; None before anything is known."""
        if not self._updates:
            return None
        since = now - (self._at or now)  # the last update
        end = self._between / self._ends if self._ends else since  # the first one lasts as long as it does
        return max(updates * self._seconds / self._updates + ends * end - since, 0.0)
