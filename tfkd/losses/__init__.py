"""What a student is asked to imitate: one loss a way of comparing two named tensors."""

from tfkd.losses.base import DistillationLoss
from tfkd.losses.features import FeatureDistillation
from tfkd.losses.foreign import get
from tfkd.losses.logits import LogitsDistillation

__all__ = ["DistillationLoss", "FeatureDistillation", "LogitsDistillation", "get"]
