"""One update against gradients by hand; and the planning of many updates in one call."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small import Small, gradients, in_order, linear, made, points, squares, updated, weights

import lightkeras as lk
from lightkeras.distribution.strategies import make_strategy
from lightkeras.training.logs import MetricSums
from lightkeras.training.loop import StepsPerCall
from lightkeras.training.optimizers import NamedOptimizers, UpdateSettings
from lightkeras.training.step import pack

KERNEL = np.array([0.1, 0.2, 0.3], np.float32)
CUTS = {
    "whole": {},
    "4 micro-batches": {"micro_batches": 4},
    "2 replicas": {"devices": 2},
    "2 replicas, 2 micro-batches": {"devices": 2, "micro_batches": 2},
}
every_cut = pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)


def gradient_by_hand(arrays):
    """Of half the mean squared error of x @ KERNEL, weighted by tokens: (3,)."""
    error = arrays["x"] @ KERNEL - arrays["y"]
    return (arrays["tokens"] * error) @ arrays["x"] / arrays["tokens"].sum()


# ---- the gradient


@every_cut
@pytest.mark.parametrize("run_eagerly", [False, True], ids=["graph", "eager"])
def test_the_gradient_is_that_of_the_weighted_mean_over_everything(cut, run_eagerly):
    arrays = points()
    assert len({part.sum() for part in np.split(arrays["tokens"], 4)}) > 2  # uneven: a mean of means is another
    task = made(Small(linear(), squares), in_order(arrays), **cut)
    logs = updated(task, in_order(arrays), run_eagerly=run_eagerly)
    np.testing.assert_allclose(weights(task)[0][:, 0], KERNEL - gradient_by_hand(arrays), rtol=1e-5)
    error = arrays["x"] @ KERNEL - arrays["y"]
    assert logs["loss"] == pytest.approx(np.average(error**2 / 2, weights=arrays["tokens"]), rel=1e-5)


def test_rows_of_padding_count_for_nothing():
    arrays = points(5)
    padded = lk.AddressedDataset.from_arrays(arrays, 8, shuffle=False)
    task = made(Small(linear(), squares), padded, micro_batches=2)
    updated(task, padded)
    np.testing.assert_allclose(weights(task)[0][:, 0], KERNEL - gradient_by_hand(arrays), rtol=1e-5)


def test_a_batch_without_weight_changes_nothing():
    arrays = {**points(), "tokens": np.zeros(8, np.float32)}
    task = made(Small(linear(), squares), in_order(arrays))
    logs = updated(task, in_order(arrays))
    np.testing.assert_array_equal(weights(task)[0][:, 0], KERNEL)
    assert np.isnan(logs["loss"])


# ---- clipping


@pytest.mark.parametrize(
    ("value", "algorithm", "expected"),
    [
        (None, "norm", ([3.0, -4.0], [[12.0]])),
        (6.5, "norm", ([1.5, -2.0], [[6.0]])),
        (14.0, "norm", ([3.0, -4.0], [[12.0]])),
        (3.5, "value", ([3.0, -3.5], [[3.5]])),
        (2.5, "norm_per_variable", ([1.5, -2.0], [[2.5]])),
    ],
)
def test_clip_by_numbers(value, algorithm, expected):
    """Gradients of global norm 13, from sums over a weight of 2."""
    settings = UpdateSettings(gradient_clip_val=value, gradient_clip_algorithm=algorithm)
    variables = [keras.Variable(np.zeros(2, np.float32)), keras.Variable(np.zeros((1, 1), np.float32))]
    optimizers = NamedOptimizers(keras.optimizers.SGD(1.0), lambda name: variables, settings)
    optimizers.build()
    optimizers.update("loss", [tf.constant([6.0, -8.0]), tf.constant([[24.0]])], tf.constant(2.0))
    for variable, change in zip(variables, expected, strict=True):
        np.testing.assert_allclose(-variable.numpy(), change, rtol=1e-6)


CLIPS = {
    "by the Trainer, norm": ({"gradient_clip_val": 0.25}, {}),
    "by the Trainer, value": ({"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"}, {}),
    "by the optimizer, global norm": ({}, {"global_clipnorm": 0.25}),
    "by the optimizer, norm": ({}, {"clipnorm": 0.25}),
    "by the optimizer, value": ({}, {"clipvalue": 0.1}),
}


@pytest.mark.parametrize("cut", [CUTS["whole"], CUTS["2 replicas, 2 micro-batches"]], ids=["whole", "cut"])
@pytest.mark.parametrize("settings, arguments", CLIPS.values(), ids=CLIPS)
def test_clipping_comes_after_the_reduction(cut, settings, arguments):
    """Keras alone clips each replica's gradient, and then sums: here its own clipping comes after, too."""
    arrays = points()
    task = Small(linear(), squares, lambda: keras.optimizers.SGD(1.0, **arguments))
    updated(made(task, in_order(arrays), **cut, **settings), in_order(arrays))
    gradient = gradient_by_hand(arrays)
    assert np.linalg.norm(gradient) > 0.5 and np.abs(gradient).min() > 0.1
    by_norm = "clipvalue" not in arguments and "gradient_clip_algorithm" not in settings
    clipped = 0.25 * gradient / np.linalg.norm(gradient) if by_norm else 0.1 * np.sign(gradient)
    np.testing.assert_allclose(weights(task)[0][:, 0], KERNEL - clipped, rtol=1e-5)


