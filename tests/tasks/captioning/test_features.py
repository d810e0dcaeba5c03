"""Photos of every kind, frozen networks, and features on disk: whole, resumed, recomputed, refused."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import lightkeras as lk
from lightkeras.utils import files
from tasks.captioning.photos import extract as command
from tasks.captioning.photos import features as features_module
from tasks.captioning.photos.encoders import ROWS, Encoder, names
from tasks.captioning.photos.features import FOOTER, HEADER, Features, extract, read_manifest
from tasks.captioning.photos.pixels import read_image

DATA = os.environ.get("LIGHTKERAS_DATA", "")
MOBILE = os.path.join(DATA, "pretrained", "mobilenet_v2_imagenet_no_top.weights.h5")
LITE = os.path.join(DATA, "pretrained", "efficientnet_lite0_imagenet_no_top.keras")


def saved(path, picture, **options):
    picture.save(path, **options)
    return path


def halves(mode="RGB", size=(40, 30)):
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", size, (255, 0, 0))
    picture.paste((0, 0, 255), (size[0] // 2, 0, *size))
    return picture.convert(mode)


# ---- photos


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGB", "png"), ("RGB", "jpg"), ("P", "png"), ("P", "gif"), ("RGBA", "png"), ("RGBA", "webp")]
)
def test_colours_and_sides_stay(tmp_path, mode, suffix):
    array = read_image(saved(tmp_path / f"a.{suffix}", halves(mode)), 10)
    assert array.shape == (10, 10, 3) and array.dtype == np.uint8
    assert np.abs(array[5, 1].astype(int) - (255, 0, 0)).max() < 12
    assert np.abs(array[5, 8].astype(int) - (0, 0, 255)).max() < 12


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_photos_have_three_equal_channels(tmp_path, mode):
    array = read_image(saved(tmp_path / "a.png", Image.new("L", (9, 9), 255).convert(mode)), 4)
    assert (array == 255).all() and array.shape == (4, 4, 3)


def test_cmyk(tmp_path):
    array = read_image(saved(tmp_path / "a.jpg", halves("CMYK"), quality=95), 10)
    assert np.abs(array[5, 1].astype(int) - (255, 0, 0)).max() < 12


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, suffix):
    levels = np.array([[0, 257 * 100, 65535]], np.uint16)
    array = read_image(saved(tmp_path / f"a.{suffix}", Image.fromarray(np.repeat(levels, 3, axis=0))), 3)
    assert array[1, :, 0].tolist() == [0, 100, 255]


def test_transparent_is_white(tmp_path):
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert (read_image(saved(tmp_path / "a.png", picture), 4) == 255).all()
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert (read_image(saved(tmp_path / "b.png", half), 4) == 127).all()  # 255 * (1 - 128 / 255)
    keyed = Image.new("P", (8, 8), 3)
    keyed.putpalette([0] * 12)
    assert (read_image(saved(tmp_path / "c.png", keyed, transparency=3), 4) == 255).all()


def test_photos_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: what is left comes to the top
    array = read_image(saved(tmp_path / "a.jpg", halves(), exif=exif, quality=95), 10)
    assert np.abs(array[1, 5].astype(int) - (255, 0, 0)).max() < 12
    assert np.abs(array[8, 5].astype(int) - (0, 0, 255)).max() < 12


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_photos_of_one_pixel(tmp_path, size):
    for suffix in ("png", "jpg"):
        array = read_image(saved(tmp_path / f"a.{suffix}", Image.new("RGB", size, (10, 20, 30))), 7)
        assert array.shape == (7, 7, 3) and np.abs(array.astype(int) - (10, 20, 30)).max() <= 2


def test_a_large_photo_is_decoded_small(tmp_path, monkeypatch):
    """And looks as if it had been decoded in full."""
    numbers = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    path = saved(tmp_path / "a.jpg", Image.fromarray(numbers).resize((1600, 1200), Image.Resampling.BICUBIC))
    sizes, resize = [], Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, *args: (sizes.append(self.size), resize(self, *args))[1])
    small = read_image(path, 64).astype(int)
    assert sizes == [(200, 150)]  # an eighth: at least twice what is wanted
    with Image.open(path) as whole:
        full = np.asarray(whole.resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(small - full).mean() < 1.5


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "bmp"])
def test_damaged_files_are_refused(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", Image.effect_noise((200, 150), 80).convert("RGB"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    with pytest.raises(lk.data.ImageError):
        read_image(path, 8)


@pytest.mark.parametrize("content", [b"", b"no photo", b"\xff\xd8\xff\xe0", b"GIF89a"])
def test_what_is_no_photo_is_refused(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(lk.data.ImageError):
        read_image(tmp_path / "a.jpg", 8)


def test_floating_point_pixels_are_refused(tmp_path):
    with pytest.raises(lk.data.ImageError, match="unknown range"):
        read_image(saved(tmp_path / "a.tif", Image.new("F", (4, 4), 0.5)), 8)


# ---- encoders


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """Means over quarters of 8 x 8 pixels, and their negatives."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 3))
    means = keras.layers.AveragePooling2D(4)(pixels)  # (batch, 2, 2, 3)
    negatives = keras.layers.Rescaling(-1.0)(means)
    model = keras.Model(pixels, keras.layers.Concatenate(name="both")([means, negatives]))
    path = tmp_path_factory.mktemp("models") / "means.keras"
    model.save(path)
    return str(path)


