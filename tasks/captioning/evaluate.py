"""`python -m tasks.captioning.evaluate --ckpt_path RUN`: a run's captions of the test photos, in figures."""

import argparse
import json

import numpy as np

import lightkeras as lk
from tasks.captioning import floors
from tasks.captioning.figures import NAMES, figures, tokenized
from tasks.captioning.task import Captioned, Captioning

ATTENDED = "attention of an object's word on that object"
EXACT = "exact"  # share of captions that are word for word one of the photo's own


def evaluate(task: Captioning, beam_size: int = 3, length_penalty: float = 1.0) -> dict:
    """The COCO evaluation's figures on the test photos: of the task's captions, and of those of `floors`."""
    data = task.data
    data.prepare_data()
    data.setup("test")
    best = [
        ranked[0] for inputs in data.inputs("test") for ranked in task.search_inputs(inputs, beam_size, length_penalty)
    ]
    references = tokenized(data.references("test"))
    frequencies = lk.metrics.DocumentFrequencies(references)
    captions = {
        "model": [one.text for one in best],
        "nearest photo": floors.nearest(data),
        "most frequent caption": floors.most_frequent(data),
    }
    found = {"photos": len(references), "beam_size": beam_size, "length_penalty": length_penalty}
    for name, texts in captions.items():
        of_name = {key: value.result() for key, value in figures(texts, references, frequencies).items()}
        exact = np.mean([text in own for text, own in zip(texts, references, strict=True)])
        found[name] = {**of_name, EXACT: float(exact)}
    if data.source == "sample":
        found[ATTENDED] = attended(task, best)
    return found


def attended(task: Captioning, best: list[Captioned]) -> float:
    """The mean share of the attention of a colour's or a shape's word that lies on its object, of the test scenes.

    That is, on places of the attention's grid in which a part of the object lies; 0 where no such word is said.
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
    """The figures as a table: a row for each way to caption."""
    columns = (*NAMES, EXACT)
    lines = ["".join([f"{'captions':<24}", *(f"{name:>10}" for name in columns)])]
    for name, of_name in found.items():
        if isinstance(of_name, dict):
            lines.append("".join([f"{name:<24}", *(f"{of_name[column]:>10.3f}" for column in columns)]))
    if ATTENDED in found:
        lines.append(f"{ATTENDED}: {found[ATTENDED]:.3f}")
    lines.append(f"{found['photos']:,} photos, beams of {found['beam_size']}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tasks.captioning.evaluate", description=__doc__)
    parser.add_argument("--ckpt_path", required=True, help="a run's folder or a checkpoint")
    parser.add_argument("--beam_size", type=int, default=3)
    parser.add_argument("--length_penalty", type=float, default=1.0)
    parser.add_argument("--out", help="a new JSON file for the figures")
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
