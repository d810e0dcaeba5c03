"""The Trainer's features, each a Keras callback."""

from lightkeras.callbacks.callback import Callback
from lightkeras.callbacks.callback_list import CallbackList
from lightkeras.callbacks.compilation import Compilation
from lightkeras.callbacks.csv_logger import CSVLogger
from lightkeras.callbacks.early_stopping import EarlyStopping
from lightkeras.callbacks.export_at_end import ExportAtEnd
from lightkeras.callbacks.goodput import Goodput
from lightkeras.callbacks.learning_rate_monitor import LearningRateMonitor
from lightkeras.callbacks.mlflow_logger import MLflowLogger
from lightkeras.callbacks.model_checkpoint import ModelCheckpoint
from lightkeras.callbacks.model_summary import ModelSummary
from lightkeras.callbacks.non_finite_guard import NonFiniteGuard, NonFiniteLossError
from lightkeras.callbacks.notebook_progress import NotebookProgress
from lightkeras.callbacks.profiler import Profiler
from lightkeras.callbacks.progress import ProgressBar
from lightkeras.callbacks.report_writer import ReportWriter
from lightkeras.callbacks.sample_writer import SampleWriter
from lightkeras.callbacks.tensorboard_logger import TensorBoardLogger
from lightkeras.callbacks.throughput import Throughput
from lightkeras.callbacks.timeline import Timeline
from lightkeras.callbacks.tracker import TrackerError
from lightkeras.callbacks.validation import Validation
from lightkeras.callbacks.wandb_logger import WandbLogger
from lightkeras.callbacks.watchdog import Watchdog

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "Compilation",
    "EarlyStopping",
    "ExportAtEnd",
    "Goodput",
    "LearningRateMonitor",
    "MLflowLogger",
    "ModelCheckpoint",
    "ModelSummary",
    "NonFiniteGuard",
    "NonFiniteLossError",
    "NotebookProgress",
    "Profiler",
    "ProgressBar",
    "ReportWriter",
    "SampleWriter",
    "TensorBoardLogger",
    "Throughput",
    "Timeline",
    "TrackerError",
    "Validation",
    "WandbLogger",
    "Watchdog",
]
