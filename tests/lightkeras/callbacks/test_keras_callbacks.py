"""All of Keras' callbacks: each works as under Keras' own `fit`, or is refused before the first update."""

import csv
import functools
import http.server
import importlib.util
import json
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.toys import Classifier, PointsData, quiet

import lightkeras as lk
from lightkeras.callbacks.keras_checks import find_direction

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras'
callbacks = keras.callbacks
EPOCHS = 6
NAMES = ("loss", "accuracy", "val_loss", "val_accuracy")


class Data(PointsData):
    """Batches of one size and in one order, as Keras' `fit` takes them below; `val_` data that get worse soon."""

    def __init__(self):
        super().__init__(size=32, shuffle=False)

    def setup(self, stage):
        super().setup(stage)
        self.val_y = 1 - self.y[:8]

    def val_dataset(self):
        return lk.AddressedDataset.from_arrays({"x": self.x[:8], "y": self.val_y}, 8, shuffle=False)


class Ours(Classifier):
    """One dense layer that begins at zeros."""

    def configure_model(self, data):
        self.network = keras.Sequential([keras.layers.Dense(2, kernel_initializer="zeros")])

    def configure_optimizers(self):
        return keras.optimizers.SGD(0.5)


def fit_keras(given, epochs=EPOCHS):
    """Keras' own `fit`: (history, weights)."""
    data = Data()
    data.setup("fit")
    model = keras.Sequential([keras.layers.Dense(2, kernel_initializer="zeros")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss, metrics=["accuracy"])
    history = model.fit(
        data.x, data.y, 8, epochs=epochs, verbose=0, shuffle=False, validation_data=(data.x[:8], data.val_y),
        callbacks=given,
    )  # fmt: skip
    return history.history, model


def fit_ours(given, epochs=EPOCHS):
    task = Ours()
    trainer = quiet(callbacks=given, max_epochs=epochs, jit_compile=False)
    trainer.fit(task, Data())
    return trainer.history.history, task


def compare(make, tmp_path, epochs=EPOCHS):
    """Fits both ways with the callback that `make(folder)` makes: (Keras', ours) of callbacks and folders."""
    folders = [tmp_path / name for name in ("keras", "ours")]
    for folder in folders:
        folder.mkdir()
    theirs, ours = map(make, folders)
    (expected, model), (found, task) = fit_keras([theirs], epochs), fit_ours([ours], epochs)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    for variable, other in zip(task.network.weights, model.weights, strict=True):
        np.testing.assert_allclose(np.asarray(variable), np.asarray(other), rtol=1e-5, atol=1e-6)
    files = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) for folder in folders]
    return (theirs, ours), folders, files


def monitors(kind, *places, **arguments):
    return [
        functools.partial(lambda folder, given: kind(*(str(folder / p) for p in places), **arguments, **given), given=g)
        for g in ({}, {"monitor": "val_accuracy"}, {"monitor": "accuracy", "mode": "max"}, {"monitor": "val_loss"})
    ]


@pytest.mark.parametrize("make", monitors(callbacks.EarlyStopping) + monitors(
    callbacks.EarlyStopping, patience=2, restore_best_weights=True))  # fmt: skip
def test_early_stopping(make, tmp_path):
    (theirs, ours), _, _ = compare(make, tmp_path)
    assert (ours.stopped_epoch, ours.best_epoch, ours.wait) == (theirs.stopped_epoch, theirs.best_epoch, theirs.wait)


@pytest.mark.parametrize("make", monitors(callbacks.ReduceLROnPlateau) + monitors(
    callbacks.ReduceLROnPlateau, patience=1, factor=0.5))  # fmt: skip
def test_reduce_lr_on_plateau(make, tmp_path):
    compare(make, tmp_path)  # the history has the rates


@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("index", range(4))
def test_model_checkpoint(best, index, tmp_path):
    place = "{epoch}.weights.h5"
    make = monitors(callbacks.ModelCheckpoint, place, save_weights_only=True, save_best_only=best)[index]
    _, _, (theirs, ours) = compare(make, tmp_path)
    assert ours == theirs and ours


def test_learning_rate_scheduler(tmp_path):
    compare(lambda folder: callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9), tmp_path)


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_logger(tmp_path):
    _, folders, _ = compare(lambda folder: callbacks.CSVLogger(str(folder / "log.csv")), tmp_path)
    theirs, ours = (read_rows(folder / "log.csv") for folder in folders)
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        np.testing.assert_allclose([float(one[k]) for k in other], [float(other[k]) for k in other], rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"write_steps_per_second": True, "histogram_freq": 1, "update_freq": 2}])
def test_tensorboard(options, tmp_path):
    _, folders, _ = compare(lambda folder: callbacks.TensorBoard(str(folder), **options), tmp_path, epochs=2)
    theirs, ours = ({kind: _tags(folder / kind) for kind in ("train", "validation")} for folder in folders)
    for kind, found in theirs.items():
        found -= {("keras", 0)}  # the graph of a Sequential model; a task is none
        layers = {tag for tag in found if "/histogram" in tag[0]}
        assert found - layers == {tag for tag in ours[kind] if "/histogram" not in tag[0]}
        assert bool(layers) == any("/histogram" in tag[0] for tag in ours[kind]) or not options


