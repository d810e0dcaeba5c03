"""Square images, scaled to [-1, 1]."""

import collections
import hashlib
import pathlib
import warnings

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

import lightkeras as lk
from tasks.dcgan.model import check_image_size

MNIST = lk.data.Download(
    url="https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    size=11_490_434,
    checksum="sha256:731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    folder="mnist",
    name="mnist.npz",
)
MODES = {1: "L", 3: "RGB"}
KEY = 0xD16175  # keys the split, unlike any other permutation


class MNISTData(lk.DataModule):
    """Square images of one size: MNIST, or your own.

    A batch holds `image`, float32 (batch, size, size, channels) in [-1, 1], and `weight`, float32 (batch,). The images
    are kept in memory, as uint8.

    The training images are put in a fixed shuffled order. Where the file has no test images (`x_test`), the last
    `test_fraction` of them becomes the test split; the last `val_fraction` of the others is for validation. Equal
    images of a folder go to one side.

    Args:
        source: "download" (MNIST); an .npz file with `x_train`, uint8 (n, height, width[, channels]), and optionally
            `y_train`, `x_test`, `y_test`; a folder with images of any format that Pillow reads, in subfolders too
            (`lk.data.find_images` and `lk.data.open_image`: hidden files are left out, and pictures are turned
            upright); or "sample" (scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, which come with it).
        image_size: Pixels of a side: 4 to 8 times a power of two, such as 8, 12, 28, 32, 48, 64. Images of another size
            are cut to the square in the middle and scaled. None: the images' own size.
        channels: 1 (gray) or 3 (colour); None: the images' own.
        batch_size: Images of one update (the global batch).
        val_fraction: Share of the images for validation.
        test_fraction: Share of the images for testing, if the source has no test images.
        skip_corrupt: Skip the files of a folder that cannot be read, with a warning that counts them.

    Raises:
        ValueError: A folder without images, with files that cannot be read (they are named and counted), or with
            images of several sizes or modes; a size that the networks cannot make; an .npz without `x_train`.
        DownloadError: The official file is not in the cache, and the download failed.
    """

    def __init__(
        self,
        source: str = "download",
        image_size: int | None = None,
        channels: int | None = None,
        batch_size: int = 256,
        val_fraction: float = 0.05,
        test_fraction: float = 0.1,
        skip_corrupt: bool = False,
    ):
        if image_size is not None:
            check_image_size(image_size)
        lk.utils.require_choice("channels", channels, (None, *MODES))
        lk.utils.require_int("batch_size", batch_size)
        lk.utils.require_number("val_fraction", val_fraction, below=1.0)
        lk.utils.require_number("test_fraction", test_fraction, below=1.0)
        lk.utils.require(val_fraction + test_fraction < 1, "val_fraction", "below 1 with test_fraction", val_fraction)
        self.source, self.image_size, self.channels, self.batch_size = source, image_size, channels, batch_size
        self.val_fraction, self.test_fraction, self.skip_corrupt = val_fraction, test_fraction, skip_corrupt
        self.image_shape: tuple[int, int, int] | None = None

    def prepare_data(self) -> None:
        """Downloads MNIST, if that is the source."""
        if self.source != "sample":
            lk.data.find_data(self.source, MNIST)

    def setup(self, stage: str) -> None:
        """Reads the images and makes the splits; the images must have the shape that a loaded run was trained on."""
        images, labels, tests, copies = self._read()
        shape = images.shape[1:]
        check_image_size(shape[0])
        alike = tests is None or tests[0].shape[1:] == shape
        lk.utils.require(alike, "x_test", f"images of the shape {shape}, as x_train", tests and tests[0].shape[1:])
        expected = f"{self.image_shape}, as in training"
        lk.utils.require(self.image_shape in (None, shape), "shape of the images", expected, shape)
        self.image_shape = shape
        order = np.random.Generator(np.random.Philox(key=KEY)).permutation(len(images))
        test = 0 if tests else max(1, round(len(images) * self.test_fraction))
        val = max(1, round(len(images) * self.val_fraction))
        lk.utils.require(
            len(images) > val + test, "source", f"more than {val + test} images", f"{self.source}, {len(images)} images"
        )
        parts = _cut(order, [len(images) - val - test, len(images) - test], copies, self.source)
        splits = [(images[part], None if labels is None else labels[part]) for part in parts]
        if tests:
            splits[2] = tests
        self.splits = dict(zip(("train", "validation", "test"), splits, strict=True))

    def _read(self):
        """Reads (images (n, size, size, channels) uint8, labels (n,) or None, (test images, labels) or None, copies).

        `copies` (n,) is the number of the first image that equals each image.
        """
        if self.source == "sample":
            images, labels, tests = _scikit_learn_digits()
        else:
            path = lk.data.find_data(self.source, MNIST)
            if path.is_dir():
                images = _read_folder(path, self.image_size, self.channels, self.skip_corrupt)
                return images, None, None, _find_copies(images)
            images, labels, tests = _read_npz(path)
        tests = (self._fit(tests[0]), tests[1]) if tests else None
        return self._fit(images), labels, tests, np.arange(len(images))

    def _fit(self, images: np.ndarray) -> np.ndarray:
        """Converts images to the size and mode of the arguments."""
        size, channels = self.image_size, self.channels or images.shape[3]
        if images.shape[1:] == (size or images.shape[1], size or images.shape[1], channels):
            return images
        lk.utils.require(size or images.shape[1] == images.shape[2], "image_size", _SQUARE, self.image_size)
        pictures = (Image.fromarray(image.squeeze()) for image in images)
        return np.stack([_to_array(picture, size or images.shape[1], channels) for picture in pictures])

    def train_dataset(self) -> lk.AddressedDataset:
        """The training images, shuffled."""
        return self._batches("train", shuffle=True)

    def val_dataset(self) -> lk.AddressedDataset:
        """The validation images, in order."""
        return self._batches("validation", shuffle=False)

    def test_dataset(self) -> lk.AddressedDataset:
        """The test images, in order."""
        return self._batches("test", shuffle=False)

    def _batches(self, split: str, shuffle: bool) -> lk.AddressedDataset:
        with tf.device("CPU"):  # gathered there: the images fill no GPU
            images = tf.constant(self.splits[split][0])

        def fetch(indices, epoch):
            return {"image": tf.cast(tf.gather(images, indices), tf.float32) / 127.5 - 1.0}

        return lk.AddressedDataset.from_batches(fetch, len(images), self.batch_size, shuffle)

    def show_example(self, example):
        """Returns an image: uint8 (height, width, channels)."""
        return np.round((example["image"] + 1.0) * 127.5).astype(np.uint8)

    def state_dict(self) -> dict:
        """The shape of an image."""
        return {"image_shape": list(self.image_shape)}

    def load_state_dict(self, state: dict) -> None:
        """Restores the shape of an image."""
        self.image_shape = tuple(state["image_shape"])


