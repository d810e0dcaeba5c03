"""A correct task passes every check; a task broken in any way is caught by the right check, with the cause."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.toys import Classifier

import lightkeras as lk
from lightkeras.verifier import check, checks
from lightkeras.verifier.comparison import difference, metrics_difference
from lightkeras.verifier.datasets import Padded, first_examples


class Points(lk.DataModule):
    """Points in 4 dimensions, of two classes; the splits share `shared` of them."""

    def __init__(self, shared: int = 0, repeated_numbers: bool = False, size: int = 30):
        numbers = np.random.default_rng(0)
        self.x = numbers.normal(size=(60, 4)).astype(np.float32)
        self.y = (self.x.sum(axis=1) > 0).astype(np.int32)
        self.number = np.arange(60) % (30 if repeated_numbers else 60)
        self.shared, self.size = shared, size

    def _part(self, begin, end):
        rows = slice(begin, end)
        arrays = {"x": self.x[rows], "y": self.y[rows], "number": self.number[rows]}
        return lk.AddressedDataset.from_arrays(arrays, 8)

    def train_dataset(self):
        return self._part(0, self.size)

    def val_dataset(self):
        return self._part(30 - self.shared, 50)

    def test_dataset(self):
        return self._part(50, 60)


class Correct(Classifier):
    """The correct task that the broken ones derive from: `logits` (batch, 2) and `nats` of every row (batch,)."""

    data_module = Points

    def __init__(self, units: int = 5):
        super().__init__(units)

    def configure_model(self, data):
        self.network = keras.layers.Dense(2)

    def logits(self, batch, training):
        return self.network(batch["x"], training=training)

    def nats(self, batch, training):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(batch["y"], self.logits(batch, training))

    def losses_of(self, batch, training):
        return tf.reduce_sum(self.nats(batch, training) * batch["weight"]), tf.reduce_sum(batch["weight"])


class WithLayer(Correct):
    """Has another layer in the middle: `layer()` of the class."""

    def configure_model(self, data):
        self.network = keras.Sequential([keras.layers.Dense(8, "tanh"), self.layer(), keras.layers.Dense(2)])

    def layer(self):
        return keras.layers.Dropout(0.4)


def test_a_correct_task_passes_every_check():
    task, data = WithLayer(), Points()
    report = check(task, data)
    assert report.passed and not report.failures, str(report)
    assert [result.name for result in report.results] == list(checks.CHECKS)
    assert {result.status for result in report.results} == {"PASS"}, str(report)
    assert all(result.measured <= result.allowed and not result.note for result in report.results)
    assert not task.built and data.train_dataset().size == 30  # the two given stay as they were
    for name, (claim, *_) in checks.CHECKS.items():
        assert name in str(report) and claim in " ".join(str(report).split())


class MeanOfTheBatch(Correct):
    """As in `keras.losses`: a mean over the rows, padding included."""

    def losses_of(self, batch, training):
        return tf.reduce_mean(self.nats(batch, training)), tf.constant(1.0)


class MeanByWeight(Correct):
    """A mean over the rows with weight: micro-batches of unequal weight count the same."""

    def losses_of(self, batch, training):
        weight = batch["weight"]
        return tf.reduce_sum(self.nats(batch, training) * weight) / tf.reduce_sum(weight), tf.constant(1.0)


class MeanAndWeight(Correct):
    """Divided twice."""

    def losses_of(self, batch, training):
        weight = batch["weight"]
        return tf.reduce_mean(self.nats(batch, training) * weight), tf.reduce_sum(weight)


class WeightIgnored(Correct):
    def losses_of(self, batch, training):
        nats = self.nats(batch, training)
        return tf.reduce_sum(nats), tf.cast(tf.size(nats), tf.float32)


class WeightIgnoredInEvaluation(Correct):
    def losses_of(self, batch, training):
        if training:
            return super().losses_of(batch, training)
        nats = self.nats(batch, training)
        return tf.reduce_sum(nats), tf.cast(tf.size(nats), tf.float32)


class RowsCompared(Correct):
    """Scaled by the largest input of the batch."""

    def logits(self, batch, training):
        return self.network(batch["x"] / tf.reduce_max(batch["x"]), training=training)


class NumPyChance(Correct):
    def nats(self, batch, training):
        return super().nats(batch, training) * np.random.uniform(0.5, 1.5)  # noqa: NPY002  (that is what is wrong)


class LayersInInit(Correct):
    def __init__(self, units: int = 5):
        super().__init__(units)
        self.network = keras.Sequential([keras.layers.Dense(5), keras.layers.Dense(2)])

    def configure_model(self, data):
        pass


class CapturedValue(Correct):
    """`global_step` is a Python value: the compiled step keeps its value at the trace."""

    def nats(self, batch, training):
        return super().nats(batch, training) / (1 + self.global_step)


class CountsEvaluations(Correct):
    def configure_model(self, data):
        super().configure_model(data)
        self.seen = self.add_weight(name="seen", initializer="zeros", trainable=False)

    def test_step(self, batch):
        self.seen.assign_add(1.0)
        return super().test_step(batch)


class TracedEachEpoch(Correct):
    """A Python value that changes, and a new trace so that the step sees it."""

    def begin_epoch(self, epoch):
        super().begin_epoch(epoch)
        self.factor = 1.0 + epoch
        self.make_train_function(force=True)

    def nats(self, batch, training):
        return super().nats(batch, training) * getattr(self, "factor", 1.0)


class Untracked(Correct):
    """A `tf.Variable` of the task is no Keras variable, so it is in no checkpoint."""

    def configure_model(self, data):
        super().configure_model(data)
        self.factor = tf.Variable(1.0)

    def train_step(self, batch):
        self.factor.assign_add(0.5)
        return super().train_step(batch)

    def nats(self, batch, training):
        return super().nats(batch, training) * self.factor


class ClipsItself(Correct):
    """Clips the gradient of its part of the batch, before the sum over all parts."""

    def logits(self, batch, training):
        @tf.custom_gradient
        def clipped(values):
            return values, lambda gradient: tf.clip_by_norm(gradient, 0.01)

        return clipped(super().logits(batch, training))


class AppliesItself(Correct):
    def train_step(self, batch):
        if self._building:
            return super().train_step(batch)
        with tf.GradientTape() as tape:
            total, weight = self.losses_of(batch, training=True)
            mean = total / weight
        gradients = tape.gradient(mean, [v.value for v in self.trainable_variables])
        self.optimizers["loss"].apply(tf.clip_by_global_norm(gradients, 0.1)[0])
        return {"loss": lk.metrics.WeightedMean(total, weight)}


class NoGradient(Correct):
    def nats(self, batch, training):
        nats = super().nats(batch, training)
        return tf.stop_gradient(nats) + 0.0 * nats


class NotEager(Correct):
    def nats(self, batch, training):
        if tf.executing_eagerly():
            raise RuntimeError("this needs a graph")
        return super().nats(batch, training)


BROKEN = [
    (MeanOfTheBatch, "padding", "padding rows enter the loss: multiply by batch['weight']"),
    (MeanByWeight, "micro_batches", "a short batch differs: the loss is a mean. Return (sum, weight)"),
    (MeanByWeight, "replicas", "a short batch differs: the loss is a mean. Return (sum, weight)"),
    (MeanAndWeight, "micro_batches", "half or twice the loss: of (sum, weight), one is a mean"),
    (WeightIgnored, "padding", "padding rows enter the loss: multiply by batch['weight']"),
    (WeightIgnoredInEvaluation, "padding", "Seen in a validation"),
    (RowsCompared, "micro_batches", "the loss of a row depends on the other rows of its batch"),
    (NumPyChance, "same_seed", "a number drawn outside Keras' seed generators (np.random"),
    (NumPyChance, "eager", "keeps the value that Python had at the trace (self.global_step, np.random"),
    (LayersInInit, "same_seed", "layers made in __init__ instead of configure_model()"),
    (CapturedValue, "eager", "keeps the value that Python had at the trace (self.global_step"),
    (CountsEvaluations, "evaluation", "/seen: give layers training=False, assign nothing"),
    (TracedEachEpoch, "retrace", "train_step is traced again: a Python value that changes"),
    (Untracked, "resume", "something that training changes is in no checkpoint (untracked"),
    (ClipsItself, "micro_batches", "the losses agree, the update does not: gradients are changed before they are"),
    (AppliesItself, "replicas", "let `minimize` apply"),
    (NoGradient, "overfit", "60 updates on one batch leave 100% of loss: no gradient arrives (stop_gradient"),
    (NotEager, "eager", "RuntimeError: this needs a graph"),
]


@pytest.mark.parametrize("broken", dict.fromkeys(broken for broken, _, _ in BROKEN))
def test_a_broken_task_is_caught_with_its_cause(broken):
    causes = {name: cause for task, name, cause in BROKEN if task is broken}
    report = check(broken(), Points(), only=list(causes))
    assert not report.passed
    for name, cause in causes.items():
        assert report[name].status == "FAIL" and cause in report[name].note, str(report)


def test_splits_that_share_examples_are_caught():
    result = check(Correct(), Points(shared=3), only=["splits"])["splits"]
    assert (result.status, result.measured, result.allowed) == ("FAIL", 3, 0)
    assert result.note.startswith("the splits share examples: 3 in train and val.")


class RandomSplit(Points):
    """Splits at random in every `setup`, by NumPy's global generator or by one without a seed."""

    def __init__(self, seedable: bool):
        super().__init__()
        self.seedable = seedable

    def setup(self, stage):
        drawn = np.random.permutation(60) if self.seedable else np.random.default_rng().permutation(60)  # noqa: NPY002
        self.x, self.y, self.number = self.x[drawn], self.y[drawn], self.number[drawn]

    def test_dataset(self):
        return None


