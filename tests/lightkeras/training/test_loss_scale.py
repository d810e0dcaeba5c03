"""float16 and bfloat16: the loss scale of every optimizer by hand, and two faults of Keras' that ours must not have."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small import Small, in_order, linear, made, updated, weights
from helpers.toys import PointsData, Recorder

import lightkeras as lk
from lightkeras.distribution.strategies import make_strategy
from lightkeras.training import loss_scale
from lightkeras.verifier.comparison import difference
from lightkeras.verifier.short_run import train

TWO_CUTS = pytest.mark.parametrize(
    "cut",
    [{}, {"devices": 2}, {"micro_batches": 2}, {"devices": 2, "run_eagerly": True}],
    ids=["whole", "2 replicas", "2 micro-batches", "2 replicas, eager"],
)


# ---- Keras' faults, and what is right


def applied_by_keras(optimizer, parts) -> np.ndarray:
    """A weight of zeros after `optimizer.apply` of each replica's own gradient, as `fit()` calls it."""
    strategy = make_strategy(2)
    with strategy.scope():
        weight, optimizer = keras.Variable(np.zeros(len(parts[0]), np.float32)), optimizer()
        optimizer.build([weight])
    of_replica = lambda context: tf.constant(parts[context.replica_id_in_sync_group])  # noqa: E731
    gradients = strategy.experimental_distribute_values_from_function(of_replica)
    strategy.run(tf.function(lambda gradient: optimizer.apply([gradient], [weight])), args=(gradients,))
    return np.asarray(weight)


def inner_product(task, batch, training):
    """x @ kernel, a sum over the rows: its gradient is the sum of the inputs; divided by 1."""
    return tf.reduce_sum(tf.cast(task.network(batch["x"], training=training), tf.float32)), tf.constant(0.5)


def zeros(dtype="float32"):
    return lambda: {"network": keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype=dtype)}


@pytest.mark.parametrize("clip", ["clipnorm", "global_clipnorm"])
def test_keras_clips_before_the_reduction_and_we_after_it(clip):
    """Parts (3, 4) and (-3, 4), each of norm 5: their sum (0, 8) is clipped to (0, 1)."""
    parts = np.array([[3, 4], [-3, 4]], np.float32)
    optimizer = lambda: keras.optimizers.SGD(1.0, **{clip: 1.0})  # noqa: E731
    np.testing.assert_allclose(applied_by_keras(optimizer, parts), [0, -1.6], atol=1e-6)  # (0.6, 0.8) + (-0.6, 0.8)
    data = in_order({"x": parts})
    task = made(Small(zeros(), inner_product, optimizer), data, devices=2)
    updated(task, data)
    np.testing.assert_allclose(weights(task)[0][:, 0], [0, -1], atol=1e-6)


def test_keras_looks_at_replica_0_for_a_gradient_that_is_not_finite_and_we_at_all():
    """60,000 times the loss scale is beyond float16, on replica 1 alone."""
    dynamic = lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), 1.0)  # noqa: E731
    parts = np.array([[1, 1], [np.inf, 1]], np.float32)
    assert not np.isfinite(applied_by_keras(dynamic, parts)).all()
    assert (applied_by_keras(dynamic, parts[::-1]) == 0).all()  # on replica 0 it sees it
    data = in_order({"x": np.array([[1, 1], [60000, 1]], np.float32)})
    task = made(Small(zeros("mixed_float16"), inner_product), data, devices=2)
    logs = updated(task, data)
    for local in task.distribute_strategy.experimental_local_results(task.network.kernel.value):
        np.testing.assert_array_equal(local, [[0], [0]])
    assert logs["loss"] == 0.0 and task.optimizers.update_counts() == {"loss": 0}
    assert task.optimizers.loss_scaling() == {"loss_scale": 2.0**14, "skipped_updates": 1}


# ---- the scale


def test_a_gradient_below_the_smallest_number_of_float16_arrives():
    """1e-8 rounds to 0 in float16; by 2^15 / 2 rows it is 1.6e-4."""

    def small(task, batch, training):
        total, _ = inner_product(task, batch, training)
        return 1e-8 * total, 1e-8

    assert np.float16(1e-8) == 0
    data = in_order({"x": np.array([[1, 2], [3, 4]], np.float32)})
    task = made(Small(zeros("mixed_float16"), small), data)
    updated(task, data)
    np.testing.assert_allclose(weights(task)[0][:, 0], [-4, -6], rtol=2e-3)


def test_the_scale_is_that_of_the_mean_over_the_rows_of_the_global_batch():
    for rows, factor in ((1, 2.0**15), (8, 2.0**12), (9, 2.0**11)):
        assert float(loss_scale.LossScale(rows).factor()) == factor
    data = in_order({"x": np.ones((12, 2), np.float32)})
    task = made(Small(zeros("mixed_float16"), inner_product), data, devices=2, micro_batches=2)
    assert float(task.optimizers.loss_scales["loss"].factor()) == 2.0**11


