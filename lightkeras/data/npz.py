"""Arrays of an `.npz` file, read without trust in its headers."""

import math
import os
import zipfile
from collections.abc import Iterable
from typing import IO

import numpy as np

from lightkeras.utils.checks import ArgumentError


def read_npz(path: str | os.PathLike, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Reads those of the arrays `names` that an `.npz` file has. Runs no code from it.

    An array whose header asks for more or less memory than the file holds is rejected before any is allocated.

    Raises:
        ValueError: It is no `.npz` file, or a damaged one; the message names the file and the array.
        OSError: The file cannot be opened.
    """
    name = None
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                there, arrays = archive.namelist(), {}
                for name in [name for name in names if f"{name}.npy" in there]:
                    with archive.open(f"{name}.npy") as member:
                        arrays[name] = _read_array(member, archive.getinfo(f"{name}.npy").file_size)
                return arrays
        except Exception as error:  # damaged files make `zipfile`, its decoders and NumPy raise errors of any kind
            where = f"{path} to be an .npz file" if name is None else f"{path} to hold a whole array {name!r}"
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ArgumentError(f"Expected {where}. Received: {reason}") from error


def _read_array(member: IO[bytes], size: int) -> np.ndarray:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(member)
    if version not in readers:
        raise ValueError(f"version {version} of NumPy's format")
    shape, in_columns, dtype = readers[version](member)
    expected = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or expected != size - member.tell():
        raise ValueError(f"a header of {dtype} {shape}, and {size - member.tell()} bytes")
    return np.frombuffer(member.read(), dtype).reshape(shape, order="F" if in_columns else "C")
