"""The state of Keras' own callbacks."""

import warnings

import keras
import numpy as np
from keras import callbacks as keras_callbacks

from lightkeras.utils import internals


class KerasState:
    """Saves and restores a Keras callback, which has no `state_dict`: the attributes that training changes.

    The best weights that `EarlyStopping` keeps are arrays, beside the state.

    Args:
        callback: The callback; a class that is not listed here has no state.
    """

    NAMES = {
        keras_callbacks.History: ("epoch", "history"),
        keras_callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch"),
        keras_callbacks.ReduceLROnPlateau: ("best", "wait", "cooldown_counter"),
        keras_callbacks.ModelCheckpoint: ("best",),
        keras_callbacks.SwapEMAWeights: (internals.SWAPPED,),
    }

    def __init__(self, callback: keras.callbacks.Callback):
        self._callback = callback
        self._names = [name for kind, names in self.NAMES.items() if isinstance(callback, kind) for name in names]

    def state_dict(self) -> dict:
        """Returns the listed attributes."""
        return {name: getattr(self._callback, name) for name in self._names}

    def arrays(self) -> list[np.ndarray]:
        """Returns the weights that the callback keeps; none if it keeps none."""
        return getattr(self._callback, "best_weights", None) or []

    def load_state_dict(self, state: dict) -> None:
        """Restores the listed attributes."""
        for name in state:
            setattr(self._callback, name, state[name])

    def load_arrays(self, arrays: list[np.ndarray]) -> None:
        """Restores the weights, behind the attributes."""
        if not getattr(self._callback, "restore_best_weights", False):
            return
        self._callback.best_weights = arrays or None
        if not arrays and self._callback.best is not None:
            warnings.warn(
                "keras.callbacks.EarlyStopping(restore_best_weights=True) kept no weights before the resume. If no "
                'later epoch is better, take the run\'s best checkpoint (ckpt_path="best").',
                stacklevel=2,
            )
