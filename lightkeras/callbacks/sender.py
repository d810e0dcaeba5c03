"""Calls of a tracker's client, made beside the training and in order."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lightkeras.utils.messages import logger

PAUSE = 30.0  # seconds after a failure before the next try


class Sender:
    """Makes calls on one thread, each when the one before has succeeded.

    A call that fails is tried again with a later one, `PAUSE` seconds after the failure at the earliest, and the
    training goes on meanwhile. A call that can never succeed is left out. The first failure of a kind is a warning.

    Args:
        name: The tracker, for the warnings.
        is_final: Returns whether a call that raised this error can never succeed.
    """

    def __init__(self, name: str, is_final: Callable[[Exception], bool]):
        self._name, self._is_final = name, is_final
        self._waiting: deque[Callable[[], None]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"lightkeras-{name}")
        self._failed_at, self._told = float("-inf"), set[bool]()

    def put(self, call: Callable[[], None]) -> None:
        """Adds a call; returns at once."""
        self._waiting.append(call)
        self._pool.submit(self._work)

    def finish(self) -> int:
        """Tries all that waits, now; returns the number of calls that still wait."""
        self._pool.submit(self._work, retry=True).result()
        return len(self._waiting)

    def close(self) -> None:
        """Forgets what waits, and ends the thread."""
        self._waiting.clear()
        self._pool.shutdown(wait=False)

    def _work(self, retry: bool = False) -> None:
        if not retry and time.monotonic() - self._failed_at < PAUSE:
            return
        while self._waiting:
            try:
                self._waiting[0]()
            except Exception as error:  # of any kind: a tracker must not end a training
                final = self._is_final(error)
                self._tell(error, final)
                if not final:
                    self._failed_at = time.monotonic()
                    return
            self._waiting.popleft()

    def _tell(self, error: Exception, final: bool) -> None:
        """Warns, once of each kind."""
        if final not in self._told:
            self._told.add(final)
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            then = "It is left out there." if final else "The training goes on; it is sent later."
            logger.warning("%s did not take what this run sent. %s Received: %s", self._name, then, why)
