"""DCGAN: batch norm over examples alone, losses and updates by hand, data, images and figures."""

import io
import json
import os
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.small import gradients as small_gradients
from helpers.small import made, updated
from helpers.toys import Recorder, quiet, weights
from PIL import Image

import lightkeras as lk
from lightkeras.training.per_example import as_metrics
from tasks.dcgan import DCGAN, MNISTData
from tasks.dcgan.evaluate import evaluate, main, table
from tasks.dcgan.figures import make_grid
from tasks.dcgan.model import BatchNormalization, Discriminator, Generator, check_image_size, halvings
from tasks.dcgan.task import hinge, non_saturating, slerp

TINY = {"noise_dim": 4, "generator_filters": 2, "discriminator_filters": 3, "dropout": 0.0}
MNIST = os.path.join(os.environ.get("LIGHTKERAS_DATA", ""), "mnist", "mnist.npz")
real = pytest.mark.skipif(not os.path.exists(MNIST), reason="LIGHTKERAS_DATA has no mnist.npz")


class Descending(DCGAN):
    """With plain gradient descent, so that an update can be worked out."""

    def configure_optimizers(self):
        return {"generator": keras.optimizers.SGD(0.1), "discriminator": keras.optimizers.SGD(0.1)}


def random_images(n, shape=(8, 8), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    """45 images of 8 x 8 pixels, and 12 for the test."""
    path = tmp_path_factory.mktemp("data") / "images.npz"
    labels = np.arange(45) % 3
    np.savez(path, x_train=random_images(45), y_train=labels, x_test=random_images(12, seed=1), y_test=labels[:12])
    return str(path)


def data_of(source, **arguments):
    data = MNISTData(source, **arguments)
    data.setup("fit")
    return data


def task_of(data, kind=Descending, **arguments):
    """The task built, with optimizers, and one batch."""
    task, dataset = kind(**{**TINY, **arguments}), data.train_dataset()
    task.configure_model = lambda _: DCGAN.configure_model(task, data)  # `made` knows no data
    made(task, dataset)
    return task, next(iter(dataset.stream()))


@pytest.fixture(scope="module")
def trained(npz, tmp_path_factory):
    """(trainer, task, data) after three epochs."""
    task, data = DCGAN(**TINY), MNISTData(npz, batch_size=16)
    trainer = quiet(str(tmp_path_factory.mktemp("runs")), max_epochs=3, callbacks=[lk.callbacks.SampleWriter(1)])
    trainer.fit(task, data)
    return trainer, task, data


def test_the_report_has_the_gan_s_health(trained):
    trainer, task, data = trained
    page = (trainer.run_dir / "report.html").read_text(encoding="utf-8")
    for text in ("GAN health", "The discriminator&#39;s accuracies", "coverage of held-out images"):
        assert text in page
    (section,) = task.report_sections()
    *_, table, picture = section.blocks
    held_out, train = data.splits["validation"][0], data.splits["train"][0]
    made = task.generate(len(held_out), 1)
    distances = [lk.metrics.find_nearest(some, train)[1].mean() for some in (made, held_out)]
    expected = [lk.metrics.coverage(held_out, made), *distances]
    np.testing.assert_allclose([row[1] for row in table.rows], expected, rtol=1e-5)
    with Image.open(io.BytesIO(picture.data)) as shown:
        assert shown.width / shown.height == pytest.approx(min(8, len(held_out)) / 2, rel=0.1)  # two rows


# ---- noise


def test_noise_is_of_the_seed(npz):
    task, data = DCGAN(**TINY), data_of(npz, batch_size=16)
    quiet(max_steps=1).fit(task, data)
    images = [quiet(seed=seed).predict(task, data) for seed in (0, 0, 7)]
    np.testing.assert_array_equal(images[0], images[1])
    assert np.abs(images[0] - images[2]).max() > 1e-4


def in_step(function, *args, **kwargs):
    """Calls a method of a task as the loop does: with addresses beside the batch."""
    rows = tf.range(16, dtype=tf.int64)
    with lk.random.keyed_draws(tf.stack([rows, rows], 1)):
        return function(*args, **kwargs)


# ---- data


def test_batches_are_scaled_images(npz):
    data = data_of(npz, batch_size=16)
    images = np.concatenate([data.splits["train"][0]])
    for epoch in (0, 4):
        seen = []
        stream = data.train_dataset().stream(seed=1, epoch=epoch, epochs=epoch + 1, addresses=True)
        for batch, address in stream:
            kept = batch["weight"].numpy() == 1
            indices, epochs = address.numpy()[kept].T
            assert (epochs == epoch).all() and set(batch) == {"image", "weight"}
            np.testing.assert_allclose(batch["image"].numpy()[kept], images[indices] / 127.5 - 1, atol=1e-6)
            seen += indices.tolist()
        assert sorted(seen) == list(range(43))


def test_the_file_has_its_own_test_images(npz):
    data = data_of(npz)
    assert [len(images) for images, _ in data.splits.values()] == [43, 2, 12]
    np.testing.assert_array_equal(data.splits["test"][0][..., 0], random_images(12, seed=1))


def test_splits_share_no_image_and_keep_their_labels():
    data = data_of("sample", val_fraction=0.2, test_fraction=0.1)
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images * 255 / 16).round().astype(np.uint8)
    assert [len(images) for images, _ in data.splits.values()] == [1258, 359, 180]
    by_split = [[image.tobytes() for image in images] for images, _ in data.splits.values()]
    assert {image for split in by_split for image in split} == set(map(np.ndarray.tobytes, pixels))
    label_of = dict(zip(map(np.ndarray.tobytes, pixels), digits.target, strict=True))
    for images, labels in data.splits.values():
        assert [label_of[image.tobytes()] for image in images] == labels.tolist()


