"""Data modules, addressed data sets, downloads, and files from outside."""

from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.download import Download, DownloadError, find_data
from lightkeras.data.images import ImageError, find_images, open_image
from lightkeras.data.module import DataModule
from lightkeras.data.sequences import Examples
from lightkeras.data.tfrecords import TFRecords
from lightkeras.utils.npz import read_npz

__all__ = [
    "AddressedDataset", "DataModule", "Download", "DownloadError", "Examples", "ImageError", "TFRecords", "find_data",
    "find_images", "open_image", "read_npz",
]  # fmt: skip
