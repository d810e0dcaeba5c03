"""`task.evaluate`, `task.predict` and their kin: the figures of what is passed, outside and inside a run."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small import Small, in_order, linear, made, points, squares
from helpers.toys import Classifier, PointsData, quiet, weights

import lightkeras as lk

OTHER = np.random.default_rng(5)
OTHER = {"x": OTHER.normal(size=(11, 4)).astype(np.float32), "y": OTHER.integers(0, 2, 11).astype(np.int32)}


@pytest.fixture(scope="module")
def task():
    task = Classifier()
    quiet(max_steps=4).fit(task, PointsData())
    return task


def expected(task, arrays, weight=None) -> dict[str, float]:
    """By hand, in NumPy."""
    logits = np.asarray(task.network(arrays["x"]), np.float64)
    nats = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), arrays["y"]]
    right = logits.argmax(axis=1) == arrays["y"]
    return {name: np.average(values, weights=weight) for name, values in (("loss", nats), ("accuracy", right))}


def unknown(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Has as many batches, and does not say so."""
    return batches.filter(lambda batch: True)


def batches(size: int = 3, arrays=OTHER) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(arrays).batch(size)


KINDS = {
    "arrays": lambda: OTHER,
    "addressed": lambda: lk.AddressedDataset.from_arrays(OTHER, 4),
    "tf.data": batches,
    "of unknown length": lambda: unknown(batches()),
    "padded": lambda: lk.AddressedDataset.from_arrays(OTHER, 4, shuffle=False).stream(epochs=1),
    "float64": lambda: {"x": OTHER["x"].astype(np.float64), "y": OTHER["y"].astype(np.int64)},
    "float64 batches": lambda: batches(arrays={"x": OTHER["x"].astype(np.float64), "y": OTHER["y"].astype(np.int64)}),
    "float64 addressed": lambda: in_order({"x": OTHER["x"].astype(np.float64), "y": OTHER["y"].astype(np.int64)}, 4),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_evaluation_gives_the_figures_of_what_is_passed(task, kind):
    assert task.evaluate(kind(), return_dict=True, verbose=0) == pytest.approx(expected(task, OTHER), rel=1e-5)


def test_evaluation_returns_what_keras_returns(task):
    wanted = expected(task, OTHER)
    assert task.evaluate(OTHER, verbose=0) == pytest.approx([wanted["loss"], wanted["accuracy"]], rel=1e-5)
    assert task.metrics_names == ["loss", "accuracy"]
    one = made(
        Small(linear(), lambda task, batch, training: (0 * squares(task, batch, training)[0] + 24, 2.0)),
        in_order(points()),
    )
    assert one.evaluate(points(), verbose=0, batch_size=8) == 12.0  # a number, not a list
    first = {name: array[:4] for name, array in OTHER.items()}
    assert task.evaluate(batches(2), steps=2, verbose=0, return_dict=True) == pytest.approx(expected(task, first))
    assert task.evaluate(unknown(batches(2)), steps=2, verbose=0, return_dict=True) == pytest.approx(
        expected(task, first)
    )
    assert task.evaluate(batches(2).repeat(), steps=2, verbose=0, return_dict=True) == pytest.approx(
        expected(task, first)
    )
    assert task.evaluate(OTHER, steps=1, batch_size=4, verbose=0) == pytest.approx(list(expected(task, first).values()))
    weight = np.arange(11, dtype=np.float32)
    weighed = task.evaluate({**OTHER, "weight": weight}, batch_size=4, verbose=0, return_dict=True)
    assert weighed == pytest.approx(expected(task, OTHER, weight), rel=1e-5)
    assert task.test_on_batch(first, return_dict=True) == pytest.approx(expected(task, first), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_prediction_gives_the_rows_of_what_is_passed(task, kind):
    rows = task.predict(kind(), verbose=0)
    shuffled_or_padded = np.asarray(task.network(OTHER["x"]))
    np.testing.assert_allclose(rows[:11], shuffled_or_padded, rtol=1e-5, atol=1e-6)
    assert isinstance(rows, np.ndarray) and len(rows) in (11, 12)
    np.testing.assert_allclose(
        task.predict({"x": OTHER["x"]}, verbose=0, batch_size=2), rows[:11], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(task.predict_on_batch({"x": OTHER["x"][:3]}), rows[:3], rtol=1e-5, atol=1e-6)


def test_a_limited_prediction_has_the_rows_of_the_batches_that_are_read(task):
    rows = task.predict(OTHER, batch_size=4, steps=2, verbose=0)
    np.testing.assert_allclose(rows, task.network(OTHER["x"][:8]), rtol=1e-5, atol=1e-6)
    limited = quiet(limit_predict_batches=1).predict(task, PointsData())
    assert limited.shape == (4, 2)


REFUSED = {
    "an array": (lambda: OTHER["x"], TypeError, r"Expected `x` to be a dict of arrays by the names .* \(x, y\)"),
    "a pair": (lambda: (OTHER["x"], OTHER["y"]), TypeError, "a dict of arrays"),
    "pairs": (
        lambda: batches().map(lambda b: (b["x"], b["y"])),
        TypeError,
        r"batches \(x, y\).*batches of tuple",
    ),
    "not batched": (lambda: tf.data.Dataset.from_tensor_slices(OTHER), ValueError, r'"x" has the shape.*not batched\?'),
    "labels of another kind": (lambda: {**OTHER, "y": OTHER["y"] + 0.5}, ValueError, '"y" is of int32, as in training'),
    "endless": (lambda: batches().repeat(), ValueError, "Expected `steps` to be a number of batches of endless data"),
    "empty": (lambda: batches().take(0), ValueError, "an empty data set"),
    "empty, of unknown length": (lambda: unknown(batches().take(0)), ValueError, "an empty data set"),
}


@pytest.mark.parametrize("kind, error, message", REFUSED.values(), ids=REFUSED)
def test_what_is_no_batch_of_the_task_is_refused(task, kind, error, message):
    with pytest.raises(error, match=message):
        task.evaluate(kind(), verbose=0)


def test_predictions_of_an_array_are_refused(task):
    with pytest.raises(TypeError, match=r"Expected `x` to be a dict of arrays by the names"):
        task.predict(OTHER["x"], verbose=0)
    with pytest.raises(ValueError, match=r"not batched\?"):
        task.predict(tf.data.Dataset.from_tensor_slices(OTHER))


def test_targets_are_entries_of_the_batches(task):
    with pytest.raises(ValueError, match="Expected `y` to be None: it is a part of the batches"):
        task.evaluate(OTHER["x"], OTHER["y"])
    with pytest.raises(ValueError, match="Expected `sample_weight` to be None"):
        task.evaluate(OTHER, sample_weight=OTHER["y"])
    with pytest.raises(ValueError, match="Expected `steps` to be at most 4"):
        task.evaluate(batches(), steps=5)
    with pytest.raises(ValueError, match="Expected `batch_size` to be None"):
        task.evaluate(batches(), batch_size=2)
    with pytest.raises(ValueError, match="trained or loaded before `evaluate`"):
        Classifier().evaluate(OTHER)


def test_methods_that_a_task_has_no_use_for_say_so(task):
    for call in (task.fit, task.compile, task.train_on_batch):
        with pytest.raises(TypeError, match=rf"no use for `task\.{call.__name__}`"):
            call(OTHER["x"])


def test_evaluation_on_two_replicas(task):
    task = Classifier()
    quiet(max_steps=1, devices=2).fit(task, PointsData())
    for data in (OTHER, batches(4), unknown(batches(4))):
        found = task.evaluate(data, verbose=0, return_dict=True)
        assert found == pytest.approx(expected(task, OTHER), rel=1e-5)


class Scored(Classifier):
    """Counts the batches by a score."""

    score_names = ("ones",)

    def score(self, batches):
        ones = sum(float(tf.reduce_sum(batch["weight"] * tf.cast(batch["y"], tf.float32))) for batch in batches)
        return {"ones": lk.WeightedMean(ones, 1.0)}


def test_scores_are_those_of_what_is_passed():
    task = Scored()
    quiet(max_steps=1).fit(task, PointsData())
    for data in (OTHER, batches(), unknown(batches())):
        assert task.evaluate(data, verbose=0, return_dict=True)["ones"] == OTHER["y"].sum()


class Noisy(Classifier):
    """Draws in evaluation too, from a seed generator that dropout shares."""

    def configure_model(self, data):
        super().configure_model(data)
        self.noise = keras.random.SeedGenerator(3)

    def test_step(self, batch):
        drawn = keras.random.normal(tf.shape(batch["x"]), seed=self.noise)
        return self.evaluate_loss(self.losses_of, {**batch, "x": batch["x"] + drawn})

    def predict_step(self, batch):
        return self.network(batch["x"] + keras.random.normal(tf.shape(batch["x"]), seed=self.noise), training=False)


class Elsewhere(lk.Callback):
    """Evaluates and predicts whatever comes to hand, at every hook."""

    def __init__(self):
        super().__init__()
        self.found = []

    def _look(self):
        for data in (batches(), unknown(batches(5))):
            self.found.append(self.model.evaluate(data, verbose=0, return_dict=True)["loss"])
        self.model.predict(OTHER, verbose=0)

    def on_epoch_begin(self, epoch, logs=None):
        self._look()

    def on_train_batch_end(self, batch, logs=None):
        self._look()

    def on_test_batch_end(self, batch, logs=None):
        self._look()

    def on_epoch_end(self, epoch, logs=None):
        self._look()


@pytest.mark.parametrize("kind", [Classifier, Noisy])
def test_an_evaluation_in_a_callback_leaves_no_trace_in_the_run(kind):
    runs = []
    for callbacks in ([], [Elsewhere()]):
        task = kind(dropout=0.5)
        trainer = quiet(
            max_epochs=2, val_check_interval=3, callbacks=callbacks, steps_per_execution=1, deterministic=True
        )
        history = trainer.fit(task, PointsData()).history
        runs.append((weights(task), history))
    (plain, told), (watched, told_too) = runs
    for ours, theirs in zip(watched, plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert told == told_too
    found = callbacks[0].found
    assert len(found) > 20 and len(set(found)) > 5  # they follow the weights
    if kind is Classifier:
        assert found[-1] == pytest.approx(expected(task, OTHER)["loss"], rel=1e-5)


def test_a_loaded_task_evaluates_and_predicts(root):
    trainer = quiet(root, max_steps=2)
    task = Classifier()
    trainer.fit(task, PointsData())
    loaded = Classifier.load_from_checkpoint(trainer.run_dir)
    assert loaded.evaluate(OTHER, verbose=0) == task.evaluate(OTHER, verbose=0)
    np.testing.assert_array_equal(loaded.predict(OTHER, verbose=0), task.predict(OTHER, verbose=0))


class Untested(Classifier):
    """Has no `test_step`."""

    test_step = lk.TaskModule.test_step


def test_validation_without_a_test_step_is_left_out_with_a_line(caplog):
    task = Untested()
    history = quiet(max_epochs=1).fit(task, PointsData()).history
    assert list(history) == ["loss", "accuracy"]
    assert "Validation is left out: Untested has no `test_step(batch)`." in caplog.messages
    with pytest.raises(NotImplementedError, match="Untested has no `test_step"):
        task.evaluate(OTHER)
    with pytest.raises(NotImplementedError, match="Untested has no `test_step"):
        quiet().validate(task, PointsData())


# ---- layers that are frozen or unfrozen, and names that are taken


class Frozen(Classifier):
    """Trains its head only."""

    def configure_model(self, data):
        super().configure_model(data)
        self.network.layers[0].trainable = False


class Unfreeze(lk.Callback):
    def __init__(self, epoch, trainable=True):
        super().__init__()
        self.at, self.trainable = epoch, trainable

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.at:
            self.model.network.layers[0].trainable = self.trainable


@pytest.mark.parametrize("kind, trainable", [(Frozen, True), (Classifier, False)])
@pytest.mark.parametrize("epoch", [0, 1])
def test_unfreezing_in_a_run_is_refused_and_between_runs_it_trains(kind, trainable, epoch):
    task, data = kind(), PointsData()
    with pytest.raises(ValueError, match=r"`trainable` changed for .*hidden/kernel, .*hidden/bias\. End the run"):
        quiet(max_epochs=3, callbacks=[Unfreeze(epoch, trainable)]).fit(task, data)
    assert task.global_step == 5 * epoch  # at once: no update was made since
    before = task.network.layers[0].get_weights()
    quiet(max_epochs=1).fit(task, data)
    after = task.network.layers[0].get_weights()
    assert all((ours != theirs).any() for ours, theirs in zip(before, after, strict=True)) is trainable


NAMES = ("optimizers", "metrics", "spec", "seed", "built", "name", "train_loop", "loss", "score", "layers", "_trace")


@pytest.mark.parametrize("name", NAMES)
def test_names_that_a_task_must_not_use(name):
    class Taken(Classifier):
        def configure_model(self, data):
            super().configure_model(data)
            setattr(self, name, keras.layers.Dense(2))

    with pytest.raises(AttributeError, match=rf"another name than `{name}`"):
        quiet(max_steps=1).fit(Taken(), PointsData())


def test_optimizers_are_not_attributes():
    for name in ("optimizers", "optimizer", "metrics"):
        value = [keras.metrics.Mean()] if name == "metrics" else keras.optimizers.Adam()
        with pytest.raises(AttributeError, match=rf"another name than `{name}`"):
            setattr(Classifier(), name, value)
    task = Classifier()
    task.label, task.trainable, task.encoder = keras.layers.Dense(2), False, [keras.layers.Dense(1)]
    with pytest.raises(AttributeError, match="another name than `losses`"):
        task.losses = {"a": keras.layers.Dense(2)}


# ---- several runs in one process


class Unnamed(Classifier):
    """Has layers without names, and several of each kind."""

    def configure_model(self, data):
        self.network = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(3), keras.layers.Dense(2)])


def test_a_second_run_in_a_process_has_the_names_of_a_first(root):
    """TensorFlow orders sums by the names of operations: other names are other bits."""
    tasks = [Unnamed(), Unnamed()]
    for task in tasks:
        trainer = quiet(root, max_steps=2, seed=0)
        trainer.fit(task, PointsData())
    loaded = Unnamed.load_from_checkpoint(trainer.run_dir)
    names = [[layer.name for layer in task.network.layers] for task in (*tasks, loaded)]
    assert names == [["dense", "dense_1", "dense_2"]] * 3
    assert [task.optimizers["loss"].name for task in tasks] == ["adam", "adam"]


class Planes(Classifier):
    """Looks at its points as pictures of one channel and 2 x 2 pixels, the channel first."""

    def configure_model(self, data):
        layers = [keras.layers.Conv2D(3, 2), keras.layers.Flatten(), keras.layers.Dense(2)]
        self.network = keras.Sequential([keras.layers.Reshape((1, 2, 2)), *layers])


def test_channels_first_trains():
    keras.config.set_image_data_format("channels_first")
    try:
        task = Planes()
        losses = quiet(max_epochs=4).fit(task, PointsData()).history["loss"]
        assert losses[-1] < losses[0] and task.network.layers[1].kernel.shape == (2, 2, 1, 3)
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize("name", ["loss", "optimizer", "seed", "train_loop", "stop_training"])
def test_methods_of_the_names_of_values_are_refused_with_the_class(name):
    with pytest.raises(TypeError, match=f"a method of Task to have another name than `{name}`"):
        type("Task", (Classifier,), {name: lambda self, batch, training: None})
    type("Task", (Classifier,), {f"{name}_function": lambda self, batch, training: None})
