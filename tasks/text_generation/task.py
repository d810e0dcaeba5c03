"""Character-level text generation."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import lightkeras as lk
from tasks.text_generation import demo, report
from tasks.text_generation.data import TextData
from tasks.text_generation.export import endpoints
from tasks.text_generation.model import CELLS, CharacterRNN

MIN_CAPACITY = 512  # characters; shorter texts are written by the same compiled function
PART = 24  # characters that `generate_parts` adds at once


class TextGeneration(lk.TaskModule):
    """Predicts the next character of a text, and generates text by drawing one character after the other.

    The loss is in nats per character; `bits_per_character` and `perplexity` are computed from it.

    Args:
        embedding_dim: Width of an embedding.
        units: Width of every recurrent layer.
        num_layers: Number of recurrent layers.
        cell: "gru" or "lstm".
        dropout: Share of each recurrent layer's outputs dropped in training.
        embedding_dropout: Share of the embedding table's entries dropped in training.
        learning_rate: Adam's highest learning rate, reached after `warmup_steps`; it then falls to 0 by a cosine.
        warmup_steps: Updates in which the learning rate rises from 0. Without a known end of the run
            (`max_epochs` or `max_steps`), it then stays constant.
    """

    data_module = TextData
    unit = "characters"
    shown_metrics = ("loss", "val_loss")
    search_space = {
        "task.units": {"int": [256, 1024, 256], "default": 512},
        "task.learning_rate": {"float": [1e-3, 1e-2, "log"], "default": 2.5e-3},
        "task.dropout": {"float": [0.0, 0.5, 0.1], "default": 0.4},
    }

    def __init__(
        self,
        embedding_dim: int = 256,
        units: int = 1024,
        num_layers: int = 1,
        cell: str = "gru",
        dropout: float = 0.4,
        embedding_dropout: float = 0.2,
        learning_rate: float = 2.5e-3,
        warmup_steps: int = 100,
    ):
        super().__init__()
        for name, value in (("embedding_dim", embedding_dim), ("units", units), ("num_layers", num_layers)):
            lk.utils.require_int(name, value)
        lk.utils.require_choice("cell", cell, CELLS)
        lk.utils.require_number("dropout", dropout, inclusive=True, below=1.0)
        lk.utils.require_number("embedding_dropout", embedding_dropout, inclusive=True, below=1.0)
        lk.utils.require_number("learning_rate", learning_rate)
        lk.utils.require_int("warmup_steps", warmup_steps, minimum=0)

    def configure_model(self, data) -> None:
        """Creates the network for the data's vocabulary."""
        h = self.hparams
        self.data, self.vocabulary = data, data.vocabulary
        sizes = {name: h[name] for name in ("embedding_dim", "units", "num_layers", "cell")}
        self.network = CharacterRNN(
            len(data.vocabulary),
            **sizes,
            dropout=h.dropout,
            embedding_dropout=h.embedding_dropout,
            name="network",
        )

    def configure_optimizers(self):
        """Adam with warm-up, then a cosine to 0 at the end of the run."""
        h = self.hparams
        return keras.optimizers.Adam(lk.schedules.warmup_cosine(h.learning_rate, h.warmup_steps, self.total_steps))

    def train_step(self, batch):
        """One update."""
        return self.minimize(self.character_losses, batch)

    def test_step(self, batch):
        """The loss in nats per character, in bits, and the perplexity."""
        return self.evaluate_loss(self.character_losses, batch)

    def predict_step(self, batch):
        """Returns logits (batch, time, vocabulary)."""
        return self.network(batch["inputs"])[0]

    def character_losses(self, batch, training):
        """Negative log-likelihood in nats, summed over the characters of a batch."""
        logits, _ = self.network(batch["inputs"], training=training)  # (batch, time, vocabulary)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["targets"], logits)  # (batch, time)
        total = tf.reduce_sum(nats * batch["weight"][:, None])
        characters = tf.reduce_sum(batch["weight"]) * nats.shape[1]
        return {
            "loss": (total, characters),
            "bits_per_character": lk.metrics.BitsPerCharacter(total, characters),
            "perplexity": lk.metrics.Perplexity(total, characters),
        }

    # ---- generating text

    def generate(
        self,
        prompt: str = "\n",
        length: int = 500,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        num_samples: int = 1,
    ) -> list[str]:
        """Continues a text.

        Args:
            prompt: Beginning of the text; one character at least.
            length: Characters to add.
            temperature: Below 1 prefers probable characters, above 1 gives more variety; 0 takes the most probable one.
            top_k: Number of most probable characters to draw from; None for all.
            top_p: Draw from the most probable characters that together reach this probability; None for all.
            seed: The same seed gives the same text.
            num_samples: Number of texts.

        Returns:
            `num_samples` texts, each the prompt and `length` more characters.

        Raises:
            ValueError: The prompt is empty or has characters that the vocabulary lacks (they are named), or an
                argument is out of its range.
        """
        lk.utils.require_int("num_samples", num_samples)
        draw = self._draw(length, temperature, top_k, top_p, seed)
        last, states = self._read_prompt(prompt, num_samples)
        more = self._write(last, states, tf.constant(length), **draw,
                           capacity=max(MIN_CAPACITY, 1 << (length - 1).bit_length()))  # fmt: skip
        return [prompt + self.vocabulary.decode(row) for row in more.numpy()[:, :length]]

    def generate_parts(
        self,
        prompt: str = "\n",
        length: int = 500,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ) -> Iterator[str]:
        """Yields the text of `generate` as it grows: the prompt and a multiple of `PART` more characters, then all."""
        draw = self._draw(length, temperature, top_k, top_p, seed)
        last, states = self._read_prompt(prompt, 1)
        last, text = last[:, 0], prompt
        for first in range(0, length, PART):
            count = min(PART, length - first)
            ids, last, states = self._write_part(last, states, tf.constant(first), tf.constant(count), **draw)
            text += self.vocabulary.decode(ids.numpy()[0, :count])
            yield text

    def _draw(self, length: int, temperature: float, top_k: int | None, top_p: float | None, seed: int) -> dict:
        """Checks the options of a text, and returns those of the sampler as the compiled functions take them."""
        lk.utils.require_int("length", length)
        lk.utils.require_int("seed", seed, minimum=0)
        lk.decoding.check_sampling(temperature, top_k, top_p, len(self.vocabulary))
        return {
            "temperature": tf.constant(temperature, tf.float32),
            "top_k": top_k,
            "top_p": None if top_p is None else tf.constant(top_p, tf.float32),
            "seed": tf.constant((seed & 0x7FFFFFFF, seed >> 31), tf.int32),
        }

    def _read_prompt(self, prompt: str, rows: int) -> tuple[np.ndarray, Any]:
        """Reads a prompt, the same for each row: its last ids (rows, 1), and the states before them."""
        lk.utils.require(len(prompt) > 0, "prompt", "at least one character", prompt)
        ids = np.tile(self.vocabulary.encode(prompt), (rows, 1))  # (rows, time)
        return ids[:, -1:], self._read(ids[:, :-1]) if len(prompt) > 1 else self.network.initial_states(rows)

    @functools.cached_property
    def _read(self):
        """The compiled reading of a prompt of any length: ids (rows, time) to states."""

        def read(ids):
            return self.network(ids)[1]

        return tf.function(read, input_signature=[tf.TensorSpec((None, None), tf.int32)])

    @functools.cached_property
    def _write(self):
        """The compiled writing (XLA; a trace for each capacity): the last ids (rows, 1) and states to ids."""

        def write(last, states, length, temperature, top_k, top_p, seed, capacity):
            draw = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
            next_function = self.network.make_next_function()
            return lk.decoding.generate(next_function, states, last, length, **draw, capacity=capacity)

        return tf.function(write, jit_compile=True, autograph=False)

    @functools.cached_property
    def _write_part(self):
        """The compiled writing of a part (XLA): the id before, (1,), and states to ids (1, PART), the last, states."""

        def write(last, states, first, count, **draw):
            next_function = self.network.make_next_function()
            return lk.decoding.continue_text(next_function, states, last, first, count, **draw, capacity=PART)

        return tf.function(write, jit_compile=True, autograph=False)

    def exports(self):
        """Returns the endpoints of an export: see `tasks/text_generation/export.py`."""
        return endpoints(self)

    def demo(self):
        """Returns the page of `lightkeras demo`: see `tasks/text_generation/demo.py`."""
        return demo.page(self)

    @property
    def first_prompt(self) -> str:
        """What samples begin with: a new line, or else the first character of the vocabulary."""
        return "\n" if "\n" in self.vocabulary.tokens else self.vocabulary.tokens[0]

    def report_sections(self):
        """Returns texts at several temperatures for the run's report."""
        return report.sections(self)

    def write_samples(self, folder: Path, name: str) -> None:
        """Writes a text, from the same seed each time."""
        (folder / f"{name}.txt").write_text(self.generate(self.first_prompt)[0] + "\n", encoding="utf-8")

    def predict_command(
        self,
        prompt: str = "\n",
        length: int = 500,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        num_samples: int = 1,
    ) -> str:
        """Generates texts: `lightkeras predict text_generation`. The arguments are those of `generate`."""
        return "\n\n---\n\n".join(self.generate(prompt, length, temperature, top_k, top_p, seed, num_samples))
