"""`python -m tasks.text_generation.evaluate --ckpt_path RUN`: evaluates a run on held-out text beside two baselines."""

import argparse
import json
import math

import numpy as np

import lightkeras as lk
from tasks.text_generation.data import TextData
from tasks.text_generation.task import TextGeneration

FIGURES = {"nats": "loss", "bits": "bits_per_character", "perplexity": "perplexity"}  # the task's metrics


def evaluate(task: TextGeneration, split: str = "test") -> dict:
    """Nats and bits per character and the perplexity on held-out text: of the task and of two baselines.

    The baselines do not look at the text before a character. "frequencies" predicts the characters' shares in the
    training text (each counted once more, so that none has the share 0), "uniform" the same share for all characters.

    Args:
        task: A trained task.
        split: "test" or "validation", of the data that the task was trained on.

    Returns:
        `{"split": ..., "characters": ..., "model": {"nats": ..., "bits": ..., "perplexity": ...}, "frequencies": {...},
        "uniform": {...}}`.

    Raises:
        ValueError: There is no such split: the data was cut without a `test_fraction`.
    """
    lk.utils.require_choice("split", split, ("test", "validation"))
    data, trainer = task.data, lk.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    data.prepare_data()
    data.setup("test")
    text = data.held_out(split)
    run, prefix = (trainer.test, "test") if split == "test" else (trainer.validate, "val")
    results = run(task, data)
    return {
        "split": split,
        "characters": len(text),
        "model": {figure: results[f"{prefix}_{metric}"] for figure, metric in FIGURES.items()},
        "frequencies": _figures(_frequency_nats(data, text)),
        "uniform": _figures(math.log(len(data.vocabulary))),
    }


def _frequency_nats(data: TextData, text: lk.text.EncodedText) -> float:
    train, held_out = (_count(part, len(data.vocabulary)) for part in (data.splits["train"], text))
    return float(-np.log((1 + train) / (1 + train).sum()) @ held_out / held_out.sum())


def _count(text: lk.text.EncodedText, characters: int) -> np.ndarray:
    return sum(np.bincount(block, minlength=characters) for block in text.blocks())


def _figures(nats: float) -> dict[str, float]:
    return {"nats": nats, "bits": nats / math.log(2), "perplexity": math.exp(nats)}


def table(figures: dict) -> str:
    """Writes the figures as a table: a row for the model and for each baseline."""
    lines = ["".join([f"{'':<12}", *(f"{name:>12}" for name in FIGURES)])]
    for row in ("model", "frequencies", "uniform"):
        lines.append("".join([f"{row:<12}", *(f"{figures[row][name]:>12.3f}" for name in FIGURES)]))
    lines.append(f"{figures['characters']:,} characters of the {figures['split']} text; nats and bits per character")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tasks.text_generation.evaluate", description=__doc__)
    parser.add_argument("--ckpt_path", required=True, help="a run's folder or a checkpoint")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--out", help="a new JSON file for the figures")
    options = parser.parse_args(arguments)
    out = options.out and lk.utils.new_file("out", options.out)
    figures = evaluate(TextGeneration.load_from_checkpoint(options.ckpt_path), options.split)
    print(table(figures))
    if out:
        out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