def test_the_sample_can_be_enlarged_and_coloured():
    data = data_of("sample", image_size=12, channels=3)
    assert data.image_shape == (12, 12, 3) and data.state_dict() == {"image_shape": [12, 12, 3]}


@real
def test_mnist_is_the_official_split():
    data = data_of("download")
    assert [len(images) for images, _ in data.splits.values()] == [57_000, 3_000, 10_000]
    assert np.bincount(data.splits["test"][1]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def save(folder, name, size=(8, 8), mode="L", seed=0):
    shape = (size[1], size[0]) if mode in ("L", "LA") else (size[1], size[0], 3)
    picture = Image.fromarray(random_images(1, shape, seed)[0])
    (folder / name).parent.mkdir(exist_ok=True, parents=True)
    picture.convert(mode).save(folder / name)
    return np.asarray(picture)


def test_a_folder_of_images(tmp_path):
    for seed, name in enumerate(("a.png", "b/c.PNG", "d.png", "b/e.png", "f.png")):
        save(tmp_path, name, seed=seed)
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    data = data_of(str(tmp_path), val_fraction=0.2, test_fraction=0.2)
    found = {image.tobytes() for images, labels in data.splits.values() for image in images}
    assert found == {random_images(1, seed=seed)[0].tobytes() for seed in range(5)}
    assert [len(images) for images, _ in data.splits.values()] == [3, 1, 1]


def test_what_systems_write_is_left_out_counted_and_named(tmp_path, capsys):
    for seed in range(5):
        save(tmp_path, f"{seed}.png", seed=seed)
        save(tmp_path, f".ipynb_checkpoints/{seed}-checkpoint.png", seed=seed)
        save(tmp_path, f"__MACOSX/._{seed}.png", seed=seed)
    save(tmp_path, "._0.png")
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "again").symlink_to(tmp_path)
    data = data_of(str(tmp_path))
    assert sum(len(images) for images, _ in data.splits.values()) == 5
    said = capsys.readouterr().out
    assert f"Left out of {tmp_path}: 3 hidden (._0.png, .ipynb_checkpoints/, __MACOSX/); " in said
    assert "; 2 without an image (gone.png, notes.txt)" in said


@pytest.mark.parametrize("name", ["a.webp", "a.bmp", "a.tif", "a.gif", "a.ppm", "a.tga", "a.JPE", "a"])
def test_every_format_is_read_and_files_without_a_suffix_too(tmp_path, name):
    for seed in range(3):
        save(tmp_path, f"{seed}.png", mode="RGB", seed=seed)
    picture = Image.new("RGB", (8, 8), (10, 200, 30))
    picture.save(tmp_path / name, format=None if "." in name else "PNG")
    data = data_of(str(tmp_path), channels=3)
    found = [image.reshape(-1, 3).mean(axis=0) for images, _ in data.splits.values() for image in images]
    assert len(found) == 4 and min(np.abs(mean - (10, 200, 30)).max() for mean in found) < 8


