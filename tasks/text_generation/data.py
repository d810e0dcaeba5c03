"""A text, cut into windows of characters."""

import functools
import glob
import pydoc_data.topics
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

import lightkeras as lk

SHAKESPEARE = lk.data.Download(
    url="https://storage.googleapis.com/download.tensorflow.org/data/shakespeare.txt",
    size=1_115_394,
    checksum="sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    folder="shakespeare",
    name="shakespeare.txt",
)
IN_MEMORY = 1 << 25  # bytes of the texts that are read whole
KEY = 0x5EED  # keys the offsets of the windows, unlike any other random number of an epoch


class TextData(lk.DataModule):
    """Windows of `seq_len` characters; the target of each character is the next one.

    A text of more than 32 MB is encoded once, into a memory-mapped file beside the downloaded data sets: training reads
    its windows there, and memory stays flat. What is cut off while it encodes is resumed.

    The text is cut into one piece each for training, validation and testing, in this order, as in nanoGPT: by default
    the first 90 % and the last 10 %. Each epoch cuts the training text into other windows, from a random offset;
    characters at both ends that fill no window are skipped. Validation and test windows lie end to end. A batch holds
    `inputs` and `targets`, int32 (batch, seq_len), and `weight`, float32 (batch,).

    Args:
        source: "download" (Tiny Shakespeare); a UTF-8 text file; a folder of such files, or a glob ("books/**/*.txt"),
            which are read one after the other in the order of their paths; or "sample" (CPython's reference text,
            which comes with Python).
        seq_len: Characters in a window.
        batch_size: Windows of one update (the global batch).
        val_fraction: Share of the text for validation.
        test_fraction: Share of the text for testing; 0 for none.

    Raises:
        ValueError: The text is empty or not UTF-8, or a split is too short for one window.
        DownloadError: The official file is not in the cache, and the download failed.
    """

    def __init__(
        self,
        source: str = "download",
        seq_len: int = 100,
        batch_size: int = 64,
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
    ):
        lk.utils.require_int("seq_len", seq_len)
        lk.utils.require_int("batch_size", batch_size)
        lk.utils.require_number("val_fraction", val_fraction, below=1.0)
        lk.utils.require_number("test_fraction", test_fraction, inclusive=True, below=1.0)
        lk.utils.require(val_fraction + test_fraction < 1, "val_fraction", "below 1 with test_fraction", val_fraction)
        self.source, self.seq_len, self.batch_size = source, seq_len, batch_size
        self.fractions = (val_fraction, test_fraction)
        self.vocabulary: lk.text.CharacterVocabulary | None = None
        self.splits: dict[str, lk.text.EncodedText] = {}

    def prepare_data(self) -> None:
        """Downloads Tiny Shakespeare, if that is the source; encodes a large text."""
        if self.source != "sample" and is_large(files := self._files()):
            lk.text.TextCache(files).encode()

    def setup(self, stage: str) -> None:
        """Reads the text, makes the splits, and the vocabulary unless one was loaded; that must cover the text."""
        text = self._read()
        test = round(len(text) * self.fractions[1])
        train = int(len(text) * (1 - sum(self.fractions)) + 1e-6)
        val = len(text) - train - test
        self.splits = {"train": text[:train], "validation": text[train : train + val], "test": text[train + val :]}
        for name, split in self.splits.items():
            self._check_length(name, len(split))

    def _read(self) -> lk.text.EncodedText:
        """Reads the text, and sets the vocabulary if there is none."""
        if self.source != "sample" and is_large(files := self._files()):
            text, self.vocabulary = lk.text.TextCache(files).open(self.vocabulary)
            return text
        topics = pydoc_data.topics.topics.values()
        text = "\n\n".join(topics) if self.source == "sample" else "".join(map(lk.text.read_text, self._files()))
        self.vocabulary = self.vocabulary or lk.text.CharacterVocabulary.from_text(text)
        return lk.text.EncodedText.from_text(text, self.vocabulary)

    def _files(self) -> list[Path]:
        is_pattern = self.source != "download" and not lk.utils.local_path(self.source).exists()
        source = (
            self.source if is_pattern and glob.has_magic(self.source) else lk.data.find_data(self.source, SHAKESPEARE)
        )
        return lk.text.find_texts(source)

    def _check_length(self, name: str, length: int) -> None:
        needed = 2 * self.seq_len if name == "train" else self.seq_len + 1
        if length < needed and not (name == "test" and not self.fractions[1]):
            raise lk.utils.ArgumentError(
                f"Expected the {name} split to have {needed:,} characters or more for windows of "
                f"seq_len={self.seq_len}. Received: {length:,} characters of {self.source}. Use a longer text or a "
                "shorter seq_len."
            )

    def train_dataset(self) -> lk.AddressedDataset:
        """Windows of the training text, shuffled, from another offset each epoch."""
        text, length = self.splits["train"], self.seq_len
        cut = _window_cutter(text, length)

        def fetch(indices, epoch):
            offset = tf.random.stateless_uniform((), (tf.cast(epoch, tf.int32), KEY), 0, length, tf.int32)
            return cut(indices * length + tf.cast(offset, tf.int64))

        return lk.AddressedDataset.from_batches(fetch, len(text) // length - 1, self.batch_size)

    def val_dataset(self) -> lk.AddressedDataset:
        """The validation text, in order."""
        return self._unshuffled("validation")

    def test_dataset(self) -> lk.AddressedDataset | None:
        """The test text, in order, or None without a `test_fraction`."""
        return self._unshuffled("test") if self.fractions[1] else None

    def _unshuffled(self, split: str) -> lk.AddressedDataset:
        text, length = self.splits[split], self.seq_len
        cut = _window_cutter(text, length)

        def fetch(indices, epoch):
            return cut(indices * length)

        return lk.AddressedDataset.from_batches(fetch, (len(text) - 1) // length, self.batch_size, shuffle=False)

    def held_out(self, split: str) -> lk.text.EncodedText:
        """The characters that are predicted in "validation" or "test": the targets of all windows.

        Raises:
            ValueError: The data was cut without a `test_fraction`.
        """
        has_split = split == "validation" or self.fractions[1] > 0
        lk.utils.require(has_split, "split", '"validation" for data without a `test_fraction`', split)
        text = self.splits[split]
        return text[1 : 1 + (len(text) - 1) // self.seq_len * self.seq_len]

    def show_example(self, example) -> str:
        """Returns the text of a window."""
        return self.vocabulary.decode(example["inputs"])

    def state_dict(self) -> dict:
        """The vocabulary."""
        return {"vocabulary": self.vocabulary.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restores the vocabulary."""
        self.vocabulary = lk.text.CharacterVocabulary.from_state_dict(state["vocabulary"])


def is_large(files: list[Path]) -> bool:
    """Returns whether a text does not go into memory."""
    return sum(file.stat().st_size for file in files) > IN_MEMORY


def _window_cutter(text: lk.text.EncodedText, length: int) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns a function that cuts the windows which begin at `starts` (batch,): int64."""
    if text.in_memory:
        ids, places = tf.constant(text.codes), tf.range(length + 1, dtype=tf.int64)

        def read(starts):
            return tf.cast(tf.gather(ids, starts[:, None] + places), tf.int32)  # (batch, length + 1)
    else:

        def read(starts):
            windows = functools.partial(text.windows, length=length + 1)
            windows = tf.numpy_function(windows, [starts], tf.int32, stateful=False)
            return tf.ensure_shape(windows, (starts.shape[0], length + 1))

    def cut(starts):
        windows = read(starts)
        return {"inputs": windows[:, :-1], "targets": windows[:, 1:]}

    return cut