def test_splits_drawn_without_a_seed_are_caught():
    assert check(Correct(), RandomSplit(True), only=["splits"]).passed
    result = check(Correct(), RandomSplit(False), only=["splits"])["splits"]
    assert result.status == "FAIL" and result.note.startswith("another train and val split each time")


def test_splits_that_share_a_group_are_caught():
    task, data = Correct(), Points(repeated_numbers=True)
    assert check(task, data, only=["splits"]).passed
    result = check(task, data, only=["splits"], group="number")["splits"]
    assert (result.status, result.measured) == ("FAIL", 30)  # 30 to 59 are 0 to 29: 20 in val, 10 in test
    assert "share values of 'number': 20 in train and val, 10 in train and test." in result.note


class RecurrentDropout(WithLayer):
    """Keras' cells draw a mask even if it is not used."""

    def layer(self):
        layer = keras.layers.SimpleRNN(2, dropout=0.3, recurrent_dropout=0.2, unroll=True)
        return keras.Sequential([keras.layers.Reshape((2, 4)), layer])


def test_recurrent_dropout_is_disabled_and_found_to_draw_in_evaluation():
    report = check(RecurrentDropout(), Points(), only=["micro_batches", "evaluation"])
    assert report["micro_batches"].status == "PASS"
    assert report["evaluation"].status == "FAIL" and "draws from " in report["evaluation"].note