def test_the_norm_of_an_embedding_counts_an_id_seen_twice_as_one_row():
    """As IndexedSlices its gradient has a row for each time: norm sqrt(1 + 1 + 1), not sqrt(4 + 1)."""

    def layers():
        return {"network": keras.layers.Embedding(4, 1, embeddings_initializer="zeros")}

    def total(task, batch, training):
        return tf.reduce_sum(task.network(batch["ids"])), tf.constant(1.0)

    data = in_order({"ids": np.array([2, 2, 0])})
    task = made(Small(layers, total), data)
    assert isinstance(gradients(task, task.losses_of, {"ids": tf.constant([2])})[0]["loss"][0], tf.Tensor)
    updated(task, data)
    np.testing.assert_allclose(weights(task)[0][:, 0], [-1, 0, -2, 0])
    clipped = made(Small(layers, total), data, gradient_clip_val=1.0)
    updated(clipped, data)
    np.testing.assert_allclose(weights(clipped)[0][:, 0], np.array([-1, 0, -2, 0]) / np.sqrt(5), rtol=1e-6)


# ---- regularizers, and losses inside layers


@every_cut
def test_weight_regularizers_count_as_in_keras(cut):
    arrays = {**points(), "tokens": np.ones(8, np.float32)}
    task = Small(linear(kernel_regularizer=keras.regularizers.L2(0.5)), squares)
    made(task, in_order(arrays), **cut)
    ours = updated(task, in_order(arrays))["loss"]
    plain = keras.Sequential(linear(kernel_regularizer=keras.regularizers.L2(0.5))().values())
    plain.compile(keras.optimizers.SGD(1.0), loss=lambda y, made: tf.square(made[:, 0] - y[:, 0]) / 2)
    theirs = plain.train_on_batch(arrays["x"], arrays["y"][:, None])
    assert ours == pytest.approx(float(theirs), rel=1e-5)
    np.testing.assert_allclose(weights(task)[0], plain.get_weights()[0], rtol=1e-5)


# ---- several optimizers


def two_layers():
    ones = {"kernel_initializer": "ones", "use_bias": False}
    return {"first": keras.layers.Dense(1, **ones), "second": keras.layers.Dense(1, **ones), "frozen": Frozen()}