def test_pictures_are_upright_and_sixteen_bits_are_scaled(tmp_path):
    levels = np.tile(np.uint16([0, 257 * 100, 65535, 257 * 7]), (4, 2)).repeat(2, axis=0)  # (8, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = Image.fromarray((levels // 257).astype(np.uint8))
    Image.fromarray(levels).save(tmp_path / "a.png")
    turned.save(tmp_path / "b.png", exif=exif)
    for seed in range(3):
        save(tmp_path, f"{seed}.png", seed=seed)
    data = data_of(str(tmp_path))
    found = [image[..., 0] for images, _ in data.splits.values() for image in images]
    for expected in (levels // 257, np.rot90(levels // 257, -1)):
        assert sum((image == expected).all() for image in found) == 1


def test_pixels_of_unknown_range_are_rejected(tmp_path):
    Image.fromarray(np.full((8, 8), 70_000, np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a.tif \(pixels are integers from 70000 to 70000, of unknown range\)"):
        data_of(str(tmp_path))


def test_transparent_pixels_are_white(tmp_path):
    for seed in range(3):
        save(tmp_path, f"{seed}.png", seed=seed)
    Image.new("LA", (8, 8), (0, 0)).save(tmp_path / "clear.png")
    images = np.concatenate([images for images, _ in data_of(str(tmp_path)).splits.values()])
    assert images.shape == (4, 8, 8, 1) and sum((image == 255).all() for image in images) == 1


def test_equal_images_are_on_one_side(tmp_path, capsys):
    """Ten images, each under three names: no copy of one in training is in validation or test."""
    for seed in range(10):
        for name in ("a", "b/c", "d"):
            save(tmp_path, f"{name}{seed}.png", seed=seed)
    data = data_of(str(tmp_path), val_fraction=0.2, test_fraction=0.2)
    sides = [{image.tobytes() for image in images} for images, _ in data.splits.values()]
    assert sum(len(images) for images, _ in data.splits.values()) == 30
    assert [len(side) for side in sides] == [6, 2, 2] and len(set.union(*sides)) == 10
    assert "Put 20 copies of images on the side of the first of them" in capsys.readouterr().out


def test_colours_and_palettes_become_rgb(tmp_path):
    for seed, (name, mode) in enumerate({"a.png": "RGB", "b.png": "P", "c.png": "RGBA"}.items()):
        save(tmp_path, name, mode=mode, seed=seed)
    assert data_of(str(tmp_path)).image_shape == (8, 8, 3)
    assert data_of(str(tmp_path), channels=1, image_size=12).image_shape == (12, 12, 1)


def test_images_that_do_not_fit_are_rejected(tmp_path):
    save(tmp_path, "a.png")
    save(tmp_path, "b.png", seed=1)
    save(tmp_path, "c.png", size=(10, 12))
    with pytest.raises(
        ValueError, match=r"one size \(pixels\) in .*, or image_size= .* Received: 2 of 8 x 8, 1 of 10 x 12"
    ):
        data_of(str(tmp_path))
    assert data_of(str(tmp_path), image_size=8).image_shape == (8, 8, 1)
    save(tmp_path, "d.png", mode="RGB")
    with pytest.raises(
        ValueError, match=r"one mode in .*, or channels=1 or channels=3 .* Received: 3 gray and 1 in colour"
    ):
        data_of(str(tmp_path), image_size=8)
    assert data_of(str(tmp_path), image_size=8, channels=3).image_shape == (8, 8, 3)


def test_corrupt_files_are_named_and_counted_or_skipped(tmp_path):
    for seed in range(4):
        save(tmp_path, f"{seed}.png", size=(32, 32), seed=seed)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "half.png").write_bytes((tmp_path / "0.png").read_bytes()[:400])
    (tmp_path / "text.jpg").write_bytes(b"not an image")
    named = r"skip_corrupt=True .* Received: 3 of 7 files that cannot be read.*empty.png .*half.png .*text.jpg"
    with pytest.raises(ValueError, match=named):
        data_of(str(tmp_path))
    with pytest.warns(UserWarning, match="Skipped 3 of 7 image files"):
        data = data_of(str(tmp_path), skip_corrupt=True)
    assert sum(len(images) for images, _ in data.splits.values()) == 4
    for seed in range(4):
        (tmp_path / f"{seed}.png").unlink()
    with (
        pytest.warns(UserWarning, match="Skipped 3 of 3 image files"),
        pytest.raises(ValueError, match="an image that can be read"),
    ):
        data_of(str(tmp_path), skip_corrupt=True)


def test_an_empty_folder_is_rejected(tmp_path):
    with pytest.raises(ValueError, match=r"Expected `source` to be a folder with images"):
        data_of(str(tmp_path))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": random_images(3)}, '"x_train"'),
        ({"x_train": random_images(3).astype(np.float32)}, r"`x_train` to be uint8 .* Received: x_train='float32 "),
        ({"x_train": random_images(9, (8, 8, 2))}, r"\(9, 8, 8, 2\)"),
        ({"x_train": random_images(9), "y_train": np.zeros(8)}, "a label for each of 9 images"),
        ({"x_train": random_images(9, (8, 10))}, "images that are not square"),
        ({"x_train": random_images(9, (9, 9))}, r"`image_size` to be 4 to 8 times a power of two, such as 8, 10, 12"),
        ({"x_train": random_images(2)}, "more than 2 images"),
        (
            {"x_train": random_images(9), "x_test": random_images(3, (9, 9))},
            r"`x_test` to be images of the shape \(8, 8,",
        ),
        ({"x_train": np.array([{}], object)}, r"images.npz to hold a whole array 'x_train'.*a header of object"),
    ],
)
def test_bad_arrays_are_rejected(tmp_path, arrays, message):
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        data_of(str(tmp_path / "images.npz"))