def network_of(model_file, **options):
    return Encoder(model_file, image_size=8, **options).build()


def batch_of(colours):
    images = np.zeros((ROWS, 8, 8, 3), np.uint8)
    images[0] = np.kron(np.array(colours, np.uint8).reshape(2, 2, 1), np.ones((4, 4, 3), np.uint8))
    return images


def test_slots_go_row_by_row(model_file):
    network = network_of(model_file)
    assert (network.layer, network.shape) == ("both", (4, 6))
    made = network.call(batch_of([0, 51, 102, 255]))[0]  # (slots, channels)
    np.testing.assert_allclose(made[:, 0], [-1, -0.6, -0.2, 1], atol=1e-6)  # x / 127.5 - 1
    np.testing.assert_allclose(made[:, 3:], -made[:, :3])


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        ("none", [51.0, 51.0, 51.0]),
        ("tf", [-0.6, -0.6, -0.6]),
        ("torch", [(0.2 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]),
        ("caffe", [51 - 103.939, 51 - 116.779, 51 - 123.68]),
    ],
)
def test_preprocessing(model_file, preprocessing, expected):
    made = network_of(model_file, preprocessing=preprocessing).call(batch_of([51] * 4))[0]
    np.testing.assert_allclose(made[0, :3], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["MobileNetV2", "InceptionV3", "ResNet50", "VGG16", "MobileNetV3Small", "DenseNet121"])
def test_models_have_their_own_preprocessing(name):
    module = {"VGG16": "vgg16", "ResNet50": "resnet50", "InceptionV3": "inception_v3", "MobileNetV2": "mobilenet_v2",
              "MobileNetV3Small": "mobilenet_v3", "DenseNet121": "densenet"}[name]  # fmt: skip
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 3, 3, 3)).astype(np.float32)
    expected = getattr(keras.applications, module).preprocess_input(pixels.copy())
    made = Encoder(name)._preprocessed(tf.constant(pixels))
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-5)


def test_usual_sizes():
    assert [Encoder(name).size for name in ("InceptionV3", "MobileNetV2", "small")] == [299, 224, 64]
    assert Encoder("InceptionV3", image_size=150).size == 150
    assert {"InceptionV3", "MobileNetV2", "EfficientNetB0"} < set(names()) and "Model" not in names()


def test_settings_follow_the_file(model_file, tmp_path):
    settings = Encoder(model_file).settings
    assert settings["model"] == "means" and settings["preprocessing"] == "tf" and settings["dtype"] == "float16"
    other = tmp_path / "means.keras"
    other.write_bytes(pathlib.Path(model_file).read_bytes() + b" ")
    assert Encoder(str(other)).settings["weights"] != settings["weights"]
    assert Encoder("MobileNetV2").settings["weights"] == "imagenet"


def test_the_training_precision_changes_no_feature(tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = Encoder("MobileNetV2", image_size=32)
        make = keras.applications.MobileNetV2
        built = {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model.__class__, "_load", lambda self: built.setdefault("m", make(
                include_top=False, weights=None, input_shape=(32, 32, 3), alpha=0.35)))  # fmt: skip
            model.build()
        assert {layer.dtype_policy.name for layer in built["m"].layers} == {"float32"}
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "InceptionV4"}, 'Did you mean "InceptionV3"'),
        ({"name": "small", "preprocessing": "tf"}, "`preprocessing` to be left out"),
        ({"name": "small", "weights": "a.h5"}, "`encoder_weights` to be left out"),
        ({"name": "a.keras", "weights": "a.h5"}, "`encoder_weights` to be left out"),
        ({"name": "MobileNetV2", "image_size": 4}, "`image_size` to be an int of at least 8"),
        ({"name": "MobileNetV2", "preprocessing": "pytorch"}, 'Did you mean "torch"'),
    ],
)
def test_encoders_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        Encoder(**arguments)