class Frozen(keras.layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return x * self.kernel


def two_optimizers():
    return {"first": keras.optimizers.SGD(1.0), "second": keras.optimizers.SGD(0.5)}


def product(task, batch):
    return tf.reduce_sum(task.frozen(task.second(task.first(batch["x"]))))


def test_one_forward_pass_for_two_optimizers():
    """Both gradients are of the weights before the update."""

    def losses(task, batch, training):
        total = product(task, batch)
        return {"first_loss": (total, 2.0), "second_loss": (2 * total, 2.0), "seen": (total, 1.0)}

    data = in_order({"x": np.array([[1.0], [3.0]], np.float32)})
    task = made(Small(two_layers, losses, two_optimizers), data)
    logs = updated(task, data)
    assert dict(logs) == {"first_loss": 2.0, "second_loss": 4.0, "seen": 4.0}
    assert [kernel.item() for kernel in weights(task)] == [1 - 2, 1 - 0.5 * 4, 1]


@every_cut
def test_alternating_updates_see_each_other(cut):
    """The second loss is of the weights that the first update left; each trains its own alone."""

    def losses(task, batch, training, name="first"):
        return {f"{name}_loss": (product(task, batch), tf.reduce_sum(batch["weight"]))}

    def train(task, batch):
        def second(batch, training):
            return losses(task, batch, training, "second")

        return {**task.minimize(task.losses_of, batch), **task.minimize(second, batch)}

    data = in_order({"x": np.array([[1.0], [3.0], [0.0], [0.0]], np.float32)})
    if cut == CUTS["4 micro-batches"]:
        cut = {"micro_batches": 2}
    task = made(Small(two_layers, losses, two_optimizers, train), data, **cut)
    logs = updated(task, data)
    assert dict(logs) == {"first_loss": 1.0, "second_loss": 0.0}
    assert [kernel.item() for kernel in weights(task)] == [0, 1, 1]


class Planes(keras.layers.Layer):
    """(rows, 3) -> (rows,) by two variables, a vector and a number: their gradients are the inputs."""

    def build(self, shape):
        self.vector = self.add_weight(shape=(2,), initializer="zeros", name="vector")
        self.number = self.add_weight(shape=(), initializer="zeros", name="number")

    def call(self, x):
        return tf.linalg.matvec(x[:, :2], self.vector) + self.number * x[:, 2]


def planes(optimizer=lambda: keras.optimizers.SGD(1.0), second=None, train=None):
    """A task with the mean gradients (3, 4), 12 of optimizer "first", of norm 13; twice that of "second"."""

    def losses(task, batch, training):
        weight = tf.reduce_sum(batch["weight"])
        sums = {name: tf.reduce_sum(getattr(task, name)(batch["x"])) for name in ("first", "second")}
        return {"first_loss": (sums["first"], weight), "second_loss": (2 * sums["second"], weight)}

    layers = lambda: {"first": Planes(), "second": Planes()}  # noqa: E731
    return Small(layers, losses, lambda: {"first": optimizer(), "second": (second or optimizer)()}, train)


PLANES = {"x": np.array([[9, 0, 20], [-3, 8, 4]], np.float32)}  # norms of the rows: not 13
CLIPPED = {  # at 6.5, by hand
    "norm": ([1.5, 2.0], 6.0, [1.5, 2.0], 6.0),
    "norm_per_variable": ([3.0, 4.0], 6.5, [3.9, 5.2], 6.5),
    "value": ([3.0, 4.0], 6.5, [6.0, 6.5], 6.5),
}
OF_KERAS = {"norm": "global_clipnorm", "norm_per_variable": "clipnorm", "value": "clipvalue"}
pair_cuts = pytest.mark.parametrize("cut", [{}, {"devices": 2}, {"micro_batches": 2}], ids=str)


@pair_cuts
@pytest.mark.parametrize("by", ["Trainer", "optimizer"])
@pytest.mark.parametrize("algorithm", CLIPPED)
def test_each_of_two_optimizers_clips_its_own_reduced_gradients(algorithm, by, cut):
    if by == "Trainer":
        task, settings = planes(), {"gradient_clip_val": 6.5, "gradient_clip_algorithm": algorithm}
    else:
        task, settings = planes(lambda: keras.optimizers.SGD(1.0, **{OF_KERAS[algorithm]: 6.5})), {}
    updated(made(task, in_order(PLANES), **settings, **cut), in_order(PLANES))
    for weight, clipped in zip(weights(task), CLIPPED[algorithm], strict=True):
        np.testing.assert_allclose(weight, -np.array(clipped), rtol=1e-6)


@pair_cuts
def test_gradient_norms_are_of_what_is_reduced_and_not_clipped(cut):
    task = made(planes(), in_order(PLANES), gradient_clip_val=0.1, log_gradient_norm=True, **cut)
    logs = updated(task, in_order(PLANES), 3)
    norms = {"first_gradient_norm": pytest.approx(13, rel=1e-6), "second_gradient_norm": pytest.approx(26, rel=1e-6)}
    assert {name: logs[name] for name in logs if "norm" in name} == norms
    assert task.train_sums.values[-1, 1] == 3  # each update once, however many replicas and micro-batches


def test_a_gradient_norm_of_one_optimizer_needs_no_prefix():
    arrays = points()
    task = made(Small(linear(), squares), in_order(arrays), log_gradient_norm=True)
    logs = updated(task, in_order(arrays))
    assert list(logs) == ["loss", "gradient_norm"]
    assert logs["gradient_norm"] == pytest.approx(np.linalg.norm(gradient_by_hand(arrays)), rel=1e-5)


def test_each_schedule_follows_the_updates_of_its_own_optimizer():
    """The first makes two updates in a step; its rate halves with each, the second's becomes a tenth."""
    decay = keras.optimizers.schedules.ExponentialDecay
    optimizers = [lambda rate=rate: keras.optimizers.SGD(decay(1.0, 1, rate)) for rate in (0.5, 0.1)]

    def train(task, batch):
        of_first = lambda batch, training: {"first_loss": task.losses_of(batch, training)["first_loss"]}  # noqa: E731
        task.minimize(of_first, batch)
        return task.minimize(task.losses_of, batch)

    task = made(planes(*optimizers, train), in_order(PLANES))
    updated(task, in_order(PLANES), 2)
    assert task.optimizers.update_counts() == {"first": 4, "second": 2}
    assert task.optimizers.learning_rates() == pytest.approx(
        {"first_learning_rate": 1 / 16, "second_learning_rate": 0.01}
    )
    vector, number, second, _ = weights(task)
    np.testing.assert_allclose(number, -12 * (1 + 1 / 2 + 1 / 4 + 1 / 8), rtol=1e-6)
    np.testing.assert_allclose(vector, -np.array([3, 4]) * 1.875, rtol=1e-6)
    np.testing.assert_allclose(second, -np.array([6, 8]) * 1.1, rtol=1e-6)


# ---- errors


@pytest.mark.parametrize(
    "returned, error, message",
    [
        (lambda t: t, TypeError, r"values per example .*, or \(sum, weight\), or a dict .*loss=a scalar of float32"),
        (lambda t: {"loss": t}, TypeError, r"Received: loss=a scalar of float32\. Return the values before"),
        (lambda t: (t, 1.0, 2.0), TypeError, r"Received: loss="),
        (lambda t: {"loss": (t, 1.0), "accuracy": 1.0}, TypeError, "Received: accuracy=1.0"),
        (lambda t: (tf.stack([t, t]), 1.0), ValueError, r"two scalars.*loss with shapes \(2,\) and \(\)"),
        (lambda t: (t, tf.ones(3)), ValueError, r"two scalars.*loss with shapes \(\) and \(3,\)"),
        (lambda t: {"los": (t, 1.0)}, ValueError, "a loss for every optimizer: loss.*optimizers loss; .*metrics los"),
        (lambda t: {"first_loss": (t, 1.0)}, ValueError, "a loss for every optimizer: loss.*metrics first_loss"),
    ],
)
def test_what_a_loss_function_may_not_return_is_refused_before_training(returned, error, message):
    def losses(task, batch, training):
        return returned(squares(task, batch, training)[0])

    with pytest.raises(error, match=message):
        made(Small(linear(), losses), in_order(points()))


def test_an_update_of_no_optimizer_is_refused():
    task = made(Small(linear(), squares), in_order(points()))
    with pytest.raises(ValueError, match=r"a loss for an optimizer: one of loss\. Received: other"):
        task.minimize(lambda batch, training: {"other": (tf.constant(1.0), 1.0)}, {})


def test_a_named_optimizer_without_a_loss_is_refused():
    task = Small(linear(), squares, lambda: {"network": keras.optimizers.SGD(), "other": keras.optimizers.SGD()})
    with pytest.raises(ValueError, match=r"optimizer: network_loss, other_loss\..*optimizers network, other; .* loss"):
        made(task, in_order(points()))


def with_unused():
    return {**linear()(), "unused": keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="lonely")])}


