"""What a student is asked to imitate: one loss a way of comparing named tensors."""

from tfkd.losses.base import DistillationLoss
from tfkd.losses.correlation import CorrelationDistillation
from tfkd.losses.cosine import CosineDistillation
from tfkd.losses.decoupled import DecoupledDistillation
from tfkd.losses.features import FeatureDistillation
from tfkd.losses.foreign import get
from tfkd.losses.logits import LogitsDistillation
from tfkd.losses.multi_level import BatchRelationDistillation, ClassRelationDistillation
from tfkd.losses.normalized import NormalizedDistillation
from tfkd.losses.own import EnsembleDistillation, SelfDistillation
from tfkd.losses.refined import RefinedDistillation
from tfkd.losses.transformed import TransformedTeacherMatching

__all__ = [
    "BatchRelationDistillation",
    "ClassRelationDistillation",
    "CorrelationDistillation",
    "CosineDistillation",
    "DecoupledDistillation",
    "DistillationLoss",
    "EnsembleDistillation",
    "FeatureDistillation",
    "LogitsDistillation",
    "NormalizedDistillation",
    "RefinedDistillation",
    "SelfDistillation",
    "TransformedTeacherMatching",
    "get",
]
