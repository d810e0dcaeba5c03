"""Image captioning with a decoder that attends to the places of a photo."""

import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import lightkeras as lk
from tasks.captioning import demo, figures, report
from tasks.captioning.data import CaptionData
from tasks.captioning.export import endpoints
from tasks.captioning.model import Captioner, uncovered
from tasks.captioning.photos.pixels import read_image, read_photo

COCO_SCORES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider", "rouge_l")
SAMPLES = 10  # photos of a sample
ROWS = 32  # photos that are read at once
SHOWN = 320  # pixels of a photo's longer side in a picture
Photo = str | os.PathLike | Image.Image


class Captioned(NamedTuple):
    """A caption.

    Attributes:
        text: Its words, lower case, with spaces between them.
        score: Its log-probability in nats, divided by the length penalty; the search ranks by it.
        words: Its words, (steps,); the last is "</s>", its end, unless it was cut.
        attention: Weights of each word over the places of the picture, row by row: float32 (steps, slots).
    """

    text: str
    score: float
    words: list[str]
    attention: np.ndarray


class Captioning(lk.TaskModule):
    """Describes photos: a recurrent decoder that attends to the places of a photo (Xu et al. 2015, soft attention).

    The loss is nats per word, with the caption's end and without padding; `perplexity` and `token_accuracy` are logged
    with it. Every evaluation also captions its photos greedily: `bleu_1` to `bleu_4`, `rouge_l` (0 to 1) and `cider`
    (CIDEr-D, 0 to 10), the scores of the COCO caption evaluation, measure the quality; `attention_entropy` (nats) and
    the shares of `empty` and `repeating` captions point to faults.

    Args:
        embedding_dim: Width of the words' embeddings.
        units: Width of the decoder and of the projected features.
        cell: "gru" or "lstm".
        initial_state: The decoder's first state: the features' "mean", through a dense layer (Xu et al. 2015), or
            "zeros", so that it knows only what it attends to.
        dropout: Share of the projected features, of the embeddings and of the readout to drop in training.
        tie_embeddings: Whether the embeddings score the words (Press and Wolf 2017).
        label_smoothing: Probability that the training loss spreads over all words (Szegedy et al. 2016).
        attention_regularization: Factor of the doubly stochastic attention (Xu et al. 2015, lambda of equation 14, 1
            there), a term of every caption's training loss that is 0 if the attention to each place adds up to 1.
        learning_rate: Adam's highest learning rate: reached after `warmup_steps`, then a cosine to 0 over the run.
        weight_decay: Decoupled (AdamW), per update and learning rate.
        warmup_steps: Updates in which the learning rate rises from 0.
    """

    data_module = CaptionData
    unit = "words"
    shown_metrics = ("loss", "val_loss", "val_cider")
    score_names = (*COCO_SCORES, "attention_entropy", "empty", "repeating")
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
        """Builds the network for the data's vocabulary and pictures, and its search."""
        self.data = data
        names = ("embedding_dim", "units", "cell", "initial_state", "dropout", "tie_embeddings")
        options = {name: self.hparams[name] for name in names}
        self.network = Captioner(len(data.vocabulary), data.input_name == "image", **options, name="network")
        self.searcher = lk.decoding.CompiledSearch(
            self.network, tf.TensorSpec((None, *data.input_shape), tf.float32), max_length=data.caption_length - 1,
            forbidden=(lk.text.PAD, lk.text.UNKNOWN, lk.text.START),
        )  # fmt: skip

    def configure_optimizers(self):
        """Returns Adam with a warm-up, then a cosine to 0 at the end of the run."""
        h = self.hparams
        rate = lk.schedules.warmup_cosine(h.learning_rate, h.warmup_steps, self.total_steps)
        return keras.optimizers.Adam(rate, weight_decay=h.weight_decay or None)

    def train_step(self, batch):
        """Makes one update."""
        return self.minimize(self.word_losses, batch)

    def test_step(self, batch):
        """Evaluates nats per word, without smoothing or regularization."""
        return self.evaluate_loss(self.word_losses, batch)

    def predict_step(self, batch):
        """Returns float32 logits (batch, time, vocabulary), each from the reference's words before it."""
        return self.network(batch[self.data.input_name], batch["caption"][:, :-1])[0]

    def word_losses(self, batch, training):
        """Sums loss, perplexity and accuracy over the captions' words; only the loss is smoothed, in training."""
        given, wanted = batch["caption"][:, :-1], batch["caption"][:, 1:]  # (batch, time)
        logits, attention = self.network(batch[self.data.input_name], given, training=training)
        steps = tf.cast(wanted != lk.text.PAD, tf.float32)
        weights = steps * batch["weight"][:, None]
        sums = lk.losses.token_sums(logits, wanted, weights, self.hparams.label_smoothing if training else 0.0)
        if training and self.hparams.attention_regularization:
            unevenness = tf.reduce_sum(uncovered(attention, steps) * batch["weight"])
            loss = sums["loss"].total + self.hparams.attention_regularization * unevenness
            sums["loss"] = lk.metrics.WeightedMean(loss, sums["loss"].weight)
        return sums

    # ---- captioning

    def caption(self, photos: Photo | Iterable[Photo], beam_size: int = 3, length_penalty: float = 1.0):
        """Captions one photo or several.

        Args:
            photos: A file or a picture that Pillow has opened, of any size and mode; or a list of these.
            beam_size: Prefixes that the search keeps; 1 takes the most probable word at every step.
            length_penalty: 0 favours short captions, 1 does not (Wu et al. 2016).

        Returns:
            The best caption's words with spaces between them; of a list, a list.

        Raises:
            ValueError: A file is no photo; an argument is out of its range; the encoder's file does not exist or is not
                that of the training.
            FileNotFoundError: A file does not exist.
        """
        one = isinstance(photos, Photo)
        found = self.search([photos] if one else photos, beam_size, length_penalty)
        return found[0][0].text if one else [best[0].text for best in found]

    def search(
        self, photos: Iterable[Photo], beam_size: int = 3, length_penalty: float = 1.0, n_best: int = 1
    ) -> list[list[Captioned]]:
        """Returns the `n_best` captions of each photo, the best first, with scores and attention; see `caption`."""
        lk.utils.require(not isinstance(photos, Photo), "photos", "a list of photos", photos, TypeError)
        lk.decoding.check_search(1, beam_size, n_best, length_penalty)
        found = []
        for chunk in _chunks(photos):
            inputs = self.data.encode_images(chunk)
            found += self.search_inputs(inputs, beam_size, length_penalty, n_best)
        return found

    def search_inputs(
        self, inputs: np.ndarray, beam_size: int = 3, length_penalty: float = 1.0, n_best: int = 1
    ) -> list[list[Captioned]]:
        """Does a `search` with the result of `CaptionData.encode_images`: (rows, slots, channels), or images."""
        found = self.searcher.search(inputs, beam_size=beam_size, n_best=n_best, length_penalty=length_penalty)
        return [[self._to_captioned(one) for one in ranked] for ranked in found]

    def _to_captioned(self, one: lk.decoding.FoundSequence) -> Captioned:
        vocabulary = self.data.vocabulary
        return Captioned(" ".join(vocabulary.decode(one.ids)), one.score, vocabulary.labels(one.ids), one.attention)

    def exports(self):
        """Returns the endpoints of an export: see `tasks/captioning/export.py`."""
        return endpoints(self)

    def demo(self):
        """Returns the page of `lightkeras demo`: see `tasks/captioning/demo.py`."""
        return demo.page(self)

    # ---- evaluating and showing

    def score(self, batches):
        """Computes the COCO evaluation's scores of greedy captions, and the figures that point to faults."""
        found, photos = [], []
        for batch in batches:
            kept = batch["weight"].numpy() > 0
            if kept.any():
                ranked = self.searcher.search_batch(batch[self.data.input_name].numpy()[kept])
                found += [self._to_captioned(best) for (best,) in ranked]
                photos += batch["photo"].numpy()[kept].tolist()
        texts, nothing = [one.text for one in found], lk.metrics.WeightedMean(0.0, 0.0)
        # of the whole split, even if few of its photos are here: the same on every worker
        frequencies = self._frequencies(self.data.find_split(photos[0])) if photos else None
        return {
            **coco_scores(texts, tokenize_all(self.data.references_at(photos)), frequencies),
            "attention_entropy": sum((lk.metrics.attention_entropy(*_steps(one)) for one in found), nothing),
            "empty": _share([not text.strip() for text in texts]),
            "repeating": _share([lk.metrics.is_repeating(text) for text in texts]),
        }

    def _frequencies(self, split: str) -> lk.metrics.DocumentFrequencies:
        kept = self.__dict__.setdefault("_document_frequencies", {})
        if split not in kept:
            kept[split] = lk.metrics.DocumentFrequencies(tokenize_all(self.data.references(split)))
        return kept[split]

    def report_sections(self):
        """Returns captions and the attention of their words for the run's report."""
        return report.sections(self)

    def write_samples(self, folder: Path, name: str) -> None:
        """Writes a reference and the caption (3 beams) of the first validation photos; draws the attention of one."""
        found = [best for (best,) in self.search_inputs(next(self.data.inputs("validation"))[:SAMPLES])]
        names, references = self.data.names("validation"), self.data.references("validation")
        parts = [
            f"{names[i]}\n  reference  {references[i][0]}\n  caption    {one.text}\n" for i, one in enumerate(found)
        ]
        (folder / f"{name}.txt").write_text("\n".join(parts), encoding="utf-8")
        photo = self.data.image("validation", 0, SHOWN)
        figures.write_attention(folder / f"{name}.png", photo, found[0].words, found[0].attention)

    def write_attention(self, path: str | Path, photo: Photo, **search) -> Captioned:
        """Draws the attention of the caption of `photo` as a PNG file, and returns the caption.

        Args:
            path: The file.
            photo: A file or a picture that Pillow has opened.
            **search: The options of `caption`.
        """
        ((best,),) = self.search([photo], **search)
        figures.write_attention(lk.utils.local_path(path), read_photo(photo, SHOWN), best.words, best.attention)
        return best

    def predict_command(
        self,
        image: str | None = None,
        folder: str | None = None,
        out: str | None = None,
        beam_size: int = 3,
        length_penalty: float = 1.0,
    ) -> Iterator[str]:
        """Captions for `lightkeras predict captioning`: yields the caption of a photo, or the report on a folder.

        Args:
            image: A photo.
            folder: A folder of photos. Files that are no photo, or are damaged, are reported.
            out: With `image`, a new PNG file for a picture of the attention of each word. With `folder`, a new CSV file
                of file, caption and score (log-probability in nats, divided by the length penalty).
            beam_size: Prefixes that the search keeps.
            length_penalty: 0 favours short captions, 1 does not.
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
            for chunk in _chunks(files):
                pixels, broken = self._readable(chunk)
                yield from broken
                inputs = self.data.encode_pixels(np.stack([*pixels.values()])) if pixels else ()
                found = self.search_inputs(inputs, **options)
                table.writerows(
                    [path.name, best.text, f"{best.score:.4f}"] for path, (best,) in zip(pixels, found, strict=True)
                )
                captioned += len(pixels)
        yield f"Wrote {target}: captions of {captioned:,} of {len(files):,} files"

    def _readable(self, files: list[Path]) -> tuple[dict[Path, np.ndarray], list[str]]:
        """The encoder's inputs of the photos among the files, and a line for each other file."""
        pixels, broken = {}, []
        for path in files:
            try:
                pixels[path] = read_image(path, self.data.encoder.size)
            except lk.data.ImageError as error:
                broken.append(f"Left out: {error}")
        return pixels, broken


