"""Xu, Gao, Li, Bai, Li and Zhang, "Teacher-student collaborative knowledge distillation for image
classification" (TSKD), Applied Intelligence 53(2):1997-2009 (2022), doi 10.1007/s10489-022-03486-4.

From the paper (abstract and introduction): a student with exits learns from the teacher, and its
deep features and outputs teach its shallow exits, so that it is "its own second teacher"; at
inference the exits vote. A later paper of the group (Biomimetics 7(4):195, 2022) averages them.

Reconstruction: the weights, the temperature and the exits' widths (`tfkd.models.with_exits`), after
the method that it rests on ("Be Your Own Teacher", Zhang et al. 2019). With exits k = 1..K, logits
z_k, features f_k and the teacher's logits z_T:

    L = sum over k of (1 - teacher_weight - b_k) · CE(y, z_k) + teacher_weight · T² KL(z_T || z_k)
      + sum over k < K of self_weight · T² KL(z_K || z_k) + feature_weight · mean (W_k f_k - f_K)²

b_k is self_weight for k < K and 0 for the deepest exit; no gradient goes into z_K and f_K where
they teach; W_k is there only where the widths differ. The epoch is chosen by the deepest exit.
"""

from typing import ClassVar

import tfkd
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, AtLeast0, Count, SettingsError, Share, Texts, options
from tfkd.settings.recipe import RecipeSettings

DEEPEST = "output"


class Xu2022(RecipeSettings):
    """The paper's weights are not public; these are ours, near those of "Be Your Own Teacher"."""

    recipe: ClassVar = "xu2022"

    student: str = "resnet"
    """Model to give exits and to train as student."""
    student_options: options("--student-option", depth=8, width=0.5)
    """Of the student's model, such as width=0.25 (repeatable)."""
    exits: Texts = ()
    """Layers to put an exit after (repeatable); default: every stage but the last."""
    exit_features: Count = 128
    """Width of each exit's feature vector."""
    temperature: Above0 = 3.0
    """Softens all logits."""
    teacher_weight: Share = 0.3
    """Weight of the teacher's logits at every exit."""
    self_weight: Share = 0.3
    """Weight of the deepest exit's logits at every other exit."""
    feature_weight: AtLeast0 = 0.001
    """Weight of the deepest exit's features at every other exit."""

    def check(self):
        super().check()
        if self.teacher_weight + self.self_weight > 1:
            raise SettingsError(
                f"teacher_weight {self.teacher_weight} and self_weight {self.self_weight} add up "
                "to more than 1; labels have the rest of 1."
            )


def build(settings, teacher, student):
    """The student with exits, taught by labels, by the teacher and by its own deepest exit."""
    del teacher
    network = tfkd.models.with_exits(
        student, list(settings.exits) or None, features=settings.exit_features
    )
    *shallow, deepest = tfkd.models.exit_names(network)
    losses, weights = [], []
    if settings.teacher_weight:
        losses += [from_teacher(settings, exit) for exit in (*shallow, deepest)]
        weights += [settings.teacher_weight] * (len(shallow) + 1)
    if settings.self_weight:
        losses += [from_deepest(settings, exit) for exit in shallow]
        weights += [settings.self_weight] * len(shallow)
    if settings.feature_weight:
        features = last_features(network)
        losses += [from_features(features, exit) for exit in shallow]
        weights += [settings.feature_weight] * len(shallow)
    labels = dict.fromkeys(shallow, 1.0 - settings.teacher_weight - settings.self_weight)
    labels[deepest] = 1.0 - settings.teacher_weight
    return System(network, losses, weights, labels)


def from_teacher(settings, exit):
    """The teacher's logits teach an exit."""
    return tfkd.losses.LogitsDistillation(
        settings.temperature, student_layer_name=exit, name=f"teacher_{exit}"
    )


def from_deepest(settings, exit):
    """The deepest exit's logits teach another."""
    loss = tfkd.losses.LogitsDistillation(
        settings.temperature, teacher_layer_name=DEEPEST, student_layer_name=exit
    )
    return tfkd.losses.SelfDistillation(loss, name=f"self_{exit}")


