"""One pass of a model over a dataset."""

import numpy as np
import tensorflow as tf


def predict(model, dataset):
    """Run a model over a labelled dataset and keep its outputs.

    Args:
        model: callable with one output of shape (batch, classes): a `keras.Model`, or a layer such
            as `keras.layers.TFSMLayer`.
        dataset: batched `tf.data.Dataset` of (images, labels) or (images, labels, anything more);
            integer labels of shape (batch,). Images go to the model as they are (uint8 included).

    Returns:
        (logits, labels): float32 array of shape (examples, classes), integer array of shape
        (examples,), in the dataset's order.

    Raises:
        ValueError: the dataset is empty, its elements are no batches of (images, labels), or the
            model's output has another shape.
    """
    return prediction(model, dataset)()


def prediction(model, dataset):
    """`predict` of a model and a dataset as a function without arguments, compiled once.

    Each call runs the model with the weights that it has then.
    """
    element = dataset.element_spec
    if not isinstance(element, tuple) or len(element) < 2 or element[1].shape.rank != 1:
        raise ValueError(
            "predict() needs a batched dataset of (images, labels) with labels of shape (batch,), "
            f"but its elements are {element}. Batch it with dataset.batch(...); turn one-hot "
            "labels into class numbers."
        )

    # One signature for all batches: the smaller last one costs no second trace.
    @tf.function(input_signature=[element[0]])
    def outputs(images):
        return model(images, training=False)

    def run():
        logits, labels = [], []
        for batch in dataset:
            output = outputs(batch[0])
            if not tf.is_tensor(output) or output.shape.rank != 2 or len(output) != len(batch[1]):
                raise ValueError(
                    f'Model "{model.name}" gave {_describe(output)} for {len(batch[1])} images; '
                    "predict() needs one output of shape (batch, classes). Of a model with several "
                    "outputs, make a keras.Model with the one to be evaluated."
                )
            logits.append(tf.cast(output, tf.float32).numpy())
            labels.append(batch[1].numpy())
        if not labels:
            raise ValueError(
                "The dataset is empty: there is nothing to evaluate. Check the split's name and "
                "any filter, take() or drop_remainder=True before this call."
            )
        return np.concatenate(logits), np.concatenate(labels)

    return run


def _describe(output):
    return tf.nest.map_structure(lambda tensor: f"shape {tuple(tensor.shape)}", output)
