"""The table of a model's layers: `tfkd layers`."""

from rich import box
from rich.table import Table

from tfkd import terminal
from tfkd.layer_listing import layers_of
from tfkd.models import build, stages
from tfkd.runs.models import explained, load_model, referred
from tfkd.settings.base import is_path, is_reference

WIDE = 250


def show(text, input_shape, classes, options):
    """See `tfkd.runs.layers`; what can be checked without TensorFlow was checked."""
    with terminal.step("Building the model"):
        model = _made(text, input_shape, classes, options)
        ends, found = set(stages(model)), layers_of(model)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("kind", overflow="fold")
    table.add_column("shape", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    for own in found:
        shape = own.reason or shown(own.shape)
        marked = f"{own.path} *" if own.path in ends else own.path
        table.add_row(marked, own.kind, shape, f"{own.parameters:,}" if own.parameters else "")
    own = terminal.console()
    # In a file every layer has one line, to be searched for.
    own.print(table, width=None if own.is_terminal else WIDE, crop=False)
    terminal.say(
        f'"output" or None names the output of "{model.name}", {shown(model.output_shape)}. A loss '
        'takes a layer by its name here: FeatureDistillation("mse", teacher_layer_name=..., '
        'student_layer_name=...), --hints "TEACHER_LAYER:STUDENT_LAYER". '
        + ("* ends a stage; --hints auto pairs these." if ends else "It has no stages to pair.")
    )
    return found


def shown(shape):
    """A shape as people write it, the batch open; of several outputs one after the other."""
    if isinstance(shape, dict):
        return ", ".join(f"{name} {shown(own)}" for name, own in shape.items())
    if shape and isinstance(shape[0], list | tuple):
        return ", ".join(map(shown, shape))
    return f"({', '.join('batch' if i == 0 else str(n or '?') for i, n in enumerate(shape))})"


def _made(text, input_shape, classes, options):
    if is_path(text):
        return load_model(text)
    with explained("model"):
        if not is_reference(text):
            return build(text, input_shape, classes, **options)
        model = referred("model", text)(input_shape, classes, **options)
    if not model.built:
        model.build((None, *input_shape))
    return model
