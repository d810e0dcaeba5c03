"""Six patterns of the Keras guides, unchanged but for the line that trains: beside Keras' `fit`, and killed."""

import importlib

import keras
import pytest
from helpers.resuming import assert_same, outcome
from helpers.stopping import At, Killed, kill
from helpers.toys import quiet

from lightkeras.training.determinism import keep_order_of_sums

PATTERNS = ("vae", "conditional_gan", "wgan_gp", "real_nvp", "distillation", "contrastive")
EAGERLY = ("conditional_gan", "real_nvp", "contrastive")  # killed op by op: five runs of each would be compiled
EPOCHS = 3  # of four steps


def load(name: str):
    return importlib.import_module(f"helpers.patterns.{name}")


def build(pattern) -> keras.Model:
    """The model, as a new process would make it."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    return pattern.build()


class Diary(keras.callbacks.Callback):
    """Writes down every call with its logs."""

    def __init__(self):
        super().__init__()
        self.calls = []


def _note(hook):
    def note(self, *args, logs=None):
        *at, logs = args if len(args) > ("batch" in hook or "epoch" in hook) else (*args, logs)
        self.calls.append((hook, *at, dict(logs or {})))

    return note


for _hook in [
    *(f"on_{stage}_{when}" for stage in ("train", "test") for when in ("begin", "end", "batch_begin", "batch_end")),
    "on_epoch_begin", "on_epoch_end",
]:  # fmt: skip
    setattr(Diary, _hook, _note(_hook))


@pytest.mark.parametrize("name", PATTERNS)
def test_callbacks_fire_as_under_keras_fit(name):
    pattern, diaries = load(name), []
    for train in (fit_by_keras, fit_by_trainer):
        callbacks = [*(make() for make in pattern.CALLBACKS), Diary()]
        diaries.append(callbacks[-1].calls)
        model = build(pattern)
        train(model, pattern.make_data(), callbacks)
        assert model.history.epoch == list(range(EPOCHS))
    expected, received = diaries
    assert [call[:-1] for call in received] == [call[:-1] for call in expected]
    for (*at, theirs), (*_, ours) in zip(expected, received, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-6), at
    assert len(received) > 6 * EPOCHS


def fit_by_keras(model, data, callbacks):
    """Trains without rewritten arithmetic too: the contrastive accuracy hangs on the last bit of equal values."""
    keep_order_of_sums()
    model.fit(**data, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks)


def fit_by_trainer(model, data, callbacks):
    x, y = data.pop("x"), data.pop("y", None)
    data = {"data": x if y is None else (x, y), **data}
    quiet(max_epochs=EPOCHS, callbacks=callbacks, num_sanity_val_steps=2).fit(model, **data, shuffle=False)


@pytest.mark.parametrize("name", PATTERNS)
def test_killed_three_times_it_ends_the_same(name, tmp_path):
    pattern = load(name)
    whole = fit_once(pattern, tmp_path / "whole")
    for number, step in enumerate((3, 6, 9, None)):
        run = fit_once(pattern, tmp_path / "cut", step, "last" if number else None)
    assert_same(outcome(run), outcome(whole))


def fit_once(pattern, root, kill_at: int | None = None, ckpt_path: str | None = None):
    data = pattern.make_data()
    x, y = data.pop("x"), data.pop("y", None)
    callbacks = [make() for make in pattern.CALLBACKS]
    callbacks += [At(kill_at, kill)] if kill_at else []
    trainer = quiet(
        root, max_epochs=EPOCHS, callbacks=callbacks, checkpoint_every_n_steps=2, log_every_n_steps=1,
        jit_compile=False, run_eagerly=pattern.__name__.rpartition(".")[2] in EAGERLY,
    )  # fmt: skip
    try:
        trainer.fit(build(pattern), x if y is None else (x, y), ckpt_path, **data)
    except Killed:
        assert kill_at
    return trainer.run_dir
