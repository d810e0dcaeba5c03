"""Photos with captions: features of a frozen network, or the pixels, and the captions as ids of words."""

import hashlib
import json
import os
import pathlib
import sys
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
from PIL import Image

import lightkeras as lk
from tasks.captioning.annotations import Photo, listed
from tasks.captioning.encoders import PIXELS, ROWS, Encoder, Network
from tasks.captioning.features import Features, extract
from tasks.captioning.images import read_image
from tasks.captioning.scenes import Scene, make_scenes
from tasks.captioning.sources import cache_folder, find_photos

KEY = 0xCA9710  # keys the split apart from any other permutation
SPLITS = ("train", "validation", "test")
SCENES = 3000
WORDS = 5000  # of the vocabulary, where there are as many
Words = lk.text.WordVocabulary


class CaptionData(lk.DataModule):
    """Photos, each with several captions.

    A training example is a photo with one of its captions; a photo's captions share its features. A validation or test
    example is a photo, with its first caption; `references` gives all of them. The split is by photo, never by caption:
    Karpathy's where the photos carry it (photos in none of its parts are left out), else a fixed shuffled one.

    A batch holds

    - `features`, float32 (batch, slots, channels), of a frozen network: a slot is a place in its last grid, row by row
      from the top left (InceptionV3: 64 slots of 2,048 channels); or, with `encoder="small"`, `image`, float32 (batch,
      size, size, 3) in [-1, 1];
    - `caption`, int32 (batch, `caption_length`): a start mark, the words, an end mark, padding. A caption of more than
      `max_length` words is cut there, and has no end mark, so that it teaches no false end;
    - `index`, int64 (batch,): the photo's number in its split, as `references` and `image` count;
    - `photo`, int64 (batch,): its number among all photos, for `references_at`; no two splits share one;
    - `weight`, float32 (batch,): 0 for a row of padding.

    Words are those of the COCO caption evaluation (`lk.metrics.tokenize_caption`): lower case, without punctuation.

    Args:
        source: "download" (COCO 2014's training photos) or "download-2017"; "coco", "flickr8k" or "coco+flickr8k" (the
            small sets in `LIGHTKERAS_DATA`; together, COCO's photos are all for training); a file of your own (COCO's
            or Karpathy's JSON, or CSV of two columns, image file and caption) or a folder with one; or "sample",
            3,000 drawn scenes.
        encoder: A model of `keras.applications`, a `.keras` file with a model that gives a grid of features, or "small"
            for pixels. None: "small" for the sample, else "InceptionV3".
        encoder_weights: "imagenet", or a weights file for that model without its top.
        image_size: Pixels of a side of what the encoder sees; None for its usual size. A photo is stretched to it.
        preprocessing: "tf", "torch", "caffe" or "none"; None for the model's own, "tf" for a `.keras` file.
        features_dir: Where folders of features are kept; None for `features` beside the downloaded data sets.
        image_folder: Of a file of your own, what its file names are relative to. None: `images` beside it or beside its
            folder, or else its own folder.
        max_images: At most so many photos, chosen at random but always the same. None for all: of "download", archives
            of 13 GB (2017: 19 GB). With a number, only those photos are downloaded, one by one.
        vocabulary_size: The so many most frequent words of the training captions, besides four marks. None: 5,000, or
            all where there are fewer.
        max_length: Words of a caption.
        batch_size: Examples of one update (the global batch).
        val_fraction: Share of the photos for validation, where they carry no split.
        test_fraction: Share of the photos for a test, likewise.
        skip_corrupt: Leave out photos that are missing or cannot be read, with a warning that counts them.

    Attributes:
        vocabulary: The words.
        caption_length: Length of `caption` in a batch.
        input_name: "features" or "image".
        input_shape: Of one example of it.

    Raises:
        ValueError: Annotations of another shape, photos that are missing or cannot be read (named and counted), a
            vocabulary that is larger than the captions have words, a split without photos.
        DownloadError: An official file is neither here nor to be had.
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

    # ---- reading

    def prepare_data(self) -> None:
        """Downloads the photos, if they are the official ones, and computes what features are missing."""
        if self.source != "sample":
            extract([photo.path for photo in self.photos_on_disk()], self.encoder, feature_folder(self))

    def photos_on_disk(self) -> list[Photo]:
        """The photos of any source but the sample, readable or not."""
        return find_photos(self.source, self.image_folder, self.max_images, self.skip_corrupt)

    def setup(self, stage: str) -> None:
        """Makes the splits, and the vocabulary unless one was loaded; then the encoder must be that of its run."""
        self._check_encoder()
        if self.source == "sample":
            self._pictures = _Drawn(make_scenes(self.max_images or SCENES), self.encoder.size)
            captions, splits = self._pictures.captions, None
            usable = np.arange(len(captions))
        else:
            photos = self.photos_on_disk()
            self._pictures = _Photographed(photos, self.encoder, feature_folder(self))
            captions, splits = [photo.captions for photo in photos], [photo.split for photo in photos]
            usable = self._usable(photos)
        self.input_shape = self._pictures.features.shape
        self._splits = dict(zip(SPLITS, _split(usable, splits, self.fractions), strict=True))
        self._captions = captions
        self._make_captions()

    def _usable(self, photos: list[Photo]) -> np.ndarray:
        """The numbers of the photos that can be read."""
        reasons = self._pictures.features.unreadable
        if reasons:
            named = listed([f"{photos[i].path} ({reason})" for i, reason in reasons.items()])
            if not self.skip_corrupt:
                raise ValueError(
                    "Expected every photo to be readable, or skip_corrupt=True to leave the others out. Received: "
                    f"{len(reasons)} of {len(photos)} that are not: {named}"
                )
            warnings.warn(f"Left out {len(reasons)} of {len(photos)} unreadable photos: {named}", stacklevel=3)
        return np.array([i for i in range(len(photos)) if i not in reasons], np.int64)

    def _make_captions(self) -> None:
        """The captions of every split as ids: (captions, caption_length); and the photo of each."""
        kept = {"train": None, "validation": 1, "test": 1}  # captions of a photo
        words = {
            name: [[_words(text) for text in self._captions[i][: kept[name]]] for i in self._splits[name]]
            for name in SPLITS
        }
        if self.vocabulary is None:
            train = [sentence for sentences in words["train"] for sentence in sentences]
            self.vocabulary = _vocabulary(train, self.vocabulary_size)
            self.caption_length = min(self.max_length, max(map(len, train))) + 2
            _report(train, self.vocabulary, self.max_length)
        self._rows, self._ids = {}, {}
        for name, photos in words.items():
            self._rows[name] = np.repeat(np.arange(len(photos)), [len(sentences) for sentences in photos])
            self._ids[name] = np.stack([self.encode_caption(s) for sentences in photos for s in sentences])

    def encode_caption(self, words: list[str]) -> np.ndarray:
        """A caption's ids, int32 (caption_length,): start, words, end if it is not cut, padding."""
        row = np.full(self.caption_length, Words.PAD, np.int32)
        kept = words[: self.caption_length - 2]
        row[0], row[1 : len(kept) + 1] = Words.START, self.vocabulary.encode(kept)
        if len(kept) == len(words):
            row[len(kept) + 1] = Words.END
        return row

    # ---- batches

    def train_dataset(self) -> lk.AddressedDataset:
        """Photos with one caption each, shuffled."""
        return self._batches("train", shuffle=True)

    def val_dataset(self) -> lk.AddressedDataset:
        """The validation photos, in order."""
        return self._batches("validation", shuffle=False)

    def test_dataset(self) -> lk.AddressedDataset:
        """The test photos, in order."""
        return self._batches("test", shuffle=False)

    def _batches(self, split: str, shuffle: bool) -> lk.AddressedDataset:
        with tf.device("CPU"):  # gathered there: they fill no GPU
            rows, ids = tf.constant(self._rows[split]), tf.constant(self._ids[split])
            photos = tf.constant(self._splits[split])
        features = self._pictures.features

        def read(numbers):
            return self._scaled(features.read(numbers))

        def fetch(indices, epoch):
            index = tf.gather(rows, indices)  # (batch,)
            photo = tf.gather(photos, index)
            made = tf.numpy_function(read, [photo], tf.float32, stateful=False)
            made = tf.ensure_shape(made, (*indices.shape, *features.shape))
            return {self.input_name: made, "caption": tf.gather(ids, indices), "index": index, "photo": photo}

        return lk.AddressedDataset.from_batches(fetch, len(self._ids[split]), self.batch_size, shuffle)

    def _scaled(self, stored: np.ndarray) -> np.ndarray:
        """What is on disk as float32; pixels from 0 to 255 in [-1, 1]."""
        values = stored.astype(np.float32)
        return values / np.float32(127.5) - np.float32(1.0) if self.encoder.is_pixels else values

    # ---- looking things up

    def references(self, split: str) -> list[tuple[str, ...]]:
        """All captions of each photo of a split, as they were written."""
        lk.utils.require_choice("split", split, SPLITS)
        return [self._captions[i] for i in self._splits[split]]

    def references_at(self, photos) -> list[tuple[str, ...]]:
        """All captions of the photos of a batch's `photo` (batch,), as they were written."""
        return [self._captions[i] for i in np.asarray(photos).tolist()]

    def split_of(self, photo: int) -> str:
        """The split that one of a batch's `photo` is in."""
        return next(name for name, photos in self._splits.items() if photo in photos)

    def inputs(self, split: str) -> Iterator[np.ndarray]:
        """Every photo of a split once, in order, as the task takes it: `features` or `image`, of up to 32 photos."""
        lk.utils.require_choice("split", split, SPLITS)
        for start in range(0, len(self._splits[split]), ROWS):
            yield self._scaled(self._pictures.features.read(self._splits[split][start : start + ROWS]))

    def image(self, split: str, index: int, size: int = 256) -> np.ndarray:
        """A photo of a split as uint8 (size, size, 3), stretched as the encoder sees it."""
        return self._pictures.image(int(self._splits[split][index]), size)

    def names(self, split: str) -> list[str]:
        """The file of each photo of a split; of a scene, its number."""
        return [self._pictures.name(int(i)) for i in self._splits[split]]

    def scene(self, split: str, index: int) -> Scene:
        """A scene of the sample, which knows where its objects are."""
        lk.utils.require(self.source == "sample", "source", '"sample": photos have no known objects', self.source)
        return self._pictures.scenes[int(self._splits[split][index])]

    def encode_images(self, photos: Iterable[str | os.PathLike | Image.Image]) -> np.ndarray:
        """Photos of your own as the task takes them: `features` or `image` of a batch, for so many rows.

        Args:
            photos: Files, or pictures that Pillow has opened. All are held in memory.

        Raises:
            OSError, SyntaxError, ValueError, EOFError: A file that is no photo, or a damaged one.
            ValueError: The encoder's file or settings are others than those of the run that was loaded.
        """
        self._check_encoder()
        return self.encode_pixels(np.stack([read_image(photo, self.encoder.size) for photo in photos]))

    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """`encode_images` of photos that `read_image` has read: uint8 (photos, size, size, 3)."""
        self._check_encoder()
        self._network = self._network or self.encoder.build()
        made = []
        for start in range(0, len(pixels), ROWS):
            batch = pixels[start : start + ROWS]
            padded = np.concatenate([batch, np.zeros((ROWS - len(batch), *batch.shape[1:]), np.uint8)])
            made.append(self._network.call(padded)[: len(batch)])
        return self._scaled(np.concatenate(made).astype(self.encoder.dtype))

    # ---- state

    def state_dict(self) -> dict:
        """The vocabulary, the lengths, and what the encoder is."""
        return {
            "vocabulary": self.vocabulary.state_dict(),
            "caption_length": self.caption_length,
            "input_shape": list(self.input_shape),
            "encoder": self.encoder.settings,
        }

    def load_state_dict(self, state: dict) -> None:
        """Takes the vocabulary, lengths and encoder of a trained run."""
        self.vocabulary = Words.from_state_dict(state["vocabulary"])
        self.caption_length, self.input_shape = state["caption_length"], tuple(state["input_shape"])
        self._trained_encoder = state["encoder"]

    def _check_encoder(self) -> None:
        """Refuses another encoder than that of the run that was loaded."""
        there, wanted = self.encoder.settings, self._trained_encoder
        lk.utils.require(wanted in (None, there), "encoder", f"as in training, {wanted}", there)


