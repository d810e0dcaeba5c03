"""Data as it is brought: forms, and the same training whatever the form."""

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf
from helpers.toys import quiet

import lightkeras as lk
from lightkeras.data.brought import as_data_module, as_evaluation_module
from lightkeras.data.named_sets import UNNAMED, by_name
from lightkeras.data.streamed import StreamedDataset
from lightkeras.distribution.strategies import make_strategy

X = np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32)
Y = X.sum(axis=1)
W = np.arange(21, dtype=np.float32) % 3


class Line(lk.TaskModule):
    """A linear model of (x, y)."""

    def configure_model(self, data):
        self.network = keras.layers.Dense(1, kernel_initializer="ones")

    def configure_optimizers(self):
        return keras.optimizers.SGD(0.1)

    def losses_of(self, batch, training):
        x, y, _ = batch
        return tf.square(self.network(x)[:, 0] - 2 * tf.cast(y, tf.float32))

    def train_step(self, batch):
        return self.minimize(self.losses_of, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.losses_of, batch)

    def predict_step(self, batch):
        return self.network(batch[0])


def losses(data, trainer=None, **keywords):
    trainer = trainer or {}
    task = Line()
    history = quiet(max_epochs=2, seed=1, **trainer).fit(task, data, **keywords).history
    return np.array(history["loss"] + history.get("val_loss", []))


