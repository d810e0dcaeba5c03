"""Addressed data: batch k of epoch e is a pure function of (seed, e, k), whoever reads it."""

import itertools
import time

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf
from helpers.toys import quiet, weights
from hypothesis import given, settings
from hypothesis import strategies as st

import lightkeras as lk
from lightkeras.data import addressing
from lightkeras.data import dataset as dataset_module
from lightkeras.data.addressing import ABSENT, Shard, number_rows, order_at, permutation
from lightkeras.data.batches import batch_spec
from lightkeras.data.bucketing import best_widths

SIZE, BATCH = 11, 4  # the last of three batches holds 3 examples and a row of padding


def from_arrays(tmp_path, **kwargs):
    return lk.AddressedDataset.from_arrays({"x": np.arange(SIZE) * 10}, BATCH, **kwargs)


def from_batches(tmp_path, **kwargs):
    return lk.AddressedDataset.from_batches(lambda indices, epoch: {"x": indices * 10}, SIZE, BATCH, **kwargs)


def from_files(tmp_path, **kwargs):
    """Examples read from files; the first ones are the largest, so that reading takes longest."""
    for index in range(SIZE):
        (tmp_path / f"{index}.txt").write_text(f"{index * 10}".zfill(2_000_000 if index < 3 else 8), encoding="utf-8")

    def read(index, epoch):
        path = tf.strings.join([str(tmp_path), "/", tf.strings.as_string(index), ".txt"])
        return {"x": tf.strings.to_number(tf.io.read_file(path), tf.int64)}

    return lk.AddressedDataset.from_examples(read, SIZE, BATCH, **kwargs)


every_constructor = pytest.mark.parametrize("make", [from_arrays, from_batches, from_files])


def batches(dataset, *args, **kwargs):
    return list(dataset.stream(*args, **kwargs).as_numpy_iterator())


def values(of, name="x"):
    return [batch[name].tolist() for batch in of]


def test_the_order_is_pinned():
    """Another order would end every resumed run elsewhere: a new NumPy must not change it unnoticed."""
    assert permutation(0, 0, 5).tolist() == [4, 1, 2, 0, 3]
    assert permutation(0, 0, 10).tolist() == [0, 7, 8, 6, 9, 5, 1, 3, 2, 4]
    assert permutation(7, 3, 10).tolist() == [8, 4, 5, 3, 6, 0, 9, 7, 1, 2]


@pytest.mark.parametrize("neighbour", [(0, 1), (1, 0), (2, 0)])
def test_neighbouring_seeds_and_epochs_have_unrelated_orders(neighbour):
    ours, theirs = permutation(0, 0, 10_000), permutation(*neighbour, 10_000)
    assert (ours == theirs).sum() <= 6  # 1 is expected; more than 6 has a chance of 1e-4
    assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.04


@pytest.mark.parametrize("size", [17, 64, 65, 1000, 4097])
def test_an_order_of_many_examples_is_a_permutation(size, monkeypatch):
    places = np.arange(size)
    np.testing.assert_array_equal(order_at(1, 2, size, places), permutation(1, 2, size))
    monkeypatch.setattr(addressing, "LARGE", 16)
    order = order_at(1, 2, size, places)
    assert sorted(order.tolist()) == places.tolist() != order.tolist()
    np.testing.assert_array_equal(order_at(1, 2, size, places[5:9]), order[5:9])