class Shaken(keras.layers.Layer):
    """Random, without a rate that could be set to 0."""

    def __init__(self):
        super().__init__(name="shaken")
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        return x + keras.random.normal(tf.shape(x), seed=self.seed_generator) if training else x


class Random(WithLayer):
    def layer(self):
        return Shaken()


class Normalised(WithLayer):
    def layer(self):
        return keras.layers.BatchNormalization(name="norm")


def test_a_check_that_cannot_compare_is_skipped_with_the_reason():
    report = check(Random(), Points(), only=["micro_batches", "replicas", "xla", "padding", "eager"])
    assert {name: report[name].status for name in ("micro_batches", "replicas", "xla", "padding", "eager")} == {
        "micro_batches": "SKIP", "replicas": "SKIP", "xla": "SKIP", "padding": "SKIP", "eager": "PASS",
    }  # fmt: skip
    assert report["padding"].note == "not comparable: random layer shaken" and report.passed


def test_notes_about_batch_norm():
    report = check(Normalised(), Points(), only=["micro_batches", "replicas", "padding"])
    assert report["micro_batches"].status == "SKIP" and "norm takes its statistics" in report["micro_batches"].note
    assert "BatchNormalization(synchronized=True) in norm" in report["replicas"].note
    assert "padding enters the statistics of norm (give it a mask)" in report["padding"].note


def test_one_device_is_skipped(monkeypatch):
    monkeypatch.setattr(checks, "two_device_arguments", dict)
    result = check(Correct(), Points(), only=["replicas"])["replicas"]
    assert result.status == "SKIP" and 'accelerator="cpu"' in result.note


