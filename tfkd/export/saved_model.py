"""A student as a SavedModel that TF Serving loads."""

import numpy as np
import tensorflow as tf

from tfkd.data.resizing import STRETCH
from tfkd.export import checks, model_card, model_inputs, suitability
from tfkd.export.errors import on_disk
from tfkd.export.images import MAXIMUM_PIXELS, decode_batch
from tfkd.export.student import examine
from tfkd.runtime import warmup
from tfkd.runtime.versions import new_version


def export_saved_model(
    student,
    directory,
    *,
    labels=None,
    version=None,
    warmup_batch_sizes=(1, 8),
    features=None,
    keep=None,
    image_dtype="float32",
    output=None,
    head=None,
    maximum_pixels=MAXIMUM_PIXELS,
    resize=STRETCH,
    manifest=None,
    examples=None,
    check=True,
):
    """Write `directory/<version>/`, check it with TensorFlow's C++ loader, publish it by a rename.

    Signatures, each with a free batch dimension:
        serving_default  {"image"} → what the head gives, see below
        serve_bytes      {"image_bytes"}: JPEG, PNG or WebP files → the same; for students of images
                         that take raw pixels
        features         {"image"} → {tap: float32}; only with `features`
    A student of other inputs has their names instead of "image". Heads:
        classes that exclude each other  logits, probabilities, class_id: int32, label: string
        one logit or probability         the same, of two classes: (1 - p, p)
        independent labels               logits, probabilities, labels: string, the name of each
                                         label whose probability is above 0.5, else ""
        numbers                          values
        a hash code                      values, codes: int8, +1 or -1, packed: uint8, the same bits
    Outputs that are maps or sequences give these at each position (names for sequences only).
    Students of another precision are exported in float32; of a student that ends in probabilities
    these are served as they are, and the logits are recovered.

    Args:
        student: a plain, built `keras.Model` (of a distiller: `distiller.student`).
        directory: base directory of the model.
        labels: names of the classes (two for a one-logit student), labels or numbers, in the order
            of the outputs; default "0", "1", ….
        version: number of the version; None takes the next one. Old versions stay.
        warmup_batch_sizes: batch sizes of the warm-up records written for every signature.
        features: names of taps (`"stage2_out"`, `"backbone/conv5"`) to serve.
        keep: keep only so many of the newest versions.
        image_dtype: "float32" or "uint8", the dtype of "image" in requests; values are 0..255 in
            both.
        output: name of the output to serve, for students of several outputs.
        head: what its numbers mean: "logits", "independent_logits" (a sigmoid for each label),
            "probabilities", "independent_probabilities", "numbers", or "code" (bits: whether each
            number is above 0), which must be said. By default the others are found in
            the student's graph, its numbers and the loss it is compiled with; where these do not
            tell independent labels from classes, classes are assumed, and the model card says so.
        maximum_pixels: encoded images with more pixels are refused.
        resize: the rule by which encoded images of another size are resized, that of the training
            data: "stretch", "stretch_antialiased", "crop" or "pad", see `tfkd.data.load`.
        manifest: dict of facts about the run, stored in `assets.extra/manifest.json`; the model
            card says what stands under "calibration" in it, a sentence.
        examples: real inputs to check with, best ones that were not trained on: an array, {input
            name: array}, a `tf.data.Dataset`, or any of them with labels, (inputs, labels); with
            labels the accuracy is compared too. Default: made-up inputs.
        check: False leaves the checks out.

    Returns:
        `pathlib.Path` of the version.

    Raises:
        TypeError, ValueError: student or arguments cannot be exported.
        ExportCheckError: what was written does not do what the student does.
        DiskFullError: there is no space left for it. In each case nothing is published.
    """
    served = examine(student, labels, output, features, image_dtype, head, resize)
    sizes = checked_batch_sizes(warmup_batch_sizes)
    given = suitability.examples(examples, served)
    functions = signature_functions(served, maximum_pixels)

    def compare(path):
        return checks.compare_saved_model(path, served, functions, given)

    return publish(
        *(served.model, directory, functions, warmup_requests(served, functions, sizes)),
        lambda report: model_card.of_student(served, functions, report),
        compare if check else None,
        manifest=manifest,
        version=version,
        keep=keep,
    )


