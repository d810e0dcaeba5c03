"""TaskModule: lazy logs, building before training, evaluation without traces, and layers under two replicas."""

import copy
import json
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small import Small, in_order, linear, made, points, squares, updated, weights
from helpers.toys import Classifier, PointsData, quiet

import lightkeras as lk
from lightkeras.distribution.replicas import num_replicas
from lightkeras.task import Logs
from lightkeras.training.logs import MetricSums

PLAIN = {"loss": 1.5, "accuracy": 0.5}


class Device:
    """Sums that count how often they are read."""

    def __init__(self):
        self.reads = 0

    def numpy(self):
        self.reads += 1
        return np.array([[6.0, 4.0], [1.0, 2.0]])


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def logs(device):
    totals = MetricSums(dict.fromkeys(PLAIN, lk.metrics.WeightedMean))
    totals.values = device
    return Logs(totals)


# ---- Logs


def test_logs_are_not_read_until_looked_at(logs, device):
    assert isinstance(logs, dict) and len(logs) == 2 and "loss" in logs and "los" not in logs and bool(logs)
    assert device.reads == 0
    assert logs["loss"] == 1.5 and logs["accuracy"] == 0.5 and logs == PLAIN
    assert device.reads == 1


LOOKS = {
    "getitem": lambda d: d["loss"],
    "get": lambda d: (d.get("loss"), d.get("los", 3)),
    "items": lambda d: list(d.items()),
    "keys": lambda d: list(d.keys()),
    "values": lambda d: list(d.values()),
    "iter": list,
    "reversed": lambda d: list(reversed(d)),
    "dict": dict,
    "unpacked": lambda d: {**d, "more": 1},
    "copy": lambda d: d.copy(),
    "copy.copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda d: pickle.loads(pickle.dumps(d)),
    "json": json.dumps,
    "repr": repr,
    "equal": lambda d: (d == PLAIN, dict(PLAIN) == d, d == {}, d != PLAIN),
    "or": lambda d: d | {"loss": 2.0, "more": 1},
    "reflected or": lambda d: {"loss": 2.0, "more": 1} | d,
    "into a dict": lambda d: changed({"loss": 2.0}, lambda other: other.update(d)),
    "in-place or": lambda d: changed(d, lambda d: d.__ior__({"loss": 2.0, "more": 1})),
    "update": lambda d: changed(d, lambda d: d.update({"loss": 2.0}, more=1)),
    "setitem": lambda d: changed(d, lambda d: d.__setitem__("loss", 2.0)),
    "delitem": lambda d: changed(d, lambda d: d.__delitem__("loss")),
    "setdefault": lambda d: (d.setdefault("loss", 2.0), d.setdefault("more", 1), dict(d)),
    "pop": lambda d: (d.pop("loss"), d.pop("los", 3), dict(d)),
    "popitem": lambda d: (d.popitem(), dict(d)),
    "clear": lambda d: changed(d, lambda d: d.clear()),
}


def changed(of, change):
    change(of)
    return dict(of)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_logs_look_like_a_dict(look, logs):
    expected, received = look(dict(PLAIN)), look(logs)
    assert received == expected and type(received) is type(expected)


# ---- building


class Everything(lk.TaskModule):
    """Batch normalization, dropout, a metric of another kind."""

    def configure_model(self, data):
        keras.utils.set_random_seed(1)
        self.network = keras.Sequential(
            [
                keras.layers.Dense(4),
                keras.layers.BatchNormalization(synchronized=True, momentum=0.5),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(1),
            ]
        )

    def configure_optimizers(self):
        return keras.optimizers.Adam(0.1)

    def losses_of(self, batch, training):
        total, weight = squares(self, batch, training)
        return {"loss": (total, weight), "perplexity": lk.metrics.Perplexity(total, weight)}

    def train_step(self, batch):
        return self.minimize(self.losses_of, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.losses_of, batch)


def state(task):
    return {name: np.asarray(variable).copy() for name, variable in task.state_variables().items()}