def test_a_header_that_asks_for_more_than_the_file_holds_is_rejected(tmp_path):
    header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 44, 8, 8)}
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, header)
    with zipfile.ZipFile(tmp_path / "images.npz", "w") as archive:
        archive.writestr("x_train.npy", content.getvalue() + bytes(64))
    with pytest.raises(ValueError, match=r"a header of uint8 \(17592186044416, 8, 8\), and 64 bytes"):
        data_of(str(tmp_path / "images.npz"))


def test_a_file_that_is_no_npz_is_rejected(tmp_path):
    (tmp_path / "images.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"to be an .npz file"):
        data_of(str(tmp_path / "images.npz"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"image_size": 9}, {"channels": 2}, {"batch_size": 0}, {"val_fraction": 0.0},
        {"val_fraction": 0.9, "test_fraction": 0.1},
    ],
)  # fmt: skip
def test_bad_data_arguments_are_rejected(arguments):
    with pytest.raises(ValueError, match="Expected `"):
        MNISTData("sample", **arguments)


# ---- model


def test_the_networks_are_the_tutorials():
    """The numbers of parameters that `summary()` gives in the TensorFlow DCGAN tutorial."""
    generator, discriminator = Generator((28, 28, 1), 64), Discriminator((28, 28, 1), 64, 0.3)
    generator.build((None, 100))
    discriminator.build((None, 28, 28, 1))
    assert generator.count_params() == 2_330_944 and discriminator.count_params() == 212_865
    assert sum(int(np.prod(v.shape)) for v in generator.trainable_variables) == 2_305_472


@pytest.mark.parametrize(
    ("size", "count", "side"),
    [(8, 1, 4), (12, 1, 6), (14, 1, 7), (16, 2, 4), (28, 2, 7), (32, 2, 8), (64, 3, 8), (96, 4, 6), (128, 4, 8)],
)
def test_sizes_are_derived(size, count, side):
    assert halvings(size) == count and size >> count == side
    generator, discriminator = Generator((size, size, 3), 2), Discriminator((size, size, 3), 2, 0.0)
    images = generator(np.zeros((2, 5), np.float32))
    assert images.shape == (2, size, size, 3) and generator.side == side
    assert discriminator(images).shape == (2,)
    assert len(generator.convolutions) == len(discriminator.convolutions) == count


@pytest.mark.parametrize("size", [0, 4, 9, 30, 36, 100])
def test_sizes_that_do_not_come_out_even_are_rejected(size):
    with pytest.raises(ValueError, match="`image_size`"):
        check_image_size(size)


