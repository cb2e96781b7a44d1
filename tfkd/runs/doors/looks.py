"""What is looked at before anything is trained: data, and the layers of a model."""

from tfkd.runs.tensorflow_output import import_tensorflow
from tfkd.settings import SettingsError
from tfkd.settings.base import is_path
from tfkd.settings.training import check_keras_file, check_model


def inspect_data(name, settings, sheet=None):
    """Looks at a data set before training and prints what is there and what is wrong with it.

    Args:
        name: as for `tfkd.data.load`.
        settings: `tfkd.settings.DataSettings`.
        sheet: PNG file to draw some images of each class on, as training sees them; or None.

    Returns:
        `tfkd.data.Inspection`.

    Raises:
        As `tfkd.data.inspect`.
    """
    settings.check_files()
    import_tensorflow()
    from tfkd.runs import inspecting

    return inspecting.look(name, settings, sheet)


def layers(model, input_shape=None, classes=None, options=None):
    """The layers of a model that can be tapped, with their shapes; prints a table.

    Args:
        model: a `.keras` file; or, built for images of `input_shape` and so many `classes`, the
            name of a model, as `tfkd.models.build` takes it, or "package.module:function".
        input_shape: (height, width, channels).
        classes: number of classes.
        options: dict, of the model that is built.

    Returns:
        list of (path, kind, shape, parameters, reason): the shape with the batch, or None and the
        reason why the layer cannot be tapped.

    Raises:
        SettingsError: an unknown model, or one to build without shape and classes.
        FileNotFoundError: no such file. ValueError: a model that cannot be loaded.
    """
    check_model("model", model, options or {})
    if is_path(model):
        check_keras_file(model)
        if input_shape or classes:
            raise SettingsError(
                f'"{model}" has an input shape and classes of its own: leave --input-shape and '
                "--classes out."
            )
    elif not (input_shape and classes):
        raise SettingsError(
            f'"{model}" is built for images: say for which, such as --input-shape 32,32,3 '
            "--classes 10."
        )
    import_tensorflow()
    from tfkd.runs.layer_table import show

    return show(model, input_shape, classes, options or {})