def _tags(folder):
    events = [
        tf.compat.v1.Event.FromString(record.numpy())
        for path in sorted(folder.glob("events*"))
        for record in tf.data.TFRecordDataset(str(path))
    ]
    return {(value.tag, event.step) for event in events for value in event.summary.value}


def test_remote_monitor(tmp_path):
    received = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.setdefault(self.path, []).append(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Says nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        compare(lambda f: callbacks.RemoteMonitor(root, path=f"/{f.name}", send_as_json=True), tmp_path, epochs=2)
        server.shutdown()
    for one, other in zip(received["/ours"], received["/keras"], strict=True):
        assert one.keys() == other.keys() and one["epoch"] == other["epoch"]
        np.testing.assert_allclose([one[k] for k in other], [other[k] for k in other], rtol=1e-5)


def test_lambda_callback_callback_history_and_bar(tmp_path, capsys):
    seen = {"keras": [], "ours": []}
    compare(
        lambda f: callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen[f.name].append((epoch, *logs))),
        tmp_path,
    )
    assert [set(row) for row in seen["ours"]] == [set(row) for row in seen["keras"]] and len(seen["ours"]) == EPOCHS
    fit_ours([callbacks.Callback()], 1)
    history = callbacks.History()
    assert fit_ours([history], 1)[0] is history.history
    assert capsys.readouterr().out == ""
    fit_ours([callbacks.ProgbarLogger()], 2)
    shown = capsys.readouterr().out
    assert "Epoch 2/2" in shown and "4/4" in shown and "val_loss" in shown


def test_terminate_on_nan_ends_at_the_same_update():
    """Keras ends quietly; here the run ends with an error that names the update, as without the callback."""

    class NaN(Ours):
        def losses_of(self, batch, training):
            sums = super().losses_of(batch, training)
            total, weight = sums["loss"]
            return {**sums, "loss": (total * np.float32(np.nan), weight)}

    task = NaN()
    with pytest.raises(lk.NonFiniteLossError, match="update 1 "):
        quiet(callbacks=[callbacks.TerminateOnNaN()], max_epochs=2, jit_compile=False).fit(task, Data())
    assert task.global_step == 1
    fit_ours([callbacks.TerminateOnNaN()], 1)


def test_orbax_checkpoint(tmp_path):
    if importlib.util.find_spec("orbax") is None:
        with pytest.raises(ImportError, match="orbax"):
            callbacks.OrbaxCheckpoint(str(tmp_path))
        return
    fit_ours([callbacks.OrbaxCheckpoint(str(tmp_path / "saved"), save_weights_only=True)], 1)
    assert list((tmp_path / "saved").iterdir())


