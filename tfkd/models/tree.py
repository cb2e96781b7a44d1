"""An oblique decision tree that is trained by gradients as a soft one and used as a hard one.

After Mao et al. 2025 (SPE-228194-MS), whose tree has 64 rules: depth 6, a linear split of the
pixels at each of 63 nodes. The soft weights of the leaves are those of RADDT (NeurIPS 2025): a
softmin of how far an example is on the wrong side of the splits above a leaf, sharpened while
training.
"""

import keras
import numpy as np
from keras import layers, ops

from tfkd.models import blocks
from tfkd.models.hard_tree import HardTree
from tfkd.progress import Annealed

MOST = 12  # splits above a leaf: 4,096 leaves
# RADDT's is 2, for splits that are not normalised. Here 2 left half of 64 leaves unused: on 3,000
# images of Fashion-MNIST 78.5 ± 2.8 % on validation, 0.5 gave 81.4 ± 0.4 % (3 seeds).
FIRST_SCALE = 0.5
# RADDT's last scale for trees of less than such a depth.
LAST_SCALES = ((4, 100.0), (8, 130.0), (11, 170.0), (MOST + 1, 200.0))
TREE = "logits"  # name of the layer
# How sure the leaves of a hardened tree are taken to be, at the most.
SUREST = 0.999


def path_sums(left, right):
    """Sums along the paths of a whole tree.

    Args:
        left, right: (batch, splits), what going left or right costs at each split; the splits below
            n are 2n + 1 and 2n + 2.

    Returns:
        (batch, splits + 1), the sum at each leaf, from left to right.
    """
    sums, first = ops.zeros_like(left[:, :1]), 0
    while first < left.shape[1]:
        width = first + 1
        level = slice(first, first + width)
        both = ops.stack([sums + left[:, level], sums + right[:, level]], axis=-1)
        sums = ops.reshape(both, (-1, 2 * width))
        first += width
    return sums


@keras.saving.register_keras_serializable(package="tfkd")
class ObliqueTree(Annealed, layers.Layer):
    """A tree of linear splits with a distribution over classes at each leaf.

    While training it is soft: p(x) = sum over leaves of w_leaf(x) · softmax(theta_leaf), with
    w = softmax(-scale · v) and v_leaf(x) the sum, over the splits above the leaf, of how far x is
    on the wrong side. In inference it is hard: p(x) = softmax(theta) of the one leaf whose splits
    all hold, to which w goes as the scale grows. A training moves the scale from the first to the
    last one, evenly on a logarithmic axis (`tfkd.schedules.Anneal`; a Distiller does it by itself).
    The splits' values are normalised over the batch, so that at first each halves it; hardened, the
    normalisation is part of weights and threshold. `visits` is a moving average of the leaves'
    weights: the share of the examples that comes to each.

    Args:
        classes: number of classes, 2 or more.
        depth: number of splits above a leaf, 1 to 12.
        first_scale, last_scale: of the softmin; the last is by default RADDT's for the depth.
        soft: whether inference is soft, too.

    Input shape (batch, features), output log p, float32 (batch, classes).

    Raises:
        ValueError: numbers out of range.
    """

    def __init__(
        self, classes, depth=6, first_scale=FIRST_SCALE, last_scale=None, soft=False, **kw
    ):
        super().__init__(**{"dtype": "float32", **kw})
        self.classes, self.depth = int(classes), _checked_depth(depth)
        if self.classes < 2:
            raise ValueError(
                f"A tree for {classes} class has nothing to tell apart. Expected 2 classes or more."
            )
        if last_scale is None:
            last_scale = next(scale for below, scale in LAST_SCALES if self.depth < below)
        if not 0 < first_scale <= last_scale < float("inf"):
            raise ValueError(
                f"first_scale is {first_scale} and last_scale {last_scale}; expected numbers above "
                "0, the last no smaller than the first."
            )
        self.first_scale, self.last_scale, self.soft = first_scale, last_scale, bool(soft)
        # At first every split halves a batch, whatever the pixels' mean.
        momentum = blocks.BATCH_NORM_MOMENTUM
        self.norm = layers.BatchNormalization(momentum=momentum, dtype="float32", name="norm")

    def build(self, input_shape):
        splits = 2**self.depth - 1
        self.kernel = self.add_weight(
            shape=(input_shape[-1], splits), initializer="glorot_uniform", name="kernel"
        )
        self.norm.build((None, splits))
        # Of equal leaves no split would get a gradient.
        spread = keras.initializers.RandomNormal(stddev=0.1)
        shape = (splits + 1, self.classes)
        self.leaves = self.add_weight(shape=shape, initializer=spread, name="leaves")
        first = keras.initializers.Constant(self.first_scale)
        self.scale = self.add_weight(shape=(), initializer=first, trainable=False, name="scale")
        even = keras.initializers.Constant(1 / (splits + 1))
        self.visits = self.add_weight(
            shape=(splits + 1,),
            initializer=even,
            trainable=False,
            aggregation="mean",
            name="visits",
        )

    def anneal(self, progress):
        """Sets the scale to that of a share of the training, 0 to 1."""
        self.scale.assign(self.first_scale * (self.last_scale / self.first_scale) ** progress)

    def margins(self, inputs, training=False):
        """How far each example is on the right-hand side of each split, (batch, splits)."""
        return self.norm(ops.matmul(inputs, self.kernel), training=training)

    def log_weights(self, inputs, training=False):
        """Logarithms of the soft weights of the leaves, (batch, leaves)."""
        margins = self.margins(inputs, training)
        wrong = path_sums(ops.relu(margins), ops.relu(-margins))
        return ops.log_softmax(-self.scale * wrong, axis=-1)

    def call(self, inputs, training=False):
        if training or self.soft:
            leaves = ops.log_softmax(self.leaves, axis=-1)
            weights = self.log_weights(inputs, training)
            logs = ops.logsumexp(weights[..., None] + leaves, axis=1)
            if training:
                now = ops.mean(ops.exp(weights), axis=0)
                self.visits.assign(self.visits + (1 - self.norm.momentum) * (now - self.visits))
        else:
            logs = ops.matmul(reached(self.margins(inputs)), self.leaves)
        # Of what is normalised already it changes nothing, but it shows what the output is.
        return ops.log_softmax(logs, axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.classes)

    def get_config(self):
        names = ("classes", "depth", "first_scale", "last_scale", "soft")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def reached(margins):
    """The leaf that each example comes to: 1.0 there, 0.0 elsewhere, (batch, leaves)."""
    right = ops.cast(ops.greater(margins, 0), "float32")
    # What going left costs is 1 where right is right, and the other way round.
    return ops.cast(ops.equal(path_sums(right, 1.0 - right), 0), "float32")


