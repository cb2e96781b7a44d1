"""Finds the stage ends of any model: the layers worth comparing between teacher and student."""

import itertools
import math
import re

import keras


def stage_ends(model):
    """See `tfkd.models.stages`."""
    return _named_stages(model) or _last_at_each_resolution(maps(model))


def _named_stages(model):
    names = [layer.name for layer in getattr(model, "layers", [])]  # a TFSMLayer has none
    found = [name for name in names if re.fullmatch(r"stage\d+_out", name)]
    return sorted(found, key=lambda name: int(re.search(r"\d+", name)[0]))


def maps(model, prefix=""):
    """Yields (path, (height, width), has weights) of each layer with a map as output, in order."""
    for layer in getattr(model, "layers", []):
        if isinstance(layer, keras.Model):
            yield from maps(layer, f"{prefix}{layer.name}/")
            continue
        # Padding only prepares the next layer; its odd sizes (57 before 28) are no resolution of
        # their own. The same goes for cropping.
        if isinstance(layer, (keras.layers.ZeroPadding2D, keras.layers.Cropping2D)):
            continue
        try:
            shape = layer.output.shape
        except (AttributeError, ValueError):
            continue  # in a subclassed model, used twice, or with several outputs
        if len(shape) == 4 and None not in shape[1:3] and tuple(shape[1:3]) != (1, 1):
            has_weights = bool(layer.weights) and not isinstance(layer, keras.layers.Normalization)
            yield prefix + layer.name, shape[1:3], has_weights


def _last_at_each_resolution(found):
    """Returns the paths after which every map is clearly smaller.

    What stands before the first weights is preprocessing and left out.
    """
    found = list(itertools.dropwhile(lambda entry: not entry[2], found))
    ends, largest_later = [], 0.0
    for path, size, _ in reversed(found):
        side = math.sqrt(math.prod(size))
        # 1.5 tells a halving (15 -> 7) from an unpadded convolution (7 -> 5).
        if side >= 1.5 * largest_later:
            ends.append(path)
        largest_later = max(largest_later, side)
    return ends[::-1]
