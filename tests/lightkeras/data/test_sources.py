"""Python sources and TFRecord files: what is read when, by which threads, and how their errors are named."""

import logging
import os
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.toys import quiet

import lightkeras as lk
from lightkeras.data.addressing import Shard
from lightkeras.data.brought import as_data_module
from lightkeras.data.mapped import MappedArray
from lightkeras.data.tfrecords import index_file

X = np.arange(22, dtype=np.float32).reshape(11, 2)


class Line(lk.TaskModule):
    def configure_model(self, data):
        self.network = keras.layers.Dense(1)

    def configure_optimizers(self):
        return keras.optimizers.SGD(0.01)

    def losses_of(self, batch, training):
        return self.network(batch[0])[:, 0]

    def train_step(self, batch):
        return self.minimize(self.losses_of, batch)


class Items:
    """Map-style examples. `change` makes another one of an example."""

    def __init__(self, change=lambda index, x: x):
        self.change, self.threads_seen = change, set()

    def __len__(self):
        return 11

    def __getitem__(self, index):
        time.sleep(0.002)
        self.threads_seen.add(threading.current_thread().name)
        return self.change(index, X[index])


class Batches(keras.utils.PyDataset):
    """Batches of 4, 4 and 3 rows. `change` makes another one of a batch."""

    def __init__(self, change=lambda index, x: x, **arguments):
        super().__init__(**arguments)
        self.change, self.read = change, []

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.read.append(index)
        return self.change(index, X[4 * index : 4 * index + 4])


def dataset(data, **keywords):
    return as_data_module(data, **keywords).train_dataset()


def arrays(stream):
    return [tuple(None if part is None else part.numpy() for part in batch) for batch in stream]


# ---- what is read


@pytest.mark.parametrize("threads", [1, 3])
def test_examples_are_read_by_threads_in_order(threads):
    source = Items()
    examples = lk.data.Examples(source, lambda example: example, threads)
    found = arrays(dataset(examples, batch_size=4, shuffle=False).stream(epochs=1))
    np.testing.assert_array_equal(np.concatenate([x for x, _, _ in found])[:11], X)
    np.testing.assert_array_equal(found[-1][2], [1, 1, 1, 0])
    workers = {name for name in source.threads_seen if name.startswith("lightkeras-items")}
    assert len(workers) == threads