def test_neighbouring_orders_of_many_examples_are_unrelated(monkeypatch):
    """A million of 2 ** 40 examples: the order is made nowhere."""
    places, size = np.arange(10**6), 2**40 - 7
    first, *others = (order_at(seed, epoch, size, places) for seed, epoch in [(0, 0), (0, 1), (1, 0), (2**40, 0)])
    assert first[:3].tolist() == [123170015156, 93195713017, 469537801633]
    assert first.min() >= 0 and first.max() < size
    for other in (*others, places, np.roll(first, 1)):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.004 and (first == other).sum() <= 1
    assert np.abs(np.bincount(first * 16 // size) / 62_500 - 1).max() < 0.02  # 5 standard deviations


def test_an_epoch_of_many_examples_is_made_in_stretches(monkeypatch):
    monkeypatch.setattr(addressing, "LARGE", 16)
    monkeypatch.setattr(dataset_module, "LARGE", 16 * 12)  # stretches of 12 examples: 3 batches of 4
    dataset = lk.AddressedDataset.from_arrays({"x": np.arange(203)}, 4)
    whole = values(batches(dataset, 5, epochs=2))
    tables = [dataset.indices(5, epoch) for epoch in (0, 1)]
    assert whole == [[max(0, i) for i in row] for row in np.concatenate(tables).tolist()]
    for step in (1, 3, 50):
        assert values(batches(dataset, 5, epoch=0, step=step, epochs=2)) == whole[step:]
    assert values(batches(dataset, 5, epoch=0, step=2, epochs=2, steps=7)) == [*whole[2:7], *whole[51:58]]
    half = Shard(1, 1, 2)
    assert values(batches(dataset, 5, epochs=1, shard=half)) == [row[2:] for row in whole[:51]]


@every_constructor
def test_an_epoch_is_its_permutation_padded(make, tmp_path):
    of_epoch = batches(make(tmp_path), 5, epoch=2, epochs=3)
    order = (permutation(5, 2, SIZE) * 10).tolist()
    assert values(of_epoch) == [order[:4], order[4:8], [*order[8:], 0]]
    assert values(of_epoch, "weight") == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert of_epoch[0]["weight"].dtype == np.float32


@every_constructor
def test_a_stream_from_an_address_is_the_tail_of_the_whole_stream(make, tmp_path):
    dataset = make(tmp_path)
    whole = values(batches(dataset, 5, epochs=3))
    assert len(whole) == 9 and len({str(whole[e : e + 3]) for e in (0, 3, 6)}) == 3
    for epoch, step in ((0, 1), (1, 0), (1, 2), (2, 1), (2, 3)):
        assert values(batches(dataset, 5, epoch=epoch, step=step, epochs=3)) == whole[3 * epoch + step :]


@every_constructor
def test_unshuffled_is_in_order_in_every_epoch(make, tmp_path):
    read = values(batches(make(tmp_path, shuffle=False), 5, epochs=2))
    assert read == 2 * [[0, 10, 20, 30], [40, 50, 60, 70], [80, 90, 100, 0]]


@every_constructor
def test_shapes_are_static(make, tmp_path):
    spec = make(tmp_path).element_spec
    assert {name: (of.shape, of.dtype) for name, of in spec.items()} == {
        "x": ((BATCH,), tf.int64),
        "weight": ((BATCH,), tf.float32),
    }


RAGGED = tf.ragged.constant([[1] * (1 + index % 3) for index in range(SIZE)], tf.int32)
GROUPED = {"widths": None, "widths given": [2, 5], "tokens": None}


@pytest.mark.parametrize("kind", ["arrays", "examples", *GROUPED])
def test_the_shapes_are_those_of_the_stream(kind, tmp_path):
    if kind in GROUPED:
        tokens = 24 if kind == "tokens" else None
        dataset = lk.AddressedDataset.from_arrays((RAGGED,), BATCH, widths=GROUPED[kind], batch_tokens=tokens)
    else:
        dataset = (from_arrays if kind == "arrays" else from_files)(tmp_path)
    spec, stream = dataset.element_spec, dataset.stream(epochs=1).element_spec
    assert spec == batch_spec(stream)


def test_the_shapes_are_found_by_one_pipeline():
    calls = []

    def fetch(indices, epoch):
        calls.append(1)
        return {"x": indices}

    dataset = lk.AddressedDataset.from_batches(fetch, SIZE, BATCH)
    assert dataset.element_spec == dataset.element_spec and len(calls) == 1


def test_seeds_give_other_orders():
    dataset = from_arrays(None)
    assert values(batches(dataset, 1, epochs=1)) != values(batches(dataset, 2, epochs=1))
    assert values(batches(dataset, 1, epochs=1)) == values(batches(from_arrays(None), 1, epochs=1))


def test_a_stream_without_end_goes_on():
    stream = from_arrays(None).stream(5, epoch=1, step=2).take(4)
    assert values(stream.as_numpy_iterator()) == values(batches(from_arrays(None), 5, epoch=1, step=2, epochs=3))[:4]


def test_steps_limit_every_epoch():
    dataset = from_arrays(None)
    whole = values(batches(dataset, 5, epochs=2))
    assert values(batches(dataset, 5, epochs=2, steps=2)) == [*whole[:2], *whole[3:5]]
    assert values(batches(dataset, 5, step=1, epochs=2, steps=2)) == [whole[1], *whole[3:5]]
    assert len(dataset) == 3


def test_readers_are_told_the_epoch():
    def fetch(indices, epoch):
        return {"epoch": tf.fill(tf.shape(indices), epoch)}

    def read(index, epoch):
        return {"epoch": epoch}

    for dataset in (
        lk.AddressedDataset.from_batches(fetch, 3, 2),
        lk.AddressedDataset.from_examples(read, 3, 2),
    ):
        assert values(batches(dataset, epoch=4, step=1, epochs=6), "epoch") == [[4, 4], [5, 5], [5, 5]]


@every_constructor
@pytest.mark.parametrize("workers, replicas", [(1, 2), (2, 2), (2, 4), (4, 4)])
def test_shards_interleave_to_the_global_batch(make, workers, replicas, tmp_path):
    dataset, local = make(tmp_path), replicas // workers
    whole = batches(dataset, 5, step=1, epochs=2)
    parts = [
        batches(dataset, 5, step=1, epochs=2, shard=Shard(worker * local, local, replicas)) for worker in range(workers)
    ]
    for name in ("x", "weight"):
        together = [
            np.concatenate([parts[w][local * k + r][name] for w in range(workers) for r in range(local)]).tolist()
            for k in range(len(whole))
        ]
        assert together == values(whole, name)
    assert all(len(part) == local * len(whole) for part in parts)


def test_a_far_address_is_reached_without_reading_what_comes_before():
    read = []

    def fetch(indices, epoch):
        seen = tf.numpy_function(lambda rows: read.append(rows) or rows, [indices], tf.int64)
        return {"x": tf.ensure_shape(seen, indices.shape)}

    dataset, at = lk.AddressedDataset.from_batches(fetch, 10_000_000, 100), 50_000
    began = time.perf_counter()
    first = next(dataset.stream(1, epoch=3, step=at).as_numpy_iterator())
    assert time.perf_counter() - began < 20  # 2 s on a quiet machine; to read 3.5 million batches takes minutes
    later = dataset.indices(1, 3)[at:]
    np.testing.assert_array_equal(first["x"], later[0])
    assert set(np.concatenate(read)) <= set(later[:1000].ravel())


def test_strings_and_nested_shapes_are_carried():
    arrays = {"text": ["a", "bb", "c"], "image": np.zeros((3, 2, 2, 1), np.uint8)}
    (batch,) = batches(lk.AddressedDataset.from_arrays(arrays, 4, shuffle=False), epochs=1)
    assert batch["text"].tolist() == [b"a", b"bb", b"c", b"a"] and batch["image"].shape == (4, 2, 2, 1)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: lk.AddressedDataset.from_arrays({"x": [1]}, 0), ValueError, "`batch_size` to be a positive int"),
        (lambda: lk.AddressedDataset.from_arrays({"x": [1]}, 2.0), ValueError, "batch_size=2.0"),
        (lambda: lk.AddressedDataset.from_arrays({"x": []}, 1), ValueError, "`size` to be a positive int"),
        (lambda: lk.AddressedDataset.from_arrays(([1], [1], [1], [1]), 1), ValueError, "arrays='4 parts'"),
        (lambda: lk.AddressedDataset.from_arrays({}, 1), ValueError, "arrays={}"),
        (lambda: lk.AddressedDataset.from_arrays({"x": [1], "y": [1, 2]}, 1), ValueError, "'x': 1, 'y': 2"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=r"^Expected .* Received: ") as caught:
        make()
    assert message in str(caught.value)


FRAME = pandas.DataFrame(
    {"age": [1, 2, 3], "name": ["a", "b", "c"], "size": [0.5, 1.5, 2.5], "old": [True, False, True]}
)


@pytest.mark.parametrize(
    ("array", "dtype", "expected"),
    [
        (np.array([0.1, 2, 3]), tf.float32, [0.1, 2, 3]),
        (np.float16([1, 2, 3]), tf.float32, [1, 2, 3]),
        (np.array([1, 2, 3]), tf.int64, [1, 2, 3]),
        ([1, 2, 3], tf.int32, [1, 2, 3]),
        (FRAME[["age", "size"]], tf.float32, [[1, 0.5], [2, 1.5], [3, 2.5]]),
        (FRAME[["age", "old"]], tf.int64, [[1, 1], [2, 0], [3, 1]]),
        (FRAME["name"], tf.string, [b"a", b"b", b"c"]),
        (FRAME["name"].astype("category"), tf.string, [b"a", b"b", b"c"]),
        (FRAME["age"].astype("Int64"), tf.int64, [1, 2, 3]),
        (FRAME["old"].astype("boolean"), tf.bool, [True, False, True]),
        (FRAME["size"].astype(object), tf.float32, [0.5, 1.5, 2.5]),
        (pandas.Series([np.ones(2), np.zeros(2), np.ones(2)]), tf.float32, [[1, 1], [0, 0], [1, 1]]),
        (tf.RaggedTensor.from_row_lengths(np.arange(3.0), [1, 0, 2]), tf.float32, None),
    ],
)
def test_arrays_are_cast_as_keras_does(array, dtype, expected):
    dataset = lk.AddressedDataset.from_arrays({"x": array}, 3, shuffle=False)
    (batch,) = batches(dataset, epochs=1)
    assert dataset.element_spec["x"].dtype == dtype
    if expected is not None:
        np.testing.assert_array_equal(batch["x"], np.array(expected, batch["x"].dtype))


MISSING = FRAME.astype({"age": "Int64", "size": "Float64"})
MISSING.loc[2, "size"] = None


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, np.nan]}),
            "1 examples with some, the first in example 1, column 'b'",
        ),
        (MISSING[["age", "size"]], "no missing values.*the first in example 2, column 'size'"),
        (pandas.Series(["a", None, "c"]), "no missing values.*the first in example 1"),
        (pandas.Series([1, None, 3], dtype="Int64"), "no missing values.*example 1"),
        (np.array(["a", None], object), "no missing values.*example 1"),
        (np.ma.array([1.0, 2.0, 3.0], mask=[0, 0, 1]), "no missing values.*example 2"),
        ([1.0, None], "no missing values.*example 1"),
        (pandas.Series([1, "b", 3]), "one kind and shape. Received: a number in example 0, text in example 1"),
        ([1, 2, "c"], "a number in example 0, text in example 2"),
        (FRAME[["age", "name"]], "a number in example 0, column 'age', text in example 0, column 'name'"),
        ([[1, 2], [3, 4], [5]], r"an array of shape \(2,\) in example 0, an array of shape \(1,\) in example 2"),
        (pandas.Series([{}, {}]), "numbers, booleans, strings or arrays. Received: a dict in example 0"),
        (np.array(["2020-01-01"], "datetime64[D]"), r"numbers, booleans or strings. Received: datetime64\[D\]"),
        (np.array([0.0, 1e300]), "within float32. Received: 1e\\+300 in example 1"),
        (3.0, "an array with the examples first"),
        ((x for x in "ab"), "Expected the entry 'x' to be an array of numbers"),
    ],
)
def test_what_is_no_array_is_named_by_entry_and_example(array, message):
    with pytest.raises(lk.utils.ArgumentError, match=message) as caught:
        lk.AddressedDataset.from_arrays({"y": np.zeros(3), "x": array}, 2)
    assert "'x'" in str(caught.value) and "Traceback" not in str(caught.value)


