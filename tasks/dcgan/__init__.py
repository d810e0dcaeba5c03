"""A deep convolutional generative adversarial network for small images."""

from tasks.dcgan.data import MNISTData
from tasks.dcgan.task import DCGAN

__all__ = ["DCGAN", "MNISTData"]
