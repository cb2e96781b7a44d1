"""KerasHub's image classifiers by the names of their presets, from raw pixels to logits.

    >>> teacher = tfkd.models.build("hub:vit_base_patch16_224_imagenet", (32, 32, 3), 10,
    ...                             weights="preset")

A preset is a network's plan and its weights; KerasHub fetches both when it is first used, the plan
also where the weights stay random. A folder written by `task.save_to_preset` needs no network:
"hub:/path/of/it". The head is new, for the classes asked for. The model is made as by
`tfkd.models.with_preprocessor`: the classifier stands in a layer named "task".

Presets of other people (hf://, kaggle://) are loaded with KerasHub's own `from_preset`.
"""

import os

import keras
import keras_hub

from tfkd.near_names import meant
from tfkd.preprocessors import with_preprocessor


def classifier(preset, input_shape, num_classes, *, weights=None):
    """An image classifier of a preset's network, with a new head.

    Args:
        preset: a name among `keras_hub.models.ImageClassifier.presets`, or the path of a folder.
        input_shape: (height, width, channels); the preset's preprocessor resizes the images to the
            size that the network takes, and 1 channel is repeated to 3.
        num_classes: number of logits.
        weights: None (random) or "preset", those of the backbone.

    Returns:
        `keras.Model`, see `tfkd.models.build`.

    Raises:
        ValueError: an unknown preset or value of weights; images of a size or of channels that the
            network does not take.
        ConnectionError: the preset is not on this machine, and cannot be downloaded.
    """
    _check(preset, weights)
    try:
        task = keras_hub.models.ImageClassifier.from_preset(
            preset,
            load_weights=weights == "preset",
            num_classes=num_classes,
            head_dtype="float32",
        )
    except FileNotFoundError:  # of a folder, and said by name
        raise
    except OSError as error:
        raise ConnectionError(
            f'KerasHub could not fetch the preset "{preset}": {error}. It needs a network the '
            "first time, for random weights too. Fetch it elsewhere, with from_preset and "
            f'task.save_to_preset("folder"), and give the folder: "hub:/path/of/folder".'
        ) from error
    name = os.path.basename(os.path.normpath(preset))
    return with_preprocessor(_with_logits(task), input_shape, name)


def _check(preset, weights):
    if weights not in (None, "preset"):
        raise ValueError(
            f'weights is {weights!r}. Expected None (random) or "preset", the weights of the '
            "preset's backbone."
        )
    known = keras_hub.models.ImageClassifier.presets
    if preset in known or os.path.isdir(preset):
        return
    hint = meant(preset, known, most=3)
    raise ValueError(
        f"Unknown preset {preset!r}, which is no folder either. {hint}KerasHub's image classifiers "
        f"are: {', '.join(sorted(known))}."
    )


def _with_logits(task):
    """The same classifier without a softmax, which a preset may bring."""
    config = task.get_config()
    if keras.activations.get(config.get("activation")) is keras.activations.linear:
        return task
    given = {"backbone": task.backbone, "preprocessor": task.preprocessor, "activation": None}
    return type(task)(**{**config, **given})
