"""How long a stretch of training waits for its input, from TensorFlow's profiler."""

import tempfile
from pathlib import Path

# The kernel that waits for a batch, called eagerly or in a graph; a GPU's copy of what is on the host.
_HOST, _DEVICE = "IteratorGetNextOp::DoCompute", "MemcpyH2D"


class Profile:
    """Begins a profile of this process; `shares` ends it."""

    def __init__(self):
        import tensorflow as tf

        self._profiler = tf.profiler.experimental
        self._folder = tempfile.TemporaryDirectory()
        options = self._profiler.ProfilerOptions(python_tracer_level=0)  # Python's calls would slow the stretch
        self._profiler.start(self._folder.name, options)

    def shares(self, seconds: float) -> dict[str, float]:
        """Of `seconds`, the share in which the host waited for batches, and that in which they were copied to a GPU."""
        self._profiler.stop()
        with self._folder as folder:
            planes = [plane for path in sorted(Path(folder).rglob("*.xplane.pb")) for plane in _planes(path)]
        picoseconds = seconds * 1e12
        return {
            "host": sum(_time_of(plane, _HOST) for plane in planes if "CPU" in plane.name) / picoseconds,
            "device": sum(_time_of(plane, _DEVICE) for plane in planes if "GPU" in plane.name) / picoseconds,
        }


def _planes(path: Path) -> list:
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    space.ParseFromString(path.read_bytes())
    return list(space.planes)


def _time_of(plane, name: str) -> int:
    """Picoseconds of a plane's events whose operation is `name`."""
    wanted = {key for key, event in plane.event_metadata.items() if event.name.startswith(name)}
    return sum(event.duration_ps for line in plane.lines for event in line.events if event.metadata_id in wanted)