def oblique_tree(input_shape, num_classes, *, depth=6, first_scale=FIRST_SCALE, last_scale=None):
    """An `ObliqueTree` on pixels.

    Args:
        input_shape, num_classes: see `tfkd.models.build`; a tree needs two classes or more.
        depth, first_scale, last_scale: see `ObliqueTree`.

    Returns:
        `keras.Model`, see `tfkd.models.build`; its last layer, "logits", is the tree: the `.keras`
        file is one that needs tfkd to be installed. `harden` makes rules of it.
    """
    image, x = blocks.image_input(input_shape)
    x = layers.Flatten(dtype="float32", name="pixels")(x)
    tree = ObliqueTree(num_classes, depth, first_scale, last_scale, name=TREE)
    return keras.Model(image, tree(x), name="oblique_tree")


def harden(model, labels=None):
    """The rules of a trained tree.

    ```python
    tree = tfkd.models.harden(student, ("shirt", "coat"))
    tree.predict(images)
    ```

    Args:
        model: an "oblique_tree" of `tfkd.models.build`.
        labels: names of the classes; by default their numbers.

    Returns:
        `tfkd.models.HardTree` on raw pixels, with the likeliest class of each leaf.

    Raises:
        ValueError: another model, or another number of labels.
    """
    tree = _tree_of(model)
    labels = range(tree.classes) if labels is None else labels
    if len(labels) != tree.classes:
        raise ValueError(f"There are {len(labels)} labels for {tree.classes} classes.")
    rescaling, norm = model.get_layer("normalise"), tree.norm
    kernel, gamma, beta, mean, variance = (
        np.asarray(v, "float64")
        for v in (tree.kernel, norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    slope = gamma / np.sqrt(variance + norm.epsilon)
    # slope · (kernel · (scale · pixels + offset) - mean) + beta > 0; what is constant to the right.
    thresholds = slope * (mean - rescaling.offset * kernel.sum(axis=0)) - beta
    classes = np.argmax(np.asarray(tree.leaves), axis=1)
    return HardTree(rescaling.scale * (slope * kernel).T, thresholds, classes, labels)


def hard_tree_model(model):
    """What `harden` makes of a tree, as a Keras model of stock layers.

    All leaves are equally sure of their class, as sure as they were on average of the examples that
    they were trained on: beside the splits nothing is kept but a class for each leaf.

    Args:
        model: an "oblique_tree" of `tfkd.models.build`.

    Returns:
        Functional `keras.Model`: raw pixels to float32 logits; its parameters are the splits'.
    """
    tree, hard = _tree_of(model), harden(model)
    surest = np.asarray(ops.max(ops.softmax(tree.leaves), axis=-1))
    sure = np.average(surest, weights=np.asarray(tree.visits))
    sure = np.clip(sure, 1.01 / tree.classes, SUREST)
    logit = np.log(sure * (tree.classes - 1) / (1 - sure))
    answers = (logit * np.eye(tree.classes)[hard.classes]).astype("float32")
    image = keras.Input(model.input_shape[1:], name="image", dtype="float32")
    pixels = layers.Flatten(dtype="float32", name="pixels")(image)
    splits = layers.Dense(len(hard.thresholds), dtype="float32", name="splits")
    logits = ops.matmul(reached(splits(pixels)), answers)
    splits.set_weights([hard.weights.T, -hard.thresholds])
    return keras.Model(image, logits, name="hard_tree")


def soft_tree_model(model):
    """The same tree, soft in inference, too: a `keras.Model` with a copy of the weights."""
    config = _tree_of(model).get_config()
    tree = ObliqueTree.from_config({**config, "soft": True})
    result = keras.Model(model.input, tree(model.get_layer("pixels").output), name="soft_tree")
    tree.set_weights(_tree_of(model).get_weights())
    return result


def _tree_of(model):
    tree = model.layers[-1]
    if not isinstance(tree, ObliqueTree):
        raise ValueError(
            f'Model "{model.name}" ends in {type(tree).__name__} "{tree.name}", not in a tree. '
            'Expected tfkd.models.build("oblique_tree", ...).'
        )
    return tree


def _checked_depth(depth):
    if isinstance(depth, bool) or not hasattr(depth, "__index__") or not 1 <= depth <= MOST:
        raise ValueError(
            f"depth is {depth!r}. Expected a whole number from 1 (2 leaves) to {MOST} "
            f"({2**MOST:,} leaves)."
        )
    return int(depth)
