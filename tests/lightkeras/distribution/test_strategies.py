"""Devices, strategies, reductions; two logical CPUs stand for two devices."""

import numpy as np
import pytest
import tensorflow as tf

import lightkeras as lk
from lightkeras.distribution.replicas import all_reduce_sum, num_replicas, on_every_replica
from lightkeras.distribution.strategies import available_devices, check_devices, device_names, make_strategy


def test_devices_aredevice_names():
    names = [device.name for device in available_devices()]
    assert device_names(2) == names[:2] and device_names([1]) == names[1:2]
    assert make_strategy(1) is tf.distribute.get_strategy()
    assert num_replicas(make_strategy(2)) == 2
    assert make_strategy([0, 1]) is make_strategy(2)
    one = make_strategy(1, "mirrored")
    assert isinstance(one, tf.distribute.MirroredStrategy) and make_strategy("auto", one) is one


@pytest.mark.parametrize("devices", [0, -1, True, 1.0, "all", [], [0, 0], [-1], [0.0], None])
def test_devices_that_no_machine_has_are_refused_before_it_is_looked_at(devices):
    with pytest.raises(
        ValueError, match='Expected `devices` to be a positive int, a list of distinct indices or "auto"'
    ):
        check_devices(devices, "auto")


def test_devices_that_this_machine_lacks_are_refused_with_a_list():
    for devices in (99, [0, 98]):
        with pytest.raises(ValueError, match=r"Expected `devices` to be .* present: .*CPU:0|GPU:0"):
            make_strategy(devices)


def test_strategies_are_checked():
    with pytest.raises(ValueError, match=r"strategy='miror'.* Did you mean \"mirrored\""):
        make_strategy(1, "miror")
    with pytest.raises(ValueError, match=r'Expected `devices` to be "auto" beside'):
        make_strategy(2, tf.distribute.get_strategy())


def test_sums_go_over_all_replicas():
    strategy = make_strategy(2)

    @tf.function
    def total():
        def on_replica():
            number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
            return all_reduce_sum({"a": number + 1.0, "b": [number * tf.ones(3)]})

        return on_every_replica(strategy, on_replica)

    sums = total()
    assert sums["a"] == 3.0
    np.testing.assert_array_equal(sums["b"][0], [1.0, 1.0, 1.0])
    assert all_reduce_sum({"a": 5.0}) == {"a": 5.0}  # one replica: as they are


def test_each_replica_gets_its_rows_in_order():
    dataset = lk.AddressedDataset.from_arrays({"x": np.arange(11)}, 4, shuffle=False)
    strategy = make_strategy(2)

    def rows_of(values):
        return [part.numpy().tolist() for part in strategy.experimental_local_results(values)]

    pairs = list(dataset.replica_stream(strategy, epoch=3, epochs=4))
    assert [rows_of(batch["x"]) for batch, _ in pairs] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9], [10, 0]]]
    addresses = [rows_of(address) for _, address in pairs]
    assert addresses[1:] == [[[[4, 3], [5, 3]], [[6, 3], [7, 3]]], [[[8, 3], [9, 3]], [[10, 3], [-1, 3]]]]
    with pytest.raises(ValueError, match=r"Expected `batch_size` to be a multiple of 2 \(replicas"):
        lk.AddressedDataset.from_arrays({"x": np.arange(11)}, 3).replica_stream(strategy)
