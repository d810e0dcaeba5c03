"""`Trainer(export=...)`: a trial before training, the best checkpoint at its end."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.exporting import unchecked
from helpers.toys import Classifier, PointsData, quiet, weights

import lightkeras as lk
from lightkeras.callbacks import export_at_end
from lightkeras.distribution.strategies import make_strategy

X = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)


class Exported(Classifier):
    """Its loss becomes worse, so that the first checkpoint is the best."""

    def configure_optimizers(self):
        return keras.optimizers.SGD(-0.5)

    def exports(self):
        return {"predict": lk.export.Endpoint(lambda x: {"logits": self.network(x)}, {"x": tf.TensorSpec((None, 4))})}


@pytest.fixture(autouse=True)
def _here(monkeypatch):
    with unchecked(monkeypatch):
        yield


def logits_of(folder):
    loaded = tf.saved_model.load(str(folder))
    return loaded.predict(x=X)["logits"].numpy()


def the_export(run):
    (folder,) = (run / "exports").iterdir()
    return folder


@pytest.mark.parametrize("devices", [1, 2])
def test_the_best_checkpoint_is_exported_and_training_is_the_same(root, tmp_path, devices):
    strategy = {} if devices == 1 else {"strategy": make_strategy(2)}
    trainer, plain = (quiet(root, max_epochs=2, export=e, **strategy) for e in ("saved_model", None))
    task, other = Exported(), Exported()
    trainer.fit(task, PointsData())
    plain.fit(other, PointsData())
    for ours, theirs in zip(weights(task), weights(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    best = Exported.load_from_checkpoint(trainer.run_dir)
    assert (best.global_step, task.global_step) == (5, 10)
    folder = the_export(trainer.run_dir)
    assert folder.name == "saved_model_step_000000005"
    np.testing.assert_allclose(logits_of(folder), best.network(X), atol=1e-6)
    card = lk.export.read_export(folder)
    assert card["run"]["step"] == 5 and card["run"]["metrics"]["val_loss"] > 0


def test_a_run_that_ended_without_its_export_makes_it_when_resumed(root, monkeypatch, caplog):
    def killed(*arguments):
        raise KeyboardInterrupt

    trainer = quiet(root, max_epochs=1, export="saved_model")
    with monkeypatch.context() as patched:
        patched.setattr(export_at_end, "_export_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(Exported(), PointsData())
    assert not list((trainer.run_dir / "exports").iterdir())
    again = quiet(root, max_epochs=1, export="saved_model")
    again.fit(Exported(), PointsData(), ckpt_path="auto")
    assert again.run_dir == trainer.run_dir
    folder = the_export(again.run_dir)
    written = (folder / "export.json").stat().st_mtime_ns
    quiet(root, max_epochs=1, export="saved_model").fit(Exported(), PointsData(), ckpt_path="auto")
    assert (the_export(again.run_dir) / "export.json").stat().st_mtime_ns == written


def test_a_failure_comes_before_the_first_update(root):
    class Broken(Exported):
        def exports(self):
            def fail(x):
                raise ValueError("no such layer")

            return {"predict": lk.export.Endpoint(fail, {"x": tf.TensorSpec((None, 4))})}

    task = Broken()
    with pytest.raises(ValueError, match="no such layer"):
        quiet(root, max_epochs=1, export="saved_model").fit(task, PointsData())
    assert task.global_step == 0 and not list(Path(root).glob("*/*/exports"))
    with pytest.raises(NotImplementedError, match=r"Classifier has no `exports\(\)`"):
        quiet(fast_dev_run=True, export="saved_model").fit(Classifier(), PointsData())


def test_a_keras_model_is_exported_with_its_best_weights(root):
    model = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(1)], name="line")
    model.compile(keras.optimizers.SGD(-0.5), "mse")
    trainer = quiet(root, max_epochs=2, export="saved_model")
    x, y = X, X.sum(1, keepdims=True)
    trainer.fit(model, (x, y), validation_data=(x, y))
    folder = the_export(trainer.run_dir)
    assert folder.name == "saved_model_step_000000001"
    loaded = tf.saved_model.load(str(folder))
    found = loaded.serve(x=X)["output_0"].numpy()
    last = model.predict(x, verbose=0)
    assert abs(found - last).max() > 1e-3
    trainer.validate(model, (x, y), ckpt_path="best")
    np.testing.assert_allclose(found, model.predict(x, verbose=0), atol=1e-5)
    assert lk.export.read_export(folder)["run"]["step"] == 1


def test_bad_input(tmp_path):
    with pytest.raises(lk.utils.ArgumentError, match='Did you mean "saved_model"'):
        lk.Trainer(export="savedmodel")
    with pytest.raises(lk.utils.ArgumentError, match="`enable_checkpointing` to be True with `export`"):
        lk.Trainer(export="saved_model", enable_checkpointing=False)
    with pytest.raises(lk.utils.ArgumentError, match="a local folder with `export`"):
        lk.Trainer(export="saved_model", default_root_dir="ram://runs")
