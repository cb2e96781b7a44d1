"""What a student is asked to imitate: one loss a way of comparing named tensors."""

from tfkd.losses.annealed import AnnealedDistillation, of_outputs
from tfkd.losses.base import DistillationLoss
from tfkd.losses.cosine import CosineDistillation
from tfkd.losses.features import FeatureDistillation
from tfkd.losses.foreign import get
from tfkd.losses.logits import LogitsDistillation
from tfkd.losses.own import EnsembleDistillation, SelfDistillation

__all__ = [
    "AnnealedDistillation",
    "CosineDistillation",
    "DistillationLoss",
    "EnsembleDistillation",
    "FeatureDistillation",
    "LogitsDistillation",
    "SelfDistillation",
    "get",
    "of_outputs",
]
