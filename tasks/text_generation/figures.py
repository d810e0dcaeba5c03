"""`python -m tasks.text_generation.figures --run RUN --out curve.png`: draws the losses of a run over its updates."""

import argparse
import csv
from pathlib import Path

from matplotlib.figure import Figure

import lightkeras as lk

CURVES = {"loss": "training (with dropout)", "val_loss": "validation"}


def read_losses(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Reads the losses in a run's `metrics.csv`: (update, nats per character) by the names in `CURVES`.

    Raises:
        FileNotFoundError: `run` is not the folder of a run that wrote logs.
    """
    path = run / "metrics.csv"
    lk.utils.require(path.is_file(), "run", "the folder of a run with metrics.csv", str(run), FileNotFoundError)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [(int(row["step"]), float(row[name])) for row in rows if row.get(name)] for name in CURVES}


def write_curve(path: Path, run: Path, reference: float | None = None, reference_name: str = "") -> None:
    """Writes a PNG file with the training and validation loss of a run.

    Args:
        path: The file.
        run: The run's folder.
        reference: Nats per character for a dotted line, such as a published result.
        reference_name: The label of that line.
    """
    figure = Figure(figsize=(6.6, 3.7), layout="constrained")
    axes = figure.subplots()
    for (name, points), marker in zip(read_losses(run).items(), (".", "o"), strict=True):
        axes.plot(*zip(*points, strict=True), marker=marker, label=CURVES[name])
    if reference is not None:
        axes.axhline(reference, color="black", linestyle=":", label=f"{reference_name} {reference:g}".strip())
    axes.set(xlabel="updates", ylabel="nats per character")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=100)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m tasks.text_generation.figures", description=__doc__)
    parser.add_argument("--run", required=True, help="a run's folder")
    parser.add_argument("--out", required=True, help="a new PNG file")
    parser.add_argument("--reference", type=float, help="nats per character for a dotted line")
    parser.add_argument("--reference_name", default="", help="label of the dotted line")
    options = parser.parse_args(arguments)
    out = lk.utils.new_file("out", options.out)
    write_curve(out, lk.utils.local_path(options.run), options.reference, options.reference_name)
    print(f"Wrote {out}")


if __name__ == "__main__":
    main()
