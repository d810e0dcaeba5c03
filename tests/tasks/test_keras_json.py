"""The image tasks under another person's `keras.json`."""

import keras
import numpy as np
import pytest
from helpers.toys import quiet

from lightkeras.metrics import LabelledImages
from lightkeras.metrics.image_classifier import classify, load_or_train
from tasks.captioning import CaptionData, Captioning
from tasks.captioning.photos.encoders import Encoder
from tasks.dcgan import DCGAN, MNISTData


@pytest.fixture(params=["float32", "float64", "float16"], autouse=True)
def keras_json(request):
    before = keras.config.image_data_format(), keras.config.floatx()
    keras.config.set_image_data_format("channels_first")
    keras.config.set_floatx(request.param)
    yield
    keras.config.set_image_data_format(before[0])
    keras.config.set_floatx(before[1])


def test_dcgan_trains_and_makes_images():
    task = DCGAN(noise_dim=4, generator_filters=2, discriminator_filters=3)
    quiet(max_steps=2, limit_val_batches=1).fit(task, MNISTData("sample", batch_size=8))
    assert task.generate(2).shape == (2, 8, 8, 1)
    assert {weight.dtype for weight in task.trainable_variables} == {"float32"}


def test_captioning_trains_on_pixels():
    task = Captioning(embedding_dim=4, units=4)
    quiet(max_steps=2, limit_val_batches=0).fit(task, CaptionData("sample", max_images=40, batch_size=4))
    assert {weight.dtype for weight in task.trainable_variables} == {"float32"}


def test_frozen_networks_take_pixels_with_the_channels_last(monkeypatch):
    make = keras.applications.MobileNetV2

    def small(include_top, weights, input_shape):
        return make(include_top=include_top, weights=None, input_shape=input_shape, alpha=0.35)

    small.__module__ = make.__module__
    monkeypatch.setattr(keras.applications, "MobileNetV2", small)
    for preprocessing in (None, "caffe"):
        network = Encoder("MobileNetV2", image_size=32, preprocessing=preprocessing).build()
        features = network.call(np.zeros((32, 32, 32, 3), np.uint8))
        assert features.shape == (32, 1, 1280) and features.dtype == np.float32
    assert keras.config.image_data_format() == "channels_first"


def test_the_classifier_of_images_takes_the_channels_last(tmp_path, monkeypatch):
    monkeypatch.setattr("lightkeras.metrics.image_classifier.MIN_UPDATES", 1)
    train = LabelledImages(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 2, 1]))
    features, shares = classify(load_or_train(train, tmp_path), train.images)
    assert features.shape == (4, 64) and shares.shape == (4, 3)