# ---- reading

_SQUARE = "a size to cut and scale to, for images that are not square"


def _scikit_learn_digits():
    from sklearn.datasets import load_digits  # slow to import, needed for the sample only

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # (1797, 8, 8, 1)
    return images, digits.target.astype(np.uint8), None


def _read_npz(path: pathlib.Path):
    arrays = lk.data.read_npz(path, ("x_train", "y_train", "x_test", "y_test"))
    if "x_train" not in arrays:
        raise lk.utils.ArgumentError(
            f'Expected {path} to have an array "x_train". Received: {", ".join(arrays) or "other arrays"}'
        )
    tests = (_check_images("x_test", arrays, path), arrays.get("y_test")) if "x_test" in arrays else None
    return _check_images("x_train", arrays, path), arrays.get("y_train"), tests


def _check_images(name: str, arrays: dict[str, np.ndarray], path: pathlib.Path) -> np.ndarray:
    """Checks the images of an .npz and their labels; returns the images as (n, height, width, channels)."""
    images, labels = arrays[name], arrays.get(name.replace("x_", "y_"))
    gray = images.ndim == 3
    valid = images.dtype == np.uint8 and images.size and (gray or (images.ndim == 4 and images.shape[3] in MODES))
    expected = f"uint8 (n, height, width) or (n, height, width, 1 or 3) with n > 0 in {path}"
    lk.utils.require(bool(valid), name, expected, f"{images.dtype} {images.shape}")
    matching = labels is None or labels.shape == (len(images),)
    expected = f"a label for each of {len(images)} images in {path}"
    lk.utils.require(matching, name.replace("x_", "y_"), expected, np.shape(labels))
    return images[..., None] if gray else images


