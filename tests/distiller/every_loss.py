"""One Distiller that trains with every loss of `tfkd.losses` at once, and its data.

One step of it is traced instead of one for each loss.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import tfkd
from tfkd import losses

CLASSES, EXAMPLES, BATCH = 3, 16, 8
STAGES = ("stage1_out", "stage2_out")

# Of the whole batch: the value of an example depends on the others.
OF_BATCH = (
    *(
        "AnnealedDistillation",
        "BatchRelationDistillation",
        "ClassRelationDistillation",
        "ContrastiveDistillation",
    ),
    *("CorrelationDistillation", "MaximumMeanDiscrepancy", "ProbabilisticTransfer"),
    *("RelationalDistillation", "SimilarityPreserving"),
)


def made():
    """{class: a loss that reads the networks below}, for every class in `tfkd.losses`."""
    stage, pooled = ("stage2_out", "stage2_out"), ("features", "features")
    deepest = losses.LogitsDistillation(2.0, "kl_divergence", None, "output", "exit")
    return {
        "AdversarialAlignment": losses.AdversarialAlignment(4, *pooled),
        "AnnealedDistillation": losses.AnnealedDistillation(0.9, 0.9),
        "AttentionTransfer": losses.AttentionTransfer(*stage),
        "BatchRelationDistillation": losses.BatchRelationDistillation(2.0),
        "ClassAttentionTransfer": losses.ClassAttentionTransfer(2),
        "ClassRelationDistillation": losses.ClassRelationDistillation(2.0),
        "CodeDistillation": losses.CodeDistillation(),
        "ConfidenceDistillation": losses.ConfidenceDistillation(2.0, ("output", "logits")),
        "ConsistencyDistillation": losses.ConsistencyDistillation(["output", "exit"]),
        "ContrastiveDistillation": losses.ContrastiveDistillation(
            EXAMPLES, 4, True, 0.07, 0.5, 8, *pooled
        ),
        "CorrelationDistillation": losses.CorrelationDistillation(),
        "CosineDistillation": losses.CosineDistillation(),
        "DecoupledDistillation": losses.DecoupledDistillation(2.0, standardize=True),
        "DistributionDistillation": losses.DistributionDistillation(CLASSES, 2.0),
        "EnhancedTargetDistillation": losses.EnhancedTargetDistillation(1.2),
        "EnsembleDistillation": losses.EnsembleDistillation(["output", "exit"]),
        "FeatureDistillation": losses.FeatureDistillation("mse", *stage),
        "GradientScaledDistillation": losses.GradientScaledDistillation(2.0),
        "LogitsDistillation": losses.LogitsDistillation(2.0),
        "MaximumMeanDiscrepancy": losses.MaximumMeanDiscrepancy(*pooled),
        "MutualDistillation": losses.MutualDistillation(["output", "exit"]),
        "NeighborDistillation": losses.NeighborDistillation("features", "output", 2, 16),
        "NeuronSelectivityTransfer": losses.NeuronSelectivityTransfer(*stage),
        "NormalizedDistillation": losses.NormalizedDistillation(),
        "ProbabilisticTransfer": losses.ProbabilisticTransfer(*pooled),
        "RefinedDistillation": losses.RefinedDistillation(2.0),
        "RelationalDistillation": losses.RelationalDistillation(1.0, 2.0, *pooled),
        "ReverseDistillation": losses.ReverseDistillation(2.0),
        "ReviewDistillation": losses.ReviewDistillation(
            [*STAGES, "features"], [*STAGES, "features"]
        ),
        "SelfDistillation": losses.SelfDistillation(deepest),
        "SimilarityPreserving": losses.SimilarityPreserving(*stage),
        "TeacherFreeDistillation": losses.TeacherFreeDistillation(2.0, student_layer_name="output"),
        "TransformedTeacherMatching": losses.TransformedTeacherMatching(),
        "VariationalDistillation": losses.VariationalDistillation(*stage),
    }


NAMES = sorted(made())


def network(width, name, stride, exits=False):
    """8 x 8 images through two stages, maps of class scores, and pooled features to logits."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(width, 3, stride, "same", activation="silu", name=STAGES[0])(image)
    maps = layers.Conv2D(CLASSES, 1, name="class_maps")(x)
    x = layers.Conv2D(2 * width, 3, 2, "same", activation="silu", name=STAGES[1])(
        layers.Concatenate()([x, maps])
    )
    x = layers.GlobalAveragePooling2D(name="features")(x)
    logits = layers.Dense(CLASSES, dtype="float32", name="logits")(x)
    if not exits:
        return keras.Model(image, logits, name=name)
    exit_logits = layers.GlobalAveragePooling2D(dtype="float32", name="exit_logits")(maps)
    return keras.Model(image, {"exit": exit_logits, "output": logits}, name=name)


def distiller(names=NAMES):
    given = [loss for name, loss in made().items() if name in names]
    built = tfkd.Distiller(
        network(4, "teacher", 2), network(3, "student", 1, exits=True), given, [0.1] * len(given)
    )
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    built.compile(keras.optimizers.SGD(0.01, momentum=0.9), cross_entropy)
    return built


def arrays():
    random = np.random.default_rng(0)
    x = random.normal(size=(EXAMPLES, 8, 8, 3)).astype("float32")
    return x, random.integers(0, CLASSES, EXAMPLES)


def batches(size=BATCH):
    x, y = arrays()
    index = {"index": np.arange(EXAMPLES)}
    data = tf.data.Dataset.from_tensor_slices((x, y, np.ones(EXAMPLES, "float32"), index))
    return data.batch(size)


def metric(loss):
    """The name of a class's metric."""
    return (
        losses.base.snake_case(loss) if loss != "SelfDistillation" else "self_logits_distillation"
    )


def values(built, x, y, knowledge=None, training=False, sample_weight=None):
    """{class: value} of one batch, computed eagerly, at the progress that the Distiller has."""
    known = knowledge or {**built.knowledge(x), "index": tf.range(len(y))}
    _, tensors = built.taps(x, training)
    heads = {"teacher": built.source.heads, "student": built.taps.heads_under(built.loss)}
    found = built.matching(
        known, tensors, sample_weight, y, heads, training, built.progress_tensor()
    )
    return dict(zip(NAMES, found, strict=True))
