"""The split of photos for training, validation and test."""

import numpy as np

import lightkeras as lk

KEY = 0xCA9710  # separates the split from other permutations
SPLITS = ("train", "validation", "test")


def split_photos(
    usable: np.ndarray, splits: np.ndarray, fractions: tuple[float, float], source: str = "photos"
) -> list[np.ndarray]:
    """Splits photos by the split that they carry, or else by a fixed permutation.

    Args:
        usable: The numbers of the photos, (photos,).
        splits: The split that each photo carries: 0 for none, 1 to 3 for one of `SPLITS` (all photos,).
        fractions: Shares of the photos for validation and test, for photos that carry no split.
        source: Where they come from, for the message of an error.

    Returns:
        The numbers of the photos for training, validation and test.

    Raises:
        ValueError: Some photos carry a split and others do not, or a split has no photo.
    """
    carried = splits[usable]
    if carried.any():
        without = int((carried == 0).sum())
        expected = "given for all photos or for none"
        lk.utils.require(not without, "split", expected, f"{without} of {len(carried)} photos of {source} without")
        parts = [usable[carried == number] for number in (1, 2, 3)]
    else:
        order = usable[np.random.Generator(np.random.Philox(key=KEY)).permutation(len(usable))]
        val, test = (max(1, round(len(usable) * fraction)) for fraction in fractions)
        train = max(len(usable) - val - test, 0)
        parts = [np.sort(part) for part in np.split(order, [train, train + val])]
    for name, part in zip(SPLITS, parts, strict=True):
        lk.utils.require(len(part) > 0, "source", f"photos for {', '.join(SPLITS)}", f"{source}, none for {name}")
    return parts
