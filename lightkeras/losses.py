"""The loss of sequences of tokens, as sums with weights."""

import tensorflow as tf

from lightkeras.metrics import Perplexity, WeightedMean
from lightkeras.utils.checks import require_number

__all__ = ["token_sums"]


def token_sums(logits: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor, label_smoothing: float = 0.0) -> dict:
    """Sums the negative log-likelihoods of tokens, with their perplexity and the accuracy of the best guess.

    Args:
        logits: Float32 (rows, time, vocabulary).
        targets: The tokens, ints (rows, time).
        weights: Float32 (rows, time): 0 for tokens that do not count, such as padding.
        label_smoothing: The probability that the loss, and it alone, spreads evenly over the vocabulary (Szegedy et
            al. 2016).

    Returns:
        `loss` (nats), `perplexity` and `token_accuracy`, each a sum over the tokens and the sum of their weights.
    """
    require_number("label_smoothing", label_smoothing, inclusive=True, below=1.0)
    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)  # (rows, time)
    right = tf.cast(tf.argmax(logits, axis=-1, output_type=targets.dtype) == targets, tf.float32)
    loss = _smoothed(nats, logits, targets, label_smoothing) if label_smoothing else nats
    total, tokens = tf.reduce_sum(nats * weights), tf.reduce_sum(weights)
    return {
        "loss": WeightedMean(tf.reduce_sum(loss * weights), tokens),
        "perplexity": Perplexity(total, tokens),
        "token_accuracy": WeightedMean(tf.reduce_sum(right * weights), tokens),
    }


def _smoothed(nats, logits, targets, share: float):
    """The cross entropy with targets of which a `share` is spread evenly, from the one with the targets alone."""
    log_normalizer = nats + tf.gather(logits, targets, batch_dims=2)  # (rows, time)
    return (1 - share) * nats + share * (log_normalizer - tf.reduce_mean(logits, axis=-1))