REFUSED = {
    "BackupAndRestore": (lambda folder: callbacks.BackupAndRestore(str(folder)), 'use ckpt_path="auto"'),
    "CallbackList": (lambda folder: callbacks.CallbackList([]), "pass its callbacks one by one"),
}
WORK = {
    "CSVLogger", "Callback", "EarlyStopping", "History", "LambdaCallback", "LearningRateScheduler", "ModelCheckpoint",
    "OrbaxCheckpoint", "ProgbarLogger", "ReduceLROnPlateau", "RemoteMonitor",
    "SwapEMAWeights", "TensorBoard", "TerminateOnNaN",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_when_the_trainer_is_made(name, tmp_path):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        quiet(callbacks=[make(tmp_path)])


def test_every_callback_of_keras_is_decided():
    public = {name for name in dir(callbacks) if not name.startswith("_")}
    assert public == WORK | set(REFUSED), "a new callback of Keras: add a test of it here, or refuse it"


# ---- the direction of a metric


def test_directions_by_name():
    task = Classifier()
    expected = {
        "val_accuracy": "max", "sparse_top_5_accuracy": "max", "val_auc": "max", "bleu": "max", "val_f1": "max",
        "f1_score": "max", "val_bleu4": "max", "precision_at_recall": "max", "binary_crossentropy": "min",
        "generator_loss": "min", "mean_absolute_error": "min", "word_error_rate": "min", "accuracy_loss": "min",
        "val_loss": "min", "cosine_similarity": "max", "cosine_distance": "min",
        "temperature": None, "accuracy_error": None, "learning_rate": None,
    }  # fmt: skip
    task.test_sums = task.train_sums = type("Sums", (), {"kinds": {}})
    assert {name: find_direction(name, task) for name in expected} == expected
    task.monitor = ("val_temperature", "max")
    task.test_sums.kinds = {"per_token": lk.metrics.Perplexity}
    assert find_direction("val_temperature", task) == "max" and find_direction("val_per_token", task) == "min"


class Adds(lk.Callback):
    """Adds a metric whose name says nothing."""

    def metric_names(self):
        return ["val_temperature"]

    def on_validation_end(self, record):
        record["val_temperature"] = 1.0


def test_an_unknown_direction_is_refused_before_training(root, tmp_path):
    for kind in (callbacks.EarlyStopping, callbacks.ReduceLROnPlateau):
        task = Classifier()
        with pytest.raises(ValueError, match=f'`mode` of {kind.__name__} to be "min" or "max"'):
            quiet(root, callbacks=[Adds(), kind("val_temperature")], max_epochs=1).fit(task, PointsData())
        assert task.global_step == 0 and not list(tmp_path.rglob("config.yaml"))
    given = callbacks.EarlyStopping("val_temperature", mode="max", patience=2)
    trainer = quiet(callbacks=[Adds(), given], max_epochs=9)
    trainer.fit(Classifier(), PointsData())
    assert trainer.history.epoch == [0, 1, 2]


# ---- model.optimizer


class Pair(Classifier):
    """Two optimizers."""

    def configure_model(self, data):
        super().configure_model(data)
        self.first, self.second = self.network.layers[0], self.network.layers[-1]

    def configure_optimizers(self):
        return {"first": keras.optimizers.SGD(0.1), "second": keras.optimizers.SGD(0.2)}

    def losses_of(self, batch, training):
        sums = super().losses_of(batch, training)
        return {"first_loss": sums["loss"], "second_loss": sums["loss"], "accuracy": sums["accuracy"]}


class ReadsRate(callbacks.Callback):
    """As the metrics logger of Weights & Biases."""

    def on_epoch_end(self, epoch, logs=None):
        if isinstance(self.model.optimizer.learning_rate, tf.Variable):
            print(self.model.optimizer.learning_rate.numpy())


class ReadsConfig(callbacks.Callback):
    """As MLflow's."""

    def on_train_begin(self, logs=None):
        self.config = self.model.optimizer.get_config()
        self.metrics = [metric.name for metric in self.model.metrics]


class SetsRate(callbacks.Callback):
    """By way of a local name."""

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        optimizer.learning_rate = 0.01


class AsksFirst(callbacks.Callback):
    """Does without."""

    def on_epoch_end(self, epoch, logs=None):
        if hasattr(self.model.optimizer, "learning_rate"):
            self.model.optimizer.learning_rate = 0.01


def scheduler():
    return callbacks.LearningRateScheduler(lambda epoch, rate: rate)


@pytest.mark.parametrize("make", [scheduler, callbacks.ReduceLROnPlateau, ReadsRate, SetsRate])
def test_one_rate_of_several_optimizers_is_refused_before_training(make, root, tmp_path):
    given = make(monitor="accuracy") if make is callbacks.ReduceLROnPlateau else make()
    task = Pair()
    with pytest.raises(ValueError, match=rf"several optimizers \(first, second\).*{type(given).__name__}"):
        quiet(root, callbacks=[given], max_epochs=1).fit(task, PointsData())
    assert task.global_step == 0 and not list(tmp_path.rglob("config.yaml"))


def test_what_is_true_of_several_optimizers_works(tmp_path):
    config = ReadsConfig()
    board = callbacks.TensorBoard(str(tmp_path), write_steps_per_second=True)
    task = Pair()
    quiet(callbacks=[config, board, AsksFirst()], max_epochs=2).fit(task, PointsData())
    assert config.config["second_learning_rate"] == pytest.approx(0.2) and config.metrics == []
    assert ("epoch_steps_per_second", 1) in _tags(tmp_path / "train")
    with pytest.raises(AttributeError, match=r"model.optimizers\[NAME\] of first, second"):
        _ = task.optimizer.learning_rate


@pytest.mark.parametrize("make", [scheduler, callbacks.ReduceLROnPlateau, SetsRate])
def test_a_rate_with_a_schedule_cannot_be_set(make, root, tmp_path):
    class Scheduled(Classifier):
        def configure_optimizers(self):
            return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10), name="mine")

    with pytest.raises(ValueError, match=r"learning rate of the optimizer 'mine' .*CosineDecay"):
        quiet(root, callbacks=[make()], max_epochs=1).fit(Scheduled(), PointsData())
    assert not list(tmp_path.rglob("config.yaml"))
    if make is not scheduler:
        quiet(callbacks=[make()], max_epochs=1).fit(Classifier(), PointsData())