LONELY_CUTS = [{}, {"micro_batches": 2}, {"gradient_clip_val": 0.1}, {"devices": 2}, {"log_gradient_norm": True}]


@pytest.mark.parametrize("cut", LONELY_CUTS)
def test_variables_that_no_loss_reaches_are_named_once_and_stay(cut):
    data = in_order(points(), 4)
    plain = made(Small(linear(), squares, lambda: keras.optimizers.AdamW(0.1)), data, **cut)
    task = made(Small(with_unused, squares, lambda: keras.optimizers.AdamW(0.1)), data, **cut)
    before = weights(task)
    logs = updated(plain, data, 2)
    with pytest.warns(UserWarning, match=r"No loss depends on .*lonely/kernel, .*lonely/bias: they are not") as told:
        logs_too = updated(task, data, 2)
    assert len(told) == 1 and dict(logs) == dict(logs_too)
    np.testing.assert_array_equal(weights(task)[0], weights(plain)[0])
    for ours, theirs in zip(weights(task)[1:], before[1:], strict=True):
        np.testing.assert_array_equal(ours, theirs)  # no weight decay either, as in Keras


def test_a_variable_that_one_of_two_losses_reaches_is_not_named():
    def second(task, batch, training):
        return tf.reduce_sum(task.unused(batch["x"][:, :2]) * batch["weight"][:, None]), tf.reduce_sum(batch["weight"])

    def train(task, batch):
        first = task.minimize(task.losses_of, batch)
        task.minimize(lambda batch, training: second(task, batch, training), batch)
        return first

    task = made(Small(with_unused, squares, train=train), in_order(points()))
    before = weights(task)
    updated(task, in_order(points()))
    assert all((ours != theirs).any() for ours, theirs in zip(weights(task), before, strict=True))