def test_building_creates_everything_and_trains_nothing():
    data = in_order(points())
    task = made(Everything(), data)
    before = state(task)
    assert task.built and task.train_sums.kinds == {
        "loss": lk.metrics.WeightedMean,
        "perplexity": lk.metrics.Perplexity,
    }
    assert task.test_sums.kinds == task.train_sums.kinds and task.spec == data.element_spec
    slots = [name for name in before if name.startswith("optimizer/loss/")]
    assert len(before) - len(slots) == 4 + 4 + 1 and len(slots) == 2 + 2 * 6  # step, rate; Adam's two of each weight
    named = {name.split("/")[-1]: value for name, value in before.items() if name.startswith("model/")}
    assert (named["moving_mean"] == 0).all() and (named["moving_variance"] == 1).all()
    assert named["seed_generator_state"][1] == 0 and task.global_step == 0
    updated(task, data, 2)
    after = state(task)
    assert after.keys() == before.keys()  # nothing is made later
    assert not any((after[name] == before[name]).all() for name in before if "learning" not in name and value_of(name))


def value_of(name: str) -> bool:
    """Whether training changes it for certain: not Adam's rate, nor a bias in front of a normalization."""
    return name.startswith("model/") and "bias" not in name


def test_evaluation_changes_nothing():
    data = in_order(points(), 4)
    task = made(Everything(), data)
    updated(task, data, 2)
    before = state(task)
    task.begin_evaluation(2)
    task.make_test_function()
    stream = iter(data.replica_stream(task.distribute_strategy))
    results = [dict(task.test_function(stream)) for _ in range(2)]
    for name, value in state(task).items():
        np.testing.assert_array_equal(value, before[name])
    assert task.global_step == 2
    (whole,) = in_order(points()).stream(epochs=1)
    total, weight = squares(task, whole, training=False)
    assert results[-1]["loss"] == pytest.approx(float(total / weight), rel=1e-5)
    assert results[-1]["perplexity"] == pytest.approx(float(np.exp(total / weight)), rel=1e-4)


def test_a_task_without_a_test_step_trains():
    class Train(lk.TaskModule):
        configure_model, configure_optimizers = Everything.configure_model, Everything.configure_optimizers
        losses_of, train_step = Everything.losses_of, Everything.train_step

    task = made(Train(), in_order(points()))
    assert task.test_sums.kinds == {} and updated(task, in_order(points()))["loss"] > 0
    with pytest.raises(NotImplementedError, match=r"Train has no `test_step\(batch\)`"):
        task.test_step({})


def test_what_a_task_lacks_is_named():
    class Empty(lk.TaskModule):
        pass

    for call in (Empty().train_step, Empty().test_step, Empty().predict_step):
        with pytest.raises(NotImplementedError, match=rf"Empty has no `{call.__name__}\(batch\)`"):
            call({})
    with pytest.raises(NotImplementedError, match=r"Empty has no `configure_optimizers\(\)`"):
        Empty().configure_optimizers()


@pytest.mark.parametrize(
    "optimizer, error, message",
    [
        ("adam", TypeError, r"Expected `optimizers\['loss'\]` to be a keras\.optimizers\.Optimizer.*'adam'"),
        (keras.optimizers.SGD(gradient_accumulation_steps=2), ValueError, r"Trainer\(micro_batches=\.\.\.\) instead"),
        (keras.optimizers.SGD(loss_scale_factor=8.0), ValueError, "without a loss scale"),
        (keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), ValueError, "without a loss scale"),
    ],
    ids=["a name", "accumulation", "loss scale", "dynamic loss scale"],
)
def test_optimizers_that_would_scale_or_accumulate_themselves_are_refused(optimizer, error, message):
    with pytest.raises(error, match=message):
        made(Small(linear(), squares, lambda: optimizer), in_order(points()))


class LossAlone(lk.DataModule):
    def train_dataset(self):
        return in_order(points(), 4)


def test_a_loss_alone_is_reported_by_fit():
    """Keras would put its own tracker's 0 in the place of logs that have no other name than "loss"."""
    task = Small(linear(), squares, lambda: keras.optimizers.SGD(0.0))
    history = quiet(max_epochs=1).fit(task, LossAlone())
    arrays = points()
    error = arrays["x"] @ np.array([0.1, 0.2, 0.3]) - arrays["y"]
    assert history.history["loss"] == pytest.approx([np.average(error**2 / 2, weights=arrays["tokens"])], rel=1e-5)


def test_learning_rates_are_named():
    one = made(Small(linear(), squares, lambda: keras.optimizers.SGD(0.5)), in_order(points()))
    assert one.optimizers.learning_rates() == {"learning_rate": 0.5}

    def losses(task, batch, training):
        return {name: squares(task, batch, training) for name in ("network_loss", "other_loss")}

    def layers():
        return {**linear()(), "other": keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])}

    schedule = keras.optimizers.schedules.ExponentialDecay(0.25, 10, 0.5)
    optimizers = {"network": keras.optimizers.SGD(schedule), "other": keras.optimizers.SGD(0.5)}
    two = made(Small(layers, losses, lambda: optimizers), in_order(points()))
    assert two.optimizers.learning_rates() == {"network_learning_rate": 0.25, "other_learning_rate": 0.5}