def from_features(features, exit):
    """The features behind the deepest exit teach those of another."""
    loss = tfkd.losses.FeatureDistillation("mse", features, f"{exit}_features")
    return tfkd.losses.SelfDistillation(loss, name=f"features_{exit}")


def last_features(network):
    """Name of the layer whose vector the deepest exit's last layer with weights is given.

    Raises:
        ValueError: that layer is given no vector.
    """
    tensor = network.output[DEEPEST]
    weighted = False
    while True:
        layer, node, _ = tensor._keras_history
        # Dropout would teach its own noise.
        if weighted and type(layer).__name__ != "Dropout":
            break
        weighted = weighted or bool(layer.weights)
        tensor = layer._inbound_nodes[node].input_tensors[0]
    if len(tensor.shape) != 2:
        raise ValueError(
            f'The deepest exit of "{network.name}" ends in "{layer.name}", which gives '
            f"{tuple(tensor.shape)}, no vector of features. Set feature_weight to 0, or let the "
            "student end in pooling and a Dense."
        )
    return layer.name


def ablations(settings):
    without_features = settings.replace(feature_weight=0.0)
    return {
        "teacher only": without_features.replace(self_weight=0.0),
        "self only": settings.replace(teacher_weight=0.0),
        "exits, labels only": without_features.replace(teacher_weight=0.0, self_weight=0.0),
    }


def deployed(student):
    """The votes of all exits, and every exit by itself."""
    votes = {f"{kind} vote": tfkd.models.vote(student, kind) for kind in ("soft", "hard")}
    exits = tfkd.models.exit_names(student)
    return votes | {exit: tfkd.models.single_exit(student, exit) for exit in exits}


def study(finished):
    """Early exit: accuracy over cost, and the cheapest threshold that is as good as the last exit.

    The threshold is chosen on validation, the curve is that of the test split.
    """
    student, (splits, *_) = finished.network(), finished.splits
    costs = tfkd.evaluation.exit_costs(student)
    curves = {
        role: tfkd.evaluation.early_exit_curve(
            *tfkd.evaluation.exit_probabilities(student, tfkd.data.batches(split, 256)), costs
        )
        for role, split in (("validation", splits.validation), ("test", splits.test))
    }
    tfkd.evaluation.plot_early_exit(
        {"xu2022": curves["test"]}, finished.directory / "early_exit.png"
    )
    validation, test = curves["validation"], curves["test"]
    enough = validation["accuracy"] >= validation["exits"][DEEPEST][0]
    chosen = min(enough.nonzero()[0], key=lambda index: validation["cost"][index])
    accuracy, cost = test["exits"][DEEPEST]
    figures = {
        "threshold": float(test["thresholds"][chosen]),
        "accuracy": float(test["accuracy"][chosen]),
        "multiply_adds": float(test["cost"][chosen]),
        "deepest_accuracy": accuracy,
        "deepest_multiply_adds": cost,
        "curve": {name: test[name].tolist() for name in ("thresholds", "accuracy", "cost")},
    }
    said = (
        f"Early exit, first seed: leaving by the first exit that is {figures['threshold']:.2f} "
        f"sure (chosen on validation) gives {100 * figures['accuracy']:.1f} % on test for "
        f"{figures['multiply_adds'] / 1e6:.2f} M multiply-adds an image; the deepest exit gives "
        f"{100 * accuracy:.1f} % for {cost / 1e6:.2f} M (with all exits on the way)."
    )
    return figures, [said]


RECIPE = Recipe(
    name="xu2022",
    paper="Xu et al. (TSKD), Applied Intelligence 53(2):1997 (2022)",
    task="image classification with early exits",
    reconstruction="Weights, temperature and the exits' widths; the method after "
    '"Be Your Own Teacher".',
    settings=Xu2022,
    build=build,
    ablations=ablations,
    deployed=deployed,
    study=study,
)
