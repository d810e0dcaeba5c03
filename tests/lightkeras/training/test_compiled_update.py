"""What is compiled, and when: the optimizer's update, batches gathered in the loop, XLA by trial."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small import Small, linear, made, points, squares, updated
from helpers.small import weights as trained_weights
from helpers.toys import Classifier, PointsData, quiet, weights

import lightkeras as lk
from lightkeras.callbacks import compilation
from lightkeras.callbacks.callback import Callback
from lightkeras.training import optimizers as update
from lightkeras.training.loop import MemorySource, StreamSource

# ---- the optimizer's update in one program

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(lk.schedules.warmup_cosine(0.05, 2, 9)),
    "adamw, averaged": lambda: keras.optimizers.AdamW(0.05, weight_decay=0.1, use_ema=True, ema_momentum=0.9),
    "rmsprop, clipping by itself": lambda: keras.optimizers.RMSprop(0.05, global_clipnorm=0.5),
}
CLIPPING = {
    "unclipped": {},
    "norm": {"gradient_clip_val": 0.7, "log_gradient_norm": True},
    "norm_per_variable": {"gradient_clip_val": 0.7, "gradient_clip_algorithm": "norm_per_variable"},
    "value": {"gradient_clip_val": 0.3, "gradient_clip_algorithm": "value"},
}


def run_of(optimizer, settings):
    """The logs and all state after three updates."""
    rows = points(24)
    task = made(Small(linear(), squares, optimizer), lk.AddressedDataset.from_arrays(rows, 8), **settings)
    logs = updated(task, lk.AddressedDataset.from_arrays(rows, 8), steps=3, steps_per_execution=3)
    return dict(logs), weights(task)


PAIRS = [*(("adam", clipping) for clipping in CLIPPING), *((name, "norm") for name in OPTIMIZERS if name != "adam")]


@pytest.mark.parametrize(("optimizer", "clipping"), PAIRS)
def test_the_compiled_update_is_the_same(monkeypatch, optimizer, clipping):
    answers, ask = [], update.NamedOptimizers._is_worth_compiling
    monkeypatch.setattr(
        update.NamedOptimizers, "_is_worth_compiling", lambda *args: answers.append(ask(*args)) or answers[-1]
    )
    plain = run_of(OPTIMIZERS[optimizer], CLIPPING[clipping])
    assert answers and not any(answers)
    answers.clear()
    monkeypatch.setattr(update, "MIN_WEIGHTS", 1)
    compiled = run_of(OPTIMIZERS[optimizer], CLIPPING[clipping])
    assert answers and all(answers)
    assert compiled[0] == pytest.approx(plain[0], rel=1e-5)
    for ours, theirs in zip(compiled[1], plain[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_gradient_that_is_not_finite_stays_so(monkeypatch):
    monkeypatch.setattr(update, "MIN_WEIGHTS", 1)
    rows = points()
    rows["y"][0] = np.inf
    task = made(Small(linear(), squares), lk.AddressedDataset.from_arrays(rows, 8), gradient_clip_val=1.0)
    updated(task, lk.AddressedDataset.from_arrays(rows, 8))
    assert np.isnan(trained_weights(task)[0]).all()


class Own(keras.optimizers.SGD):
    """A user's optimizer."""


def test_small_models_and_unknown_optimizers_are_left_alone(monkeypatch):
    found = []
    task = made(Small(linear(), squares), lk.AddressedDataset.from_arrays(points(), 8))
    own = made(Small(linear(), squares, lambda: Own(1.0)), lk.AddressedDataset.from_arrays(points(), 8))
    for least in (4, 3):
        monkeypatch.setattr(update, "MIN_WEIGHTS", least)
        tf.function(lambda: found.append(tuple(one.optimizers._is_worth_compiling("loss") for one in (task, own))))()
    assert found == [(False, False), (True, False)] and not task.optimizers._is_worth_compiling("loss")  # not eagerly


# ---- arrays in memory