def test_shuffled_examples_have_the_order_of_arrays():
    by_index = arrays(dataset(Items(), batch_size=4).stream(seed=3, epoch=1, epochs=2))
    in_memory = arrays(dataset(X, batch_size=4).stream(seed=3, epoch=1, epochs=2))
    for one, other in zip(by_index, in_memory, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize("workers", [1, 3])
def test_each_item_of_a_pydataset_is_read_once_an_epoch_in_order(workers):
    source = Batches(workers=workers)
    made = dataset(source)
    source.read.clear()
    found = arrays(made.stream(seed=3, epochs=2))
    order = [table[0] // 4 for epoch in (0, 1) for table in made.indices(3, epoch)]
    assert sorted(source.read) == sorted(order) == [0, 0, 1, 1, 2, 2]
    rows = [x[weight > 0] for x, _, weight in found]
    np.testing.assert_array_equal(np.concatenate(rows), np.concatenate([X[4 * i : 4 * i + 4] for i in order]))


def test_replicas_and_workers_take_their_rows_of_an_item():
    for made in (dataset(Batches(), shuffle=False), dataset(tf.data.Dataset.from_tensor_slices(X).batch(4))):
        halves = [arrays(made.stream(epochs=1, shard=Shard(half, 1, 2))) for half in (0, 1)]
        for step, (first, second) in enumerate(zip(*halves, strict=True)):
            whole = np.concatenate([first[0], second[0]])[: len(X) - 4 * step]
            np.testing.assert_array_equal(whole, X[4 * step : 4 * step + 4])
            weights = [*first[2], *second[2]]
            assert weights == [1, 1, 1, 1] if step < 2 else weights == [1, 1, 1, 0]


def test_many_items_at_once_where_the_source_can():
    class Many(Items):
        def __getitems__(self, indices):
            self.asked = indices
            return [self[index] for index in indices]

    source = Many()
    (first, *_) = arrays(dataset(source, batch_size=11, shuffle=False).stream(epochs=1))
    np.testing.assert_array_equal(first[0], X)
    assert source.asked == list(range(11))


def test_many_items_that_cannot_be_read_at_once_are_an_error():
    class Broken(Items):
        def __getitems__(self, indices):
            raise OSError("the server is away")

    stream = dataset(Broken(), batch_size=4, shuffle=False).stream(epochs=1)
    with pytest.raises(tf.errors.OpError, match=r"Expected items \[0, 1, 2, 3\] of the Broken .*the server is away"):
        list(stream)


def test_an_item_that_differs_each_time_is_said_at_the_start(caplog):
    drawn = iter(np.arange(1000, dtype=np.float32))
    with caplog.at_level(logging.INFO, "lightkeras"):
        quiet(max_epochs=1).fit(Line(), Items(lambda index, x: x + next(drawn)), batch_size=11)
    assert (
        "Data: Items of 11 items, by index, read in parallel. Item 0 differs each time that it is read" in caplog.text
    )


# ---- errors


def fails(index, x):
    if index == 7:
        raise OSError("no such picture")
    return x


def fails_late(index, x):
    if index == 2:
        raise KeyError("label")
    return x


ERRORS = [
    (Items(fails), r"item 7 of the Items to be readable, in batch \d of epoch 0\. Received: OSError: no such picture"),
    (
        Items(lambda index, x: x[:1] if index == 7 else x),
        r"item 7 of the Items to have x of shape \(2,\), as item 0, in batch \d of epoch 0\. Received: shape \(1,\)",
    ),
    (
        Items(lambda index, x: (x, x) if index == 7 else x),
        "item 7 of the Items to have the entries x, as item 0, in batch",
    ),
    (Items(lambda index, x: x.astype(str) if index == 7 else x), "item 7 of the Items to have x of float32, as item 0"),
    (
        Batches(fails_late),
        r"item 2 of the Batches to be readable, in batch \d of epoch 0\. Received: KeyError: 'label'",
    ),
    (
        Batches(lambda index, x: np.concatenate([x, x]) if index == 2 else x),
        r"item 2 of the Batches to have from 1 to 4 rows.*\. Received: {'x': 6}",
    ),
    (Batches(lambda index, x: (x, x[:2]) if index == 2 else (x, x)), r"item 2 .* Received: {'x': 3, 'y': 2}"),
    (Items(lambda index, x: {}), "Expected data in the form of a dict, x"),
]


@pytest.mark.parametrize(("source", "message"), ERRORS, ids=[message[:30] for _, message in ERRORS])
def test_the_item_at_fault_is_named(source, message):
    rows = {} if isinstance(source, Batches) else {"batch_size": 4}
    with pytest.raises((ValueError, TypeError), match=f"^Expected .*{message}|^{message}") as caught:
        quiet(max_epochs=1).fit(Line(), source, **rows)
    assert len(str(caught.value).splitlines()) == 1


def test_a_batch_of_an_iterable_is_named():
    class Broken:
        def __iter__(self):
            yield from (X[:4], X[4:8])
            raise RuntimeError("the connection is lost")

    with pytest.raises(ValueError, match=r"batch 2 of the Broken .* RuntimeError: the connection is lost"):
        quiet(max_epochs=1, limit_train_batches=3).fit(Line(), Broken())


def test_sources_without_data_or_length_are_refused():
    class Endless(Batches):
        num_batches = None

    with pytest.raises(ValueError, match="a PyDataset with a length"):
        dataset(Endless())
    for empty in ([], lk.data.Examples([], np.asarray), iter(())):
        with pytest.raises(ValueError, match=r"Expected `data` to be .* Received: data='.*empty"):
            dataset(empty)
    with pytest.raises(ValueError, match=r"a number of batches .int.: the generator has no length"):
        quiet(max_epochs=1).fit(Line(), (X for _ in range(3)))
    with pytest.raises(TypeError, match="`entries` to be anything with len"):
        lk.data.Examples(iter(()), np.asarray)


# ---- files


@pytest.fixture
def records(tmp_path):
    for name, rows in (("a", X[:5]), ("b", X[5:])):
        with tf.io.TFRecordWriter(str(tmp_path / f"{name}.tfrecord")) as writer:
            for row in rows:
                writer.write(row.tobytes() * int(row[0] // 2 + 1))  # records of different lengths
    return tmp_path


def parse(record):
    return tf.ensure_shape(tf.io.decode_raw(record, tf.float32)[:2], (2,))


def test_records_are_read_by_index(records):
    source = lk.data.TFRecords(str(records / "*.tfrecord"), parse)
    assert len(source) == 11
    indices = np.array([10, 0, 4, 5, 4])
    expected = [X[index].tobytes() * (index + 1) for index in indices]
    assert source.read(indices).tolist() == expected
    in_memory = arrays(dataset(X, batch_size=4).stream(seed=1, epochs=1))
    for one, other in zip(arrays(dataset(source, batch_size=4).stream(seed=1, epochs=1)), in_memory, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[2], other[2])


def test_the_index_is_kept_beside_the_file_and_checked(records, monkeypatch):
    path = records / "a.tfrecord"
    first = index_file(path)
    reading = []
    monkeypatch.setattr(tf.data, "TFRecordDataset", lambda *args: reading.append(args) or original(*args))
    np.testing.assert_array_equal(index_file(path), first)
    assert not reading and (records / "a.tfrecord.index").exists()
    whole = (records / "a.tfrecord.index").read_bytes()
    for damage in (whole[:-3], whole[:-8], b"", b"other"):
        (records / "a.tfrecord.index").write_bytes(damage)
        np.testing.assert_array_equal(index_file(path), first)
    assert len(reading) == 4
    assert (records / "a.tfrecord.index").read_bytes() == b"other"  # another program's
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"another")
    np.testing.assert_array_equal(index_file(path), [0, 23])


original = tf.data.TFRecordDataset


def test_a_folder_that_cannot_be_written_is_said(records, monkeypatch, caplog):
    monkeypatch.setattr(os, "fsync", lambda number: (_ for _ in ()).throw(PermissionError("read-only")))
    assert len(index_file(records / "a.tfrecord")) == 6
    assert "a.tfrecord is not kept, so each run reads the file anew: read-only" in caplog.text
    assert not list(records.glob("*index*"))


def test_files_that_are_no_records_are_refused(records):
    with tf.io.TFRecordWriter(str(records / "c.gz"), "GZIP") as writer:
        writer.write(b"x")
    (records / "d.bin").write_bytes(b"no records" * 9)
    with pytest.raises(ValueError, match=r"c\.gz to be a TFRecord file, not compressed. Received: gzip-compressed"):
        lk.data.TFRecords(str(records / "c.gz"), parse)
    with pytest.raises(ValueError, match=r"d\.bin to be a TFRecord file.* Received: corrupted record at 0"):
        lk.data.TFRecords(str(records / "d.bin"), parse)
    with pytest.raises(FileNotFoundError, match="`files` to be a glob or a list of TFRecord files"):
        lk.data.TFRecords(str(records / "*.none"), parse)
    source = lk.data.TFRecords(str(records / "a.tfrecord"), parse)
    (records / "a.tfrecord").write_bytes(b"\1" * 200)
    with pytest.raises(ValueError, match=r"record 3 of .* the file has changed since the run began"):
        source.read(np.array([3]))


def test_pages_of_a_mapped_array_are_given_back(tmp_path):
    """Reading 64 MB of a file by rows leaves the resident size where it was."""
    array = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(4096, 4096))
    array[:] = 1
    del array
    mapped = MappedArray(np.load(tmp_path / "x.npy", mmap_mode="r"))
    mapped.read(np.arange(64))
    before, most = _resident(), 0
    for start in range(0, 4096, 64):
        assert mapped.read(np.arange(start, start + 64))[0, 0] == 1
        most = max(most, _resident() - before)
    assert most < 50e6


def _resident():
    with open("/proc/self/statm", encoding="utf-8") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