def _read_folder(folder: pathlib.Path, size: int | None, channels: int | None, skip_corrupt: bool) -> np.ndarray:
    """Reads the images of a folder in the order of their paths: uint8 (n, size, size, channels)."""
    paths = lk.data.find_images(folder)
    lk.utils.require(bool(paths), "source", "a folder with images (PNG, JPEG, WebP, ...)", str(folder))
    arrays, broken = [], []
    for path in paths:
        try:
            arrays.append(_to_array(lk.data.open_image(path), size, channels))
        except lk.data.ImageError as error:
            broken.append(f"{path.relative_to(folder)} ({error.reason})")
    if broken:
        _report_broken(broken, len(paths), folder, skip_corrupt)
    lk.utils.require(bool(arrays), "source", "a folder with an image that can be read", str(folder))
    return _stack(arrays, folder)


def _report_broken(broken: list[str], total: int, folder: pathlib.Path, skip: bool) -> None:
    named = lk.utils.listed(broken)
    if not skip:
        raise lk.utils.ArgumentError(
            f"Expected every image in {folder} to be readable, or skip_corrupt=True to skip the others. Received: "
            f"{len(broken)} of {total} files that cannot be read: {named}"
        )
    warnings.warn(f"Skipped {len(broken)} of {total} image files that cannot be read: {named}", stacklevel=2)


def _to_array(picture: Image.Image, size: int | None, channels: int | None) -> np.ndarray:
    """Converts a picture to uint8 (height, width, channels), in its own size and mode where these are None."""
    channels = channels or len(picture.getbands())
    if picture.mode != MODES[channels]:
        picture = picture.convert(MODES[channels])
    if size is not None and picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
    array = np.asarray(picture)
    return array[..., None] if array.ndim == 2 else array


def _stack(arrays: list[np.ndarray], folder: pathlib.Path) -> np.ndarray:
    channels = collections.Counter(array.shape[2] for array in arrays)
    sizes = collections.Counter(f"{array.shape[1]} x {array.shape[0]}" for array in arrays)
    if len(channels) > 1:
        raise lk.utils.ArgumentError(
            f"Expected images of one mode in {folder}, or channels=1 or channels=3 to convert them. Received: "
            f"{channels[1]} gray and {channels[3]} in colour"
        )
    square = arrays[0].shape[0] == arrays[0].shape[1]
    if len(sizes) > 1 or not square:
        counted = ", ".join(f"{count} of {size}" for size, count in sizes.most_common(5))
        raise lk.utils.ArgumentError(
            f"Expected square images of one size (pixels) in {folder}, or image_size= to cut and scale them. Received: "
            f"{counted}{', ...' if len(sizes) > 5 else ''}"
        )
    return np.stack(arrays)


# ---- splitting


def _find_copies(images: np.ndarray) -> np.ndarray:
    """The number of the first image that equals each image, (n,)."""
    first = {}
    digests = [hashlib.sha256(image).digest() for image in images]
    return np.array([first.setdefault(digest, number) for number, digest in enumerate(digests)])


def _cut(order: np.ndarray, bounds: list[int], copies: np.ndarray, source: str) -> list[np.ndarray]:
    """Cuts `order` (n,) at the places `bounds`, but not between copies of an image: they follow the first of them."""
    places = {}
    for place, image in enumerate(order):
        places.setdefault(copies[image], place)
    if len(places) < len(order):
        lk.utils.logger.info("Put %d copies of images on the side of the first of them", len(order) - len(places))
    first = np.array([places[copies[image]] for image in order])
    order, first = order[np.argsort(first, kind="stable")], np.sort(first)
    sides = np.searchsorted(bounds, np.searchsorted(first, first), "right")
    parts = [order[sides == side] for side in range(len(bounds) + 1)]
    whole = all(len(part) for part, size in zip(parts, np.diff([0, *bounds, len(order)]), strict=True) if size)
    lk.utils.require(
        whole, "source", "enough images that differ, for every split", f"{source}, {len(places)} that differ"
    )
    return parts