@pytest.mark.parametrize(
    "cut", [{}, {"micro_batches": 2}, {"limit_train_batches": 3}, {"overfit_batches": 2}, {"run_eagerly": True}]
)
def test_batches_gathered_in_the_loop_are_those_of_the_stream(monkeypatch, cut):
    def run():
        task = Classifier(dropout=0.3)
        quiet(max_epochs=2, seed=3, limit_val_batches=0, **cut).fit(task, PointsData())
        return task

    gathered = run()
    assert isinstance(gathered.train_loop.source, MemorySource)
    monkeypatch.setattr("lightkeras.training.keras_methods.one_cpu", lambda strategy: False)
    streamed = run()
    assert isinstance(streamed.train_loop.source, StreamSource)
    for ours, theirs in zip(weights(gathered), weights(streamed), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_xla_compiles_the_loop_of_arrays_once():
    task = Classifier()
    quiet(max_epochs=2, jit_compile=True, steps_per_execution=2, limit_val_batches=0).fit(task, PointsData())
    other = Classifier()
    quiet(max_epochs=2, limit_val_batches=0).fit(other, PointsData())
    for ours, theirs in zip(weights(task), weights(other), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


# ---- XLA by trial


class Clock(Callback):
    """Pretends that XLA takes `share` of the time; must come before `Compilation`."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def on_train_batch_end(self, batch, logs=None):
        calls = self.model.train_loop.calls
        calls.seconds = calls.count * (self.share if self.model.train_loop.jit_compile else 1.0)


def tried(root, share, task=None, max_epochs=8, **arguments):
    task = task or Classifier()
    settings = {"max_epochs": max_epochs, "limit_val_batches": 0, "steps_per_execution": 2, **arguments}
    trainer = quiet(root, callbacks=[Clock(share)], **settings)
    trainer.fit(task, PointsData())
    return trainer, task


@pytest.mark.parametrize(("share", "on"), [(0.5, True), (0.99, False)])
def test_what_is_faster_is_kept_and_printed_and_remembered(root, capsys, monkeypatch, share, on):
    monkeypatch.setattr(compilation, "MIN_SECONDS_LEFT", 0.0)
    _, task = tried(root, share)
    assert task.train_loop.jit_compile is on and not task.test_loop.jit_compile
    said = capsys.readouterr().out
    assert f"XLA is {'on' if on else 'off'}: " in said and " 1,000 ms without it" in said
    again = Classifier()
    trainer = quiet(root, callbacks=[Clock(1 - share)], max_epochs=10, limit_val_batches=0, steps_per_execution=2)
    trainer.fit(again, PointsData(), ckpt_path="last")
    assert again.train_loop.jit_compile is on and "XLA is" not in capsys.readouterr().out


def test_what_is_much_slower_is_given_up_at_once(root, capsys, monkeypatch):
    monkeypatch.setattr(compilation, "MIN_SECONDS_LEFT", 0.0)
    _, task = tried(root, 3.0, steps_per_execution=1)
    assert not task.train_loop.jit_compile
    # 1 + 5 calls without XLA, and of those with it the first one, which compiles, and one more
    assert "XLA is off: 3,000 ms a step with it, 1,000 ms without it (update 8;" in capsys.readouterr().out


def test_a_short_run_does_not_try(root, capsys):
    _, task = tried(root, 0.5)
    assert not task.train_loop.jit_compile and "XLA is" not in capsys.readouterr().out


class Strings(Classifier):
    """A step that XLA cannot compile."""

    def losses_of(self, batch, training):
        with tf.control_dependencies([tf.strings.length(tf.strings.as_string(batch["x"]))]):
            return super().losses_of({**batch, "x": tf.identity(batch["x"])}, training)


def test_what_xla_cannot_compile_stays_as_it_is(root, capsys, monkeypatch):
    monkeypatch.setattr(compilation, "MIN_SECONDS_LEFT", 0.0)
    _, task = tried(root, 0.5, Strings())
    assert not task.train_loop.jit_compile
    assert "XLA is off, as it cannot compile this task's update: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [{"jit_compile": False}, {"deterministic": True}, {"run_eagerly": True}, {"devices": 2}]
)
def test_a_decision_made_beforehand_is_not_tried(root, monkeypatch, arguments):
    monkeypatch.setattr(compilation, "MIN_SECONDS_LEFT", 0.0)
    monkeypatch.setattr(compilation.Compilation, "_begin", lambda *args: pytest.fail("it tries"))
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)
    tried(root, 0.5, max_epochs=2, **arguments)
