"""The patterns of the Keras guides as tasks keep the promise: one run, however it is cut, and after a kill."""

import functools

import keras
import numpy as np
import pytest
from helpers.drawing import VAE, WGAN, Diffusion
from helpers.pattern_tasks import ConditionalGAN, Contrastive, Distillation, RealNVP
from helpers.stopping import At, Killed, kill
from helpers.toys import PointsData, quiet, weights

import lightkeras as lk
from lightkeras.verifier.comparison import ROUNDING, compare_runs
from lightkeras.verifier.short_run import train

TASKS = {
    "vae": VAE, "diffusion": Diffusion, "wgan": WGAN, "conditional_gan": ConditionalGAN, "real_nvp": RealNVP,
    "distillation": Distillation, "contrastive": Contrastive,
}  # fmt: skip
VALIDATED = ("vae", "real_nvp", "distillation")
UPDATES = 7
EAGER = {"run_eagerly": True, "micro_batches": 2}
XLA = {"jit_compile": True, "micro_batches": 4}
REPLICAS = {"devices": 2, "micro_batches": 2, "steps_per_execution": UPDATES}
BOTH = {"devices": 2, "micro_batches": 2, "run_eagerly": True}
ROWS = [
    ("vae", EAGER), ("diffusion", EAGER), ("diffusion", XLA), ("wgan", XLA),
    *((name, REPLICAS) for name in ("vae", "diffusion", "wgan")),
    *((name, BOTH) for name in ("conditional_gan", "real_nvp", "distillation")), ("contrastive", {"run_eagerly": True}),
]  # fmt: skip


def trained(name, **cut):
    logged = UPDATES if "steps_per_execution" in cut else 1
    known = {"max_steps": UPDATES, "gradient_clip_val": 5.0, "log_every_n_steps": logged, "deterministic": True}
    return train(TASKS[name](), PointsData(), **known, **cut, limit_val_batches=float(name in VALIDATED))


@pytest.fixture(scope="module")
def uncut():
    return functools.cache(trained)


@pytest.mark.parametrize(("name", "cut"), ROWS)
def test_one_run_however_it_is_cut(name, cut, uncut):
    whole, run = uncut(name), trained(name, **cut)
    if "steps_per_execution" in cut:  # one record of all updates
        run = run._replace(records=whole.records)
    assert compare_runs(run, whole).measured <= ROUNDING


@pytest.mark.parametrize("name", TASKS)
def test_a_killed_run_ends_with_the_same_bits(name, tmp_path):
    setting = {"max_steps": 6, "deterministic": True, "checkpoint_every_n_steps": 1, "run_eagerly": True}
    whole, killed = TASKS[name](), TASKS[name]()
    quiet(str(tmp_path / "whole"), **setting).fit(whole, PointsData())
    with pytest.raises(Killed):
        quiet(str(tmp_path), **setting, callbacks=[At(6, kill)]).fit(killed, PointsData())
    resumed = TASKS[name]()
    quiet(str(tmp_path), **setting).fit(resumed, PointsData(), ckpt_path="last")
    for ours, theirs in zip(weights(resumed), weights(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_epoch_draws_anew_and_a_validation_the_same(uncut):
    """Without a change of weights, a training loss differs from epoch to epoch, a validation loss does not."""
    task = VAE()
    task.configure_optimizers = lambda: keras.optimizers.SGD(0.0)
    run = train(task, PointsData(shuffle=False), max_epochs=2, run_eagerly=True)
    losses = np.reshape(run.losses, (2, 5))
    assert np.all(losses[0] != losses[1])
    assert run.validations[0] == run.validations[1]
    other = train(task, PointsData(shuffle=False), max_epochs=1, seed=1, run_eagerly=True)
    assert np.all(np.array(other.losses) != losses[0])
    trainer = quiet(run_eagerly=True)
    assert trainer.validate(task, PointsData())["val_loss"] != trainer.test(task, PointsData())["test_loss"]
    np.testing.assert_array_equal(trainer.predict(task, PointsData()), trainer.predict(task, PointsData()))


def test_check_compares_what_is_drawn_by_address():
    checks = ["micro_batches", "padding"]
    report = lk.check(Diffusion(), PointsData(), only=checks)
    assert {result.name: result.status for result in report.results} == dict.fromkeys(checks, "PASS")


def test_check_names_what_a_loss_over_the_whole_batch_cannot_keep():
    report = lk.check(Contrastive(), PointsData(), only=["micro_batches", "replicas"])
    for result in report.results:
        assert result.status == "FAIL"
        assert result.note.startswith("the loss of a row depends on the other rows of its batch")
