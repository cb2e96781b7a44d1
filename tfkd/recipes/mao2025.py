"""Mao et al., "Stop Using CNNs: Knowledge Distillation for an Interpretable and Lightweight
Decision Tree in Rod Pump Working Condition Diagnosis", SPE-228194-MS (2025).

From the paper (its abstract): a decision tree that is trained as a whole by gradients, and then by
a CNN's knowledge, reads dynamometer cards as well as a ResNet-50 or a ViT does, with 64 IF-THEN
rules and 49,457 parameters, thousands of times faster. 63 splits of 28 x 28 pixels with a threshold
each are 49,455.

Reconstruction: the tree is that of the authors' public code for other problems (RADDT, see
`tfkd.models.ObliqueTree`): oblique splits, leaves weighed by a softmin of how far an example is on
the wrong side, sharpened while training, of depth 6. How the CNN teaches it is not known. The loss
is

    L = label_weight · CE(y, p) + (1 - label_weight) · T² KL(t || log p)

with p the tree's mixture of its leaves. The scale of the softmin rises from epoch to epoch; there
is one start, and no polishing of subtrees. In inference the tree is hard: the epoch that is kept is
the one whose hard tree is best on validation, and every row of the table is a hard tree but "soft
tree". What one deploys, "hard tree", keeps a class a leaf; the run directory has its rules
(`rules.txt`) and the tree for `tfkd.models.HardTree.load` (`tree.npz`), which predicts by NumPy
alone. CART (scikit-learn), on the same examples without augmentation, stands below the table.

The paper's wells are not public: `rod_pump_cards` are simulated (`tfkd.data.rod_pump_cards`).
"""

import time
from typing import Annotated, ClassVar

from pydantic import Field

import tfkd
from tfkd.files import write_text
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, Count, Share, options
from tfkd.settings.recipe import RecipeSettings
from tfkd.settings.training import Augmentation

CART_DEPTHS = (6, 12)


class Mao2025(RecipeSettings):
    """Depth as in the paper; budget, temperature and weight are ours."""

    recipe: ClassVar = "mao2025"

    data: Annotated[str, Field(min_length=1)] = "rod_pump_cards"
    """"rod_pump_cards" or "digits" (built in), a TFDS name, or a folder of images."""
    student: str = "oblique_tree"
    """Model to train as student: a tree, as built by oblique_tree."""
    student_options: options("--student-option", depth=6)
    """Of the tree, such as depth=4 or last_scale=50 (repeatable)."""
    augment: Augmentation = "none"
    """Augmentation; a tree's splits know no shift."""
    epochs: Count = 40
    """Epochs of each student."""
    learning_rate: Above0 = 0.005
    """Adam's first learning rate; it falls to 0 along a cosine."""
    temperature: Above0 = 2.0
    """Softens both models' logits."""
    label_weight: Share = 0.3
    """Weight of the loss on the labels; the teacher has the rest of 1."""


def build(settings, teacher, student):
    """Labels and softened logits teach the soft tree."""
    del teacher
    loss = tfkd.losses.LogitsDistillation(settings.temperature)
    return System(student, [loss], [1.0 - settings.label_weight], settings.label_weight)


def ablations(settings):
    return {
        "teacher only": settings.replace(label_weight=0.0),
        "T = 1": settings.replace(temperature=1.0),
    }


def deployed(student):
    """The tree with a class a leaf; and the soft tree that it was hardened from."""
    return {
        "hard tree": tfkd.models.hard_tree_model(student),
        "soft tree": tfkd.models.soft_tree_model(student),
    }


def study(finished):
    """The rules of the first seed's tree, what hardening cost, and CART."""
    from sklearn.tree import DecisionTreeClassifier

    splits, network = finished.splits[0], finished.network()
    tree = tfkd.models.harden(network, splits.info.label_names)
    tree.save(finished.directory / "tree.npz")
    write_text(finished.directory / "rules.txt", "\n".join(tree.rules()) + "\n")
    (images, labels), (train_images, train_labels) = map(_arrays, (splits.test, splits.train))
    logits = tfkd.models.soft_tree_model(network).predict(images, batch_size=256, verbose=0)
    figures = {
        "rules": len(tree.classes),
        "rules_used": len(set(tree.leaves(images).tolist())),
        "parameters": tree.parameters,
        "hard_accuracy": float((tree.predict(images) == labels).mean()),
        "soft_accuracy": float((logits.argmax(axis=1) == labels).mean()),
        "cart": {},
    }
    said = [
        f"First seed: {figures['rules']} rules of {tree.parameters:,} numbers in all, in rules.txt "
        f"and tree.npz; {figures['rules_used']} of them are used on test. The hard tree, in NumPy, "
        f"is right on {100 * figures['hard_accuracy']:.1f} % of test, the soft tree on "
        f"{100 * figures['soft_accuracy']:.1f} %."
    ]
    pixels = (train_images.reshape(len(train_images), -1), images.reshape(len(images), -1))
    for depth in CART_DEPTHS:
        begun = time.perf_counter()
        cart = DecisionTreeClassifier(max_depth=depth, random_state=finished.record.seeds[0])
        cart.fit(pixels[0], train_labels)
        seconds = time.perf_counter() - begun
        accuracy, leaves = float(cart.score(pixels[1], labels)), int(cart.get_n_leaves())
        own = {"accuracy": accuracy, "leaves": leaves, "seconds": seconds}
        figures["cart"][str(depth)] = own
        said.append(
            f"CART of depth {depth}: {100 * accuracy:.1f} % of test, {leaves} rules, trained in "
            f"{seconds:.1f} s."
        )
    return figures, said


def _arrays(dataset):
    """(images, labels) of a dataset, in memory."""
    ((images, labels),) = dataset.batch(int(dataset.cardinality())).as_numpy_iterator()
    return images, labels


RECIPE = Recipe(
    name="mao2025",
    paper="Mao et al., SPE-228194-MS (2025)",
    task="diagnosis by rules: a decision tree taught by a CNN",
    reconstruction="How the CNN teaches, temperature, weight and budget; the tree is that of the "
    "authors' public code for other problems; the pump cards are simulated.",
    settings=Mao2025,
    build=build,
    ablations=ablations,
    deployed=deployed,
    study=study,
)
