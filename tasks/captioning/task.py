"""Image captioning with an attentive decoder."""

import csv
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import lightkeras as lk
from tasks.captioning import pictures
from tasks.captioning.data import CaptionData
from tasks.captioning.figures import NAMES, figures, tokenized
from tasks.captioning.images import UNREADABLE, read_image, read_photo
from tasks.captioning.model import Captioner, uncovered

PAD, UNKNOWN, START, END = 0, 1, 2, 3
SAMPLES = 10  # photos of a sample
ROWS = 32  # photos that are captioned at once
SHOWN = 320  # pixels of a photo's longer side in a picture
Photo = str | os.PathLike | Image.Image


class Captioned(NamedTuple):
    """A caption.

    Attributes:
        text: Its words, lower case, with spaces between them.
        score: Its log-probability in nats, divided by the length penalty: what the search ranks by.
        words: Its words (steps,); the last is "</s>", its end, unless it was cut.
        attention: How much each of them looked at each place of the picture, row by row: float32 (steps, slots).
    """

    text: str
    score: float
    words: list[str]
    attention: np.ndarray


class Captioning(lk.TaskModule):
    """Describes photos: a recurrent decoder that attends to the places of a photo (Xu et al. 2015, soft attention).

    The loss is nats per word, the caption's end included and padding left out, with `perplexity` and `token_accuracy`
    beside it. After each evaluation its photos are captioned greedily: `bleu_1` to `bleu_4`, `rouge_l` (0 to 1) and
    `cider` (CIDEr-D, 0 to 10), as the COCO caption evaluation has them, tell how well; `attention_entropy` (nats) and
    the shares of `empty` and `repeating` captions, what is wrong.

    Args:
        embedding_dim: Width of the words' embeddings.
        units: Width of the decoder and of the projected features.
        cell: "gru" or "lstm".
        initial_state: What the decoder begins with: the features' "mean", through a dense layer (Xu et al. 2015), or
            "zeros", so that it knows only what it attends to.
        dropout: Share of the projected features, of the embeddings and of the readout that is dropped in training.
        tie_embeddings: Whether words are scored by their embeddings (Press and Wolf 2017).
        label_smoothing: Probability that the training loss spreads over all words (Szegedy et al. 2016).
        attention_regularization: Factor of the doubly stochastic attention (Xu et al. 2015, lambda of equation 14, 1
            there), a term of every caption's training loss that is 0 where each place got an attention of 1 in all.
        learning_rate: Adam's, at its highest: after `warmup_steps`, before it falls to 0 by a cosine over the run.
        weight_decay: Decoupled (AdamW), per update and learning rate.
        warmup_steps: Updates in which the learning rate rises from 0.
    """

    data_module = CaptionData
    unit = "words"
    score_names = (*NAMES, "attention_entropy", "empty", "repeating")
    monitor = ("val_cider", "max")
    search_space = {
        "task.learning_rate": {"float": [3e-4, 5e-3, "log"]},
        "task.dropout": {"float": [0.0, 0.6, 0.1]},
        "task.units": {"choice": [256, 512]},
    }

    def __init__(
        self,
        embedding_dim: int = 256,
        units: int = 512,
        cell: str = "gru",
        initial_state: str = "mean",
        dropout: float = 0.5,
        tie_embeddings: bool = True,
        label_smoothing: float = 0.1,
        attention_regularization: float = 0.0,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        warmup_steps: int = 200,
    ):
        super().__init__()
        lk.utils.require_int("embedding_dim", embedding_dim)
        lk.utils.require_int("units", units)
        lk.utils.require_choice("cell", cell, ("gru", "lstm"))
        lk.utils.require_choice("initial_state", initial_state, ("mean", "zeros"))
        lk.utils.require_number("dropout", dropout, inclusive=True, below=1.0)
        lk.utils.require_number("label_smoothing", label_smoothing, inclusive=True, below=1.0)
        lk.utils.require_number("attention_regularization", attention_regularization, inclusive=True)
        lk.utils.require_number("learning_rate", learning_rate)
        lk.utils.require_number("weight_decay", weight_decay, inclusive=True)
        lk.utils.require_int("warmup_steps", warmup_steps, minimum=0)

    def configure_model(self, data) -> None:
        """Makes the network for the data's vocabulary and pictures."""
        self.data = data
        names = ("embedding_dim", "units", "cell", "initial_state", "dropout", "tie_embeddings")
        options = {name: self.hparams[name] for name in names}
        self.network = Captioner(len(data.vocabulary), data.input_name == "image", **options, name="network")

    def configure_optimizers(self):
        """Adam, warmed up, then a cosine to 0 at the end of the run."""
        h = self.hparams
        rate = lk.schedules.warmup_cosine(h["learning_rate"], h["warmup_steps"], self.total_steps)
        return keras.optimizers.Adam(rate, weight_decay=h["weight_decay"] or None)

    def train_step(self, batch):
        """One update."""
        return self.minimize(self.word_losses, batch)

    def test_step(self, batch):
        """Nats per word, without smoothing or regularisation."""
        return self.evaluate_loss(self.word_losses, batch)

    def predict_step(self, batch):
        """Float32 logits (batch, time, vocabulary), each given the words of the reference before it."""
        return self.network(batch[self.data.input_name], batch["caption"][:, :-1])[0]

    def word_losses(self, batch, training):
        """Sums over the captions' words: the loss, and without smoothing its perplexity; the share of best guesses."""
        given, wanted = batch["caption"][:, :-1], batch["caption"][:, 1:]  # (batch, time)
        logits, attention = self.network(batch[self.data.input_name], given, training=training)
        steps = tf.cast(wanted != PAD, tf.float32)
        weights = steps * batch["weight"][:, None]
        sums = lk.losses.token_sums(logits, wanted, weights, self.hparams["label_smoothing"] if training else 0.0)
        if training and self.hparams["attention_regularization"]:
            unevenness = tf.reduce_sum(uncovered(attention, steps) * batch["weight"])
            loss = sums["loss"].total + self.hparams["attention_regularization"] * unevenness
            sums["loss"] = lk.metrics.WeightedMean(loss, sums["loss"].weight)
        return sums

    # ---- captioning

    def caption(self, photos: Photo | Iterable[Photo], beam_size: int = 3, length_penalty: float = 1.0):
        """The best caption of a photo, or of each of several.

        Args:
            photos: A file or a picture that Pillow has opened, of any size and mode; or a list of such.
            beam_size: Prefixes that the search keeps; 1 takes the most probable word at every step.
            length_penalty: 0 favours short captions, 1 none (Wu et al. 2016).

        Returns:
            The caption's words with spaces between them; of a list, a list.

        Raises:
            ValueError: A file that is no photo; or an argument is out of its range; or the encoder's file is not there,
                or another than in training.
            FileNotFoundError: There is no such file.
        """
        one = isinstance(photos, Photo)
        found = self.search([photos] if one else photos, beam_size, length_penalty)
        return found[0][0].text if one else [best[0].text for best in found]

    def search(
        self, photos: Iterable[Photo], beam_size: int = 3, length_penalty: float = 1.0, n_best: int = 1
    ) -> list[list[Captioned]]:
        """The `n_best` captions of each photo, the best first, with scores and attention; see `caption`."""
        lk.utils.require(not isinstance(photos, Photo), "photos", "a list of photos", photos, TypeError)
        lk.decoding.check_search(1, beam_size, n_best, length_penalty)
        found = []
        for some in _chunks(photos):
            inputs = self.data.encode_pixels(np.stack([self._pixels(photo) for photo in some]))
            found += self.search_inputs(inputs, beam_size, length_penalty, n_best)
        return found

    def _pixels(self, photo: Photo) -> np.ndarray:
        """What the encoder sees of a photo: uint8 (size, size, 3).

        Raises:
            ValueError: It is no photo, or a damaged one.
            FileNotFoundError: There is no such file.
        """
        try:
            return read_image(photo, self.data.encoder.size)
        except FileNotFoundError:
            raise
        except UNREADABLE as error:
            raise ValueError(f"Expected {photo} to be a photo. Received: {error}") from error

    def search_inputs(
        self, inputs: np.ndarray, beam_size: int = 3, length_penalty: float = 1.0, n_best: int = 1
    ) -> list[list[Captioned]]:
        """`search` of what `CaptionData.encode_images` makes of photos: (rows, slots, channels), or images."""
        lk.decoding.check_search(1, beam_size, n_best, length_penalty)
        found = []
        for start in range(0, len(inputs), ROWS):
            rows = tf.constant(inputs[start : start + ROWS])
            made = self._searching(beam_size, n_best)(rows, tf.constant(length_penalty, tf.float32))
            found += self._captioned(made)
        return found

    def _captioned(self, made: lk.decoding.Hypotheses) -> Iterator[list[Captioned]]:
        for ids, lengths, scores, attention in zip(*(part.numpy() for part in made), strict=True):
            yield [
                self._one(ids[n, : lengths[n] + 1], scores[n], attention[n])
                for n in range(len(scores))
                if np.isfinite(scores[n])
            ]

    def _one(self, ids, score, attention) -> Captioned:
        words = self.data.vocabulary.labels(ids)
        return Captioned(" ".join(self.data.vocabulary.decode(ids)), float(score), words, attention[: len(ids)])

    def _searching(self, beam_size: int, n_best: int):
        """The compiled search, kept: one trace serves any number of rows. Gives Hypotheses of (rows, n_best)."""
        compiled = self.__dict__.setdefault("_compiled", {})
        if (beam_size, n_best) not in compiled:
            function = functools.partial(self._search, beam_size=beam_size, n_best=n_best)
            inputs = tf.TensorSpec((None, *self.data.input_shape), tf.float32)
            compiled[beam_size, n_best] = tf.function(function, input_signature=[inputs, tf.TensorSpec((), tf.float32)])
        return compiled[beam_size, n_best]

    def _search(self, inputs, length_penalty, beam_size, n_best):
        common = {"max_length": self.data.caption_length - 1, "end_id": END, "forbidden": (PAD, UNKNOWN, START)}
        start = (self.network.next, self.network.encode(inputs), tf.fill(tf.shape(inputs)[:1], START))
        if beam_size == 1:
            found = lk.decoding.greedy_search(*start, **common)
            return tf.nest.map_structure(lambda part: part[:, None], found)  # (rows, 1, ...)
        return lk.decoding.beam_search(
            *start, **common, beam_size=beam_size, n_best=n_best, length_penalty=length_penalty
        )

    # ---- evaluating and showing

    def score(self, batches):
        """The COCO evaluation's figures of greedy captions, and what is wrong with them."""
        found, photos = [], []
        for batch in batches:
            kept = batch["weight"].numpy() > 0
            inputs = batch[self.data.input_name].numpy()[kept]
            found += [best[0] for best in self.search_inputs(inputs, beam_size=1)]
            photos += batch["photo"].numpy()[kept].tolist()
        texts = [one.text for one in found]
        # of the whole split, however few of its photos are here: the same for every worker
        frequencies = self._frequencies(self.data.split_of(photos[0])) if photos else None
        return {
            **figures(texts, tokenized(self.data.references_at(photos)), frequencies),
            "attention_entropy": _sum(lk.metrics.attention_entropy(*_steps(one)) for one in found),
            "empty": _sum(lk.metrics.WeightedMean(lk.metrics.empty_share([text]), 1) for text in texts),
            "repeating": _sum(lk.metrics.WeightedMean(lk.metrics.repeating_share([text]), 1) for text in texts),
        }

    def _frequencies(self, split: str) -> lk.metrics.DocumentFrequencies:
        kept = self.__dict__.setdefault("_document_frequencies", {})
        if split not in kept:
            kept[split] = lk.metrics.DocumentFrequencies(tokenized(self.data.references(split)))
        return kept[split]

    def write_samples(self, folder: Path, name: str) -> None:
        """The first validation photos, a reference and the caption of each (beams of 3), and where the first looked."""
        found = [best for (best,) in self.search_inputs(next(self.data.inputs("validation"))[:SAMPLES])]
        names, references = self.data.names("validation"), self.data.references("validation")
        parts = [
            f"{names[i]}\n  reference  {references[i][0]}\n  caption    {one.text}\n" for i, one in enumerate(found)
        ]
        (folder / f"{name}.txt").write_text("\n".join(parts), encoding="utf-8")
        photo = self.data.image("validation", 0, SHOWN)
        pictures.write_attention(folder / f"{name}.png", photo, found[0].words, found[0].attention)

    def write_attention(self, path: str | Path, photo: Photo, **search) -> Captioned:
        """Writes where the caption of `photo` looked, a PNG file; `search` is passed on. Returns the caption."""
        ((best,),) = self.search([photo], **search)
        pictures.write_attention(Path(path), read_photo(photo, SHOWN), best.words, best.attention)
        return best

    def predict_command(
        self,
        image: str | None = None,
        folder: str | None = None,
        out: str | None = None,
        beam_size: int = 3,
        length_penalty: float = 1.0,
    ) -> Iterator[str]:
        """What `lightkeras predict captioning` prints: the caption of a photo, or what became of a folder of them.

        Args:
            image: A photo.
            folder: A folder of photos. What is no photo, or is damaged, is named.
            out: With `image`, a new PNG file: where each word of the caption looked. With `folder`, a new CSV file of
                file, caption and score (log-probability in nats, divided by the length penalty).
            beam_size: Words that the search keeps at every step.
            length_penalty: 0 favours short captions, 1 none.
        """
        lk.utils.require((image is None) != (folder is None), "image", "given, or else `folder`", image)
        lk.utils.require(folder is None or out is not None, "out", "a new CSV file for the captions of --folder", out)
        lk.decoding.check_search(1, beam_size, 1, length_penalty)
        target = out and lk.utils.new_file("out", out)
        options = {"beam_size": beam_size, "length_penalty": length_penalty}
        if folder is not None:
            return self._caption_folder(_files(folder), target, options)
        found = self.write_attention(target, image, **options) if target else self.search([image], **options)[0][0]
        return iter([found.text])

    def _caption_folder(self, files: list[Path], target: Path, options: dict) -> Iterator[str]:
        captioned = 0
        with target.open("x", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", "caption", "score"])
            for some in _chunks(files):
                pixels, broken = self._readable(some)
                yield from broken
                inputs = self.data.encode_pixels(np.stack([*pixels.values()])) if pixels else ()
                found = self.search_inputs(inputs, **options)
                table.writerows(
                    [path.name, best.text, f"{best.score:.4f}"] for path, (best,) in zip(pixels, found, strict=True)
                )
                captioned += len(pixels)
        yield f"Wrote {target}: captions of {captioned:,} of {len(files):,} files"

    def _readable(self, files: list[Path]) -> tuple[dict[Path, np.ndarray], list[str]]:
        """What the encoder sees of the photos among the files, and a line for each other file."""
        pixels, broken = {}, []
        for path in files:
            try:
                pixels[path] = self._pixels(path)
            except ValueError as error:
                broken.append(f"Left out: {error}")
        return pixels, broken


def _files(folder: str) -> list[Path]:
    lk.utils.require(Path(folder).is_dir(), "folder", "an existing folder", folder)
    files = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
    lk.utils.require(len(files) > 0, "folder", "a folder with photos", folder)
    return files


def _chunks(items: Iterable) -> Iterator[list]:
    items = list(items)
    return (items[start : start + ROWS] for start in range(0, len(items), ROWS))


def _steps(one: Captioned) -> tuple[np.ndarray, np.ndarray]:
    """A caption's attention, (1, steps, slots), and that all of it counts."""
    return one.attention[None], np.ones((1, len(one.words)), bool)


def _sum(means: Iterable[lk.metrics.WeightedMean]) -> lk.metrics.WeightedMean:
    """All of them added up; (0, 0) where there are none."""
    totals = [tuple(mean) for mean in means]
    return lk.metrics.WeightedMean(*(float(sum(part)) for part in zip((0.0, 0.0), *totals, strict=True)))
