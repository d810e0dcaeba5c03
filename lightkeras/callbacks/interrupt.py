"""Ctrl-C and SIGTERM: finish the update, save, end."""

import signal
import threading

from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.callback_list import CallbackList
from lightkeras.distribution.replicas import any_worker


class Interrupt(Callback):
    """On SIGINT or SIGTERM, ends training after the running call; a SIGINT then ends it at once.

    More SIGTERMs change nothing: a scheduler repeats them while the state is still being saved.
    Of several workers, all end at the update after which one has received a signal.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        super().__init__()
        self._received = None
        self._before = {}

    def attach(self, callbacks: CallbackList) -> None:
        """Sets the list that learns of the interruption."""
        self._callbacks = callbacks

    def on_train_begin(self, logs=None):
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in self.SIGNALS}

    def _receive(self, number, frame):
        if self._received is not None:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self._received = number
        print("\nFinishing this update; Ctrl-C ends at once.", flush=True)

    def on_train_batch_end(self, batch, logs=None):
        if any_worker(self.model.distribute_strategy, self._received is not None):
            self._callbacks.interrupted = self._received or signal.SIGTERM  # another worker's may come first
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self._received is not None:  # also in the last epoch's validation, where nothing was left to stop
            self._callbacks.interrupted = self._received
        self._restore()

    def on_exception(self, error):
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