# ---- tracing


@pytest.mark.parametrize("devices", [1, 2])
def test_steps_are_traced_once(devices):
    """Over three epochs of 5 batches in calls of 2, 2 and 1, with validation after each; once a replica."""
    traced = []

    class Counting(Classifier):
        def losses_of(self, batch, training):
            if not self._building:
                traced.append("train" if training else "test")
            return super().losses_of(batch, training)

    quiet(max_epochs=3, steps_per_execution=2, devices=devices).fit(Counting(), PointsData())
    assert sorted(traced) == ["test"] * devices + ["train"] * devices


# ---- two replicas


@pytest.mark.parametrize(
    "layer, named",
    [
        (lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, name="early")]), "early/kernel"),
        (lambda: keras.Sequential([keras.layers.Dense(1), keras.layers.Dropout(0.5)]), "seed_generator_state"),
    ],
    ids=["weights", "seeds"],
)
def test_a_variable_made_outside_the_strategy_is_named(layer, named):
    class Early(Everything):
        def __init__(self):
            super().__init__()
            self.network = layer()

        def configure_model(self, data):
            """The layers are there."""

    made(Early(), in_order(points()))
    with pytest.raises(ValueError, match=rf"make layers in `configure_model\(\)`, not in `__init__`\. .*{named}"):
        made(Early(), in_order(points()), devices=2)


class Masks(keras.layers.Layer):
    """Drops half of each row, and weighs what is left: the kernel's gradient is the sum of what each row kept."""

    def __init__(self):
        super().__init__()
        self.dropout = keras.layers.Dropout(0.5, seed=7)

    def build(self, shape):
        self.kernel = self.add_weight(shape=shape[1:], initializer="zeros")

    def call(self, x, training=False):
        return self.dropout(x, training=training) * self.kernel


def masks_of(rows: int, steps: int = 1, **cut) -> np.ndarray:
    """What dropout keeps of each row, as 0 or 1: (rows, 64)."""

    def losses(task, batch, training):
        return tf.reduce_sum(task.network(batch["x"], training=training)), tf.reduce_sum(batch["weight"])

    powers = 2.0 ** np.arange(rows)
    data = in_order({"x": np.tile(powers[:, None] * rows / 2, 64).astype(np.float32)})  # what is kept is doubled
    task = made(Small(lambda: {"network": Masks()}, losses), data, **cut)
    updated(task, data, steps)
    kept = -weights(task)[0].astype(int)
    assert np.asarray(task.network.dropout.seed_generator.state).tolist() == [7, steps * cut.get("micro_batches", 1)]
    return (kept[None] >> np.arange(rows)[:, None]) & 1


@pytest.mark.parametrize("cut", [{"devices": 2}, {"devices": 2, "micro_batches": 2}], ids=str)
def test_every_replica_and_micro_batch_drops_its_own(cut):
    rows = 2 * cut.get("micro_batches", 1)
    masks = masks_of(rows, **cut)
    assert ((masks.mean(axis=1) > 0.25) & (masks.mean(axis=1) < 0.75)).all()
    agreement = [(masks[a] == masks[b]).mean() for a in range(rows) for b in range(a)]
    assert min(agreement) > 0.2 and max(agreement) < 0.8, agreement  # half of them, by chance
    np.testing.assert_array_equal(masks[0], masks_of(1)[0])  # the first replica's are those of a single device


def test_synchronized_batch_normalization_is_that_of_the_whole_batch():
    def layers():
        return {
            "network": keras.Sequential(
                [keras.layers.BatchNormalization(synchronized=True, momentum=0.5), linear()()["network"]]
            )
        }

    data, states = in_order(points(16), 8), []
    for devices in (1, 2):
        task = made(Small(layers, squares, lambda: keras.optimizers.SGD(0.1)), data, devices=devices)
        logs = updated(task, data, 4)
        states.append({**state(task), "loss": logs["loss"]})
    for name, value in states[0].items():
        np.testing.assert_allclose(states[1][name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    assert num_replicas(task.distribute_strategy) == 2
