"""Ctrl-C and SIGTERM: finish the update, save, end."""

import signal
import threading

from lightkeras.callbacks.callback import Callback
from lightkeras.distribution.replicas import any_worker
from lightkeras.utils.messages import logger


class Interrupt(Callback):
    """Ends training after the running call on SIGINT or SIGTERM; a second SIGINT ends it at once.

    Further SIGTERMs are ignored: a scheduler repeats them while the state is still being saved. Several workers all end
    at the update after which one of them has received a signal.
    """

    order = 70
    accepts_many_steps = True
    ends_for_good = False
    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        super().__init__()
        self._received = None
        self._before = {}

    def on_train_begin(self, logs=None):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in self.SIGNALS}

    def _receive(self, number, frame):
        if self._received is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self._received = number
        logger.info("\nFinishing this update; Ctrl-C ends at once.")

    def on_train_batch_end(self, batch, logs=None):
        if any_worker(self.model.distribute_strategy, self._received is not None):
            self.run.interrupted = self._received or signal.SIGTERM  # another worker's may come first
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self._received is not None:  # also in the last epoch's validation, where nothing was left to stop
            self.run.interrupted = self._received
        self._restore()

    def on_exception(self, error):
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