def normalised(layer, x, **arguments):
    """(outputs, gradient, moving mean, moving variance) of a call in training."""
    factors = np.random.default_rng(9).normal(size=x.shape).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True, **arguments)
        loss = tf.reduce_sum(y * factors)
    return y, tape.gradient(loss, x), layer.moving_mean.numpy(), layer.moving_variance.numpy()


@pytest.mark.parametrize("shape", [(6, 5), (6, 3, 4, 5)])
def test_batch_norm_of_full_batches_is_keras(shape):
    x = tf.constant(np.random.default_rng(0).normal(2.0, 3.0, shape), tf.float32)
    ours = normalised(BatchNormalization(), x, weight=tf.ones(6))
    theirs = normalised(keras.layers.BatchNormalization(), x)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def test_batch_norm_does_not_see_padding():
    numbers = np.random.default_rng(0)
    x = numbers.normal(2.0, 3.0, (6, 3, 4, 5)).astype(np.float32)
    padded = np.concatenate([x, 100 * numbers.normal(size=(3, 3, 4, 5)).astype(np.float32)])
    y, _, *moving = normalised(BatchNormalization(), tf.constant(x), weight=tf.ones(6))
    again, _, *moving_again = normalised(
        BatchNormalization(), tf.constant(padded), weight=tf.constant([1.0] * 6 + [0.0] * 3)
    )
    np.testing.assert_allclose(again[:6], y, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moving_again, moving, rtol=1e-6)


def test_batch_norm_of_padding_alone_keeps_the_moving_averages():
    layer = BatchNormalization()
    layer(tf.random.stateless_normal((4, 3), (0, 0)), weight=tf.ones(4), training=True)
    before = [layer.moving_mean.numpy(), layer.moving_variance.numpy()]
    y = layer(tf.ones((4, 3)), weight=tf.zeros(4), training=True)
    np.testing.assert_array_equal([layer.moving_mean.numpy(), layer.moving_variance.numpy()], before)
    assert np.isfinite(y).all()


# ---- losses


def test_the_non_saturating_losses_by_hand():
    real, fake = np.float32([2.0, -1.0]), np.float32([0.5, -3.0])

    def nats(label, logit):
        p = 1 / (1 + np.exp(-logit.astype(np.float64)))
        return -label * np.log(p) - (1 - label) * np.log(1 - p)

    discriminator, generator = non_saturating(real, fake, 0.0)
    np.testing.assert_allclose(discriminator, nats(1.0, real) + nats(0.0, fake), rtol=1e-6)
    np.testing.assert_allclose(generator, nats(1.0, fake), rtol=1e-6)
    smoothed, same = non_saturating(real, fake, 0.1)
    np.testing.assert_allclose(smoothed, nats(0.9, real) + nats(0.0, fake), rtol=1e-6)
    np.testing.assert_array_equal(same, generator)


def test_the_hinge_losses_by_hand():
    discriminator, generator = hinge(np.float32([2.0, -1.0, 0.25]), np.float32([0.5, -3.0, -0.75]), 0.0)
    np.testing.assert_allclose(discriminator, [0.0 + 1.5, 2.0 + 0.0, 0.75 + 0.25])
    np.testing.assert_allclose(generator, [-0.5, 3.0, 0.75])


@pytest.mark.parametrize("loss", ["non_saturating", "hinge"])
def test_the_sums_leave_padding_out(npz, loss):
    task, batch = task_of(data_of(npz, batch_size=16), loss=loss)
    batch["weight"] = tf.constant([1.0] * 5 + [0.0] * 11)
    noise = in_step(task.noise, batch)
    task.noise = lambda batch: noise[: len(batch["weight"])]
    first = {name: rows[:5] for name, rows in batch.items()}
    whole, part = (as_metrics(task.adversarial_losses(rows, training=True), rows) for rows in (batch, first))
    for name in whole:
        np.testing.assert_allclose(whole[name], part[name], rtol=1e-5)
        assert float(whole[name][1]) == 5


def two_tapes(task, batch):
    """Gradients of the means as the TensorFlow tutorial takes them: (generator's, discriminator's)."""
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    with tf.GradientTape() as of_generator, tf.GradientTape() as of_discriminator:
        images = task.generator(in_step(task.noise, batch), batch["weight"], training=True)
        real = task.discriminator(batch["image"], training=True)[:, None]
        fake = task.discriminator(images, training=True)[:, None]
        generator_loss = cross_entropy(tf.ones_like(fake), fake)
        discriminator_loss = cross_entropy(tf.ones_like(real), real) + cross_entropy(tf.zeros_like(fake), fake)
    return (
        of_generator.gradient(generator_loss, [v.value for v in task.generator.trainable_variables]),
        of_discriminator.gradient(discriminator_loss, [v.value for v in task.discriminator.trainable_variables]),
    )


