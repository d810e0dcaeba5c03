"""`python -m tasks.captioning.evaluate --ckpt_path RUN`: scores of a run's captions of the test photos.

Two ways to caption without a model that describes photos are scored beside it: `most_frequent` and `nearest`.
"""

import argparse
import collections
import json

import numpy as np

import lightkeras as lk
from tasks.captioning.data import CaptionData
from tasks.captioning.task import COCO_SCORES, Captioned, Captioning, coco_scores, tokenize_all

ATTENDED = "attention of an object's word on that object"
EXACT = "exact"  # share of captions that equal one of the photo's own, word for word


def evaluate(task: Captioning, beam_size: int = 3, length_penalty: float = 1.0) -> dict:
    """Computes the COCO evaluation's scores of the captions of the test photos, by the task and without a model."""
    data = task.data
    data.prepare_data()
    data.setup("test")
    best = [
        ranked[0] for inputs in data.inputs("test") for ranked in task.search_inputs(inputs, beam_size, length_penalty)
    ]
    references = tokenize_all(data.references("test"))
    frequencies = lk.metrics.DocumentFrequencies(references)
    captions = {
        "model": [one.text for one in best],
        "nearest photo": nearest(data),
        "most frequent caption": most_frequent(data),
    }
    found = {"photos": len(references), "beam_size": beam_size, "length_penalty": length_penalty}
    for name, texts in captions.items():
        scores = {key: value.result() for key, value in coco_scores(texts, references, frequencies).items()}
        exact = np.mean([text in own for text, own in zip(texts, references, strict=True)])
        found[name] = {**scores, EXACT: float(exact)}
    if data.source == "sample":
        found[ATTENDED] = attended(task, best)
    return found


def attended(task: Captioning, best: list[Captioned]) -> float:
    """Returns the mean share of the attention of a word for a colour or a shape that lies on its object.

    A place of the attention's grid counts if a part of the object lies in it. 0 if no caption has such a word.

    Args:
        task: The task, with the sample as its data.
        best: A caption of each test scene.
    """
    shares = []
    for number, one in enumerate(best):
        scene = task.data.scene("test", number)
        words = {word for thing in scene.objects for word in (thing.colour, thing.shape)}
        shares += [
            scene.attended(word, row) for word, row in zip(one.words, one.attention, strict=True) if word in words
        ]
    return float(np.mean(shares)) if shares else 0.0


def table(found: dict) -> str:
    """Formats the scores as a table with a row for each way to caption."""
    columns = (*COCO_SCORES, EXACT)
    lines = ["".join([f"{'captions':<24}", *(f"{name:>10}" for name in columns)])]
    for name, scores in found.items():
        if isinstance(scores, dict):
            lines.append("".join([f"{name:<24}", *(f"{scores[column]:>10.3f}" for column in columns)]))
    if ATTENDED in found:
        lines.append(f"{ATTENDED}: {found[ATTENDED]:.3f}")
    lines.append(f"{found['photos']:,} photos, beams of {found['beam_size']}")
    return "\n".join(lines)


def most_frequent(data: CaptionData, split: str = "test") -> list[str]:
    """Returns the most frequent training caption, tokenized, for every photo of a split."""
    captions = (lk.metrics.tokenize_caption(text) for same_photo in data.references("train") for text in same_photo)
    ((caption, _),) = collections.Counter(captions).most_common(1)
    return [caption] * len(data.references(split))


def nearest(data: CaptionData, split: str = "test") -> list[str]:
    """Returns the first caption, tokenized, of the training photo most similar to each photo of a split.

    The similarity is the cosine of the features' means over the places, or of a drawn scene's pixels.
    """
    known, captions = pooled(data, "train"), data.references("train")
    similar = pooled(data, split) @ known.T  # (photos, training photos)
    return [lk.metrics.tokenize_caption(captions[place][0]) for place in similar.argmax(axis=1)]


def pooled(data: CaptionData, split: str) -> np.ndarray:
    """Computes a vector of length 1 for each photo of a split: float32 (photos, features)."""
    from_pixels = data.input_name == "image"
    parts = [part.reshape(len(part), -1) if from_pixels else part.mean(axis=1) for part in data.inputs(split)]
    vectors = np.concatenate(parts)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tasks.captioning.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--ckpt_path", required=True, help="a run's folder or a checkpoint")
    parser.add_argument("--beam_size", type=int, default=3)
    parser.add_argument("--length_penalty", type=float, default=1.0)
    parser.add_argument("--out", help="a new JSON file for the scores")
    options = parser.parse_args(arguments)
    lk.decoding.check_search(1, options.beam_size, 1, options.length_penalty)
    out = options.out and lk.utils.new_file("out", options.out)
    task = Captioning.load_from_checkpoint(options.ckpt_path)
    found = evaluate(task, options.beam_size, options.length_penalty)
    print(table(found))
    if out:
        out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
