"""tfkd's classes are known to Keras's loader whichever of the two is imported first.

`import tfkd` stays quick: it loads no Keras. As soon as Keras is there, a stand-in for each class
that can be in a saved file is registered; it loads the class itself when a file names it.
"""

import importlib
import sys

import wrapt

# Class → module. A test compares this with what the modules register.
HOMES = {
    "AdversarialAlignment": "tfkd.losses.adversarial",
    "AnnealedDistillation": "tfkd.losses.annealed",
    "AttentionTransfer": "tfkd.losses.attention",
    "BatchRelationDistillation": "tfkd.losses.multi_level",
    "BoxDistillation": "tfkd.losses.box_distillation",
    "Candidates": "tfkd.models.candidates",
    "ClassAttentionTransfer": "tfkd.losses.attention",
    "ClassRelationDistillation": "tfkd.losses.multi_level",
    "CodeDistillation": "tfkd.losses.hashing",
    "ConfidenceDistillation": "tfkd.losses.confidence",
    "ConsistencyDistillation": "tfkd.losses.consistency",
    "ContrastiveDistillation": "tfkd.losses.contrastive",
    "ContrastiveHashing": "tfkd.losses.hashing",
    "CorrelationDistillation": "tfkd.losses.correlation",
    "CosineDistillation": "tfkd.losses.cosine",
    "DecoupledDistillation": "tfkd.losses.decoupled",
    "DetectionLoss": "tfkd.losses.detection",
    "Distiller": "tfkd.distiller",
    "EnhancedTargetDistillation": "tfkd.losses.enhanced",
    "DistributionDistillation": "tfkd.losses.distribution",
    "Ensemble": "tfkd.teachers.ensemble",
    "EnsembleDistillation": "tfkd.losses.own",
    "FeatureDistillation": "tfkd.losses.features",
    "GradientScaledDistillation": "tfkd.losses.scaled",
    "Head": "tfkd.heads",
    "HeadAssistance": "tfkd.losses.head_assistance",
    "Intervention": "tfkd.teachers.intervention",
    "KerasDistillation": "tfkd.losses.foreign",
    "Learning": "tfkd.teachers.learning",
    "LiveTeacher": "tfkd.teachers.live",
    "LogitsDistillation": "tfkd.losses.logits",
    "LowRankDense": "tfkd.models.low_rank",
    "MaximumMeanDiscrepancy": "tfkd.losses.discrepancy",
    "MutualDistillation": "tfkd.losses.own",
    "NeighborDistillation": "tfkd.losses.neighbors",
    "NeuronSelectivityTransfer": "tfkd.losses.selectivity",
    "NormalizedDistillation": "tfkd.losses.normalized",
    "ObliqueTree": "tfkd.models.tree",
    "ProbabilisticTransfer": "tfkd.losses.similarity",
    "Proposals": "tfkd.models.candidates",
    "RefinedDistillation": "tfkd.losses.refined",
    "Regions": "tfkd.models.candidates",
    "RelationalDistillation": "tfkd.losses.relational",
    "ReverseDistillation": "tfkd.losses.reverse",
    "ReviewDistillation": "tfkd.losses.review",
    "RobustCodeDistillation": "tfkd.losses.robust_codes",
    "Rows": "tfkd.models.candidates",
    "SelfDistillation": "tfkd.losses.own",
    "SimilarityPreserving": "tfkd.losses.similarity",
    "Suppression": "tfkd.models.detections",
    "TeacherAgreement": "tfkd.metrics",
    "TeacherFreeDistillation": "tfkd.losses.teacher_free",
    "TransformedTeacherMatching": "tfkd.losses.transformed",
    "TwoViews": "tfkd.teachers.two_views",
    "VariationalDistillation": "tfkd.losses.variational",
}


def install():
    """Registers the stand-ins, now or as soon as Keras is imported."""
    if hasattr(sys.modules.get("keras"), "saving"):
        _register(sys.modules["keras"])
    else:
        wrapt.register_post_import_hook(_register, "keras")


def _register(keras):
    known = keras.saving.get_custom_objects()
    for name, home in HOMES.items():
        known.setdefault(f"tfkd>{name}", _stand_in(name, home))


def _stand_in(name, home):
    """A class that `load_model` may find in the place of one that is not loaded yet."""

    def from_config(config):
        return getattr(importlib.import_module(home), name).from_config(config)

    return type(name, (), {"from_config": staticmethod(from_config)})
