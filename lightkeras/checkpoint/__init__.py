"""The checkpoint file layer: arrays and JSON in, one whole checkpoint folder out.

It knows nothing of tasks or the trainer. A checkpoint is a folder::

    folder/step_000000120/
        arrays-00000.npz    arrays under index names, about 1 GiB a file; a larger array has its own file
        manifest.json       step, state, every shard's size, checksum and arrays; its own checksum

The manifest decides: a folder without one is no checkpoint. It is written last. A checkpoint of a step that is
there already is replaced by putting the new shards beside the old ones, under numbers not yet taken, and then the
new manifest over the old one: at every moment one of the two is whole.

Nothing is ever unpickled. One writer per folder: a second one would take the first one's temporary folder
for the left-over of a killed writer.
"""

from lightkeras.checkpoint.reading import Checkpoint, fall_back, load_checkpoint, open_checkpoint
from lightkeras.checkpoint.storage import CheckpointError, checkpoints, latest_checkpoint
from lightkeras.checkpoint.writing import prepare_checkpoint, save_checkpoint

__all__ = [
    "Checkpoint", "CheckpointError", "checkpoints", "fall_back", "latest_checkpoint", "load_checkpoint",
    "open_checkpoint", "prepare_checkpoint", "save_checkpoint",
]  # fmt: skip
