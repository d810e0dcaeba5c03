"""Computes features before a training, and prints the speed and the peak memory.

    python -m tasks.captioning.photos.extract --source coco+flickr8k --encoder MobileNetV2 --limit 1000

takes the first 1,000 photos; a limit beyond the number of photos takes photos repeatedly.
"""

import argparse
import itertools
import resource
import sys
import time

import lightkeras as lk
from tasks.captioning.data import CaptionData
from tasks.captioning.photos.features import extract


def main(arguments: list[str] | None = None) -> None:
    """Runs the command; see above."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.captioning.photos.extract", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--source", required=True, help="any but the sample; this and the next options are those of CaptionData"
    )
    parser.add_argument("--image_folder")
    parser.add_argument("--encoder", default="InceptionV3")
    parser.add_argument("--encoder_weights", default="imagenet")
    parser.add_argument("--image_size", type=int)
    parser.add_argument("--preprocessing")
    parser.add_argument("--features_dir")
    parser.add_argument("--skip_corrupt", action="store_true")
    parser.add_argument("--limit", type=int, help="number of photos")
    options = vars(parser.parse_args(arguments))
    limit = options.pop("limit")
    lk.utils.require_int("limit", limit, optional=True)
    lk.utils.require(options["source"] != "sample", "source", 'any but "sample", which has no features', "sample")
    data = CaptionData(**options)
    paths = data.photos_on_disk().paths
    paths = list(itertools.islice(itertools.cycle(paths), limit or len(paths)))
    folder = data.feature_folder
    began = time.perf_counter()
    computed = extract(paths, data.encoder, folder)
    seconds = time.perf_counter() - began
    size = sum(file.stat().st_size for file in folder.glob("*.tfrecord"))
    print(
        f"{computed:,} of {len(paths):,} photos computed in {seconds:.1f} s ({computed / seconds:.1f} a second), peak "
        f"memory {_peak_memory() / 2**20:,.0f} MiB, {size / 2**20:,.0f} MiB in {folder}"
    )


def _peak_memory() -> int:
    """The peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