def test_one_shared_pass_equals_the_tutorials_two_tapes(npz):
    task, batch = task_of(data_of(npz, batch_size=16))
    gradients, sums = in_step(small_gradients, task, task.adversarial_losses, batch)
    for name, expected in zip(("generator", "discriminator"), two_tapes(task, batch), strict=True):
        assert float(sums[f"{name}_loss"].weight) == 16
        for ours, theirs in zip(gradients[name], expected, strict=True):
            np.testing.assert_allclose(ours / 16, theirs, rtol=2e-4, atol=1e-7)


def copies(layer):
    return [np.asarray(v).copy() for v in layer.trainable_variables]


def test_an_update_by_hand(npz):
    task, batch = task_of(data_of(npz, batch_size=16))
    before, gradients = [copies(task.generator), copies(task.discriminator)], two_tapes(task, batch)
    in_step(task.minimize, task.adversarial_losses, batch)
    for layer, old, of_layer in zip((task.generator, task.discriminator), before, gradients, strict=True):
        for now, value, gradient in zip(copies(layer), old, of_layer, strict=True):
            np.testing.assert_allclose(now, value - 0.1 * gradient.numpy(), rtol=1e-5, atol=1e-6)


def test_critic_steps_update_the_discriminator_first(npz):
    task, batch = task_of(data_of(npz, batch_size=16), critic_steps=2)
    twin, _ = task_of(data_of(npz, batch_size=16))
    for variable, other in zip(twin.variables, task.variables, strict=True):
        variable.assign(other)
    sums = in_step(task.train_step, batch)
    assert [int(o.iterations) for o in task.optimizers.values()] == [1, 2]
    assert set(sums) == {"generator_loss", "discriminator_loss", "real_accuracy", "fake_accuracy"}
    draws = in_step(lambda: [twin.noise(batch) for _ in range(3)])
    for draw in draws[:2]:  # two updates of the discriminator, each with noise of its own
        with tf.GradientTape() as tape:
            fake = twin.discriminator(twin.generator(draw, batch["weight"], training=True))
            loss, _ = non_saturating(twin.discriminator(batch["image"]), fake, 0.0)
            loss = tf.reduce_mean(loss)
        variables = twin.discriminator.trainable_variables
        for variable, gradient in zip(variables, tape.gradient(loss, [v.value for v in variables]), strict=True):
            variable.assign(variable - 0.1 * gradient)
    with tf.GradientTape() as tape:  # then one of the generator, by the new discriminator
        fake = twin.discriminator(twin.generator(draws[2], batch["weight"], training=True))
        loss = tf.reduce_mean(tf.nn.softplus(-fake))
    variables = twin.generator.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, [v.value for v in variables]), strict=True):
        variable.assign(variable - 0.1 * gradient)
    assert float(sums["generator_loss"].total) == pytest.approx(16 * float(loss), rel=1e-5)
    for ours, theirs in zip(task.variables, twin.variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_padding_changes_nothing(npz):
    """43 images in a batch of 43, and of 60 with 17 rows of padding."""
    results = []
    for batch_size in (43, 60):
        task, _ = task_of(data_of(npz, batch_size=batch_size), dropout=0.0)
        logs = dict(updated(task, task.data.train_dataset(), steps=3))
        results.append((logs, [np.asarray(v) for v in task.variables]))
    (logs, state), (padded_logs, padded_state) = results
    assert logs == pytest.approx(padded_logs, rel=1e-5)
    for ours, theirs in zip(state, padded_state, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_two_replicas_are_one_device(npz):
    """Batch norm synchronised, an uneven last batch, clipping on, critic steps."""
    runs = []
    for devices in (1, 2):
        recorder, task = Recorder(), DCGAN(**TINY, critic_steps=1, generator_learning_rate=1e-3)
        quiet(max_steps=8, devices=devices, gradient_clip_val=0.5, log_every_n_steps=1, callbacks=[recorder]).fit(
            task, MNISTData(npz, batch_size=8)
        )
        runs.append(([record["generator_loss"] for record in recorder.logs], weights(task), recorder.validations))
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-5)
    assert runs[0][2][-1] == pytest.approx(runs[1][2][-1], rel=1e-4)
    for ours, theirs in zip(runs[0][1], runs[1][1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"noise_dim": 0}, {"generator_filters": 0}, {"discriminator_filters": 0}, {"dropout": 1.0}, {"loss": "hing"},
        {"label_smoothing": 1.0}, {"loss": "hinge", "label_smoothing": 0.1}, {"critic_steps": -1},
        {"generator_learning_rate": 0.0}, {"discriminator_learning_rate": 0.0}, {"beta_1": 1.0},
    ],
)  # fmt: skip
def test_bad_task_arguments_are_rejected(arguments):
    with pytest.raises(ValueError, match="Expected `"):
        DCGAN(**arguments)