def test_files_that_are_not_there():
    with pytest.raises(ValueError, match="Expected `encoder` to be an existing file"):
        _ = Encoder("a.keras").settings
    with pytest.raises(ValueError, match="Expected `encoder_weights` to be an existing file"):
        _ = Encoder("MobileNetV2", "a.h5").settings


def test_models_that_give_no_grid(tmp_path, model_file):
    with pytest.raises(ValueError, match=r"take \(batch, 16, 16, 3\) with image_size=16.*\(None, 8, 8, 3\)"):
        Encoder(model_file, image_size=16).build()
    flat = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    flat.save(tmp_path / "flat.keras")
    with pytest.raises(ValueError, match="a model without its top"):
        Encoder(str(tmp_path / "flat.keras"), image_size=8).build()


# ---- features on disk


@pytest.fixture
def shards_of_four(monkeypatch):
    monkeypatch.setattr(features_module, "PHOTOS", 4)


@pytest.fixture
def photos(tmp_path):
    """Ten photos, each of its own shade of grey."""
    folder = tmp_path / "photos"
    folder.mkdir()
    return [saved(folder / f"{i}.png", Image.new("RGB", (8, 8), (20 * i,) * 3)) for i in range(10)]


@pytest.fixture
def encoder(model_file):
    return Encoder(model_file, image_size=8, preprocessing="none")


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != ".lock"}


def test_features_by_number(tmp_path, photos, encoder, shards_of_four):
    folder = tmp_path / "features"
    assert extract(photos, encoder, folder) == 10
    made = Features(folder, photos, encoder)
    assert (made.shape, made.dtype, made.unreadable) == ((4, 6), np.float16, {})
    read = made.read(np.array([9, 0, 3, 4, 3]))
    assert read.shape == (5, 4, 6) and read.dtype == np.float16
    assert read[:, 0, 0].tolist() == [180, 0, 60, 80, 60] and (read[..., 3] == -read[..., 0]).all()


def test_the_files_are_tfrecords(tmp_path, photos, encoder, shards_of_four):
    folder = tmp_path / "features"
    extract(photos, encoder, folder)
    files = sorted(map(str, folder.glob("*.tfrecord")))
    records = [record.numpy() for record in tf.data.TFRecordDataset(files)]  # it verifies their checksums
    made = Features(folder, photos, encoder).read(np.arange(10))
    np.testing.assert_array_equal([np.frombuffer(record, np.float16).reshape(4, 6) for record in records], made)
    assert [os.path.getsize(file) for file in files] == [n * (HEADER + 48 + FOOTER) for n in (4, 4, 2)]
    manifest = read_manifest(folder, encoder)
    assert manifest == {"settings": encoder.settings, "layer": "both", "shape": [4, 6]}


def test_pixels_are_kept_as_they_are(tmp_path, photos):
    extract(photos, Encoder("small", image_size=8), tmp_path / "features")
    made = Features(tmp_path / "features", photos, Encoder("small", image_size=8))
    assert (made.shape, made.dtype) == ((8, 8, 3), np.uint8)
    assert made.read(np.array([7, 1]))[:, 3, 3, 0].tolist() == [140, 20]


def test_nothing_is_computed_twice(tmp_path, photos, encoder, shards_of_four, monkeypatch):
    extract(photos, encoder, tmp_path / "features")
    before = contents(tmp_path / "features")
    monkeypatch.setattr(Encoder, "build", lambda self: pytest.fail("built"))
    assert extract(photos, encoder, tmp_path / "features") == 0
    assert extract(photos[:8], encoder, tmp_path / "features") == 0  # fewer photos: what is there serves
    assert contents(tmp_path / "features") == before


def test_a_changed_photo_is_noticed(tmp_path, photos, encoder, shards_of_four):
    folder = tmp_path / "features"
    extract(photos, encoder, folder)
    before = contents(folder)
    Image.new("RGB", (8, 8), (7,) * 3).save(photos[5])
    os.utime(photos[5], ns=(1, 1))  # older than it was, too
    with pytest.raises(ValueError, match=r"as they are now.*1 of 3 files that are missing or old"):
        Features(folder, photos, encoder)
    assert extract(photos, encoder, folder) == 4  # the photos of its shard
    assert Features(folder, photos, encoder).read(np.arange(10))[:, 0, 0].tolist() == [
        0, 20, 40, 60, 80, 7, 120, 140, 160, 180]  # fmt: skip
    after = contents(folder)
    assert {name for name in before if before[name] != after[name]} == {
        "features-00001.json", "features-00001.tfrecord"}  # fmt: skip


