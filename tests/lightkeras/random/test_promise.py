"""Tasks that draw with `lk.random` keep the promise: one run, however it is cut, and after a kill."""

import functools

import keras
import numpy as np
import pytest
from helpers.drawing import VAE, WGAN, Diffusion
from helpers.promise import STEPS, assert_same
from helpers.stopping import At, Killed, kill
from helpers.toys import PointsData, quiet, weights

import lightkeras as lk
from lightkeras.verifier.short_run import train

TASKS = {"vae": VAE, "diffusion": Diffusion, "wgan": WGAN}
CUTS = {
    "eager, 2 micro-batches": {"run_eagerly": True, "micro_batches": 2},
    "xla": {"jit_compile": True},
    "4 micro-batches": {"micro_batches": 4},
    "2 replicas": {"devices": 2},
    "2 replicas, 2 micro-batches, 7 steps a call": {"devices": 2, "micro_batches": 2, "steps_per_execution": 7},
}


def trained(name, **cut):
    logged = STEPS if cut.get("steps_per_execution", 1) > 1 else 1
    known = {"max_steps": STEPS, "gradient_clip_val": 5.0, "log_every_n_steps": logged, "deterministic": True}
    return train(TASKS[name](), PointsData(), **known, **cut)


@pytest.fixture(scope="module")
def uncut():
    return functools.cache(trained)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("cut", CUTS)
def test_one_run_however_it_is_cut(name, cut, uncut):
    assert_same(trained(name, **CUTS[cut]), uncut(name))


@pytest.mark.parametrize("name", TASKS)
def test_a_killed_run_ends_with_the_same_bits(name, tmp_path):
    setting = {"max_steps": 8, "deterministic": True, "checkpoint_every_n_steps": 1, "steps_per_execution": 1}
    whole, killed = TASKS[name](), TASKS[name]()
    quiet(str(tmp_path / "whole"), **setting).fit(whole, PointsData())
    with pytest.raises(Killed):
        quiet(str(tmp_path), **setting, callbacks=[At(8, kill)]).fit(killed, PointsData())
    resumed = TASKS[name]()
    quiet(str(tmp_path), **setting).fit(resumed, PointsData(), ckpt_path="last")
    for ours, theirs in zip(weights(resumed), weights(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_epoch_draws_anew_and_a_validation_the_same(uncut):
    """Without a change of weights, a training loss differs from epoch to epoch, a validation loss does not."""
    task = VAE()
    task.configure_optimizers = lambda: keras.optimizers.SGD(0.0)
    run = train(task, PointsData(shuffle=False), max_epochs=2)
    losses = np.reshape(run.losses, (2, 5))
    assert np.all(losses[0] != losses[1])
    assert run.validations[0] == run.validations[1]
    other = train(task, PointsData(shuffle=False), max_epochs=1, seed=1)
    assert np.all(np.array(other.losses) != losses[0])
    trainer = quiet()
    assert trainer.validate(task, PointsData())["val_loss"] != trainer.test(task, PointsData())["test_loss"]
    np.testing.assert_array_equal(trainer.predict(task, PointsData()), trainer.predict(task, PointsData()))


def test_check_compares_what_is_drawn_by_address():
    checks = ["replicas", "micro_batches", "eager", "xla", "padding"]
    report = lk.check(Diffusion(), PointsData(), only=checks)
    assert {result.name: result.status for result in report.results} == dict.fromkeys(checks, "PASS")