def test_no_bit_depends_on_the_scale(monkeypatch):
    numbers = np.random.default_rng(0)
    data = in_order({"x": numbers.normal(size=(8, 3)).astype(np.float32), "y": np.ones(8, np.float32)}, 4)
    made_of = []
    for initial in (2.0**15, 2.0**11):
        monkeypatch.setattr(loss_scale, "INITIAL", initial)
        adam = lambda: keras.optimizers.Adam(0.1)  # noqa: E731
        task = made(Small(linear(dtype="mixed_float16"), float32_squares, adam), data, log_gradient_norm=True)
        logs = updated(task, data, 4)
        made_of.append((weights(task)[0].tolist(), dict(logs)))
    assert made_of[0] == made_of[1]


def float32_squares(task, batch, training):
    """`squares` with the error in float32."""
    error = tf.cast(task.network(batch["x"], training=training), tf.float32)[:, 0] - batch["y"]
    return tf.reduce_sum(0.5 * tf.square(error) * batch["weight"]), tf.reduce_sum(batch["weight"])


BIG = 60000.0  # times the scale of 2^15 / 2 rows: beyond float16


def each_update(task, data, steps: int, cut):
    """The task made and, after each of `steps` updates, the logs so far."""
    eagerly = cut.get("run_eagerly", False)
    made(task, data, **{name: value for name, value in cut.items() if name != "run_eagerly"})
    task.steps_per_epoch = steps
    with task.distribute_strategy.scope():
        task.compile_steps(run_eagerly=eagerly)
        task.begin_epoch(0)
        task.make_train_function()
        iterator = iter(data.replica_stream(task.distribute_strategy))
        for _ in range(steps):
            yield dict(task.train_function(iterator))


def scales_after(values, cut) -> list[tuple[float, int, int]]:
    """(scale, good updates, skipped updates) after each update; a value is the input of one row of two."""
    data = in_order({"x": np.array([[v] for value in values for v in (0.25, value)], np.float32)}, 2)
    task = Small(zeros("mixed_float16"), inner_product, lambda: keras.optimizers.SGD(1e-9))
    variables = lambda: task.optimizers.loss_scales["loss"].variables  # noqa: E731
    return [tuple(float(np.asarray(v)) for v in variables()) for _ in each_update(task, data, len(values), cut)]


@TWO_CUTS
def test_the_scale_doubles_after_so_many_good_updates_and_halves_when_one_is_skipped(cut, monkeypatch):
    monkeypatch.setattr(loss_scale, "GROWTH", 3)
    assert loss_scale.INITIAL == 2.0**15
    assert scales_after([1, 1, 1, 0.25, BIG, BIG, 1], cut) == [
        (2.0**15, 1, 0), (2.0**15, 2, 0), (2.0**16, 0, 0), (2.0**16, 1, 0), (2.0**15, 0, 1), (2.0**14, 0, 2),
        (2.0**14, 1, 2),
    ]  # fmt: skip


def test_the_scale_grows_after_2000_updates_as_in_keras():
    theirs = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    assert (theirs.initial_scale, theirs.dynamic_growth_steps) == (loss_scale.INITIAL, loss_scale.GROWTH)


# ---- a skipped update


def two_of(layer):
    """Two linear layers with an Adam each; the second is of the entry "z" of a batch."""

    def losses(task, batch, training):
        outputs = {"first": task.first(batch["x"]), "second": task.second(batch["z"])}
        weight = tf.reduce_sum(batch["weight"])
        sums = {name: tf.reduce_sum(tf.cast(output, tf.float32)) for name, output in outputs.items()}
        return {
            "first_loss": (sums["first"], weight),
            "second_loss": (sums["second"], weight),
            "seen": (weight, weight),
        }

    layers = lambda: {"first": layer(), "second": layer()}  # noqa: E731
    adams = lambda: {name: keras.optimizers.AdamW(0.1, use_ema=True) for name in ("first", "second")}  # noqa: E731
    return Small(layers, losses, adams)


def named_state(task) -> dict[str, np.ndarray]:
    return {name: np.asarray(value).copy() for name, value in task.state_variables().items()}


SCALED = ("first/good_updates", "second/good_updates", "second/scale", "second/skipped_updates")


