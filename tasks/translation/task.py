"""Translation with an encoder and a decoder that attends to it."""

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

import lightkeras as lk
from tasks.translation import demo, figures, report
from tasks.translation.data import TranslationData
from tasks.translation.export import endpoints
from tasks.translation.model import Translator

SAMPLES = 10  # sentences of a sample


class Translated(NamedTuple):
    """A translation.

    Attributes:
        text: Plain text.
        score: Its log-probability in nats, divided by the length penalty; the search ranks by it.
        source_labels: The tokens of the source, (slots,); the last is "</s>", its end.
        labels: The tokens of the translation, (steps,); the last is "</s>", its end, unless it was cut.
        attention: Weights of each of them over the tokens of the source: float32 (steps, slots).
    """

    text: str
    score: float
    source_labels: list[str]
    labels: list[str]
    attention: np.ndarray


class Translation(lk.TaskModule):
    """Translates sentences: a recurrent encoder, and a decoder that attends to it (Bahdanau et al. 2015).

    The loss is nats per target token, with the sentence's end and without padding; `perplexity` and `token_accuracy`
    are logged with it. Every evaluation also translates its sentences greedily: `bleu` (of characters, if the target
    language puts no spaces between words: `lk.metrics.bleu_for`) and `chrf` (0 to 100) measure the quality;
    `attention_entropy` (nats), `attention_coverage`, and the shares of `unknown` tokens and of `empty` and `repeating`
    translations point to faults.

    Args:
        embedding_dim: Width of the embeddings of both languages.
        units: Width of the decoder.
        encoder_units: Width of the encoder, in each direction.
        num_layers: Layers of the encoder.
        bidirectional: Whether the encoder also reads from the end.
        cell: "gru" or "lstm".
        dropout: Share of the embeddings, of the values between encoder layers and of the readout to drop in training.
        tie_embeddings: Whether the target embeddings score the tokens (Press and Wolf 2017).
        label_smoothing: Probability that the training loss spreads over all tokens (Szegedy et al. 2016).
        learning_rate: Adam's highest learning rate: reached after `warmup_steps`, then a cosine to 0 over the run.
        warmup_steps: Updates in which the learning rate rises from 0.
    """

    data_module = TranslationData
    unit = "tokens"
    shown_metrics = ("loss", "val_loss", "val_bleu")
    score_names = ("bleu", "chrf", "attention_entropy", "attention_coverage", "unknown", "empty", "repeating")
    monitor = ("val_bleu", "max")
    scored: list[report.Scored] = []  # sentences of the last evaluation, for the report
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
        """Builds the network for the vocabularies of both languages, and its search."""
        h = self.hparams
        self.data = data
        names = ("embedding_dim", "units", "encoder_units", "num_layers", "bidirectional", "cell", "dropout")
        self.network = Translator(
            len(data.source_vocabulary), len(data.target_vocabulary), **{name: h[name] for name in names},
            tie_embeddings=h.tie_embeddings, name="network",
        )  # fmt: skip
        ids = tf.TensorSpec((None, None), tf.int32)
        self.searcher = lk.decoding.CompiledSearch(self.network, ids, max_length=lambda lengths: 2 * lengths + 10)

    def configure_optimizers(self):
        """Returns Adam with a warm-up, then a cosine to 0 at the end of the run."""
        h = self.hparams
        return keras.optimizers.Adam(lk.schedules.warmup_cosine(h.learning_rate, h.warmup_steps, self.total_steps))

    def train_step(self, batch):
        """Makes one update."""
        return self.minimize(self.token_losses, batch)

    def test_step(self, batch):
        """Evaluates nats per token, without smoothing."""
        return self.evaluate_loss(self.token_losses, batch)

    def predict_step(self, batch):
        """Returns float32 logits (batch, time, vocabulary), each from the reference's tokens before it."""
        return self.network(batch["source"], batch["target"][:, :-1])[0]

    def token_losses(self, batch, training):
        """Sums loss, perplexity and accuracy over the target's tokens; only the loss is smoothed, in training."""
        given, wanted = batch["target"][:, :-1], batch["target"][:, 1:]  # (batch, time)
        logits, _ = self.network(batch["source"], given, training=training)  # (batch, time, vocabulary)
        weights = tf.cast(wanted != lk.text.PAD, tf.float32) * batch["weight"][:, None]
        return lk.losses.token_sums(logits, wanted, weights, self.hparams.label_smoothing if training else 0.0)

    # ---- translating

    def translate(
        self, texts: Iterable[str], beam_size: int = 5, length_penalty: float = 1.0, coverage_penalty: float = 0.0
    ) -> list[str]:
        """Translates sentences.

        Args:
            texts: Sentences of the source language. A word without an id is read as unknown. A sentence longer than the
                data's `max_length` is read to its end, but its translation may be poor.
            beam_size: Prefixes that the search keeps; 1 takes the most probable token at every step.
            length_penalty: 0 favours short translations, 1 does not (Wu et al. 2016).
            coverage_penalty: Above 0, favours translations that leave no word of the source out (Wu et al. 2016).

        Returns:
            The best translation of each text: plain text; of an empty text an empty one.

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
        """Returns the `n_best` translations of each text, best first, with scores and attention; see `translate`."""
        lk.utils.require(not isinstance(texts, str), "texts", "a list of texts", texts, TypeError)
        sources = [self.data.encode(text) for text in texts]
        found = self.searcher.search(
            sources, beam_size=beam_size, n_best=n_best, length_penalty=length_penalty,
            coverage_penalty=coverage_penalty,
        )  # fmt: skip
        return [
            [self._to_translated(source, one) for one in ranked] for source, ranked in zip(sources, found, strict=True)
        ]

    def _to_translated(self, source: np.ndarray, one: lk.decoding.FoundSequence) -> Translated:
        text = self.data.decode(one.ids) if len(source) > 1 else ""  # an empty source has only its end
        labels = self.data.source_vocabulary.labels(source), self.data.target_vocabulary.labels(one.ids)
        return Translated(text, one.score, *labels, one.attention)

    def exports(self):
        """Returns the endpoints of an export: see `tasks/translation/export.py`."""
        return endpoints(self)

    def demo(self):
        """Returns the page of `lightkeras demo`: see `tasks/translation/demo.py`."""
        return demo.page(self)

    # ---- evaluating and showing

    def score(self, batches):
        """Computes BLEU and chrF of greedy translations, and the figures that point to faults."""
        found, references, sources = [], [], []
        for batch in batches:
            kept = batch["weight"].numpy() > 0
            if kept.any():
                found += [best for (best,) in self.searcher.search_batch(batch["source"].numpy()[kept])]
                references += self.data.references_at(batch["index"].numpy()[kept])
                sources += self.data.sources_at(batch["index"].numpy()[kept])
        texts, nothing = [self.data.decode(one.ids) for one in found], lk.metrics.WeightedMean(0.0, 0.0)
        kept = zip(sources, texts, references, strict=True)
        self.__dict__["scored"] = [report.Scored(*one) for one in itertools.islice(kept, report.KEPT)]  # Keras copies
        quality = {"bleu": self.data.bleu, "chrf": lk.metrics.ChrF}
        tokens = np.concatenate([[], *(one.ids for one in found)])
        return {
            **{n: kind.from_sentences(texts, references) if texts else kind.zero() for n, kind in quality.items()},
            "attention_entropy": sum((lk.metrics.attention_entropy(*_steps(one)) for one in found), nothing),
            "attention_coverage": sum((lk.metrics.attention_coverage(*_steps(one)) for one in found), nothing),
            "unknown": _share(tokens[tokens != lk.text.END] == lk.text.UNKNOWN),
            "empty": _share([not text.strip() for text in texts]),
            "repeating": _share([lk.metrics.is_repeating(text) for text in texts]),
        }

    def report_sections(self):
        """Returns good and bad translations, the quality by length and attention maps for the run's report."""
        return report.sections(self)

    def write_samples(self, folder: Path, name: str) -> None:
        """Writes the first validation sentences, their references and their translations (5 beams)."""
        sources, references = self.data.sources("validation")[:SAMPLES], self.data.references("validation")
        parts = [
            f"{source}\n  reference    {references[i][0]}\n  translation  {text}\n"
            for i, (source, text) in enumerate(zip(sources, self.translate(sources), strict=True))
        ]
        (folder / f"{name}.txt").write_text("\n".join(parts), encoding="utf-8")

    def write_attention(self, path: str | Path, text: str, **search) -> str:
        """Draws the attention of the translation of `text` as a PNG file, and returns the translation.

        Args:
            path: The file.
            text: A sentence.
            **search: The options of `translate`.
        """
        ((best,),) = self.search([text], **search)
        figures.write_attention(lk.utils.local_path(path), best.source_labels, best.labels, best.attention)
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
        """Translates for `lightkeras predict translation`: yields a translation, or `n_best` with scores, per sentence.

        Args:
            input: A sentence. Without it and `file`, sentences come from standard input, line by line.
            file: A UTF-8 file with a sentence on each line.
            beam_size: Prefixes that the search keeps.
            length_penalty: 0 favours short translations, 1 does not.
            coverage_penalty: Above 0, favours translations that leave no word out.
            n_best: Translations of each sentence.
            attention: A new PNG file for a picture of the attention of the translation of `input`.
        """
        lk.utils.require(input is None or file is None, "file", "left out beside --input", file)
        lk.utils.require(attention is None or input is not None, "attention", "left out without --input", attention)
        options = {"beam_size": beam_size, "length_penalty": length_penalty, "coverage_penalty": coverage_penalty}
        lk.decoding.check_search(1, n_best=n_best, **options)
        if attention:
            self.write_attention(lk.utils.new_file("attention", attention), input, **options)
        return self._format(_chunks(input, file), n_best, options)

    def _format(self, chunks: Iterable[list[str]], n_best: int, options: dict) -> Iterator[str]:
        for texts in chunks:
            for ranked in self.search(texts, n_best=n_best, **options):
                yield ranked[0].text if n_best == 1 else "\n".join(f"{one.score:9.3f}  {one.text}" for one in ranked)


def _chunks(text: str | None, file: str | None) -> Iterator[list[str]]:
    """The sentences to translate in chunks: from standard input one by one, else all at once."""
    if text is not None:
        yield [text]
    elif file is not None:
        yield lk.text.split_lines(lk.text.read_text(file))
    else:
        try:
            for line in sys.stdin:
                yield [line.removesuffix("\n")]
        except UnicodeDecodeError as error:
            raise lk.utils.ArgumentError(f"Expected UTF-8 text on standard input. Received: {error}") from error


def _steps(one: lk.decoding.FoundSequence) -> tuple[np.ndarray, np.ndarray]:
    """A translation's attention, (1, steps, slots), and the mask of its steps, all True."""
    return one.attention[None], np.ones((1, len(one.ids)), bool)


def _share(flags) -> lk.metrics.WeightedMean:
    """The share of the flags that are True."""
    return lk.metrics.WeightedMean(float(np.sum(flags)), float(len(flags)))
