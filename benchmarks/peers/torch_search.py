"""Generation in PyTorch: characters drawn in a loop, and the beam search of `lightkeras.decoding.beam_search`."""

import math

import torch


@torch.inference_mode()
def generate(model, ids, length: int):
    """`length` characters after `ids` (rows,), one after the other: (rows, length)."""
    model.eval()
    states, written = None, []
    for _ in range(length):
        logits, states = model(ids[:, None], states)
        ids = torch.multinomial(logits[:, -1].softmax(-1), 1)[:, 0]
        written.append(ids)
    return torch.stack(written, 1)


@torch.inference_mode()
def beam_search(model, source, beam: int, length: int, end: int, forbidden=(), min_length: int = 0):
    """The best sequence of every row by its log-probability.

    Args:
        model: `torch_models.Translation`; its start sign is 2.
        source: ids (rows, slots).
        beam: Prefixes kept of every row.
        length: The most words, the end included.
        end: Id of the end.
        forbidden: Ids that are never chosen.
        min_length: The least words before the end.

    Returns:
        ids (rows, length), `end` from the end on, and scores (rows,).
    """
    model.eval()
    memory, state = (part.repeat_interleave(beam, 0) for part in model.encode(source))
    rows, keys = len(source), model.decoder.key(memory)
    sums = torch.full((rows, beam), -math.inf)
    sums[:, 0] = 0.0
    words = torch.full((rows, beam, length), end)
    ids = torch.full((rows * beam,), 2)
    best, best_words = torch.full((rows,), -math.inf), torch.full((rows, length), end)
    for t in range(length):
        logits, state = model.decoder.one_step(ids, state, keys, memory)
        log_probs = _allowed(logits.log_softmax(-1), forbidden, end if t < min_length else None)
        candidates = (sums[..., None] + log_probs.view(rows, beam, -1)).flatten(1)  # (rows, beam * vocabulary)
        values, places = candidates.topk(2 * beam)
        parents, tokens = places // log_probs.shape[-1], places % log_probs.shape[-1]
        words = words.gather(1, parents[..., None].expand(-1, -1, length))  # (rows, 2 * beam, length)
        words[..., t] = tokens
        ends = (tokens == end) | (t + 1 >= length)
        found, at = torch.where(ends[:, :beam], values[:, :beam], -math.inf).max(1)
        better = found > best
        best = torch.where(better, found, best)
        best_words = torch.where(better[:, None], words[torch.arange(rows), at], best_words)
        sums, kept = values.masked_fill(ends, -math.inf).topk(beam)
        if bool((best >= sums[:, 0]).all()):
            break
        words = words.gather(1, kept[..., None].expand(-1, -1, length))
        parents = (torch.arange(rows)[:, None] * beam + parents.gather(1, kept)).flatten()
        state, ids = state[parents], tokens.gather(1, kept).flatten()
    return best_words, best


def _allowed(log_probs, forbidden, barred):
    for token in (*forbidden, *([] if barred is None else [barred])):
        log_probs[:, token] = -math.inf
    return log_probs