class _Drawn:
    """Scenes, drawn once and kept in memory."""

    def __init__(self, scenes: list[Scene], size: int):
        self.scenes, self.features = scenes, self
        self.captions = [scene.captions() for scene in scenes]
        self._pixels = np.stack([scene.draw(size) for scene in scenes])  # (scenes, size, size, 3)
        self.shape, self.dtype = self._pixels.shape[1:], self._pixels.dtype

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self._pixels[indices]

    def image(self, index: int, size: int) -> np.ndarray:
        return self.scenes[index].draw(size)

    def name(self, index: int) -> str:
        return f"scene {index}"


class _Photographed:
    """Photos, whose features are on disk."""

    def __init__(self, photos: list[Photo], encoder: Encoder, folder: pathlib.Path):
        self.photos = photos
        self.features = Features(folder, [photo.path for photo in photos], encoder)

    def image(self, index: int, size: int) -> np.ndarray:
        return read_image(self.photos[index].path, size)

    def name(self, index: int) -> str:
        return str(self.photos[index].path)


def feature_folder(data: CaptionData) -> pathlib.Path:
    """The folder of features of these photos by this encoder: another source or setting has another."""
    root = pathlib.Path(data.features_dir).expanduser() if data.features_dir else cache_folder() / "features"
    source = pathlib.Path(data.source).expanduser()
    places = [data.source, os.environ.get("LIGHTKERAS_DATA")]
    if source.exists():
        places = [str(source.resolve()), data.image_folder]
    digest = hashlib.sha256(json.dumps([places, data.encoder.settings], sort_keys=True).encode()).hexdigest()
    return root / f"{source.stem}-{data.encoder.label}-{digest[:12]}"