def batched(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(8)


@pytest.fixture(scope="module")
def expected():
    """The mean losses of two epochs of three updates, worked by hand in NumPy."""
    kernel, bias, means = np.ones(3), 0.0, []
    for _ in range(2):
        total = 0.0
        for start in (0, 8, 16):
            x, y = X[start : start + 8], Y[start : start + 8]
            error = x @ kernel + bias - 2 * y
            total += (error**2).sum()
            kernel = kernel - 0.1 * 2 * x.T @ error / len(x)
            bias = bias - 0.1 * 2 * error.mean()
        means.append(total / 21)
    return means


def mapped(tmp_path):
    np.save(tmp_path / "x.npy", X.astype(np.float64))
    return np.load(tmp_path / "x.npy", mmap_mode="r")


FORMS = {
    "arrays": lambda folder: ((X, Y), {"batch_size": 8}),
    "lists": lambda folder: ((X.tolist(), Y.tolist()), {"batch_size": 8}),
    "pandas": lambda folder: ((pd.DataFrame(X), pd.Series(Y)), {"batch_size": 8}),
    "tensors": lambda folder: ((tf.constant(X), tf.constant(Y)), {"batch_size": 8}),
    "on disk": lambda folder: ((mapped(folder), Y), {"batch_size": 8}),
    "view of a file": lambda folder: ((np.asarray(mapped(folder))[:], Y), {"batch_size": 8}),
    "tf.data": lambda folder: (batched(X, Y), {}),
}
CUTS = {"one": {}, "micro-batches": {"micro_batches": 2}, "replicas": {"devices": 2}, "eager": {"run_eagerly": True}}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_as_worked_by_hand(form, expected, tmp_path):
    data, keywords = FORMS[form](tmp_path)
    shuffle = {"shuffle": False} if "batch_size" in keywords else {}
    np.testing.assert_allclose(losses(data, **keywords, **shuffle), expected, rtol=1e-5)


@pytest.mark.parametrize("form", ["on disk", "tf.data"])
@pytest.mark.parametrize("cut", CUTS)
def test_every_form_keeps_the_promise(form, cut, expected, tmp_path):
    data, keywords = FORMS[form](tmp_path)
    shuffle = {"shuffle": False} if "batch_size" in keywords else {}
    arguments = dict(CUTS[cut])
    if arguments.pop("devices", 1) == 2:
        arguments["strategy"] = make_strategy(2)
    np.testing.assert_allclose(losses(data, arguments, **keywords, **shuffle), expected, rtol=1e-5)


def test_weights_and_class_weights_count_as_in_keras():
    classes = (Y > 0).astype(np.int32)
    weights = np.where(classes == 1, 3.0, 1.0).astype(np.float32)
    weighted = losses((X, classes, weights), batch_size=8, shuffle=False)
    by_class = losses((X, classes), batch_size=8, shuffle=False, class_weight={1: 3.0})
    np.testing.assert_array_equal(by_class, weighted)
    np.testing.assert_array_equal(losses(batched(X, classes), class_weight={1: 3.0}), weighted)
    one_hot = as_data_module((X, np.eye(2)[classes]), class_weight={1: 3.0}, shuffle=False, batch_size=21)
    (batch,) = one_hot.train_dataset().stream(epochs=1)
    np.testing.assert_array_equal(batch[2], weights)


@pytest.mark.parametrize(
    "data",
    [X, (X,), (X, Y), (X, Y, W), {"a": X, "b": Y}, {"a": X, "weight": W}, ({"left": X, "right": (X, Y)}, Y)],
    ids=["x", "(x,)", "(x, y)", "(x, y, w)", "dict", "weighted dict", "nested"],
)
def test_as_keras_gives_what_keras_would(data):
    """The batches of Keras' own adapter, the last one short."""
    ours = as_data_module(data, batch_size=8, shuffle=False).train_dataset().as_keras(epochs=1)
    theirs = tf.data.Dataset.from_tensor_slices(X if isinstance(data, tuple) and len(data) == 1 else data).batch(8)
    assert len(list(ours)) == len(list(theirs)) == 3
    for our, their in zip(ours, theirs, strict=True):
        keras.tree.assert_same_structure(our, their)
        for one, other in zip(keras.tree.flatten(our), keras.tree.flatten(their), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_batch_is_a_dict_with_weights_or_a_triple():
    module = as_data_module({"a": X, "weight": W}, batch_size=16, shuffle=False)
    first, last = module.train_dataset().stream(epochs=1)
    assert set(last) == {"a", "weight"}
    np.testing.assert_array_equal(first["weight"], W[:16])
    np.testing.assert_array_equal(last["weight"], [*W[16:], *[0] * 11])
    *_, (x, y, weight) = as_data_module(batched(X)).train_dataset().stream(epochs=1)
    assert x.shape == (8, 3) and y is None
    np.testing.assert_array_equal(weight, [1] * 5 + [0] * 3)


def test_evaluation_and_prediction_take_data_too():
    task, trainer = Line(), quiet(max_epochs=1)
    trainer.fit(task, (X, Y), validation_data=batched(X, Y), batch_size=8)
    by_index, streamed = trainer.predict(task, (X, Y), batch_size=4), trainer.predict(task, batched(X, Y))
    np.testing.assert_allclose(by_index, task.network(X), rtol=1e-5)
    np.testing.assert_allclose(streamed, by_index, rtol=1e-5)
    loss = np.mean((by_index[:, 0] - 2 * Y) ** 2)
    assert trainer.validate(task, batched(X, Y)) == pytest.approx({"val_loss": loss}, rel=1e-5)
    assert trainer.test(task, (X, Y), batch_size=5) == pytest.approx({"test_loss": loss}, rel=1e-5)


class Module(lk.DataModule):
    batch_size = 8

    def train_dataset(self):
        return X, Y

    def val_dataset(self):
        return batched(X, Y)


def test_methods_of_a_data_module_return_any_form():
    task, module = Line(), Module()
    quiet(max_epochs=1).fit(task, module)
    assert task.steps_per_epoch == 3 and module.trained_on.shuffle
    assert not isinstance(module.trained_on, StreamedDataset)


def endless():
    return batched(X, Y).repeat()


def unknown():
    return batched(X, Y).filter(lambda x, y: True)


def test_an_epoch_of_endless_data_is_a_number_of_batches():
    task = Line()
    quiet(max_epochs=2, limit_train_batches=2, limit_val_batches=1).fit(task, endless(), validation_data=endless())
    assert task.global_step == 4
    assert len(as_data_module(unknown()).train_dataset()) == 3


def short():
    return batched(X, Y).filter(lambda x, y: len(x) == 8).apply(tf.data.experimental.assert_cardinality(3))


def growing():
    sizes = tf.data.Dataset.from_tensor_slices([2, 3])
    return sizes.map(lambda rows: (tf.ones((rows, 3)), tf.ones(rows)))


REFUSED = [
    (lambda fit: fit(endless()), r"`limit_train_batches` .* to be a number of batches .int.*has no length"),
    (lambda fit: fit(batched(X, Y).unbatch()), r"call `.batch\(batch_size\)`. Received: x of shape \(3,\), y of shape"),
    (lambda fit: fit(growing()), r"at most 2 rows in a batch, as the first. Received: 3"),
    (
        lambda fit: fit(unknown(), limit_train_batches=5),
        r"to give 5 batches in every epoch. Received: fewer, in epoch 0",
    ),
    (lambda fit: fit(batched(X, Y).take(0)), "Received: an empty tf.data.Dataset"),
    (lambda fit: fit((X[:0], Y[:0])), "`data` to be arrays with examples. Received: data='empty: x, y'"),
    (lambda fit: fit((X, Y[:4])), "arrays with one common first axis. Received: .*'x': 21, 'y': 4"),
    (lambda fit: fit((X, Y, W, W)), r"\(x, y, sample_weight\). Received: arrays='4 parts'"),
    (lambda fit: fit(batched(X, Y), batch_size=4), "`batch_size` to be None for data that are batches"),
    (lambda fit: fit(X, class_weight={0: 1.0}), r"`class_weight` to be None, unless the data is \(x, y\)"),
    (lambda fit: fit(Module(), validation_data=X), "`validation_data` to be None with a DataModule"),
    (lambda fit: fit(Module(), shuffle=False), "`shuffle` to be left out with a DataModule"),
    (lambda fit: fit((X, Y), batch_size=0), "`batch_size` to be a positive int"),
    (lambda fit: fit(7), "`data` to be a DataModule, arrays"),
    (lambda fit: fit("x.npy"), "`data` to be a DataModule, arrays"),
    (lambda fit: fit((scipy.sparse.csr_matrix(X), Y)), "`data` to be arrays: make it dense. Received: x, a csr_matrix"),
    (lambda fit: fit((tf.sparse.from_dense(X), Y)), "`data` to be arrays: make it dense. Received: x, a SparseTensor"),
    (lambda fit: fit({"x": X, "y": object()}), r"arrays: `numpy.asarray` makes one. Received: y, a object"),
    (lambda fit: fit(batched(tf.sparse.from_dense(X), Y)), r"dense: make 'x' so by `tf.sparse.to_dense` in a map"),
    (lambda fit: fit(short()), "the data to have 3 batches in every epoch, as it says. Received: 2"),
]


@pytest.mark.parametrize(("attempt", "message"), REFUSED, ids=[message[:24] for _, message in REFUSED])
def test_what_cannot_be_read_is_said_in_a_sentence(attempt, message):
    def fit(data, limit_train_batches=1.0, **keywords):
        quiet(max_epochs=1, limit_train_batches=limit_train_batches).fit(Line(), data, **keywords)

    with pytest.raises((lk.utils.ArgumentError, TypeError), match=rf"^Expected .*{message}") as caught:
        attempt(fit)
    assert len(str(caught.value).splitlines()) == 1


def test_validation_data_may_be_several_sets_by_name():
    task, trainer = Line(), quiet(max_epochs=1)
    several = {"all": (X, Y), "few": batched(X[:8], Y[:8])}
    history = trainer.fit(task, (X, Y), validation_data=several, batch_size=8).history
    rows = (task.network(X)[:, 0].numpy() - 2 * Y) ** 2
    assert history["val_all_loss"] == pytest.approx([rows.mean()], rel=1e-5)
    assert history["val_few_loss"] == pytest.approx([rows[:8].mean()], rel=1e-5)
    assert trainer.validate(task, several)["val_few_loss"] == pytest.approx(rows[:8].mean(), rel=1e-5)


class WithoutTargets:
    """Batches (x, None)."""

    def __iter__(self):
        return ((X[start : start + 8], None) for start in (0, 8))


def test_targets_may_be_none():
    class Small(Line):
        def losses_of(self, batch, training):
            assert batch[1] is None
            return tf.square(self.network(batch[0])[:, 0])

    for data in (WithoutTargets(), batched(X).map(lambda x: (x, None))):
        task = Small()
        quiet(max_epochs=1).fit(task, data)
        assert task.global_step == (2 if isinstance(data, WithoutTargets) else 3)


def test_evaluation_modules_pass_data_modules_on():
    module = Module()
    assert as_evaluation_module(module) is module
    with pytest.raises(ValueError, match="`batch_size` to be None with a DataModule"):
        as_evaluation_module(module, batch_size=3)


@pytest.mark.parametrize("data", [(X, Y), batched(X, Y)], ids=["arrays", "tf.data"])
def test_the_promise_is_checked_on_data_as_it_is(data):
    report = lk.check(Line(), data, only=["padding", "splits"])
    assert [result.status for result in report.results] == ["PASS", "SKIP"]


# ---- one data set or several by name


def test_a_dict_of_dicts_is_told_apart_by_the_training_data():
    pair = {"x": {"a": X, "b": X}, "y": {"a": Y, "b": Y}}
    assert by_name("val_dataset", pair, like={"x": ..., "y": ..., "weight": ...}) == {UNNAMED: pair}
    assert by_name("val_dataset", pair, like={"a": ..., "b": ...}) == pair
    assert by_name("val_dataset", {"x": {"a": X}, "y": {"a": X[:3]}}).keys() == {"x", "y"}  # no batch has two lengths
    for like in (None, {"c": ...}, (X, Y, W)):
        with pytest.raises(ValueError, match=r"one data set or several by name. Received: a dict of dicts.*x, y"):
            by_name("val_dataset", pair, like=like)
    found = as_data_module({"x": X, "y": Y}, {"clean": {"x": X, "y": Y}, "bent": {"x": X, "y": Y}}).val_dataset()
    assert list(found) == ["clean", "bent"]
    assert not isinstance(as_data_module(pair, pair).val_dataset(), dict)