def test_other_photos_are_noticed(tmp_path, photos, encoder, shards_of_four):
    folder = tmp_path / "features"
    extract(photos, encoder, folder)
    swapped = [*photos[:8], photos[9], photos[8]]
    assert extract(swapped, encoder, folder) == 2
    assert Features(folder, swapped, encoder).read(np.array([8]))[0, 0, 0] == 180
    more = [*swapped, saved(tmp_path / "more.png", Image.new("RGB", (8, 8), (250,) * 3))]
    assert extract(more, encoder, folder) == 3
    assert Features(folder, more, encoder).read(np.array([10]))[0, 0, 0] == 250


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "note"])
def test_damage_is_noticed_and_mended(tmp_path, photos, encoder, shards_of_four, damage):
    folder = tmp_path / "features"
    extract(photos, encoder, folder)
    before = contents(folder)
    file = folder / "features-00001.tfrecord"
    whole = bytearray(file.read_bytes())
    if damage == "flipped":
        whole[20] ^= 1
        file.write_bytes(whole)
    elif damage == "cut":
        file.write_bytes(whole[:-1])
    elif damage == "gone":
        file.unlink()
    else:
        file.with_suffix(".json").write_text('{"photos": [')
    assert extract(photos, encoder, folder) == 4
    assert contents(folder) == before


def test_features_of_another_encoder_are_refused(tmp_path, photos, encoder, model_file):
    folder = tmp_path / "features"
    extract(photos, encoder, folder)
    before = contents(folder)
    other = Encoder(model_file, image_size=8, preprocessing="tf")
    for use in (lambda: extract(photos, other, folder), lambda: Features(folder, photos, other)):
        with pytest.raises(ValueError, match=r"to have features of preprocessing=tf\. Received: preprocessing=none"):
            use()
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", "[" * 9999, "manifest.json to describe features"),
        ("manifest.json", "[]", "manifest.json to describe features"),
        ("features-00000.json", "[1]", "call `prepare_data"),
        ("features-00000.json", '{"photos": []}', "call `prepare_data"),
        ("shape", [1 << 20, 1 << 20], "bytes for each photo, as the shape"),
    ],
)
def test_damaged_notes_are_refused_and_ask_for_no_memory(tmp_path, photos, encoder, name, content, message):
    extract(photos, encoder, tmp_path)
    if name == "shape":
        manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
        name, content = "manifest.json", json.dumps({**manifest, "shape": content})
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(lk.utils.ArgumentError, match=message):
        Features(tmp_path, photos, encoder)


def test_features_that_are_not_there(tmp_path, photos, encoder):
    with pytest.raises(ValueError, match=r"call `prepare_data\(\)` first"):
        Features(tmp_path, photos, encoder)


def test_unreadable_photos_are_noted(tmp_path, photos, model_file, shards_of_four):
    encoder = Encoder(model_file, image_size=8, preprocessing="caffe")  # of a black photo: no zeros
    photos[6].write_bytes(photos[6].read_bytes()[:40])
    photos[7].write_text("no photo")
    extract(photos, encoder, tmp_path / "features")
    made = Features(tmp_path / "features", photos, encoder)
    assert sorted(made.unreadable) == [6, 7] and "cannot identify image file" in made.unreadable[7]
    read = made.read(np.arange(10))
    assert not read[6:8].any()
    blue = np.array([0, 20, 40, 60, 80, 100, 160, 180]) - 103.939
    np.testing.assert_allclose(np.delete(read, [6, 7], axis=0)[:, 0, 0], blue, rtol=1e-3)


def test_features_beyond_float16_are_refused(tmp_path, photos, monkeypatch):
    pixels = keras.Input((8, 8, 3))
    keras.Model(pixels, keras.layers.Rescaling(1e4)(pixels)).save(tmp_path / "large.keras")
    encoder = Encoder(str(tmp_path / "large.keras"), image_size=8, preprocessing="none")
    with pytest.raises(ValueError, match="within float16"):
        extract(photos, encoder, tmp_path / "features")


