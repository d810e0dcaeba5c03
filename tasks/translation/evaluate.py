"""`python -m tasks.translation.evaluate --ckpt_path RUN`: BLEU and chrF of a run's translations."""

import argparse
import json
import time

import lightkeras as lk
from tasks.translation.task import Translation


def evaluate(task: Translation, split: str = "test", **search) -> dict:
    """Translates a split and compares the translations with all references of each sentence.

    Args:
        task: A trained task.
        split: "test" or "validation".
        **search: The options of `Translation.translate`.

    Returns:
        `bleu`, `chrf` (0 to 100), their signatures, `lowercase_bleu`, `sentences`, `seconds` (without compilation) and
        `examples`: (source, translation, references) of every sentence.
    """
    task.data.prepare_data()
    task.data.setup("test")
    sources, references = task.data.sources(split), task.data.references(split)
    task.translate(sources[:1], **search)  # compiles
    began = time.perf_counter()
    translations = task.translate(sources, **search)
    seconds = time.perf_counter() - began
    bleu, chrf = (kind.from_sentences(translations, references) for kind in (task.data.bleu, lk.metrics.ChrF))
    return {
        "bleu": bleu.result(), "bleu_signature": bleu.signature,
        "chrf": chrf.result(), "chrf_signature": chrf.signature,
        "lowercase_bleu": task.data.bleu.from_sentences(translations, references, lowercase=True).result(),
        "sentences": len(sources), "seconds": seconds,
        "examples": list(zip(sources, translations, references, strict=True)),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tasks.translation.evaluate", description=__doc__)
    parser.add_argument("--ckpt_path", required=True, help="a run's folder or a checkpoint")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument("--length_penalty", type=float, default=1.0)
    parser.add_argument("--out", help="a new JSON file for the figures and every translation")
    options = parser.parse_args(arguments)
    out = options.out and lk.utils.new_file("out", options.out)
    search = {"beam_size": options.beam_size, "length_penalty": options.length_penalty}
    figures = evaluate(Translation.load_from_checkpoint(options.ckpt_path), options.split, **search)
    for name, value in figures.items():
        if name != "examples":
            print(f"{name:<16}{value:.2f}" if isinstance(value, float) else f"{name:<16}{value}")
    if out:
        out.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