def _split(usable: np.ndarray, splits: list[str | None] | None, fractions: tuple[float, float]) -> list[np.ndarray]:
    """The photos for training, validation and test: by the split that they carry, or else by a fixed shuffle."""
    carried = [] if splits is None else [splits[i] for i in usable]
    if any(carried):
        without = sum(split is None for split in carried)
        expected = "given of all photos or of none"
        lk.utils.require(not without, "split", expected, f"{without} of {len(carried)} photos without")
        parts = [usable[[split == name for split in carried]] for name in SPLITS]
    else:
        order = usable[np.random.Generator(np.random.Philox(key=KEY)).permutation(len(usable))]
        val, test = (max(1, round(len(usable) * fraction)) for fraction in fractions)
        train = max(len(usable) - val - test, 0)
        parts = [np.sort(part) for part in np.split(order, [train, train + val])]
    for name, part in zip(SPLITS, parts, strict=True):
        lk.utils.require(len(part) > 0, "source", f"photos for {', '.join(SPLITS)}", f"none for {name}")
    return parts


def _words(caption: str) -> list[str]:
    return list(map(sys.intern, lk.metrics.tokenize_caption(caption).split()))  # one object a word, not one each time


def _vocabulary(sentences: list[list[str]], size: int | None) -> lk.text.WordVocabulary:
    distinct = len({word for sentence in sentences for word in sentence})
    expected = f"at most {distinct}, the different words of the training captions"
    lk.utils.require(size is None or size <= distinct, "vocabulary_size", expected, size)
    return Words.from_tokens(sentences, max_size=Words.FIRST_WORD + min(size or WORDS, distinct))


def _report(sentences: list[list[str]], vocabulary: lk.text.WordVocabulary, max_length: int) -> None:
    """What of the training captions is lost, where something is."""
    cut = sum(len(sentence) > max_length for sentence in sentences)
    if cut:
        print(f"Cut {cut:,} of {len(sentences):,} training captions to {max_length} words", flush=True)
    known = set(vocabulary.words)
    unknown = sum(word not in known for sentence in sentences for word in sentence)
    if unknown:
        total = sum(map(len, sentences))
        print(f"{unknown:,} of {total:,} words in the training captions are not in the vocabulary", flush=True)
