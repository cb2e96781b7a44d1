"""Data: labelled images as train, validation and test; batches; replayable augmentations."""

from tfkd.data.augmentations import augmentation, augmentation_names, jda, two_views
from tfkd.data.contact_sheets import contact_sheet
from tfkd.data.contrastive_views import contrastive
from tfkd.data.inspection import Inspection, inspect
from tfkd.data.labelled_boxes import BoxesInfo
from tfkd.data.labelled_boxes import load as load_boxes
from tfkd.data.loading import load, names
from tfkd.data.mixing import Mixed
from tfkd.data.pipeline import batches, index_batches, source_of
from tfkd.data.seeds import view_seed
from tfkd.data.splits import DataInfo, Splits

__all__ = [
    "BoxesInfo",
    "DataInfo",
    "Inspection",
    "Mixed",
    "Splits",
    "augmentation",
    "augmentation_names",
    "batches",
    "contact_sheet",
    "contrastive",
    "index_batches",
    "inspect",
    "jda",
    "load",
    "load_boxes",
    "names",
    "source_of",
    "two_views",
    "view_seed",
]