# ---- images


def test_one_seed_one_set_of_images(trained):
    _, task, _ = trained
    images = task.generate(5, seed=7)
    assert images.shape == (5, 8, 8, 1) and images.dtype == np.uint8
    np.testing.assert_array_equal(task.generate(3, seed=7), images[:3])
    assert len(np.unique(np.concatenate([images, task.generate(5, seed=8)]), axis=0)) == 10
    many = task.generate(300, seed=7)
    assert many.shape[0] == 300 and np.abs(many[:5].astype(int) - images).max() <= 1


def test_pixels_are_rounded(trained):
    _, task, _ = trained
    exact = task.generator(task.seeded_noise(4, 0)).numpy().astype(np.float64)
    assert np.abs(task.generate(4) - (exact + 1) * 127.5).max() <= 0.501


def test_interpolation_goes_from_one_image_to_the_other(trained):
    _, task, _ = trained
    way = task.interpolate(6, seed=3)
    ends = task.generate(2, seed=3)
    assert np.abs(way[[0, -1]].astype(int) - ends).max() <= 1
    steps = np.abs(np.diff(way.astype(float), axis=0)).mean(axis=(1, 2, 3))
    assert (steps < np.abs(ends[0].astype(float) - ends[1]).mean()).all()
    np.testing.assert_array_equal(task.between(*task.seeded_noise(2, 3), np.array([0.4])), way[2:3])


def test_slerp_turns_on_the_sphere():
    way = slerp(np.float32([1, 0]), np.float32([0, 1]), np.array([0.0, 1 / 3, 0.5, 1.0]))
    expected = [[1, 0], [np.sqrt(3) / 2, 0.5], [np.sqrt(0.5)] * 2, [0, 1]]
    np.testing.assert_allclose(way, expected, atol=1e-6)
    np.testing.assert_allclose(slerp(np.float32([1, 2]), np.float32([2, 4]), np.array([0.5])), [[1.5, 3.0]])


@pytest.mark.parametrize(("name", "arguments"), [("generate", (0,)), ("interpolate", (1,)), ("generate", (2, -1))])
def test_bad_numbers_are_rejected(trained, name, arguments):
    with pytest.raises(ValueError, match="Expected `"):
        getattr(trained[1], name)(*arguments)


def test_a_grid_has_its_images_in_rows():
    images = np.arange(1, 6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 4, 1), np.uint8)
    whole = make_grid(images)
    assert whole.shape == (2 + 2 * (3 + 2), 2 + 3 * (4 + 2), 1)
    assert whole[2::5, 2::6, 0].tolist() == [[1, 2, 3], [4, 5, 0]]
    assert whole[:2].max() == 0 and whole[:, :2].max() == 0 and whole[5:7].max() == 0


def test_samples_are_grids_and_their_animation(trained):
    trainer, task, _ = trained
    folder = trainer.run_dir / "samples"
    assert sorted(os.listdir(folder)) == ["animation.gif", *(f"epoch_000{n}.png" for n in (1, 2, 3))]
    with Image.open(folder / "animation.gif") as animation:
        assert animation.n_frames == 3
    with Image.open(folder / "epoch_0003.png") as last:
        factor = last.width // (8 * (8 + 2) + 2)
        small = np.asarray(last)[::factor, ::factor]
    np.testing.assert_array_equal(small, make_grid(task.generate(64))[..., 0])