@TWO_CUTS
def test_a_skipped_update_touches_nothing_of_its_optimizer_and_nothing_else(cut):
    """Weights, moments, averages, iterations: to the bit. The second batch is beyond float16 for one optimizer."""
    layer = lambda: keras.layers.Dense(1, dtype="mixed_float16")  # noqa: E731
    x = np.array([[1], [0.5], [0.25], [0.5]], np.float32)
    data = in_order({"x": x, "z": np.array([[1], [2], [3], [BIG]], np.float32)}, 2)
    task = two_of(layer)
    (first, _), (second, logs) = [
        (named_state(task), logs) for logs in each_update(task, data, 2, {**cut, "log_gradient_norm": True})
    ]
    begun = named_state(made(two_of(layer), data))
    changed = [
        {name for name in a if not np.array_equal(a[name], b[name])} for a, b in ((begun, first), (first, second))
    ]
    names = {id(variable): name for name, variable in task.state_variables().items()}
    of = {
        name: {names[id(v)] for v in (*getattr(task, name).trainable_variables, *task.optimizers[name].variables)}
        for name in ("first", "second")
    }
    assert len(of["second"]) == 10  # kernel and bias, each with two moments and an average; iterations, learning rate
    assert len(of["second"] & changed[0]) == 9 and not of["second"] & changed[1]
    assert changed[1] == {*of["first"] & changed[0], *(f"loss_scale/{n}" for n in SCALED)}
    assert task.optimizers.update_counts() == {"first": 2, "second": 1}
    scaling = {"first_loss_scale": 2.0**15, "first_skipped_updates": 0}
    assert task.optimizers.loss_scaling() == {**scaling, "second_loss_scale": 2.0**14, "second_skipped_updates": 1}
    kinds = dict(zip(task.train_sums.kinds, task.train_sums.values.numpy()[:, 1].tolist(), strict=True))
    assert kinds["second_gradient_norm"] == 1 and kinds["first_gradient_norm"] == 2  # the infinite one does not count
    assert np.isfinite(list(logs.values())).all() and (task.train_sums.non_finite.numpy() == -1).all()


# ---- whole runs


class Spiked(PointsData):
    """`PointsData` of 40 points, of which some have enormous inputs.

    Args:
        spikes: Input by the point's number.
    """

    def __init__(self, spikes: dict[int, float] | None = None):
        super().__init__(40, 8, shuffle=False)

    def setup(self, stage):
        super().setup(stage)
        for point, value in (self.hparams["spikes"] or {}).items():
            self.x[int(point)] = value


class Towers(lk.TaskModule):
    """Two networks with an Adam each; with `pair=False` one of both."""

    def __init__(self, pair: bool = True, dtype: str | None = None):
        super().__init__()

    def configure_model(self, data):
        head = lambda: keras.layers.Dense(2, dtype="float32")  # noqa: E731
        tower = lambda: keras.Sequential([keras.layers.Dense(8, "relu", dtype=self.hparams["dtype"]), head()])  # noqa: E731
        self.first, self.second = tower(), tower()

    def configure_optimizers(self):
        adam = lambda: keras.optimizers.Adam(0.05)  # noqa: E731
        return {"first": adam(), "second": adam()} if self.hparams["pair"] else adam()

    def losses_of(self, batch, training):
        sums, weight = {}, batch["weight"]
        for name in ("first", "second"):
            nats = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], getattr(self, name)(batch["x"]))
            sums[f"{name}_loss"] = (tf.reduce_sum(nats * weight), tf.reduce_sum(weight))
        if not self.hparams["pair"]:
            sums["loss"] = tuple(a + b for a, b in zip(*sums.values(), strict=True))
        return sums

    def train_step(self, batch):
        return self.minimize(self.losses_of, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.losses_of, batch)


