"""Photos with captions: features of a frozen network, or the pixels, and the captions as ids of words."""

import os
import pathlib
import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

import lightkeras as lk
from tasks.captioning.photos.collection import PhotoCollection
from tasks.captioning.photos.encoders import PIXELS, ROWS, Encoder, Network
from tasks.captioning.photos.features import extract, feature_folder
from tasks.captioning.photos.photo_list import Examples, PhotoList, References
from tasks.captioning.photos.pixels import read_image
from tasks.captioning.photos.sources import find_photos
from tasks.captioning.photos.splits import SPLITS, split_photos
from tasks.captioning.scenes import Scene, SceneCollection, make_scenes

SCENES = 3000
WORDS = 5000  # ids of the vocabulary by default, or fewer


class CaptionData(lk.DataModule):
    """Photos, each with several captions.

    A training example is a photo with one of its captions. A validation or test example is a photo with its first
    caption; `references` gives all captions. Photos, never captions, are split: by Karpathy's split if the photos carry
    it (photos in none of its parts are left out), else by a fixed permutation.

    A batch holds

    - `features`, float32 (batch, slots, channels), of a frozen network: a slot is a place in its last grid, row by row
      from the top left (InceptionV3: 64 slots of 2,048 channels); or, with `encoder="small"`, `image`, float32 (batch,
      size, size, 3) in [-1, 1];
    - `caption`, int32 (batch, `caption_length`): a start mark, the words, an end mark, padding. A caption of more than
      `max_length` words is cut, and has no end mark, so that it does not teach a false end;
    - `index`, int64 (batch,): the photo's number in its split, for `references` and `image`;
    - `photo`, int64 (batch,): its number among all photos, for `references_at`; no two splits share one;
    - `weight`, float32 (batch,): 0 for a row of padding.

    Annotation files of more than 32 MB are encoded once, into files beside the downloaded data sets, which training
    reads by place. What is cut off while it encodes is resumed.

    Words are those of the COCO caption evaluation (`lk.metrics.tokenize_caption`): lower case, without punctuation.

    Args:
        source: "download" (COCO 2014's training photos) or "download-2017"; "coco", "flickr8k" or "coco+flickr8k" (the
            small sets in `LIGHTKERAS_DATA`; of both together, COCO's photos are all for training); a file of your own
            (COCO's or Karpathy's JSON, CSV of image file and caption, Flickr8k's `captions.txt` or
            `Flickr8k.token.txt`, Flickr30k's `results.csv`) or a folder with such a file; or "sample", 3,000 drawn
            scenes.
        encoder: A model of `keras.applications`, a `.keras` file with a model that returns a grid of features, or
            "small" for pixels. None: "small" for the sample, else "InceptionV3".
        encoder_weights: "imagenet", or a weights file for that model without its top.
        image_size: Pixels per side of the encoder's input; None for its usual size. A photo is resized to this square.
        preprocessing: "tf", "torch", "caffe" or "none"; None for the model's own, "tf" for a `.keras` file.
        features_dir: The folder for folders of features; None for `features` beside the downloaded data sets.
        image_folder: The folder of the photos that a file of your own lists. None: the folder `images` or `Images`
            beside the file or beside its folder, the file's folder, or another one near it that has the photos.
        max_images: The largest number of photos, chosen at random but always the same. None for all: for "download"
            this means archives of 13 GB (2017: 19 GB). With a number, only these photos are downloaded, one by one.
        vocabulary_size: Number of the most frequent words of the training captions, without four special ids. None:
            5,000, or all words if there are fewer.
        max_length: The most words of a caption.
        batch_size: Examples of one update (the global batch).
        val_fraction: Share of the photos for validation, if they carry no split.
        test_fraction: Share of the photos for the test, if they carry no split.
        skip_corrupt: Whether to leave out missing and unreadable photos, with a warning that counts them.

    Attributes:
        vocabulary: The words.
        caption_length: Length of `caption` in a batch.
        input_name: "features" or "image".
        input_shape: The shape of one photo's `features` or `image`.

    Raises:
        ValueError: Annotations of another format, missing or unreadable photos (the message names and counts them), a
            `vocabulary_size` above the number of words, a split without photos.
        DownloadError: An official file is neither present nor available.
    """

    def __init__(
        self,
        source: str = "download",
        encoder: str | None = None,
        encoder_weights: str = "imagenet",
        image_size: int | None = None,
        preprocessing: str | None = None,
        features_dir: str | None = None,
        image_folder: str | None = None,
        max_images: int | None = None,
        vocabulary_size: int | None = None,
        max_length: int = 24,
        batch_size: int = 64,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        skip_corrupt: bool = False,
    ):
        drawn = source == "sample"
        lk.utils.require(not drawn or encoder in (None, PIXELS), "encoder", '"small" or None for the sample', encoder)
        lk.utils.require_int("max_images", max_images, minimum=3, optional=True)
        lk.utils.require_int("vocabulary_size", vocabulary_size, optional=True)
        lk.utils.require_int("max_length", max_length)
        lk.utils.require_int("batch_size", batch_size)
        lk.utils.require_number("val_fraction", val_fraction, below=1.0)
        lk.utils.require_number("test_fraction", test_fraction, below=1.0)
        lk.utils.require(val_fraction + test_fraction < 1, "val_fraction", "below 1 with test_fraction", val_fraction)
        self.encoder = Encoder(
            encoder or (PIXELS if drawn else "InceptionV3"), encoder_weights, image_size, preprocessing
        )
        self.source, self.features_dir, self.image_folder = source, features_dir, image_folder
        self.max_images, self.vocabulary_size, self.max_length = max_images, vocabulary_size, max_length
        self.batch_size, self.skip_corrupt = batch_size, skip_corrupt
        self.fractions = (val_fraction, test_fraction)
        self.input_name = "image" if self.encoder.is_pixels else "features"
        self.vocabulary: lk.text.WordVocabulary | None = None
        self.caption_length: int | None = None
        self.input_shape: tuple[int, ...] | None = None
        self._trained_encoder: dict | None = None
        self._network: Network | None = None
        self.is_set_up = False

    # ---- reading

    def prepare_data(self) -> None:
        """Downloads official photos, and computes missing features."""
        if self.source != "sample":
            extract(self.photos_on_disk().paths, self.encoder, self.feature_folder)

    @property
    def feature_folder(self) -> pathlib.Path:
        """The folder of the features of these photos by this encoder."""
        return feature_folder(self.features_dir, self.source, self.image_folder, self.encoder)

    def photos_on_disk(self) -> PhotoList:
        """Finds the photos of any source but the sample, readable or not."""
        return find_photos(self.source, self.image_folder, self.max_images, self.skip_corrupt)

    def setup(self, stage: str) -> None:
        """Makes the splits and, unless one was loaded, the vocabulary.

        Raises:
            ValueError: The vocabulary was loaded from a run with another encoder; and see the class.
        """
        self._check_encoder()
        if self.source == "sample":
            self._pictures = SceneCollection(make_scenes(self.max_images or SCENES), self.encoder.size)
        else:
            self._pictures = PhotoCollection(self.photos_on_disk(), self.encoder, self.feature_folder)
        self.input_shape, self._photos = self._pictures.features.shape, self._pictures.photos
        parts = split_photos(self._usable(), self._photos.splits, self.fractions, self.source)
        self._splits = dict(zip(SPLITS, parts, strict=True))
        self._examples = {name: Examples(self._photos, self._splits[name], name == "train") for name in SPLITS}
        if self.vocabulary is None:
            self._make_vocabulary()
        self._word_ids = self.vocabulary.encode(self._photos.table.list)
        self.is_set_up = True

    def _usable(self) -> np.ndarray:
        """The numbers of the readable photos."""
        reasons, count = self._pictures.features.unreadable, len(self._photos)
        if reasons:
            named = lk.utils.listed([f"{self._pictures.name(i)} ({reason})" for i, reason in reasons.items()])
            if not self.skip_corrupt:
                raise lk.utils.ArgumentError(
                    "Expected every photo to be readable, or skip_corrupt=True to leave the others out. Received: "
                    f"{len(reasons)} of {count} that are not: {named}"
                )
            warnings.warn(f"Left out {len(reasons)} of {count} unreadable photos: {named}", stacklevel=3)
        return np.delete(np.arange(count), list(reasons))

    def _make_vocabulary(self) -> None:
        """Makes the vocabulary of the training captions, and logs what is lost of them: cut captions, unknown words."""
        table, train = self._photos.table, self._examples["train"].captions()
        counts, lengths = lk.text.count_numbers(table.words, train, len(table.list)), table.words.lengths()[train]
        used, total = np.flatnonzero(counts), len(lengths)
        size, distinct = self.vocabulary_size, len(used)
        expected = f"at most {distinct}, the number of different words in the training captions"
        lk.utils.require(size is None or size <= distinct, "vocabulary_size", expected, size)
        self.vocabulary = lk.text.WordVocabulary.from_counts(
            {table.list[number]: int(counts[number]) for number in used.tolist()},
            lk.text.FIRST_WORD + min(size or WORDS, distinct),
        )
        self.caption_length = min(self.max_length, int(lengths.max())) + 2
        if cut := int((lengths > self.max_length).sum()):
            lk.utils.logger.info(f"Cut {cut:,} of {total:,} training captions to {self.max_length} words")
        if unknown := int(counts[self.vocabulary.encode(table.list) == lk.text.UNKNOWN].sum()):
            words = f"{unknown:,} of {int(counts.sum()):,} words in the training captions"
            lk.utils.logger.info(f"{words} are not in the vocabulary")

    def encode_caption(self, words: list[str]) -> np.ndarray:
        """Returns a caption's ids, int32 (caption_length,): start, words, end unless it is cut, padding."""
        return self._marked(self.vocabulary.encode(words), np.array([len(words)]))[0]

    def _marked(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Returns captions as `encode_caption` does, of which the words' ids follow each other."""
        room = self.caption_length - 2
        marked = np.full((len(lengths), self.caption_length), lk.text.PAD, np.int32)
        row, place = np.repeat(np.arange(len(lengths)), lengths), np.arange(len(ids))
        place = place - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept, whole = place < room, np.flatnonzero(lengths <= room)
        marked[:, 0], marked[row[kept], place[kept] + 1] = lk.text.START, ids[kept]
        marked[whole, lengths[whole] + 1] = lk.text.END
        return marked

    # ---- batches

    def train_dataset(self) -> lk.AddressedDataset:
        """Returns the training photos with one caption each, shuffled."""
        return self._batches("train", shuffle=True)

    def val_dataset(self) -> lk.AddressedDataset:
        """Returns the validation photos, in order."""
        return self._batches("validation", shuffle=False)

    def test_dataset(self) -> lk.AddressedDataset:
        """Returns the test photos, in order."""
        return self._batches("test", shuffle=False)

    def _batches(self, split: str, shuffle: bool) -> lk.AddressedDataset:
        features, examples, words = self._pictures.features, self._examples[split], self._photos.table.words

        def read(numbers):
            index, photo, caption = examples.find(numbers)
            ids, lengths = words.read(caption)
            return self._scaled(features.read(photo)), self._marked(self._word_ids[ids], lengths), index, photo

        def fetch(indices, epoch):
            kinds = (tf.float32, tf.int32, tf.int64, tf.int64)
            shapes = (features.shape, (self.caption_length,), (), ())
            found = tf.numpy_function(read, [indices], kinds, stateful=False)
            found = [tf.ensure_shape(one, (*indices.shape, *shape)) for one, shape in zip(found, shapes, strict=True)]
            return dict(zip((self.input_name, "caption", "index", "photo"), found, strict=True))

        return lk.AddressedDataset.from_batches(fetch, len(examples), self.batch_size, shuffle)

    def _scaled(self, stored: np.ndarray) -> np.ndarray:
        """Stored values as float32; pixels from 0 to 255 scaled to [-1, 1]."""
        values = stored.astype(np.float32)
        return values / np.float32(127.5) - np.float32(1.0) if self.encoder.is_pixels else values

    # ---- looking things up

    def references(self, split: str) -> Sequence[tuple[str, ...]]:
        """Returns all captions of each photo of a split, as they were written."""
        lk.utils.require_choice("split", split, SPLITS)
        return References(self._photos, self._splits[split])

    def references_at(self, photos) -> list[tuple[str, ...]]:
        """Returns all captions of the photos of a batch's `photo` (batch,), as they were written."""
        return list(map(self._photos.captions, np.asarray(photos).tolist()))

    def find_split(self, photo: int) -> str:
        """Returns the name of the split that has one of a batch's `photo`."""
        return next(name for name, photos in self._splits.items() if photo in photos)

    def inputs(self, split: str) -> Iterator[np.ndarray]:
        """Yields the `features` or `image` of every photo of a split, in order, 32 photos at a time."""
        lk.utils.require_choice("split", split, SPLITS)
        for start in range(0, len(self._splits[split]), ROWS):
            yield self._scaled(self._pictures.features.read(self._splits[split][start : start + ROWS]))

    def image(self, split: str, index: int, size: int = 256) -> np.ndarray:
        """Reads a photo of a split as uint8 (size, size, 3), resized to a square like the encoder's input."""
        return self._pictures.image(int(self._splits[split][index]), size)

    def names(self, split: str) -> list[str]:
        """Returns the file of each photo of a split, or the number of a scene."""
        return [self._pictures.name(int(i)) for i in self._splits[split]]

    def scene(self, split: str, index: int) -> Scene:
        """Returns a scene of the sample."""
        lk.utils.require(self.source == "sample", "source", '"sample", as photos have no known objects', self.source)
        return self._pictures.scenes[int(self._splits[split][index])]

    def encode_images(self, photos: Iterable[str | os.PathLike | Image.Image]) -> np.ndarray:
        """Computes the `features` or `image` of photos of your own: float32 (photos, ...).

        Args:
            photos: Files, or pictures that Pillow has opened. All are held in memory.

        Raises:
            FileNotFoundError, lk.data.ImageError: A file does not exist, is no photo, or is damaged.
            ValueError: The encoder's file or settings differ from those of the loaded run.
        """
        self._check_encoder()
        return self.encode_pixels(np.stack([read_image(photo, self.encoder.size) for photo in photos]))

    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Computes `encode_images` of photos that `read_image` has read: uint8 (photos, size, size, 3)."""
        network, encoded = self.network(), []
        for start in range(0, len(pixels), ROWS):
            batch = pixels[start : start + ROWS]
            padded = np.concatenate([batch, np.zeros((ROWS - len(batch), *batch.shape[1:]), np.uint8)])
            encoded.append(network.call(padded)[: len(batch)])
        return self._scaled(np.concatenate(encoded).astype(self.encoder.dtype))

    def network(self) -> Network:
        """Returns the frozen network of the encoder, built once.

        Raises:
            ValueError: The encoder's file or settings differ from those of the loaded run.
        """
        self._check_encoder()
        self._network = self._network or self.encoder.build()
        return self._network

    def scaled_in_graph(self, computed: tf.Tensor) -> tf.Tensor:
        """Turns the results of `network().in_graph` into a batch's inputs, as `encode_pixels` does."""
        values = tf.cast(tf.cast(computed, self.encoder.dtype), tf.float32)
        return values / 127.5 - 1.0 if self.encoder.is_pixels else values

    # ---- state

    def show_example(self, example) -> list:
        """Returns a photo, uint8 (64, 64, 3), and the caption of this row."""
        photo = self._pictures.image(int(example["photo"]), 64)
        return [photo, self.vocabulary.decode_text(example["caption"])]

    def state_dict(self) -> dict:
        """Returns the vocabulary, the lengths, and the encoder's settings."""
        return {
            "vocabulary": self.vocabulary.state_dict(),
            "caption_length": self.caption_length,
            "input_shape": list(self.input_shape),
            "encoder": self.encoder.settings,
        }

    def load_state_dict(self, state: dict) -> None:
        """Restores the vocabulary, lengths and encoder's settings of a trained run."""
        self.vocabulary = lk.text.WordVocabulary.from_state_dict(state["vocabulary"])
        self.caption_length, self.input_shape = state["caption_length"], tuple(state["input_shape"])
        self._trained_encoder = state["encoder"]

    def _check_encoder(self) -> None:
        """Raises ValueError if the encoder is not that of the loaded run."""
        present, trained = self.encoder.settings, self._trained_encoder
        lk.utils.require(trained in (None, present), "encoder", f"as in training, {trained}", present)