def test_nan_is_told_before_training():
    values = np.zeros((9, 2))
    values[[4, 7], 1] = np.nan
    with pytest.warns(UserWarning, match="The entry 'x' is NaN in 2 of 9 examples, the first is example 4"):
        lk.AddressedDataset.from_arrays({"x": values}, 2)
    ragged = tf.RaggedTensor.from_row_lengths([0.0, np.nan, np.nan, 1.0], [1, 0, 2, 1])
    with pytest.warns(UserWarning, match="is NaN in 1 of 4 examples, the first is example 2"):
        lk.AddressedDataset.from_arrays({"x": ragged}, 2)


def test_a_batch_that_replicas_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"Expected `batch_size` to be a multiple of 3 \(.*3 or 6.*batch_size=4"):
        from_arrays(None).stream(shard=Shard(0, 1, 3))


@pytest.mark.parametrize(
    "batch, error, message",
    [
        (lambda indices: [indices], TypeError, "a dict, a tuple or a tensor. Received: a list"),
        (lambda indices: (indices,) * 4, TypeError, r"\(x, y, sample_weight\). Received: 4 parts"),
        (lambda indices: {"x": indices[:2]}, ValueError, r"4 rows.*x.*\(2,\)"),
        (lambda indices: {"x": tf.constant(1.0)}, ValueError, r"4 rows.*x.*\(\)"),
        (lambda indices: {"x": tf.py_function(lambda i: i, [indices], tf.int64)}, ValueError, r"4 rows.*x.*unknown"),
    ],
)
def test_a_batch_that_is_none_is_refused(batch, error, message):
    dataset = lk.AddressedDataset.from_batches(lambda indices, epoch: batch(indices), SIZE, BATCH)
    with pytest.raises(error, match=message):
        dataset.stream()


