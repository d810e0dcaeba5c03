"""A vocabulary of subwords."""

import base64
import collections
import dataclasses
import functools
import hashlib
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from lightkeras.text.ids import END, FIRST_WORD, PAD, SPECIAL_TOKENS, START, UNKNOWN, ids_before_end
from lightkeras.text.tokenize import normalize_text
from lightkeras.utils.checks import ArgumentError, require_int


@dataclasses.dataclass(frozen=True, repr=False)
class SubwordVocabulary:
    """Pieces of words from byte-pair encoding (Sennrich et al. 2016), after the four special ids of `WordVocabulary`.

    A frequent word is one piece, a rare word several, so that only unseen characters are unknown. SentencePiece (Kudo
    and Richardson 2018) finds and applies them.

    Args:
        model: SentencePiece's model file, as bytes.
    """

    model: bytes

    @classmethod
    def from_texts(cls, texts: Iterable[str], size: int = 8000) -> "SubwordVocabulary":
        """Counts what stands between spaces in the texts, in one pass, and calls `from_counts`."""
        counts = collections.Counter()
        for text in texts:
            counts.update(normalize_text(text).split())
        return cls.from_counts(counts, size)

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], size: int = 8000) -> "SubwordVocabulary":
        """Finds the pieces of words; the same counts give the same pieces.

        Args:
            counts: Number of occurrences of each word: of what stands between spaces.
            size: Number of ids, the four special ones included.

        Raises:
            ValueError: The words have more distinct characters, or fewer pieces, than `size`.
        """
        require_int("size", size, FIRST_WORD + 1)
        model = io.BytesIO()
        ids: dict[str, Any] = {"pad_id": PAD, "unk_id": UNKNOWN, "bos_id": START, "eos_id": END}
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=(f"{word}\t{count}" for word, count in counts.items()), input_format="tsv",
                model_writer=model, vocab_size=size, model_type="bpe", character_coverage=1.0,
                normalization_rule_name="identity", max_sentence_length=1 << 30,
                unk_surface=f" {SPECIAL_TOKENS[UNKNOWN]} ", minloglevel=3, **ids,
            )  # fmt: skip
        except RuntimeError as error:
            raise ArgumentError(f"Expected texts with {size} pieces of words. Received: {error}") from error
        return cls(_without_format(model.getvalue()))

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "SubwordVocabulary":
        """Restores the vocabulary from its `state_dict()`."""
        return cls(base64.b64decode(state["sentencepiece"]))

    def state_dict(self) -> dict[str, str]:
        """Returns the vocabulary as plain values that JSON can hold."""
        return {"sentencepiece": base64.b64encode(self.model).decode("ascii")}

    def __len__(self) -> int:
        """Number of ids, the four special ones included."""
        return self._processor.get_piece_size()

    def __repr__(self) -> str:
        return f"SubwordVocabulary({len(self)} ids, fingerprint={self.fingerprint!r})"

    @functools.cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the model's sha256."""
        return hashlib.sha256(self.model).hexdigest()[:16]

    @functools.cached_property
    def _processor(self):
        return sentencepiece.SentencePieceProcessor(model_proto=self.model)

    def labels(self, ids: Any) -> list[str]:
        """Returns the piece of each of `ids`, special ones included (`"</s>"` is the end): the ticks of a plot."""
        return [self._processor.id_to_piece(int(i)) for i in np.asarray(ids)]

    def encode_texts(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Returns the ids of every text: int32 (pieces,) each; adds nothing."""
        ids = self._processor.encode([normalize_text(text) for text in texts], out_type=int)
        return [np.array(pieces, np.int32) for pieces in ids]

    def decode_text(self, ids: Any) -> str:
        """Returns the text of `ids`, an integer array or list (length,), before the first `END`.

        Unknown characters are `"<unk>"`.

        Raises:
            ValueError: `ids` are not integers in one dimension, or an id is not in the vocabulary.
        """
        return " ".join(self._processor.decode(ids_before_end(ids, len(self)).tolist()).split())


def _without_format(model: bytes) -> bytes:
    """Removes from a model how its words were passed to SentencePiece, which changes nothing in it."""
    parsed = sentencepiece_model_pb2.ModelProto()
    parsed.ParseFromString(model)
    parsed.trainer_spec.ClearField("input_format")
    return parsed.SerializeToString(deterministic=True)
