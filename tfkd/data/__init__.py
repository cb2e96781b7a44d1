"""Data: labelled images as train, validation and test; batches; replayable augmentations."""

from tfkd.data.augmentations import augmentation, augmentation_names
from tfkd.data.loading import load, names
from tfkd.data.mixing import Mixed
from tfkd.data.pipeline import batches, index_batches, source_of
from tfkd.data.seeds import view_seed
from tfkd.data.splits import DataInfo, Splits

__all__ = [
    "DataInfo",
    "Mixed",
    "Splits",
    "augmentation",
    "augmentation_names",
    "batches",
    "index_batches",
    "load",
    "names",
    "source_of",
    "view_seed",
]