def run(task=None, data=None, **arguments):
    return train(
        task or Towers(), data or PointsData(40, 8), max_steps=arguments.pop("max_steps", 20), limit_val_batches=0,
        **{"precision": "16-mixed", **arguments},
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole():
    """20 updates in float16."""
    return run()


@pytest.mark.parametrize("pair", [False, True], ids=["one optimizer", "two"])
@pytest.mark.parametrize("precision", ["16-mixed", "bf16-mixed"])
def test_both_precisions_train_one_optimizer_and_two(precision, pair, whole):
    trial = whole if (precision, pair) == ("16-mixed", True) else run(Towers(pair), precision=precision)
    reduced = {"16-mixed": "float16", "bf16-mixed": "bfloat16"}[precision]
    dense = trial.task.first.layers[0]
    assert dense.compute_dtype == reduced and dense.kernel.dtype == "float32"
    for name in ("first_loss", "second_loss"):
        assert trial.epochs[name][-1] < 0.6 * trial.epochs[name][0]
    assert len(trial.task.optimizers.loss_scales) == (0 if precision == "bf16-mixed" else 1 + pair)


CUTS = {
    "2 replicas": {"devices": 2},
    "4 micro-batches": {"micro_batches": 4},
    "xla": {"jit_compile": True},
    "2 replicas, 2 micro-batches": {
        "devices": 2,
        "micro_batches": 2,
        "steps_per_execution": 5,
        "log_every_n_steps": 20,
    },
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_one_run_however_it_is_cut_to_the_rounding_of_float16(cut, whole):
    """2^-11 is the rounding of one number; Adam's quotient of small gradients makes it a few times more."""
    trial = run(**cut)
    for name in ("first_loss", "second_loss"):
        assert 0 < difference(trial.epochs[name], whole.epochs[name]) < 2e-3 or "jit_compile" in cut
        assert difference(trial.epochs[name], whole.epochs[name]) < 2e-3
    scaling = trial.task.optimizers.loss_scaling()
    assert scaling == whole.task.optimizers.loss_scaling() and trial.task.optimizers.update_counts() == {
        "first": 20,
        "second": 20,
    }


def unscaled(data, **files) -> str:
    """The folder of a run in float32."""
    return str(run(data=data, precision="32", max_steps=1, **files).trainer.run_dir)


def test_a_resumed_run_goes_on_with_its_scales_to_the_bit(root, monkeypatch):
    monkeypatch.setattr(loss_scale, "GROWTH", 4)
    files = {"logger": True, "enable_checkpointing": True, "default_root_dir": root, "log_every_n_steps": 3}
    data = lambda: Spiked({"9": 1e9})  # the second batch of an epoch  # noqa: E731
    uninterrupted = run(data=data(), max_steps=12, **files)
    scaling = uninterrupted.task.optimizers.loss_scaling()
    assert scaling["first_skipped_updates"] > 0 and scaling["first_loss_scale"] != 2.0**15
    run(data=data(), max_steps=8, **files)
    resumed = run(data=data(), max_steps=12, ckpt_path="last", **files)
    assert resumed.state.keys() == uninterrupted.state.keys() >= {"loss_scale/first/scale"}
    for name, value in uninterrupted.state.items():
        np.testing.assert_array_equal(resumed.state[name], value, err_msg=name)
    assert resumed.epochs == uninterrupted.epochs
    with pytest.raises(lk.CheckpointError, match=r"metrics: first_loss, .*gradient_norm\. Received: sums of 2 metrics"):
        run(data=data(), max_steps=13, ckpt_path="last", log_gradient_norm=True, **files)
    with pytest.raises(lk.CheckpointError, match=r"loss_scale/first/scale: expected \(\), received"):
        run(data=data(), max_steps=13, ckpt_path=unscaled(data(), **files), **files)


def test_what_float16_does_is_in_the_logs():
    recorder = Recorder()
    run(data=Spiked({"9": 1e9}), max_steps=5, callbacks=[recorder], log_gradient_norm=True)
    columns = {name: [record.get(name) for record in recorder.logs] for name in recorder.logs[-1]}
    assert columns["first_skipped_updates"] == columns["second_skipped_updates"] == [0, 1, 1, 1, 1]
    assert columns["first_loss_scale"] == [2.0**15, 2.0**14, 2.0**14, 2.0**14, 2.0**14]
    assert columns["first_updates"] == [None, 1, 2, 3, 4]  # where it is not the number of steps
    nan = [False, True, False, False, False]
    assert np.isnan(columns["first_gradient_norm"]).tolist() == np.isnan(columns["second_loss"]).tolist() == nan


def test_a_loss_beyond_float16_in_a_skipped_update_ends_no_run():
    """The input itself is beyond float16: loss and gradients are NaN, and count for nothing."""
    trial = run(data=Spiked({"9": 1e9}), max_steps=10)
    assert trial.task.optimizers.update_counts() == {"first": 8, "second": 8}
    assert np.isnan(trial.records[1]["first_loss"]) and np.isfinite(trial.epochs["first_loss"]).all()
    assert all(np.isfinite(value).all() for value in trial.state.values())


def test_a_run_that_float16_cannot_hold_is_ended():
    """Every batch overflows: after the update that a scale of 1 did not save, not before."""
    with pytest.raises(
        lk.NonFiniteLossError, match=r"a loss scale of 1.*first, second.*until 16, all skipped.*bf16-mixed"
    ):
        run(data=Spiked(dict.fromkeys(map(str, range(40)), 1e9)), max_steps=30)


def test_layers_of_another_precision_are_seen():
    """A task whose own layers compute in float16 is scaled, whatever the Trainer's precision."""
    trial = run(Towers(dtype="mixed_float16"), precision="32", max_steps=1)
    assert sorted(trial.task.optimizers.loss_scales) == ["first", "second"]


def test_a_loss_scale_of_the_users_own_is_refused():
    class Scaled(Towers):
        def configure_optimizers(self):
            return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())

    with pytest.raises(ValueError, match=r'without a loss scale: Trainer\(precision="16-mixed"\) scales the loss'):
        run(Scaled(pair=False))
