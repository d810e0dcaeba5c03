"""`python -m tasks.dcgan.evaluate --ckpt_path RUN`: evaluates a run's images beside real ones and noise."""

import argparse
import json

import lightkeras as lk
from tasks.dcgan.task import DCGAN


def evaluate(task: DCGAN, num: int = 10_000, seed: int = 0, **arguments) -> dict:
    """Evaluates `num` generated images with the data that the task was trained on.

    Args:
        task: A trained task.
        num: Generated images.
        seed: Seed of their noise.
        **arguments: Further arguments of `lk.metrics.evaluate_gan`, which makes the result.

    Raises:
        ValueError: The data has no labels.
    """
    task.data.prepare_data()
    task.data.setup("test")
    train, test = (lk.metrics.LabelledImages(*task.data.splits[name]) for name in ("train", "test"))
    labelled = train.labels is not None and test.labels is not None
    lk.utils.require(labelled, "source", "data with labels (y_train, and y_test beside x_test)", task.data.source)
    return lk.metrics.evaluate_gan(task.generate(num, seed), train, test, **arguments)


def table(figures: dict) -> str:
    """Writes the figures as a table: a row for each set of images."""
    columns = list(figures["generated"])
    lines = ["".join(["images    ", *(f"{name:>20}" for name in columns)])]
    for images in ("generated", "real", "noise"):
        lines.append("".join([f"{images:<10}", *(f"{figures[images][name]:>20.3f}" for name in columns)]))
    lines.append(f"{figures['images']:,} images each; accuracy of the classifier: {figures['classifier_accuracy']:.2%}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tasks.dcgan.evaluate", description=__doc__)
    parser.add_argument("--ckpt_path", required=True, help="a run's folder or a checkpoint")
    parser.add_argument(
        "--num", type=int, default=10_000, help="generated images; at most the number of test images is used"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="a new JSON file for the figures")
    options = parser.parse_args(arguments)
    out = options.out and lk.utils.new_file("out", options.out)
    figures = evaluate(DCGAN.load_from_checkpoint(options.ckpt_path), options.num, options.seed)
    print(table(figures))
    if out:
        out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