def test_a_loss_that_reaches_nothing_is_refused():
    def stopped(task, batch, training):
        total, weight = squares(task, batch, training)
        return tf.stop_gradient(total), weight

    task = made(Small(linear(), stopped), in_order(points()))
    with pytest.raises(
        ValueError, match=r"loss of optimizer 'loss' to depend on its variables.*no gradient for .*kernel"
    ):
        updated(task, in_order(points()))


def test_an_optimizer_of_a_frozen_layer_is_refused():
    def layers():
        made = linear()()
        made["network"].trainable = False
        return made

    with pytest.raises(ValueError, match=r"Expected `optimizers\['loss'\]` to be of a layer with trainable variables"):
        made(Small(layers, squares), in_order(points()))


def test_an_optimizer_without_a_layer_of_its_name_is_refused():
    def losses(task, batch, training):
        return {"a_loss": squares(task, batch, training), "b_loss": squares(task, batch, training)}

    task = Small(linear(), losses, lambda: {"a": keras.optimizers.SGD(), "b": keras.optimizers.SGD()})
    with pytest.raises(ValueError, match=r"Expected Small to have a layer `self\.a`.*Received: optimizers a, b"):
        made(task, in_order(points()))


def test_micro_batches_are_traced_once():
    traces = []

    def counted(task, batch, training):
        traces.append(training)
        return squares(task, batch, training)

    task = made(Small(linear(), counted), in_order(points()), micro_batches=4)
    traces.clear()  # of the build
    updated(task, in_order(points()))
    assert traces == [True]


def test_micro_batches_that_do_not_divide_are_refused():
    task = made(Small(linear(), squares), in_order(points()), micro_batches=3)
    with pytest.raises(ValueError, match=r'multiple of micro_batches=3\. Received: "tokens" with shape \(8,\)'):
        updated(task, in_order(points()))


# ---- many updates in one call


@pytest.mark.filterwarnings("ignore:The entry")  # NaN is what it is about
def test_sums_of_many_steps_are_divided_once_and_the_first_bad_one_is_known():
    arrays = points(12)
    arrays["y"][7] = np.nan  # in batch 3
    arrays["tokens"] = np.arange(1, 13, dtype=np.float32)
    data = in_order(arrays, 2)
    task = made(Small(linear(), squares, lambda: keras.optimizers.SGD(0.0)), data)
    logs = updated(task, data, 3, steps_per_execution=2)
    error = (arrays["x"] @ KERNEL - arrays["y"])[:6]
    assert logs["loss"] == pytest.approx(np.average(error**2 / 2, weights=arrays["tokens"][:6]), rel=1e-5)
    assert task.train_sums.non_finite.numpy() == [-1]
    task.global_step = 0
    updated(task, data, 6, steps_per_execution=4)
    assert task.train_sums.non_finite.numpy() == [3] and task.global_step == 6


