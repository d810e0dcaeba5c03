"""Times a task's updates with and without XLA, once, and keeps the faster way."""

import statistics
import time

import tensorflow as tf

from lightkeras.callbacks.callback import Callback
from lightkeras.data.addressing import address_spec
from lightkeras.data.batches import map_batch, named_entries, row_count
from lightkeras.distribution.replicas import num_replicas
from lightkeras.random.keys import keyed_draws
from lightkeras.utils.messages import logger

CALLS = 5  # timed of each kind
MIN_SECONDS_LEFT = 120.0  # of training: for less, compiling does not pay
MAX_SLOWDOWN = 2.0  # XLA is given up at the first call that is slower by this factor than the slowest without it
MAX_SHARE = 0.95  # XLA is kept if it takes at most this share of the time


class Compilation(Callback):
    """Times some calls of the training without XLA and some with it, and keeps the faster way.

    Both make the same updates, to float rounding, so no update is wasted. The decision is in the checkpoints: a resumed
    run does not time again. An update that XLA cannot compile stays as it is.

    It times nothing where the task decides (`prefer_jit_compile`), on several devices, eagerly, and where batches
    differ in shape: XLA compiles for each shape.
    """

    order = 5
    accepts_many_steps = True

    def __init__(self):
        super().__init__()
        self._seconds: dict[bool, list[float]] = {False: [], True: []}
        self._decision: bool | None = None
        self._skip = True  # the first call of each kind traces and compiles

    def on_train_begin(self, logs=None):
        self._decision = None if self._is_open() else False

    def _is_open(self) -> bool:
        task = self.model
        fixed = all(tf.TensorShape(spec.shape).is_fully_defined() for spec in named_entries(task.spec).values())
        return task.prefer_jit_compile is None and fixed and not task.run_eagerly and _alone(task)

    @property
    def decided(self) -> bool:
        """Whether XLA is decided on."""
        return self._decision is not None

    def on_train_batch_end(self, batch, logs=None):
        if self.decided:
            return
        if self._skip:
            self._skip = False
            return
        calls, kind = self.model.train_loop.calls, self.model.train_loop.jit_compile
        self._seconds[kind].append((calls.seconds + self._waited()) / calls.count)
        if len(self._seconds[kind]) == CALLS or (kind and self._is_hopeless()):
            self._decide() if kind else self._begin()

    def _waited(self) -> float:
        """Seconds until the device is done too: on a GPU a call returns earlier."""
        began = time.perf_counter()
        self.model.train_sums.values.numpy()
        return time.perf_counter() - began

    def _begin(self) -> None:
        """Switches to XLA, if the rest of the run is long enough and can be compiled."""
        if self._seconds_left() < MIN_SECONDS_LEFT:
            self._decision = False
            return
        reason = _explain_not_compiled(self.model)
        if reason:
            self._say(f"off, as it cannot compile this task's update: {reason}")
            self._decision = False
            return
        self.model.train_loop.jit_compile = self._skip = True

    def _is_hopeless(self) -> bool:
        return self._seconds[True][-1] > MAX_SLOWDOWN * max(self._seconds[False])

    def _seconds_left(self) -> float:
        """Estimates the seconds until the end of the run, at the present speed."""
        if self.model.total_steps is None:
            return float("inf")
        return (self.model.total_steps - self.model.global_step) * statistics.median(self._seconds[False])

    def _decide(self) -> None:
        without, with_xla = (statistics.median(self._seconds[kind]) for kind in (False, True))
        self._decision = self.model.train_loop.jit_compile = with_xla <= MAX_SHARE * without
        times = f"{_milliseconds(with_xla)} a step with it, {_milliseconds(without)} without it"
        self._say(f"{'on' if self._decision else 'off'}: {times}")

    def _say(self, what: str) -> None:
        step = self.model.global_step
        logger.info("XLA is %s (update %d; jit_compile=True or False decides it beforehand)", what, step)

    def state_dict(self):
        return {"decision": self._decision}

    def load_state_dict(self, state):
        if not self.decided and state["decision"] is not None:
            self._decision = self.model.train_loop.jit_compile = state["decision"]


def _alone(task) -> bool:
    return num_replicas(task.distribute_strategy) == 1


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms" if seconds > 0.1 else f"{seconds * 1e3:.3g} ms"


def _explain_not_compiled(task) -> str | None:
    """Says in a line what XLA cannot compile of an update; None if it can. Runs nothing."""
    batch = map_batch(lambda spec: tf.zeros(spec.shape, spec.dtype), task.spec)
    address = tf.zeros(address_spec(row_count(task.spec)).shape, tf.int64)

    def train_step(batch, address):
        with keyed_draws(address, task.seed, "train"):
            return task.train_step(batch)

    update = tf.function(train_step, jit_compile=True, autograph=False)
    try:
        update.experimental_get_compiler_ir(batch, address)(stage="hlo")
    except (tf.errors.OpError, NotImplementedError, ValueError) as error:
        return str(error).splitlines()[0]
    return None
