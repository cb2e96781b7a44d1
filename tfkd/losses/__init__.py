"""What a student is asked to imitate: one loss a way of comparing named tensors."""

from tfkd.losses.adversarial import AdversarialAlignment
from tfkd.losses.annealed import AnnealedDistillation
from tfkd.losses.attention import AttentionTransfer, ClassAttentionTransfer
from tfkd.losses.base import DistillationLoss
from tfkd.losses.box_distillation import BoxDistillation
from tfkd.losses.code_clusters import code_clusters
from tfkd.losses.confidence import ConfidenceDistillation
from tfkd.losses.consistency import ConsistencyDistillation
from tfkd.losses.contrastive import ContrastiveDistillation
from tfkd.losses.correlation import CorrelationDistillation
from tfkd.losses.cosine import CosineDistillation
from tfkd.losses.decoupled import DecoupledDistillation
from tfkd.losses.detection import DetectionLoss
from tfkd.losses.discrepancy import MaximumMeanDiscrepancy
from tfkd.losses.distribution import DistributionDistillation
from tfkd.losses.enhanced import EnhancedTargetDistillation
from tfkd.losses.features import FeatureDistillation
from tfkd.losses.foreign import get
from tfkd.losses.hashing import CodeDistillation, ContrastiveHashing
from tfkd.losses.head_assistance import HeadAssistance
from tfkd.losses.logits import LogitsDistillation
from tfkd.losses.multi_level import BatchRelationDistillation, ClassRelationDistillation
from tfkd.losses.neighbors import NeighborDistillation
from tfkd.losses.normalized import NormalizedDistillation
from tfkd.losses.own import EnsembleDistillation, MutualDistillation, SelfDistillation
from tfkd.losses.refined import RefinedDistillation
from tfkd.losses.relational import RelationalDistillation
from tfkd.losses.reverse import ReverseDistillation
from tfkd.losses.review import ReviewDistillation
from tfkd.losses.robust_codes import RobustCodeDistillation
from tfkd.losses.scaled import GradientScaledDistillation
from tfkd.losses.selectivity import NeuronSelectivityTransfer
from tfkd.losses.similarity import ProbabilisticTransfer, SimilarityPreserving
from tfkd.losses.teacher_free import TeacherFreeDistillation
from tfkd.losses.transformed import TransformedTeacherMatching
from tfkd.losses.variational import VariationalDistillation

__all__ = [
    "AdversarialAlignment",
    "AnnealedDistillation",
    "AttentionTransfer",
    "BatchRelationDistillation",
    "BoxDistillation",
    "ClassAttentionTransfer",
    "ClassRelationDistillation",
    "CodeDistillation",
    "ConfidenceDistillation",
    "ConsistencyDistillation",
    "ContrastiveDistillation",
    "ContrastiveHashing",
    "CorrelationDistillation",
    "CosineDistillation",
    "DecoupledDistillation",
    "DetectionLoss",
    "DistillationLoss",
    "DistributionDistillation",
    "EnhancedTargetDistillation",
    "EnsembleDistillation",
    "FeatureDistillation",
    "GradientScaledDistillation",
    "HeadAssistance",
    "LogitsDistillation",
    "MaximumMeanDiscrepancy",
    "MutualDistillation",
    "NeighborDistillation",
    "NeuronSelectivityTransfer",
    "NormalizedDistillation",
    "ProbabilisticTransfer",
    "RefinedDistillation",
    "RelationalDistillation",
    "ReverseDistillation",
    "ReviewDistillation",
    "RobustCodeDistillation",
    "SelfDistillation",
    "SimilarityPreserving",
    "TeacherFreeDistillation",
    "TransformedTeacherMatching",
    "VariationalDistillation",
    "code_clusters",
    "get",
]