def test_sums_give_intervals_and_kinds():
    totals = MetricSums({"loss": lk.metrics.WeightedMean, "perplexity": lk.metrics.Perplexity})
    before, after = np.array([[2.0, 1.0], [0.0, 0.0]]), np.array([[8.0, 4.0], [0.0, 2.0]])
    assert totals.results(after - before) == {"loss": 2.0, "perplexity": 1.0}
    sums = {"loss": lk.metrics.WeightedMean(1.0, 2.0), "perplexity": lk.metrics.Perplexity(3.0, 4.0)}
    np.testing.assert_array_equal(pack(sums, ["perplexity", "loss"]), [[3, 4], [1, 2]])


def planned(calls: StepsPerCall, total: int, done: int = 0, before: int = 0) -> list[tuple[int, int]]:
    """(call, steps made by it) of an epoch; every step is made once."""
    calls.begin(total, done, before)
    plan = []
    for call in range(total):
        due = calls.due(call)
        calls.run(lambda count, call=call: plan.append((call, count)))
        assert calls.made(call) == due == (call in dict(plan))
    assert calls.done == total and sum(count for _, count in plan) == total - done
    return plan


def test_calls_of_many_steps():
    assert planned(StepsPerCall(1), 3) == [(0, 1), (1, 1), (2, 1)]
    assert planned(StepsPerCall(4), 10) == [(0, 4), (4, 4), (8, 2)]
    assert planned(StepsPerCall(100), 10) == [(0, 10)]


def test_a_resumed_epoch_begins_in_its_middle():
    assert planned(StepsPerCall(4), 10, done=5) == [(5, 4), (9, 1)]
    assert planned(StepsPerCall(4), 10, done=10) == []


def test_calls_end_at_stops_of_the_run_and_of_the_epoch():
    calls = StepsPerCall(8)
    calls.stops = (6,)
    assert planned(calls, 10) == [(0, 6), (6, 4)]
    assert planned(calls, 10, before=10) == [(0, 2), (2, 6), (8, 2)]  # 12 and 18 of all steps
    assert planned(calls, 10, done=3, before=10) == [(3, 5), (8, 2)]
    calls.epoch_stops = (5,)
    assert planned(calls, 10, before=10) == [(0, 2), (2, 3), (5, 3), (8, 2)]


def test_auto_fills_its_time_and_grows_at_most_eightfold(monkeypatch):
    seconds = {"a step": 2**-10, "now": 0.0}
    monkeypatch.setattr("lightkeras.training.loop.time.perf_counter", lambda: seconds["now"])
    calls, counts = StepsPerCall("auto"), []
    calls.begin(1000)

    def function(count):
        seconds["now"] += 5.0 if not counts else count * seconds["a step"]  # the first one compiles
        counts.append(count)

    for _ in range(1000):
        calls.run(function)
    assert counts[:5] == [1, 1, 8, 51, 51] and sum(counts) == 1000


def test_steps_of_one_call_equal_steps_of_many():
    arrays = points(16)
    states = []
    for many in (1, 3, 8):
        data = in_order(arrays, 2)
        task = made(Small(linear(), squares, lambda: keras.optimizers.Adam(0.1)), data)
        logs = updated(task, data, 8, steps_per_execution=many)
        states.append((weights(task)[0], logs["loss"]))
    for kernel, loss in states[1:]:
        np.testing.assert_allclose(kernel, states[0][0], rtol=1e-6)
        assert loss == pytest.approx(states[0][1], rel=1e-6)


def test_two_replicas_is_two_replicas():
    task = made(Small(linear(), squares), in_order(points()), devices=2)
    assert task.distribute_strategy is make_strategy(2) and task.distribute_strategy.num_replicas_in_sync == 2
