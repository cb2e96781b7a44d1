"""A loss in words: the call that makes it."""

import inspect

import keras


def call_of(loss, usual_name):
    """The call of a loss's constructor, on one line.

    Args:
        loss: any object whose constructor's arguments are attributes too.
        usual_name: its name, where it is given none.

    Returns:
        str: the numbers among the arguments, and what else differs from the defaults.
    """
    arguments = []
    for parameter in list(inspect.signature(type(loss).__init__).parameters.values())[1:]:
        name, usual = parameter.name, parameter.default
        value = getattr(loss, name, usual)  # a subclass may keep an argument elsewhere
        if value is parameter.empty or name == "name" and value == usual_name:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number or value != usual:
            arguments.append(f"{name}={_written(value)}")
    return f"{type(loss).__name__}({', '.join(arguments)})"


def _written(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_written(own)}" for key, own in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    if isinstance(value, keras.Layer):
        return f'<layer "{value.name}">'
    own = keras.distillation.DistillationLoss
    if isinstance(value, keras.losses.Loss) and not isinstance(value, own):
        return f"{type(value).__name__}()"
    return getattr(value, "__name__", None) or repr(value)
