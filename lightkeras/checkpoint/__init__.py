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

from lightkeras.checkpoint.reading import Checkpoint as Checkpoint
from lightkeras.checkpoint.reading import fall_back as fall_back
from lightkeras.checkpoint.reading import load_checkpoint as load_checkpoint
from lightkeras.checkpoint.reading import open_checkpoint as open_checkpoint
from lightkeras.checkpoint.storage import CheckpointError as CheckpointError
from lightkeras.checkpoint.storage import checkpoints as checkpoints
from lightkeras.checkpoint.storage import latest_checkpoint as latest_checkpoint
from lightkeras.checkpoint.writing import prepare_checkpoint as prepare_checkpoint
from lightkeras.checkpoint.writing import save_checkpoint as save_checkpoint