# ---- logs and states


class Puts(callbacks.Callback):
    """Puts values of all kinds into the epoch's logs."""

    def on_epoch_end(self, epoch, logs=None):
        logs.update(
            array=np.array(1.5), scalar=np.float32(2.5), tensor=tf.constant(3.5), variable=keras.Variable(4.5),
            half=tf.constant(5.5, tf.bfloat16), count=np.int64(6), text="high", nothing=None, many=[1, 2],
            vector=np.zeros(3), complex=np.complex64(1),
        )  # fmt: skip


class Looks(callbacks.Callback):
    """Keeps what it sees."""

    def on_epoch_end(self, epoch, logs=None):
        self.logs = dict(logs)


def test_numbers_in_logs_are_numbers_and_the_rest_is_left_out(root):
    looks = Looks()
    trainer = quiet(root, callbacks=[Puts(), looks], max_epochs=2, enable_progress_bar=True)
    trainer.fit(Classifier(), PointsData())
    history = trainer.history.history
    added = {"array": 1.5, "scalar": 2.5, "tensor": 3.5, "variable": 4.5, "half": 5.5, "count": 6}
    assert {name: history[name] for name in history if name not in NAMES} == {k: [v] * 2 for k, v in added.items()}
    assert {type(value) for values in history.values() for value in values} == {float, int}
    assert looks.logs["text"] == "high" and looks.logs["many"] == [1, 2]
    resumed = quiet(root, callbacks=[Puts()], max_epochs=3)
    resumed.fit(Classifier(), PointsData(), ckpt_path="last")
    assert resumed.history.history["variable"] == [4.5] * 3 and resumed.history.history["count"] == [6] * 3


class Records(lk.Callback):
    """Puts them into the records."""

    def on_validation_end(self, record):
        record.update(val_tensor=tf.constant(3.5), val_text="high", val_vector=np.zeros(3))


def test_numbers_in_records(root):
    trainer = quiet(root, callbacks=[Records()], max_epochs=1)
    trainer.fit(Classifier(), PointsData())
    assert trainer.callback_metrics["val_tensor"] == 3.5 and "val_text" not in trainer.callback_metrics
    rows = read_rows(trainer.run_dir / "metrics.csv")
    assert rows[-1]["val_tensor"] == "3.5" and "val_text" not in rows[-1]


class Keeps(lk.Callback):
    """Has a state."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.loaded = state


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"best": np.zeros(2)}, r"state_dict\(\) of Keeps\['best'\].*ndarray"),
        ({"seen": {1, 2}}, r"\['seen'\].*set"),
        ({"of": {3: 0.5}}, r"keys of state_dict\(\) of Keeps\['of'\] to be strings.*3"),
        ({"list": [1, b"x"]}, r"\['list'\]\[1\].*bytes"),
    ],
)
def test_a_state_that_json_cannot_hold_is_refused_before_the_first_update(root, state, where):
    task = Classifier()
    with pytest.raises(ValueError, match=where):
        quiet(root, callbacks=[Keeps(state)], max_epochs=1).fit(task, PointsData())
    assert task.global_step == 0


def test_numbers_in_a_state_are_pythons(root):
    quiet(root, callbacks=[Keeps({"best": np.float32(0.5), "n": np.int64(3), "t": tf.constant(2.0)})]
          , max_epochs=1).fit(Classifier(), PointsData())  # fmt: skip
    keeps = Keeps({})
    quiet(root, callbacks=[keeps], max_epochs=2).fit(Classifier(), PointsData(), ckpt_path="last")
    assert keeps.loaded == {"best": 0.5, "n": 3, "t": 2.0} and type(keeps.loaded["n"]) is int


# ---- what is passed, and passed again


class OfLightning:
    """A callback of another library."""

    __module__ = "lightning.pytorch.callbacks"


def test_what_is_no_callback_or_comes_twice():
    once = callbacks.EarlyStopping()
    with pytest.raises(ValueError, match="each object once"):
        quiet(callbacks=[once, callbacks.Callback(), once])
    with pytest.raises(TypeError, match=r"objects: call EarlyStopping\(\.\.\.\)"):
        quiet(callbacks=[callbacks.EarlyStopping])
    with pytest.raises(TypeError, match="not of lightning: lightkeras and keras have counterparts"):
        quiet(callbacks=[OfLightning()])


@pytest.mark.parametrize("kind", [callbacks.EarlyStopping, lk.EarlyStopping])
def test_a_callback_is_fresh_in_each_run_and_each_trainer(kind):
    given = kind("val_loss", patience=1)
    expected = fit_ours([kind("val_loss", patience=1)])[0]["loss"]
    assert len(expected) < EPOCHS
    for _ in range(2):
        assert fit_ours([given])[0]["loss"] == expected