def test_predict_writes_a_new_file(trained, tmp_path):
    _, task, _ = trained
    out = str(tmp_path / "images.png")
    assert task.predict_command(num=5, out=out) == f"Wrote {out}: 5 images"
    with pytest.raises(FileExistsError, match="a new file"):
        task.predict_command(out=out)
    with pytest.raises(FileNotFoundError, match="an existing folder"):
        task.predict_command(out=str(tmp_path / "no" / "images.png"))
    task.predict_command(num=4, out=str(tmp_path / "way.png"), interpolate=True)
    assert (tmp_path / "way.png").exists()


def test_a_run_is_enough_to_make_images(trained):
    trainer, task, _ = trained
    again = DCGAN.load_from_checkpoint(trainer.run_dir)
    assert again.hparams == task.hparams
    np.testing.assert_array_equal(again.generate(4), task.generate(4))


def test_predicted_images_are_those_of_the_addresses(trained, npz):
    _, task, data = trained
    images = quiet().predict(task, data)
    assert images.shape == (12, 8, 8, 1)
    with lk.random.keyed_draws(tf.constant([[index, 0] for index in range(12)], tf.int64), 0, "predict"):
        noise = task.noise(tf.zeros((12, 1)))
    np.testing.assert_allclose(images, task.generator(noise), rtol=1e-4, atol=1e-5)


def test_validation_has_the_distance_of_coarse_pixels(trained):
    """Of images and noise as the batches have them, without the rows that pad the last batch."""
    _, task, data = trained
    real, generated = [], []
    for batch, address in data.val_dataset().stream(epochs=1, addresses=True):
        kept = batch["weight"] > 0
        with lk.random.keyed_draws(address, 0, "val"):
            images = task.generator(task.noise(batch))
        real.append(tf.boolean_mask(batch["image"], kept) / 2 + 0.5)
        generated.append(tf.boolean_mask(images, kept) / 2 + 0.5)
    expected = lk.metrics.PixelFrechetDistance.from_images(np.concatenate(real), np.concatenate(generated)).result()
    found = quiet().validate(task, data)["val_pixel_frechet_distance"]
    assert found == pytest.approx(expected, rel=1e-3) and found > 0


def test_a_run_is_evaluated_by_its_own_data(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(lk.metrics.image_classifier, "MIN_UPDATES", 1)
    trainer, _, _ = trained
    out = tmp_path / "figures.json"
    main(["--ckpt_path", str(trainer.run_dir), "--num", "20", "--out", str(out)])
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["images"] == 12 and set(figures) >= {"generated", "real", "noise", "classifier_accuracy"}
    assert table(figures) in capsys.readouterr().out


def test_images_without_labels_are_not_evaluated(tmp_path):
    np.savez(tmp_path / "images.npz", x_train=random_images(20))
    task, _ = task_of(data_of(str(tmp_path / "images.npz"), batch_size=4), kind=DCGAN)
    with pytest.raises(ValueError, match="data with labels"):
        evaluate(task)


def test_it_learns_one_image(tmp_path):
    """The generator comes near the only image there is."""
    ramp = np.tile(np.linspace(0, 255, 8).astype(np.uint8), (900, 8, 1))
    np.savez(tmp_path / "images.npz", x_train=ramp)
    rates = {"generator_learning_rate": 2e-3, "discriminator_learning_rate": 2e-3, "beta_1": 0.5}
    task = DCGAN(noise_dim=4, generator_filters=4, discriminator_filters=8, dropout=0.0, **rates)
    data, errors = MNISTData(str(tmp_path / "images.npz"), batch_size=8), []

    def measure(logs=None):
        errors.append(np.abs(task.generate(8).astype(float) - ramp[:8, ..., None]).mean())

    before_and_after = keras.callbacks.LambdaCallback(on_train_begin=measure, on_train_end=measure)
    quiet(max_steps=100, limit_val_batches=0, callbacks=[before_and_after]).fit(task, data)
    assert errors[1] < 0.6 * errors[0]


def test_an_example_is_an_image():
    data = data_of("sample")
    (batch,) = data.val_dataset().stream(steps=1, epochs=1).as_numpy_iterator()
    shown = data.show_example({name: one[0] for name, one in batch.items()})
    assert shown.dtype == np.uint8 and np.array_equal(shown, data.splits["validation"][0][0])