def test_a_data_module_has_what_it_overrides():
    class Data(lk.DataModule):
        def test_dataset(self):
            return "test"

    with pytest.raises(NotImplementedError, match=r"Data has no `train_dataset\(\)`"):
        Data().train_dataset()
    assert Data().val_dataset() is None and Data().predict_dataset() == "test"
    assert Data().state_dict() == {} and Data().hparams == {}


# ---- grouped by length

LENGTHS = np.array([3, 9, 1, 4, 4, 8, 2, 7, 5, 1, 6])  # widths 4 and 9: six examples of up to 4, five of up to 9
WIDTHS = (4, 9)


def ragged(lengths):
    """Sequences: the example's number + 1, as often as its length is."""
    return tf.RaggedTensor.from_row_lengths(np.repeat(np.arange(len(lengths)) + 1, lengths), lengths)


def of_ragged(lengths=LENGTHS, batch_size=BATCH, **kwargs):
    arrays = {"x": ragged(lengths), "length": lengths, "example": np.arange(len(lengths))}
    return lk.AddressedDataset.from_arrays(arrays, batch_size, **kwargs)


def padded_to(indices, width):
    """What `of_ragged` makes of one example at a time, or of many."""
    steps = tf.range(width, dtype=tf.int64)
    return tf.where(steps < tf.gather(LENGTHS, indices)[..., None], indices[..., None] + 1, 0)


