"""Bring a student's feature to the shape of the teacher's: trained with the student, kept apart.

Known as the regressor of FitNets (Romero et al. 2015) and as a projection in later work.
"""

import keras


def build(student_shape, teacher_shape, name="adapter"):
    """The layer that maps a student's feature to the shape of a teacher's, or None if it fits.

    Channels go through a linear map (1x1 convolution, Dense), space through average pooling where
    the student's map is a multiple of the teacher's and bilinear resizing elsewhere; a map is
    averaged over space where the teacher's feature is a vector.

    Args:
        student_shape: (batch, ..., channels), channels last; batch may be None.
        teacher_shape: the same for the teacher's feature.
        name: name of the layer.

    Raises:
        ValueError: the shapes cannot be brought together.
    """
    given, wanted = tuple(student_shape)[1:], tuple(teacher_shape)[1:]
    if given == wanted:
        return None
    if not given or not wanted or given[-1] is None or wanted[-1] is None:
        raise ValueError(_cannot(given, wanted))
    layers, channels = keras.layers, wanted[-1]
    maps_channels = given[-1] != channels
    if len(given) == 3 and len(wanted) == 1:
        steps = [layers.GlobalAveragePooling2D(data_format="channels_last")]
        steps += [layers.Dense(channels)] if maps_channels else []
    elif len(given) == len(wanted) == 3:
        space = _space(given[:2], wanted[:2])
        steps = [_convolution(channels)] if maps_channels else []
        # The linear map runs on whichever of the two maps is the smaller.
        steps = [*steps, *space] if _is_smaller(given[:2], wanted[:2]) else [*space, *steps]
    elif given[:-1] == wanted[:-1] and len(given) <= 2:
        steps = [layers.Dense(channels)]
    else:
        raise ValueError(_cannot(given, wanted))
    adapter = keras.Sequential(steps, name=name)
    adapter.build((None, *given))
    return adapter


def _convolution(channels):
    return keras.layers.Conv2D(channels, 1, data_format="channels_last")


def _space(given, wanted):
    if given == wanted:
        return []
    if None in given or None in wanted:
        raise ValueError(
            f"The student's map is {given} and the teacher's {wanted}: an adapter needs fixed "
            "heights and widths where they differ. Give both models inputs of a fixed size."
        )
    factors = [g // w if g % w == 0 else 0 for g, w in zip(given, wanted, strict=True)]
    if all(factors):
        return [keras.layers.AveragePooling2D(factors, data_format="channels_last")]
    return [keras.layers.Resizing(*wanted, data_format="channels_last")]


def _is_smaller(given, wanted):
    return None not in (*given, *wanted) and given[0] * given[1] < wanted[0] * wanted[1]


def _cannot(given, wanted):
    return (
        f"A student's feature of shape (batch, {', '.join(map(str, given))}) cannot be adapted to "
        f"a teacher's of shape (batch, {', '.join(map(str, wanted))}). Maps (height, width, "
        "channels), sequences of one length and vectors can, each to its own kind, and maps to "
        "vectors: tap layers whose outputs are of one kind."
    )
