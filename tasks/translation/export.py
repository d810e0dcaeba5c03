"""The endpoints of an export: sentences in, translations out; and the steps of the network over ids."""

import functools

import numpy as np
import tensorflow as tf

import lightkeras as lk

BEAMS = 5
EXAMPLES = 3  # sentences of the validation data, where that is at hand
SCALAR = tf.TensorSpec((), tf.float32)
IDS = tf.TensorSpec((None, None), tf.int32)


def endpoints(task) -> dict[str, lk.export.Endpoint]:
    """Returns `translate`, `translate_beam` (sentences), `translate_greedy`, `encode` and `step` (ids).

    Sentences need a vocabulary of words: SentencePiece, which cuts subwords, is no TensorFlow operation.
    """
    return {**(_by_sentences(task) if task.data.vocabulary == "word" else {}), **_by_ids(task)}


def _by_sentences(task) -> dict[str, lk.export.Endpoint]:
    data = task.data
    cleaned = (
        {} if data.cleaning == "none" else {"replaced": lk.export.kept_characters(data.clean), "keep_others": False}
    )
    source, target = lk.export.WordCodec(data.source_vocabulary, **cleaned), lk.export.WordCodec(data.target_vocabulary)
    words = data.source_vocabulary.words
    real = data.sources("validation")[:EXAMPLES] if data.pairs else [" ".join(words[:4]), words[-1]]
    sentences = [*real, "", "Hello, it's (rock'n'roll) 42!"]
    common = {"reference": lambda **given: _by_task(task, **given), "tracked": (source.table, target.table)}
    penalties = {"length_penalty": SCALAR, "coverage_penalty": SCALAR}
    searched = {"sentences": sentences, "length_penalty": 1.0, "coverage_penalty": 0.0}

    def translate_beam(sentences, length_penalty, coverage_penalty):
        return _translate_beam(task.searcher, source, target, sentences, length_penalty, coverage_penalty)

    def translate(sentences):
        found = translate_beam(sentences, tf.constant(1.0), 0.0)
        return {"text": found["text"][:, 0]}

    return {
        "translate": lk.export.Endpoint(
            translate, {"sentences": lk.export.TEXTS}, [{"sentences": sentences}],
            lambda sentences: {"text": lk.export.texts_of(task.translate(sentences))}, common["tracked"],
        ),
        "translate_beam": lk.export.Endpoint(
            translate_beam, {"sentences": lk.export.TEXTS, **penalties},
            [searched, {**searched, "length_penalty": 0.5, "coverage_penalty": 0.2}], **common,
        ),
    }  # fmt: skip


def _translate_beam(searcher, source, target, sentences, length_penalty, coverage_penalty):
    """Does `Translation.search` in a graph: outputs (rows, BEAMS, ...), the best first.

    A place without a translation has the score -inf.
    """
    ids = source.encode(sentences)  # (rows, slots)
    penalties = {"length_penalty": length_penalty, "coverage_penalty": coverage_penalty}
    found = searcher(ids, beam_size=BEAMS, n_best=BEAMS, **penalties)
    rows, steps = tf.shape(found.ids)[0], tf.shape(found.ids)[2]
    texts = target.decode_text(tf.reshape(found.ids, (rows * BEAMS, steps)))
    empty = ids[:, 0] == lk.text.END  # (rows,)
    used = tf.reduce_sum(found.attention, -1) > 0  # (rows, BEAMS, steps)
    return {
        "text": tf.where(empty[:, None] | ~tf.math.is_finite(found.scores), "", tf.reshape(texts, (rows, BEAMS))),
        "score": found.scores,
        "source_tokens": tf.where(ids == lk.text.PAD, "", source.labels(ids)),  # (rows, slots)
        "tokens": tf.where(used, target.labels(found.ids), ""),  # (rows, BEAMS, steps)
        "attention": found.attention,  # (rows, BEAMS, steps, slots)
    }


def _by_task(task, sentences, length_penalty, coverage_penalty) -> dict:
    """Puts the results of `Translation.search` into arrays as wide as the longest ones can be."""
    options = {"length_penalty": length_penalty, "coverage_penalty": coverage_penalty}
    found = task.search(sentences, BEAMS, n_best=BEAMS, **options)
    slots = max(len(task.data.encode(one)) for one in sentences)
    steps = 2 * slots + 10
    scores = np.full((len(found), BEAMS), -np.inf, np.float32)
    texts, tokens = np.full(scores.shape, b"", object), np.full((*scores.shape, steps), b"", object)
    sources, attention = np.full((len(found), slots), b"", object), np.zeros((*scores.shape, steps, slots), np.float32)
    for row, ranked in enumerate(found):
        sources[row, : len(ranked[0].source_labels)] = lk.export.texts_of(ranked[0].source_labels)
        for place, one in enumerate(ranked):
            texts[row, place], scores[row, place] = one.text.encode(), one.score
            tokens[row, place, : len(one.labels)] = lk.export.texts_of(one.labels)
            attention[row, place, : one.attention.shape[0], : one.attention.shape[1]] = one.attention
    return {"text": texts, "score": scores, "source_tokens": sources, "tokens": tokens, "attention": attention}


def _by_ids(task) -> dict[str, lk.export.Endpoint]:
    """`translate_greedy`: source ids (rows, slots), ended and padded, to ids (rows, steps); and the network's steps."""
    last = len(task.data.source_vocabulary) - 1
    example = [[last, lk.text.FIRST_WORD, last, lk.text.END], [lk.text.FIRST_WORD, lk.text.END, 0, 0]]
    encode = functools.partial(task.network.encode, in_steps=True)
    return {
        "translate_greedy": lk.export.greedy_search(task.searcher, "source", example, encode),
        **lk.export.decoding_steps(task.network, {"source": IDS}, {"source": example}, encode),
    }