def grouped_from_batches(**kwargs):
    def fetch(indices, epoch, width):
        return {"x": padded_to(indices, width), "length": tf.gather(LENGTHS, indices), "example": indices}

    return lk.AddressedDataset.from_batches(fetch, SIZE, BATCH, lengths=LENGTHS, **kwargs)


def grouped_from_examples(**kwargs):
    def read(index, epoch, width):
        return {"x": padded_to(index, width), "length": tf.gather(LENGTHS, index), "example": index}

    return lk.AddressedDataset.from_examples(read, SIZE, BATCH, lengths=LENGTHS, **kwargs)


every_grouped = pytest.mark.parametrize("make", [of_ragged, grouped_from_batches, grouped_from_examples])


@every_grouped
def test_groups_worked_by_hand(make):
    """Sorted by width, 0 2 3 4 6 9 | 1 5 7 8 10 is cut into 0 2 3 4, 6 9 1 5 (as wide as its longest), 7 8 10."""
    dataset = make(shuffle=False, widths=WIDTHS)
    table = dataset.indices(0, 0)
    assert sorted(table.tolist()) == [[0, 2, 3, 4], [6, 9, 1, 5], [7, 8, 10, -1]]
    assert dataset.batch_widths(table).tolist() == [4 if 0 in row else 9 for row in table]
    assert dataset.indices(5, 3).tolist() == table.tolist()
    of_epoch = batches(dataset, epochs=1)
    assert [batch["x"].shape for batch in of_epoch] == [(4, 4 if 0 in row else 9) for row in table]
    first = next(batch["x"] for batch, row in zip(of_epoch, table, strict=True) if 0 in row)
    assert first.tolist() == [[1, 1, 1, 0], [3, 0, 0, 0], [4, 4, 4, 4], [5, 5, 5, 5]]
    assert all(batch["weight"].tolist() == (row >= 0).tolist() for batch, row in zip(of_epoch, table, strict=True))
    assert {n: (s.shape.as_list(), s.dtype) for n, s in dataset.element_spec.items()} == {
        "x": ([BATCH, None], tf.int64), "length": ([BATCH], tf.int64), "example": ([BATCH], tf.int64),
        "weight": ([BATCH], tf.float32),
    }  # fmt: skip


def test_batches_of_tokens_worked_by_hand():
    """At most 18 tokens and a multiple of 2 rows: 4 rows of width 4, 2 of width 9; each width is cut by itself."""
    dataset = of_ragged(batch_size=2, batch_tokens=18, widths=WIDTHS, shuffle=False)
    rows = [[0, 2, 3, 4], [6, 9, -1, -1], [1, 5], [7, 8], [10, -1]]
    table = dataset.indices(0, 0)
    assert len(dataset) == 5 and table.shape == (5, 4)
    assert sorted(row[row != ABSENT].tolist() for row in table) == sorted(rows)
    of_epoch = batches(dataset, epochs=1)
    shapes = [(4, 4) if row[0] in (0, 6) else (2, 9) for row in table]
    assert [batch["x"].shape for batch in of_epoch] == shapes and dataset.element_spec["x"].shape.as_list() == [
        None
    ] * 2
    assert sum(batch["weight"].sum() for batch in of_epoch) == SIZE
    last = next(batch for batch in of_epoch if 10 in batch["example"])
    assert last["example"].tolist() == [10, 10] and last["weight"].tolist() == [1, 0]
    assert len(dataset.replace(size=6)) == 2  # lengths 3 9 1 4 4 8: one batch of width 4, one of width 9


