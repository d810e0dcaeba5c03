"""Data modules, addressed data sets, downloads."""

from lightkeras.data.dataset import AddressedDataset
from lightkeras.data.download import Download, DownloadError, find_data
from lightkeras.data.module import DataModule

__all__ = ["AddressedDataset", "DataModule", "Download", "DownloadError", "find_data"]