def _files(folder: str) -> list[Path]:
    place = lk.utils.local_path(folder)
    lk.utils.require(place.is_dir(), "folder", "an existing folder", folder)
    files = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
    lk.utils.require(len(files) > 0, "folder", "a folder with photos", folder)
    return files


def _chunks(items: Iterable) -> Iterator[list]:
    items = list(items)
    return (items[start : start + ROWS] for start in range(0, len(items), ROWS))


def tokenize_all(captions: Iterable[Iterable[str]]) -> list[list[str]]:
    """Tokenizes the captions of each photo for the COCO evaluation."""
    return [[lk.metrics.tokenize_caption(caption) for caption in same_photo] for same_photo in captions]


def coco_scores(
    texts: list[str], references: list[list[str]], frequencies: lk.metrics.DocumentFrequencies | None
) -> dict[str, lk.metrics.CorpusMetric]:
    """Computes BLEU-1 to -4 and ROUGE-L, from 0 to 1, and CIDEr-D, from 0 to 10, as sums that add up over workers.

    Args:
        texts: A caption of each photo, tokenized; may be empty.
        references: The tokenized captions of each photo.
        frequencies: The document frequencies of the references of the whole split; None without texts.
    """
    if not texts:  # a worker may have only padding
        bleu, cider, rouge = (kind.zero() for kind in (lk.metrics.CaptionBLEU, lk.metrics.CIDErD, lk.metrics.ROUGEL))
    else:
        bleu, rouge = (
            lk.metrics.CaptionBLEU.from_sentences(texts, references),
            lk.metrics.ROUGEL.from_sentences(texts, references),
        )
        cider = lk.metrics.CIDErD.from_sentences(texts, references, frequencies)
    orders = {f"bleu_{order}": bleu.up_to(order) for order in range(1, bleu.order + 1)}
    return {**orders, "cider": cider, "rouge_l": rouge}


def _steps(one: Captioned) -> tuple[np.ndarray, np.ndarray]:
    """A caption's attention, (1, steps, slots), and the mask of its steps, all True."""
    return one.attention[None], np.ones((1, len(one.words)), bool)


def _share(flags) -> lk.metrics.WeightedMean:
    """The share of the flags that are True."""
    return lk.metrics.WeightedMean(float(np.sum(flags)), float(len(flags)))