def test_a_batch_of_tokens_has_its_rows_at_least():
    dataset = of_ragged(batch_size=4, batch_tokens=1, widths=WIDTHS)
    assert (dataset.indices(0, 0) != ABSENT).sum(axis=1).tolist() == [4] * len(dataset)
    with pytest.raises(ValueError, match=r"batch_tokens.*lengths"):
        lk.AddressedDataset.from_arrays({"x": np.zeros(3)}, 1, batch_tokens=8)


@pytest.mark.parametrize(("replicas", "micro_batches"), [(1, 2), (2, 1), (2, 2)])
def test_batches_of_tokens_are_cut_into_equal_parts(replicas, micro_batches):
    dataset = of_ragged(np.arange(100) % 10 + 1, 4, batch_tokens=60)
    whole = batches(dataset, 5, epochs=1)
    shard = Shard(0, replicas, replicas)
    blocks = batches(dataset, 5, epochs=1, shard=shard, micro_batches=micro_batches)
    assert len(whole) == len(dataset) and len(blocks) == replicas * len(dataset)
    assert len({batch["x"].shape for batch in whole}) > 3
    for k, batch in enumerate(whole):
        of_step = [block["example"].reshape(micro_batches, -1) for block in blocks[replicas * k : replicas * (k + 1)]]
        np.testing.assert_array_equal(np.concatenate(of_step, axis=1).ravel(), batch["example"])


@every_grouped
def test_padding_has_the_content_of_its_batch(make):
    """Any other example might be longer than the batch is wide."""
    dataset = make(shuffle=False, widths=WIDTHS)
    (short,) = (batch for batch in batches(dataset, epochs=1) if 0 in batch["weight"])
    assert short["example"].tolist() == [7, 8, 10, 10] and short["weight"].tolist() == [1, 1, 1, 0]


lengths_of_many = st.lists(st.integers(0, 30), min_size=1, max_size=40).map(np.array)


@settings(max_examples=8, deadline=None)
@given(lengths_of_many, st.sampled_from([2, 4, 6]), st.integers(0, 3), st.integers(0, 2), st.booleans())
def test_grouped_epochs_hold_every_example_once_wherever_they_begin(lengths, batch_size, seed, epoch, shuffle):
    dataset = of_ragged(lengths, batch_size, shuffle=shuffle)
    tables = [dataset.indices(seed, number) for number in (epoch, epoch + 1)]
    for table in tables:
        assert sorted(table[table >= 0]) == list(range(len(lengths))) and table.shape == (len(dataset), batch_size)
        longest = np.where(table >= 0, lengths[table], 0).max(axis=1)
        widths = dataset.batch_widths(table)
        assert (widths >= longest).all() and set(widths) <= set(dataset.widths) and len(dataset.widths) <= 8
    step = len(dataset) // 2
    tail = batches(dataset, seed, epoch=epoch, step=step, epochs=epoch + 2)
    expected = np.concatenate([tables[0][step:], tables[1]])
    assert len(tail) == len(expected)
    for batch, row in zip(tail, expected, strict=True):
        assert batch["example"][row >= 0].tolist() == row[row >= 0].tolist()
        assert batch["weight"].tolist() == (row >= 0).tolist()
        np.testing.assert_array_equal((batch["x"] != 0).sum(axis=1), batch["length"])
    limited = batches(dataset, seed, epoch=epoch, epochs=epoch + 2, steps=1)
    assert [b["example"][0] for b in limited] == [tables[0][0, 0], tables[1][0, 0]]


def test_grouped_epochs_differ_in_mates_and_order():
    lengths = np.arange(400) % 20
    dataset = of_ragged(lengths, 8)
    first, second = dataset.indices(1, 0), dataset.indices(1, 1)
    assert first.tolist() == dataset.indices(1, 0).tolist() != dataset.indices(2, 0).tolist()
    assert len({frozenset(row) for row in first} & {frozenset(row) for row in second}) == 0
    widths = dataset.batch_widths(first)
    assert (np.diff(widths) < 0).sum() > 10  # not from short to long
    assert abs(np.corrcoef(widths, np.arange(len(widths)))[0, 1]) < 0.4


