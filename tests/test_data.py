"""Addressed data: batch k of epoch e is a pure function of (seed, e, k), whoever reads it."""

import time

import numpy as np
import pytest
import tensorflow as tf

import lightkeras as lk
from lightkeras.data import Shard, permutation

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
        (lambda: lk.AddressedDataset.from_arrays([1, 2], 1), TypeError, "a dict of arrays by name"),
        (lambda: lk.AddressedDataset.from_arrays({}, 1), ValueError, "arrays={}"),
        (lambda: lk.AddressedDataset.from_arrays({"x": [1], "y": [1, 2]}, 1), ValueError, "'x': 1, 'y': 2"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=r"^Expected .* Received: ") as caught:
        make()
    assert message in str(caught.value)


def test_a_batch_that_replicas_cannot_share_is_refused():
    with pytest.raises(ValueError, match=r"Expected `batch_size` to be a multiple of 3 \(replicas\).*batch_size=4"):
        from_arrays(None).stream(shard=Shard(0, 1, 3))


@pytest.mark.parametrize(
    "batch, error, message",
    [
        (lambda indices: indices, TypeError, "a batch to be a dict of tensors"),
        (lambda indices: {"weight": indices}, ValueError, r"a batch without \"weight\""),
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
