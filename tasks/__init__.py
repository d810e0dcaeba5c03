"""The tasks that ship with lightkeras, one folder each."""

import lightkeras as lightkeras  # before TensorFlow is imported: it sets its environment
