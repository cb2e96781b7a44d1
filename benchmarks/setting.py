"""What the speed benchmarks train: one student, teachers of any cost, examples drawn from a seed.

The student is MobileNet's plan (Howard et al. 2017) for 32 pixels, 139,722 parameters; the teacher
a plain convolutional network whose tapped layers have the student's shapes at every width, so that
teachers differ in cost alone and every package can compare the features as they are.
"""

import keras
import numpy as np
from keras import layers

from benchmarks.constants import BLOCKS, CLASSES, HINT_CHANNELS, IMAGE, STEM, TEACHER_WIDTHS
from tfkd.data.pipeline import from_arrays
from tfkd.evaluation import multiply_adds


def student(activation="relu"):
    image, x = _input()
    x = _normalised(
        layers.Conv2D(STEM, 3, padding="same", use_bias=False, name="stem")(x),
        "stem",
        activation=activation,
    )
    for number, (channels, stride) in enumerate(BLOCKS, start=1):
        depthwise = layers.DepthwiseConv2D(
            3, stride, padding="same", use_bias=False, name=f"block{number}_dw"
        )
        x = _normalised(depthwise(x), f"block{number}_dw", activation=activation)
        pointwise = layers.Conv2D(channels, 1, use_bias=False, name=f"block{number}_pw")
        x = _normalised(pointwise(x), f"block{number}_pw", f"block{number}_out", activation)
    return _classifier(image, x, "student")


def teacher(width, hint_channels=HINT_CHANNELS):
    """Three stages of two 3 x 3 convolutions on 32, 16 and 8 pixels.

    Args:
        width: channels of the first stage; the inner ones of the others follow it.
        hint_channels: channels at the ends of the second and the third stage.
    """
    plan = [(width, width), (2 * width, hint_channels[0]), (4 * width, hint_channels[1])]
    image, x = _input()
    for number, (inner, end) in enumerate(plan, start=1):
        if number > 1:
            x = layers.MaxPooling2D(name=f"stage{number}_pool")(x)
        for part, channels in enumerate((inner, end), start=1):
            name = f"stage{number}_conv{part}"
            convolution = layers.Conv2D(channels, 3, padding="same", use_bias=False, name=name)
            x = _normalised(convolution(x), name, f"stage{number}_out" if part == 2 else None)
    return _classifier(image, x, "teacher")


def teacher_of(times, **options):
    """The teacher of `times` the student's cost; AssertionError if it is off by over 5 %."""
    model = teacher(TEACHER_WIDTHS[times], **options)
    if not options:
        ratio = multiply_adds(model) / multiply_adds(student())
        assert abs(ratio / times - 1) < 0.05, f"teacher of {times} x costs {ratio:.2f} x"
    return model


def examples(count, seed=0, shape=IMAGE):
    """A dataset of random pixels and labels as `tfkd.data.load` would give it."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (count, *shape), np.uint8)
    return from_arrays(images, draw.integers(0, CLASSES, count))


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _input():
    image = keras.Input(IMAGE, name="image")
    return image, layers.Rescaling(1 / 127.5, offset=-1.0)(image)


def _normalised(x, name, out=None, activation="relu"):
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.Activation(activation, name=out or f"{name}_{activation}")(x)


def _classifier(image, x, name):
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(CLASSES, name="logits")(x), name=name)
