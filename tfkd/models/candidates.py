"""Layers of detectors: predictions become candidates, proposals become what is seen in them."""

import keras
from keras import ops

from tfkd import boxes, regions
from tfkd._extras import needs_extra


@keras.saving.register_keras_serializable(package="tfkd")
class Candidates(keras.layers.Layer):
    """Predictions at every position of a pyramid of feature maps -> candidates, see `tfkd.boxes`.

    Args:
        image_shape: (height, width, channels).
        classes: number of classes; where there are fewer logits, zeros stand behind them.
        levels: numbers of the pyramid's levels; a cell of level n is 2ⁿ pixels.
        kind: of the candidates.
        scales, ratios, anchor_size: of the anchors at each position, see
            `keras_hub.layers.AnchorGenerator`; `scales` 0 puts the cell itself there.
        angle_bins: how many of the last numbers of a prediction are the angle's.
    """

    def __init__(
        self,
        image_shape,
        classes,
        levels,
        kind,
        scales=2,
        ratios=(1.0,),
        anchor_size=2.0,
        angle_bins=0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.image_shape, self.classes = tuple(image_shape), classes
        self.levels, self.kind = tuple(levels), kind
        self.scales, self.ratios, self.anchor_size = scales, tuple(ratios), anchor_size
        self.angle_bins = angle_bins
        self.reference = self._anchors() if scales else self._cells()

    def _anchors(self):
        needs_extra("hub", "A detector with anchors")
        import keras_hub  # takes seconds

        make = keras_hub.layers.AnchorGenerator(
            boxes.FORMAT,
            self.levels[0],
            self.levels[-1],
            self.scales,
            list(self.ratios),
            self.anchor_size,
        )
        made = make(ops.zeros(self.image_shape))
        # KerasHub's lie around the first corner of each cell, ours around its middle.
        moved = [made[f"P{level}"] + 2**level / 2 for level in self.levels]
        return ops.convert_to_numpy(ops.concatenate(moved, axis=0))

    def _cells(self):
        found = []
        for level in self.levels:
            stride = 2**level
            rows, columns = (-(-side // stride) for side in self.image_shape[:2])
            y, x = ops.meshgrid(ops.arange(rows), ops.arange(columns), indexing="ij")
            low = ops.reshape(ops.stack([x, y], axis=-1), (-1, 2)) * stride
            found.append(ops.concatenate([low, low + stride], axis=-1))
        return ops.convert_to_numpy(ops.concatenate(found, axis=0)).astype("float32")

    def call(self, logits, regression):
        logits, regression = (ops.cast(part, "float32") for part in (logits, regression))
        logits = ops.pad(logits, ((0, 0), (0, 0), (0, self.classes - logits.shape[-1])))
        first = ops.zeros_like(logits[..., :1])
        kind, reference = first + self.kind, first + self.reference
        return ops.concatenate([kind, reference, logits, regression], axis=-1)

    def get_config(self):
        names = ("image_shape", "classes", "levels", "kind", "scales", "ratios", "anchor_size")
        own = {name: getattr(self, name) for name in (*names, "angle_bins")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="tfkd")
class Proposals(keras.layers.Layer):
    """Candidates -> the boxes of its best proposals, and whether there are so many.

    Args:
        classes: number of classes.
        count: how many an image.
    """

    def __init__(self, classes, count, **kwargs):
        super().__init__(**kwargs)
        self.classes, self.count = classes, count

    def call(self, candidates):
        chosen, _, valid = regions.propose(candidates, self.classes, boxes.PROPOSAL, self.count)
        return chosen, valid

    def get_config(self):
        return {**super().get_config(), "classes": self.classes, "count": self.count}


@keras.saving.register_keras_serializable(package="tfkd")
class Regions(keras.layers.Layer):
    """[boxes, *feature maps] -> what the maps show inside of the boxes, see `look`.

    Args:
        levels: numbers of the maps' levels.
        size: parts a side.
    """

    def __init__(self, levels, size, **kwargs):
        super().__init__(**kwargs)
        self.levels, self.size = tuple(levels), size

    def call(self, inputs):
        chosen, *maps = inputs
        return regions.look(maps, self.levels, chosen, self.size)

    def get_config(self):
        return {**super().get_config(), "levels": self.levels, "size": self.size}


@keras.saving.register_keras_serializable(package="tfkd")
class Rows(keras.layers.Layer):
    """(regions, whether there are so many, logits, regression) -> candidates of a second stage."""

    def call(self, chosen, valid, logits, regression):
        return regions.rows(chosen, valid, logits, regression)