def publish(
    model,
    directory,
    functions,
    requests,
    card,
    compare,
    *,
    manifest=None,
    version=None,
    keep=None,
    tables=(),
):
    """Writes a version with its warm-up records and documents, checks it, publishes it by a rename.

    Args:
        model: the `keras.Model`.
        directory: base directory of the versions.
        functions: {signature: concrete function}.
        requests: [(signature, {input: array})] of the warm-up records.
        card: function (what the check found, or None) -> `tfkd.export.model_card.Card`.
        compare: function (version directory) -> dict of what the check found, which raises
            `ExportCheckError`; None leaves the check out.
        manifest, version, keep: as of `export_saved_model`.
        tables: lookup tables beside those of the model.

    Returns:
        `pathlib.Path` of the version.
    """
    with on_disk(directory, space(model)), new_version(directory, version, keep) as new:
        save_functions(functions, new.directory, model, tables)
        warmup.write(new.directory, model.name, requests)
        report = None if compare is None else compare(new.directory)
        model_card.write(new.directory, model, functions, card(report), manifest, report)
    return new.path


def space(model):
    """Bytes that an export of a model takes at least: its weights."""
    return sum(np.asarray(weight).nbytes for weight in model.get_weights())


def signature_functions(served, maximum_pixels=MAXIMUM_PIXELS):
    """{signature name: concrete function} of a student."""
    specs = dict(served.inputs)

    def classify(feeds):
        return served.outputs(
            {name: tf.ensure_shape(tensor, specs[name].shape) for name, tensor in feeds.items()}
        )

    functions = {"serving_default": concrete(classify, specs)}
    if served.takes_pixels and served.image_shape[-1] in (1, 3):

        def classify_bytes(feeds):
            images = decode_batch(
                feeds["image_bytes"], served.image_shape, maximum_pixels, served.resize
            )
            return classify({"image": tf.cast(images, specs["image"].dtype)})

        encoded = {"image_bytes": tf.TensorSpec((None,), tf.string, name="image_bytes")}
        functions["serve_bytes"] = concrete(classify_bytes, encoded)
    if served.features:
        functions["features"] = concrete(served.feature_maps, specs)
    return functions


def warmup_requests(served, functions, batch_sizes):
    """[(signature, {input: array})], one for every signature and batch size."""
    requests = []
    for size in batch_sizes:
        sample = served.sample(size)
        for signature in functions:
            if signature == "serve_bytes":
                pixels = sample["image"].astype(np.uint8)
                feeds = {"image_bytes": np.array([encode_png(image) for image in pixels], object)}
            else:
                feeds = sample
            requests.append((signature, feeds))
    return requests


def encode_png(image):
    """uint8 array (height, width, channels) as bytes of a PNG file."""
    return tf.io.encode_png(image).numpy()


def concrete(function, specs):
    """Trace `function({name: tensor})` as a function of keyword tensors, which is what a signature
    is made of."""
    traced = tf.function(lambda **feeds: function(feeds), autograph=False)
    return traced.get_concrete_function(**specs)


def save_functions(functions, directory, model, tables=()):
    """Writes exactly the variables and lookup tables of a model that the signatures read.

    `tables` are lookup tables that signatures read beside those of the model.

    `keras.export.ExportArchive` tracks every variable under two names and stores its bytes twice;
    it also stores variables that inference does not read (seeds of dropout).
    """
    module = tf.Module()
    used = {id(v): v for function in functions.values() for v in function.graph.variables}
    module.weights = list(used.values())
    captures = [capture for function in functions.values() for capture in function.graph.captures]
    read = {id(outer) for outer, _ in captures}
    tables = [*model_inputs.lookup_tables(model), *tables]
    module.tables = [table for table in tables if id(table.resource_handle) in read]
    tf.saved_model.save(module, str(directory), signatures=functions)


def checked_batch_sizes(sizes):
    """Batch sizes of warm-up records as a tuple; ValueError unless they are whole numbers."""
    sizes = tuple(sizes)
    if not all(type(size) is int and size >= 1 for size in sizes):
        raise ValueError(
            f"warmup_batch_sizes must be whole numbers of at least 1; given {sizes!r}."
        )
    return sizes