class NoEvaluation(lk.TaskModule):
    def configure_model(self, data):
        self.network = keras.layers.Dense(2)

    def configure_optimizers(self):
        return keras.optimizers.SGD(0.1)

    def train_step(self, batch):
        return self.minimize(self.losses, batch)

    def losses(self, batch, training):
        weight = batch["weight"]
        return tf.reduce_sum(tf.square(self.network(batch["x"])) * weight[:, None]), tf.reduce_sum(weight)


def test_a_task_without_evaluation_skips_its_check():
    report = check(NoEvaluation(), Points(), only=["evaluation", "resume"])
    assert [result.status for result in report.results] == ["SKIP", "PASS"]


class Rounding(Correct):
    """Every copy rounds a little differently, as sums do whose order is not fixed."""

    copies = 0

    def configure_model(self, data):
        super().configure_model(data)
        Rounding.copies += 1
        self.noise = 1 + 2e-5 * Rounding.copies

    def nats(self, batch, training):
        return super().nats(batch, training) * self.noise


def test_a_resumed_run_that_differs_as_any_two_runs_do_is_no_false_alarm():
    report = check(Rounding(), Points(), only=["same_seed", "resume"])
    same_seed, resume = report.results
    assert same_seed.status == "FAIL" and 1e-6 < same_seed.measured < 1e-3
    assert "an operation that adds up in any order" in same_seed.note
    assert resume.status == "SKIP" and "two runs from the start differ too" in resume.note


def test_deterministic_operations_require_equality_to_the_bit():
    result = check(WithLayer(), Points(), only=["same_seed"], deterministic=True)["same_seed"]
    assert (result.status, result.measured, result.allowed) == ("PASS", 0.0, 0.0)


class Unbuildable(Correct):
    def configure_model(self, data):
        raise RuntimeError("no such thing")


def test_a_task_that_cannot_be_trained_raises_its_error():
    with pytest.raises(RuntimeError, match="no such thing"):
        check(Unbuildable(), Points())


def test_bad_arguments_are_rejected():
    with pytest.raises(ValueError, match="Expected `only` to be one of 'same_seed', 'replicas'"):
        check(Correct(), Points(), only=["paddings"])
    with pytest.raises(ValueError, match=r"Expected `train_dataset` to be of 5 examples or more. Received: .*=4"):
        check(Correct(), Points(size=4))
    with pytest.raises(TypeError, match="Expected `task` to be a TaskModule"):
        check(Points(), Correct())


@pytest.mark.parametrize(
    ("size", "batch_size", "expected"),
    [(3, 7, (3, 2)), (5, 64, (5, 2)), (20, 64, (16, 6)), (99, 1, (5, 2)), (99, 7, (16, 6)), (99, 64, (21, 8))],
)
def test_few_examples_end_in_a_short_batch(size, batch_size, expected):
    few = first_examples(lk.AddressedDataset.from_arrays({"x": np.zeros(size)}, batch_size))
    assert (few.size, few.batch_size) == expected and few.size % few.batch_size


def test_more_padding_has_the_content_of_other_rows():
    data = lk.AddressedDataset.from_arrays({"x": np.arange(1, 6), "s": np.array(list("abcde"))}, 3, shuffle=False)
    whole, short = Padded(data, 2).stream(epochs=1).as_numpy_iterator()
    assert whole["x"].tolist() == [1, 2, 3, 2, 1] and whole["weight"].tolist() == [1, 1, 1, 0, 0]
    assert short["x"].tolist() == [4, 5, 1, 5, 4] and short["weight"].tolist() == [1, 1, 0, 0, 0]
    assert short["s"].tolist() == [b"d", b"e", b"a", b"e", b"d"]


def test_difference_agrees_with_allclose():
    assert difference([1.0, 2.0], [1.0, 2.5]) == 0.2
    assert difference([1.0], [0.0]) == np.inf and difference([1.0], [0.0], floor=0.5) == 2.0
    assert difference([1e-9, 0.5], [0.0, 0.5], floor=None) == pytest.approx(2e-9)  # a zero but for rounding
    assert difference([1, 10**9], [0, 10**9], floor=None) == np.inf  # the state of a seed generator
    assert difference([0.0, np.nan, np.inf], [0.0, np.nan, np.inf]) == 0.0
    assert difference([np.nan], [1.0]) == np.inf and difference([1.0], [1.0, 2.0]) == np.inf
    assert metrics_difference([{"a": 1.0, "b": 3.0}], [{"b": 2.0, "a": 1.0}]) == [0.5]
    assert metrics_difference([], [{"a": 1.0}]) == [np.inf]
