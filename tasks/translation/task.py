"""Translation with an attentive encoder and decoder."""

import functools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

import lightkeras as lk
from tasks.translation import pictures
from tasks.translation.data import TranslationData
from tasks.translation.model import Translator

PAD, UNKNOWN, START, END = 0, 1, 2, 3
SAMPLES = 10  # sentences of a sample
ROWS = 32  # sentences that are translated at once
LONGEST = (2, 10)  # a translation has at most so many times its source's tokens, and so many more


class Translated(NamedTuple):
    """A translation.

    Attributes:
        text: Plain text.
        score: Its log-probability in nats, divided by the length penalty: what the search ranks by.
        source_labels: The tokens of the source (slots,), its end included.
        labels: The tokens of the translation (steps,), its end included.
        attention: How much each of them looked at each of the source: float32 (steps, slots).
    """

    text: str
    score: float
    source_labels: list[str]
    labels: list[str]
    attention: np.ndarray


class Translation(lk.TaskModule):
    """Translates sentences: a recurrent encoder, and a decoder that attends to it (Bahdanau et al. 2015).

    The loss is nats per target token, the sentence's end included and padding left out, with `perplexity` and
    `token_accuracy` beside it. After each evaluation its sentences are translated greedily: `bleu` and `chrf` (0 to
    100) tell how well; `attention_entropy` (nats) and `attention_coverage`, and the shares of `unknown` tokens and of
    `empty` and `repeating` translations, what is wrong.

    Args:
        embedding_dim: Width of the embeddings of both languages.
        units: Width of the decoder.
        encoder_units: Width of the encoder, in each direction.
        num_layers: Layers of the encoder.
        bidirectional: Whether the encoder reads from the end as well.
        cell: "gru" or "lstm".
        dropout: Share of the embeddings and of the readout that is dropped in training.
        tie_embeddings: Whether tokens are scored by their target embeddings (Press and Wolf 2017).
        label_smoothing: Probability that the training loss spreads over all tokens (Szegedy et al. 2016).
        learning_rate: Adam's, at its highest: after `warmup_steps`, before it falls to 0 by a cosine over the run.
        warmup_steps: Updates in which the learning rate rises from 0.
    """

    data_module = TranslationData
    unit = "tokens"
    score_names = ("bleu", "chrf", "attention_entropy", "attention_coverage", "unknown", "empty", "repeating")
    monitor = ("val_bleu", "max")
    search_space = {
        "task.learning_rate": {"float": [5e-4, 8e-3, "log"], "default": 2e-3},
        "task.dropout": {"float": [0.0, 0.5, 0.1], "default": 0.3},
        "task.label_smoothing": {"choice": [0.0, 0.1, 0.2], "default": 0.1},
        "data.batch_size": {"choice": [32, 64, 128], "default": 64},
    }

    def __init__(
        self,
        embedding_dim: int = 256,
        units: int = 512,
        encoder_units: int = 256,
        num_layers: int = 1,
        bidirectional: bool = True,
        cell: str = "gru",
        dropout: float = 0.3,
        tie_embeddings: bool = True,
        label_smoothing: float = 0.1,
        learning_rate: float = 2e-3,
        warmup_steps: int = 400,
    ):
        super().__init__()
        sizes = {"embedding_dim": embedding_dim, "units": units, "encoder_units": encoder_units}
        for name, value in {**sizes, "num_layers": num_layers}.items():
            lk.utils.require_int(name, value)
        lk.utils.require_choice("cell", cell, ("gru", "lstm"))
        lk.utils.require_number("dropout", dropout, inclusive=True, below=1.0)
        lk.utils.require_number("label_smoothing", label_smoothing, inclusive=True, below=1.0)
        lk.utils.require_number("learning_rate", learning_rate)
        lk.utils.require_int("warmup_steps", warmup_steps, minimum=0)

    def configure_model(self, data) -> None:
        """Makes the network for the vocabularies of both languages."""
        h = self.hparams
        self.data = data
        names = ("embedding_dim", "units", "encoder_units", "num_layers", "bidirectional", "cell", "dropout")
        self.network = Translator(
            len(data.source_vocabulary), len(data.target_vocabulary), **{name: h[name] for name in names},
            tie_embeddings=h["tie_embeddings"], name="network",
        )  # fmt: skip

    def configure_optimizers(self):
        """Adam, warmed up, then a cosine to 0 at the end of the run."""
        h = self.hparams
        return keras.optimizers.Adam(
            lk.schedules.warmup_cosine(h["learning_rate"], h["warmup_steps"], self.total_steps)
        )

    def train_step(self, batch):
        """One update."""
        return self.minimize(self.token_losses, batch)

    def test_step(self, batch):
        """Nats per token, without smoothing."""
        return self.evaluate_loss(self.token_losses, batch)

    def predict_step(self, batch):
        """Float32 logits (batch, time, vocabulary), each given the reference's tokens before it."""
        return self.network(batch["source"], batch["target"][:, :-1])[0]

    def token_losses(self, batch, training):
        """Sums over the target's tokens: the loss, and without smoothing its perplexity; the share of best guesses."""
        given, wanted = batch["target"][:, :-1], batch["target"][:, 1:]  # (batch, time)
        logits, _ = self.network(batch["source"], given, training=training)  # (batch, time, vocabulary)
        weights = tf.cast(wanted != PAD, tf.float32) * batch["weight"][:, None]
        return lk.losses.token_sums(logits, wanted, weights, self.hparams["label_smoothing"] if training else 0.0)

    # ---- translating

    def translate(
        self, texts: Iterable[str], beam_size: int = 5, length_penalty: float = 1.0, coverage_penalty: float = 0.0
    ) -> list[str]:
        """The best translation of each text, a sentence each.

        Args:
            texts: Sentences of the source language. Words that the vocabulary lacks are read as unknown; of one longer
                than the data's `max_length`, the translation may be poor, but it is read to its end.
            beam_size: Prefixes that the search keeps; 1 takes the most probable token at every step.
            length_penalty: 0 favours short translations, 1 none (Wu et al. 2016).
            coverage_penalty: Above 0 for translations that leave no word of the source out (Wu et al. 2016).

        Returns:
            Plain texts; of an empty text an empty one.

        Raises:
            ValueError: An argument is out of its range.
            TypeError: `texts` is one text, not a list.
        """
        found = self.search(texts, beam_size, length_penalty, coverage_penalty)
        return [best[0].text for best in found]

    def search(
        self, texts: Iterable[str], beam_size: int = 5, length_penalty: float = 1.0, coverage_penalty: float = 0.0,
        n_best: int = 1,
    ) -> list[list[Translated]]:  # fmt: skip
        """The `n_best` translations of each text, the best first, with scores and attention; see `translate`."""
        lk.utils.require(not isinstance(texts, str), "texts", "a list of texts", texts, TypeError)
        lk.decoding.check_search(1, beam_size, n_best, length_penalty, coverage_penalty)
        sources = [self.data.encode(text) for text in texts]
        order = sorted(range(len(sources)), key=lambda place: len(sources[place]))  # alike in length: less padding
        found = {}
        for first in range(0, len(order), ROWS):
            places = order[first : first + ROWS]
            rows = [sources[place] for place in places]
            source = keras.utils.pad_sequences(rows, padding="post", value=PAD)
            made = self._searching(beam_size, n_best, coverage_penalty > 0)(
                source, tf.constant(length_penalty, tf.float32), tf.constant(coverage_penalty, tf.float32)
            )
            found.update(zip(places, self._translated(rows, made), strict=True))
        return [found[place] for place in range(len(sources))]

    def _translated(self, sources: list[np.ndarray], made: lk.decoding.Hypotheses) -> Iterator[list[Translated]]:
        ids, lengths, scores, attention = (part.numpy() for part in made)
        for row, source in enumerate(sources):
            labels = self.data.source_vocabulary.labels(source)
            yield [
                self._one(labels, ids[row, n], lengths[row, n], scores[row, n], attention[row, n])
                for n in range(ids.shape[1])
                if np.isfinite(scores[row, n])
            ]

    def _one(self, source_labels, ids, length, score, attention) -> Translated:
        """A translation of `length` tokens, of those in `ids` (capacity,); an empty source has none."""
        shown = ids[: length + 1]
        labels = self.data.target_vocabulary.labels(shown)
        attention = attention[: len(shown), : len(source_labels)]
        text = self.data.decode(shown) if len(source_labels) > 1 else ""
        return Translated(text, float(score), source_labels, labels, attention)

    def _searching(self, beam_size: int, n_best: int, covers: bool):
        """The compiled search, kept: one trace serves all shapes. Gives Hypotheses of (rows, n_best)."""
        compiled = self.__dict__.setdefault("_compiled", {})
        key = (beam_size, n_best, covers)
        if key not in compiled:
            number = tf.TensorSpec((), tf.float32)
            function = functools.partial(self._search, beam_size=beam_size, n_best=n_best, covers=covers)
            compiled[key] = tf.function(
                function, input_signature=[tf.TensorSpec((None, None), tf.int32), number, number]
            )
        return compiled[key]

    def _search(self, source, length_penalty, coverage_penalty, beam_size, n_best, covers):
        mask = source != PAD
        lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        common = {"max_length": LONGEST[0] * lengths + LONGEST[1], "end_id": END, "forbidden": (PAD, START)}
        start = (self.network.next, self.network.encode(source), tf.fill(tf.shape(source)[:1], START))
        if beam_size == 1 and not covers:
            found = lk.decoding.greedy_search(*start, **common)
            return tf.nest.map_structure(lambda part: part[:, None], found)  # (rows, 1, ...)
        return lk.decoding.beam_search(
            *start, **common, beam_size=beam_size, n_best=n_best, length_penalty=length_penalty,
            coverage_penalty=coverage_penalty if covers else 0.0, attention_mask=mask,
        )  # fmt: skip

    # ---- evaluating and showing

    def score(self, batches):
        """BLEU and chrF of greedy translations, and what is wrong with them."""
        texts, references, diagnostics = [], [], []
        for batch in batches:
            kept = batch["weight"].numpy() > 0
            if not kept.any():
                continue
            source, index = batch["source"].numpy()[kept], batch["index"].numpy()[kept]
            none = tf.constant(0.0)
            made = tf.nest.map_structure(
                lambda part: part[:, 0].numpy(), self._searching(1, 1, False)(source, none, none)
            )
            texts += [self.data.decode(ids) for ids in made.ids]
            references += self.data.references_at(index)
            diagnostics.append(_diagnosed(source, made))
        if not texts:  # of several workers, one may have no sentence
            figures = {"bleu": lk.metrics.BLEU.zero(), "chrf": lk.metrics.ChrF.zero()}
            return figures | {
                name: lk.metrics.WeightedMean(0.0, 0.0) for name in self.score_names if name not in figures
            }
        entropy, coverage, unknown = (
            lk.metrics.WeightedMean(*np.sum(of_all, axis=0)) for of_all in zip(*diagnostics, strict=True)
        )
        empty, repeating = (
            lk.metrics.WeightedMean(share(texts) * len(texts), len(texts))
            for share in (lk.metrics.empty_share, lk.metrics.repeating_share)
        )
        return {
            "bleu": lk.metrics.BLEU.from_sentences(texts, references),
            "chrf": lk.metrics.ChrF.from_sentences(texts, references),
            "attention_entropy": entropy,
            "attention_coverage": coverage,
            "unknown": unknown,
            "empty": empty,
            "repeating": repeating,
        }

    def write_samples(self, folder: Path, name: str) -> None:
        """The first validation sentences, their references and their translations (beams of 5)."""
        sources, references = self.data.sources("validation")[:SAMPLES], self.data.references("validation")
        parts = [
            f"{source}\n  reference    {references[i][0]}\n  translation  {text}\n"
            for i, (source, text) in enumerate(zip(sources, self.translate(sources), strict=True))
        ]
        (folder / f"{name}.txt").write_text("\n".join(parts), encoding="utf-8")

    def write_attention(self, path: str | Path, text: str, **search) -> str:
        """Writes where the translation of `text` looked, a PNG file; `search` is passed on. Returns the translation."""
        ((best,),) = self.search([text], **search)
        pictures.write_attention(Path(path), best.source_labels, best.labels, best.attention)
        return best.text

    def predict_command(
        self,
        input: str | None = None,
        file: str | None = None,
        beam_size: int = 5,
        length_penalty: float = 1.0,
        coverage_penalty: float = 0.0,
        n_best: int = 1,
        attention: str | None = None,
    ) -> Iterator[str]:
        """What `lightkeras predict translation` prints: a translation a line, or `n_best` of them with their scores.

        Args:
            input: A sentence. Without it and `file`, sentences come from standard input, line by line.
            file: A UTF-8 file with a sentence on each line.
            beam_size: Prefixes that the search keeps.
            length_penalty: 0 favours short translations, 1 none.
            coverage_penalty: Above 0 for translations that leave no word out.
            n_best: Translations of each sentence.
            attention: A new PNG file: where the translation of `input` looked.
        """
        lk.utils.require(input is None or file is None, "file", "left out beside --input", file)
        lk.utils.require(attention is None or input is not None, "attention", "left out without --input", attention)
        lk.decoding.check_search(1, beam_size, n_best, length_penalty, coverage_penalty)
        picture = attention and lk.utils.new_file("attention", attention)
        options = {"beam_size": beam_size, "length_penalty": length_penalty, "coverage_penalty": coverage_penalty}
        if picture:
            self.write_attention(picture, input, **options)
        return self._printed(_chunks(input, file), options, n_best)

    def _printed(self, chunks: Iterable[list[str]], options: dict, n_best: int) -> Iterator[str]:
        for texts in chunks:
            for found in self.search(texts, n_best=n_best, **options):
                yield found[0].text if n_best == 1 else "\n".join(f"{one.score:9.3f}  {one.text}" for one in found)


def _chunks(text: str | None, file: str | None) -> Iterator[list[str]]:
    """The sentences to translate, as many at once as there are: of standard input, one."""
    if text is not None:
        yield [text]
    elif file is not None:
        yield lk.text.read_text(file).splitlines()
    else:
        for line in sys.stdin:
            yield [line.removesuffix("\n")]


def _diagnosed(source: np.ndarray, made: lk.decoding.Hypotheses) -> list[lk.metrics.WeightedMean]:
    """Entropy and coverage of the attention, and the share of unknown tokens, of translations (rows, capacity)."""
    steps = np.arange(made.ids.shape[1]) <= made.lengths[:, None]  # the end's step included
    attended = steps & (made.attention.sum(axis=-1) > 0)  # a translation that was cut has no end
    words = np.arange(made.ids.shape[1]) < made.lengths[:, None]
    unknown = lk.metrics.WeightedMean(float(((made.ids == UNKNOWN) & words).sum()), float(words.sum()))
    mask = source != PAD
    entropy = lk.metrics.attention_entropy(made.attention, attended, mask)
    return [entropy, lk.metrics.attention_coverage(made.attention, attended, mask), unknown]
