"""The translation task: what it learns on the grammar whose alignment is known, and how it is used."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small import batch_of

import lightkeras as lk
from tasks.translation import Translation, TranslationData, grammar

TINY = {"embedding_dim": 8, "units": 12, "encoder_units": 10, "warmup_steps": 5}