@every_grouped
@pytest.mark.parametrize("workers, replicas", [(1, 2), (2, 2), (2, 4)])
def test_grouped_shards_have_one_width_and_interleave_to_the_global_batch(make, workers, replicas):
    dataset, local = make(widths=WIDTHS), replicas // workers
    address = {"step": 1, "epochs": 2}
    whole = batches(dataset, 5, **address)
    parts = [batches(dataset, 5, **address, shard=Shard(w * local, local, replicas)) for w in range(workers)]
    for name in ("x", "weight"):
        for k, batch in enumerate(whole):
            blocks = [parts[w][local * k + r][name] for w in range(workers) for r in range(local)]
            np.testing.assert_array_equal(np.concatenate(blocks), batch[name])


def test_grouping_pads_less():
    lengths = np.random.default_rng(0).geometric(0.1, 2000)

    def padding(of):
        return 1 - sum((b["x"] != 0).sum() for b in of) / sum(b["x"].size for b in of)

    grouped = padding(batches(of_ragged(lengths, 32), epochs=1))
    alone = padding(batches(of_ragged(lengths, 32, widths=range(1, lengths.max() + 1)), epochs=1))
    one_width = padding(batches(of_ragged(lengths, 32, widths=[lengths.max()]), epochs=1))
    assert alone < 0.1 < grouped < 0.25 < 0.7 < one_width and one_width == pytest.approx(
        1 - lengths.sum() / (2016 * lengths.max()), abs=0.02
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 4))
def test_best_widths_pad_as_little_as_any(lengths, most):
    def slots(widths):
        return sum(min(w for w in widths if w >= length) for length in lengths)

    found = best_widths(lengths, most)
    distinct = sorted(set(lengths))
    others = [c for k in range(most) for c in itertools.combinations(distinct[:-1], min(k, len(distinct) - 1))]
    assert len(found) <= most and list(found) == sorted(set(found))
    assert slots(found) == min(slots([*other, distinct[-1]]) for other in others)


def test_rows_come_back_in_order():
    dataset = of_ragged(shuffle=False)
    rows = np.concatenate([batch["example"] for batch in batches(dataset, epochs=1)])
    assert rows[:SIZE].tolist() != list(range(SIZE))
    assert dataset.in_order(rows).tolist() == list(range(SIZE))
    plain = from_arrays(None, shuffle=False)
    assert plain.in_order(np.arange(12)).tolist() == list(range(SIZE))
    with pytest.raises(ValueError, match="`shuffle` to be False"):
        of_ragged().in_order(rows)


def test_other_arguments_keep_the_groups():
    dataset = of_ragged(widths=WIDTHS)
    fewer = dataset.replace(size=5, batch_size=2, shuffle=False)
    assert sorted(fewer.indices(0, 0).tolist()) == [[0, 2], [1, -1], [3, 4]] and fewer.widths == WIDTHS
    assert dataset.replace().indices(3, 1).tolist() == dataset.indices(3, 1).tolist()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"lengths": [1, 2]}, r"`lengths` to be ints of 0 or more, of shape \(11,\).*\(2,\)"),
        ({"lengths": LENGTHS - 2}, "the least -1"),
        ({"lengths": LENGTHS / 2}, "float64"),
        ({"lengths": LENGTHS, "widths": [4, 8]}, r"`widths` to be increasing, the last one 9 .*widths=\[4, 8\]"),
        ({"lengths": LENGTHS, "widths": [9, 9]}, "increasing"),
        ({"lengths": LENGTHS, "widths": []}, "increasing"),
        ({"widths": [4]}, "None without `lengths`"),
    ],
)
def test_bad_lengths_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        lk.AddressedDataset.from_batches(lambda *address: {}, SIZE, BATCH, **arguments)


def test_sequences_of_sequences_are_refused():
    with pytest.raises(ValueError, match="ragged with two axes"):
        lk.AddressedDataset.from_arrays({"x": tf.ragged.constant([[[1], [2, 3]], [[4]]])}, 1)


class Sums(lk.TaskModule):
    """One weight times the sum of a sequence is to be its length."""

    def __init__(self):
        super().__init__()

    def configure_model(self, data):
        self.network = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        self.traces = 0

    def configure_optimizers(self):
        return keras.optimizers.SGD(1e-3)

    def losses_of(self, batch, training):
        self.traces += 1
        total = tf.reduce_sum(tf.cast(batch["x"], tf.float32), axis=1, keepdims=True)
        error = self.network(total)[:, 0] - tf.cast(batch["length"], tf.float32)
        return tf.reduce_sum(batch["weight"] * error**2), tf.reduce_sum(batch["weight"])

    def train_step(self, batch):
        return self.minimize(self.losses_of, batch)

    def test_step(self, batch):
        return self.evaluate_loss(self.losses_of, batch)

    def predict_step(self, batch):
        return {"same": tf.cast(batch["x"], tf.float32)[..., None], "example": batch["example"]}