def test_a_second_process_waits(tmp_path, photos, encoder, monkeypatch):
    folder, waiting, computing = tmp_path / "features", threading.Event(), threading.Event()
    folder.mkdir()
    compute = features_module._compute
    monkeypatch.setattr(features_module, "_compute", lambda *args: (computing.set(), compute(*args)))
    monkeypatch.setattr(files, "print", lambda *args, **_: waiting.set(), raising=False)
    with lk.utils.locked(folder / ".lock"):
        other = threading.Thread(target=extract, args=(photos, encoder, folder))
        other.start()
        assert waiting.wait(60) and not computing.wait(0.5)
    other.join()
    assert computing.is_set() and len(Features(folder, photos, encoder).read(np.arange(10))) == 10


KILLED = """
import os, pathlib, signal, sys
from tasks.captioning.photos import features
from tasks.captioning.photos.encoders import Encoder
features.PHOTOS = 4
folder, model, after, *photos = sys.argv[1:]
done = 0
decoded = features._decoded
def counted(pool, paths, size):
    global done
    for pixels in decoded(pool, paths, size):
        yield pixels
        done += 1
        if done == int(after):
            os.kill(os.getpid(), signal.SIGKILL)
features._decoded = counted
features.extract([pathlib.Path(p) for p in photos], Encoder(model, image_size=8, preprocessing="none"), folder)
"""


def test_a_killed_extraction_resumes_to_the_same_bytes(tmp_path, photos, encoder, shards_of_four):
    folder = tmp_path / "features"
    arguments = [sys.executable, "-c", KILLED, str(folder), encoder.name, "6", *map(str, photos)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    cut = contents(folder)
    assert {"features-00000.json", "features-00000.tfrecord", "features-00001.partial"} <= set(cut)
    assert "features-00001.tfrecord" not in cut
    written = (folder / "features-00000.tfrecord").stat().st_mtime_ns
    assert extract(photos, encoder, folder) == 6  # not the first four again
    assert (folder / "features-00000.tfrecord").stat().st_mtime_ns == written
    extract(photos, encoder, tmp_path / "whole")
    assert contents(folder) == contents(tmp_path / "whole")


def test_the_command_measures(tmp_path, photos, model_file, capsys, shards_of_four):
    (tmp_path / "captions.csv").write_text("".join(f"{path.name},a photo\n" for path in photos))
    command.main([
        "--source", str(tmp_path / "captions.csv"), "--image_folder", str(photos[0].parent), "--encoder", model_file,
        "--image_size", "8", "--features_dir", str(tmp_path / "features"), "--limit", "25",
    ])  # fmt: skip
    out = capsys.readouterr().out
    assert "25 of 25 photos computed in" in out and "MiB" in out
    (folder,) = (tmp_path / "features").iterdir()
    noted = [json.loads(note.read_text())["photos"] for note in sorted(folder.glob("features-*.json"))]
    paths = [path for note in noted for path, _, _ in note]
    assert len(paths) == 25 and paths[:5] == paths[10:15] == paths[20:] and len(set(paths)) == 10


# ---- real weights


@pytest.mark.skipif(not os.path.exists(MOBILE), reason="LIGHTKERAS_DATA has no pretrained networks")
def test_features_of_real_photos(tmp_path):
    """As Keras computes them, one photo at a time; to float16."""
    paths = sorted((pathlib.Path(DATA) / "coco" / "images").glob("*.jpg"))[:3]
    encoder = Encoder("MobileNetV2", MOBILE)
    extract(paths, encoder, tmp_path)
    made = Features(tmp_path, paths, encoder)
    assert made.shape == (49, 1280)
    model = keras.applications.MobileNetV2(weights=MOBILE, include_top=False, input_shape=(224, 224, 3))
    pixels = read_image(paths[1], 224)[None].astype(np.float32)
    expected = model(keras.applications.mobilenet_v2.preprocess_input(pixels)).numpy().reshape(49, 1280)
    np.testing.assert_allclose(made.read(np.array([1]))[0], expected, rtol=1e-3, atol=1e-4)
    assert 0.02 < (expected > 0).mean() < 0.5  # sparse, after its ReLU6


@pytest.mark.skipif(not os.path.exists(LITE), reason="LIGHTKERAS_DATA has no pretrained networks")
def test_a_model_from_a_real_file(tmp_path):
    network = Encoder(LITE, image_size=64).build()
    assert network.shape == (4, 1280)
    made = network.call(np.full((ROWS, 64, 64, 3), 128, np.uint8))
    assert made.shape == (ROWS, 4, 1280) and np.isfinite(made).all()
