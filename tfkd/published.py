"""The methods that have a name, their papers and published weights; no TensorFlow."""

from typing import NamedTuple


class Method(NamedTuple):
    """A way to distil, as a command names it.

    Attributes:
        loss: class in `tfkd.losses`.
        paper: where it is from.
        reads: what it compares.
        weight: that of its paper or of the published benchmarks, beside the labels in full.
        how: "--loss", or what a program writes where the models change too.
    """

    loss: str
    paper: str
    reads: str
    weight: float
    how: str = "--loss"


TEMPERATURE = 4.0  # of "kd" in the published benchmarks
LOGITS, LABELS, NO_TEACHER = "logits", "logits, labels", "labels, no teacher"
STAGES, LAST, POOLED = "maps of every stage", "the last map", "pooled features"

METHODS = {
    "annealed": Method("AnnealedDistillation", "tfkd's own, see benchmarks/README.md", LOGITS, 1.0),
    "kd": Method("LogitsDistillation", "Hinton et al. 2015, arXiv:1503.02531", LOGITS, 1.0),
    "standardized": Method("LogitsDistillation", "Sun et al. 2024, arXiv:2403.01427", LOGITS, 9.0),
    "dkd": Method("DecoupledDistillation", "Zhao et al. 2022, arXiv:2203.08679", LABELS, 1.0),
    "dist": Method("CorrelationDistillation", "Huang et al. 2022, arXiv:2205.10536", LOGITS, 2.0),
    "wttm": Method(
        "TransformedTeacherMatching", "Zheng and Yang 2024, arXiv:2402.11148", LOGITS, 1.0
    ),
    "nkd": Method("NormalizedDistillation", "Yang et al. 2023, arXiv:2303.13005", LABELS, 1.0),
    "rld": Method("RefinedDistillation", "Sun et al. 2024, arXiv:2408.07703", LABELS, 1.0),
    "tf_kd": Method(
        "TeacherFreeDistillation", "Yuan et al. 2020, arXiv:1909.11723", NO_TEACHER, 0.1
    ),
    "classes": Method("ClassRelationDistillation", "Jin et al. 2023, CVPR", LOGITS, 1.0),
    "batch": Method("BatchRelationDistillation", "Jin et al. 2023, CVPR", LOGITS, 1.0),
    "at": Method(
        "AttentionTransfer", "Zagoruyko and Komodakis 2017, arXiv:1612.03928", STAGES, 1000.0
    ),
    "nst": Method(
        "NeuronSelectivityTransfer", "Huang and Wang 2017, arXiv:1707.01219", STAGES, 50.0
    ),
    "vid": Method("VariationalDistillation", "Ahn et al. 2019, arXiv:1904.05835", STAGES, 1.0),
    "review": Method("ReviewDistillation", "Chen et al. 2021, arXiv:2104.09044", STAGES, 1.0),
    "sp": Method("SimilarityPreserving", "Tung and Mori 2019, arXiv:1907.09682", LAST, 3000.0),
    "rkd": Method("RelationalDistillation", "Park et al. 2019, arXiv:1904.05068", POOLED, 1.0),
    "pkt": Method(
        "ProbabilisticTransfer", "Passalis and Tefas 2018, arXiv:1803.10837", POOLED, 30000.0
    ),
    "infonce": Method(
        "ContrastiveDistillation", "van den Oord et al. 2018, arXiv:1807.03748", POOLED, 0.8
    ),
    "crd": Method(
        "ContrastiveDistillation",
        "Tian et al. 2020, arXiv:1910.10699",
        "pooled features, numbers of examples, labels",
        0.8,
        "ContrastiveDistillation(memory=...)",
    ),
    "cat": Method(
        "ClassAttentionTransfer",
        "Guo et al. 2023, arXiv:2304.12777",
        "maps of class scores",
        50.0,
        "tfkd.models.with_class_maps",
    ),
    "ofa": Method(
        "EnhancedTargetDistillation",
        "Hao et al. 2023, arXiv:2310.19444",
        LABELS,
        1.0,
        "tfkd.models.with_stage_heads",
    ),
    "simkd": Method(
        "FeatureDistillation",
        "Chen et al. 2022, arXiv:2203.14001",
        LAST,
        1.0,
        "tfkd.models.with_teacher_head",
    ),
    "dml": Method(
        "MutualDistillation",
        "Zhang et al. 2018, arXiv:1706.00384",
        NO_TEACHER,
        1.0,
        "tfkd.models.cohort",
    ),
    "one": Method(
        "EnsembleDistillation",
        "Lan et al. 2018, arXiv:1806.04606",
        NO_TEACHER,
        1.0,
        "tfkd.models.with_branches(gate=True)",
    ),
}