class Sequences(lk.DataModule):
    def __init__(self, batch_tokens: int | None = None):
        self.batch_tokens = batch_tokens

    def train_dataset(self):
        return of_ragged(widths=(2, 4, 6, 9), batch_tokens=self.batch_tokens)

    def val_dataset(self):
        return of_ragged(widths=(2, 4, 6, 9), shuffle=False, batch_tokens=self.batch_tokens)

    test_dataset = val_dataset


@pytest.fixture(scope="module", params=[None, 32], ids=["rows", "tokens"])
def sequences(request):
    return Sequences(request.param)


@pytest.fixture(scope="module")
def one_device(sequences):
    task = Sums()
    quiet(max_epochs=2, limit_val_batches=0).fit(task, sequences)
    return task


def test_one_trace_serves_all_shapes(one_device, sequences):
    assert one_device.traces == 3  # two that build (training, evaluation), one that runs
    shapes = {batch["x"].shape for batch in batches(sequences.train_dataset(), epochs=1)}
    assert len({width for _, width in shapes}) > 1 and (len({rows for rows, _ in shapes}) > 1) == bool(
        sequences.batch_tokens
    )


@pytest.mark.parametrize("cut", [{"micro_batches": 2}, {"run_eagerly": True}, {"jit_compile": True}, {"devices": 2}])
def test_grouped_training_is_the_same_however_it_is_cut(one_device, sequences, cut):
    if "devices" in cut and tf.config.list_physical_devices("GPU"):
        pytest.skip("the two logical devices are CPUs")
    task = Sums()
    quiet(max_epochs=2, limit_val_batches=0, **cut).fit(task, sequences)
    np.testing.assert_allclose(weights(task)[0], weights(one_device)[0], rtol=1e-5)
    assert abs(weights(task)[0]).max() > 1e-3


def test_predictions_of_grouped_data_are_in_order(one_device, sequences):
    made = quiet().predict(one_device, sequences)
    assert made["example"].tolist() == list(range(SIZE))
    expected = padded_to(tf.range(SIZE, dtype=tf.int64), 9).numpy()
    assert made["same"].dtype == np.float32
    np.testing.assert_array_equal(made["same"][..., 0], expected)
    assert quiet().test(one_device, sequences)["test_loss"] > 0


# ---- addresses beside the batches


@pytest.mark.parametrize("lengths", [None, [2, 1, 2, 1, 2]])
def test_addresses_are_beside_the_batches(lengths):
    arrays = {"x": np.arange(5)}
    if lengths:
        arrays = {"x": tf.RaggedTensor.from_row_lengths(np.repeat(np.arange(5), lengths), lengths)}
    for batch_size in (4, 8):  # of 8, the only batch ends an epoch
        dataset = lk.AddressedDataset.from_arrays(arrays, batch_size)
        plain = list(dataset.stream(3, epochs=2).as_numpy_iterator())
        pairs = list(dataset.stream(3, epochs=2, addresses=True).as_numpy_iterator())
        for number, (batch, (same, address)) in enumerate(zip(plain, pairs, strict=True)):
            np.testing.assert_array_equal(batch["x"], same["x"])
            np.testing.assert_array_equal(batch["weight"], same["weight"])
            kept = batch["weight"] > 0
            examples = batch["x"][:, 0] if lengths else batch["x"]
            assert address.dtype == np.int64 and (address[:, 1] == number // len(dataset)).all()
            np.testing.assert_array_equal(address[:, 0], np.where(kept, examples, -1))


def test_rows_without_examples_are_numbered():
    batches = tf.data.Dataset.from_tensor_slices((np.arange(5), np.ones(5))).batch(2)
    pairs = list(number_rows(batches, epoch=3).as_numpy_iterator())
    assert [address.tolist() for _, address in pairs] == [[[0, 3], [1, 3]], [[2, 3], [3, 3]], [[4, 3]]]
    assert [batch[0].tolist() for batch, _ in pairs] == [[0, 1], [2, 3], [4]]
    assert number_rows(batches.batch(1)).element_spec[1] == tf.TensorSpec((None, 2), tf.int64)
