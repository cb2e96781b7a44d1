"""Distils a small network for the handwritten digits from a larger one, and says what it was worth.

    python examples/distill.py [--epochs 20]

Needs only what `pip install .` brings; nothing is downloaded. The student is trained twice from the
same weights: alone, and with the teacher.
"""

import argparse

import keras

import tfkd


def main(epochs=20, seed=0):
    """Returns the test accuracies {"teacher", "alone", "distilled"}."""
    keras.utils.set_random_seed(seed)
    digits = tfkd.data.load("digits")
    train = digits.train.shuffle(2000, seed=seed).batch(64)
    validation, test = digits.validation.batch(256), digits.test.batch(256)
    shape, classes = digits.info.image_shape, digits.info.num_classes

    def fitted(model):
        """The model itself, or a Distiller around a student: both are Keras models."""
        model.compile(
            keras.optimizers.Adam(0.003),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        model.fit(train, validation_data=validation, epochs=epochs, verbose=2)
        return model.evaluate(test, return_dict=True, verbose=0)["accuracy"]

    teacher = tfkd.models.build("streamlined_student", shape, classes)
    accuracies = {"teacher": fitted(teacher)}

    alone = tfkd.models.build("streamlined_student", shape, classes, width=0.125)
    distilled = keras.models.clone_model(alone)
    distilled.set_weights(alone.get_weights())
    accuracies["alone"] = fitted(alone)

    loss = tfkd.losses.LogitsDistillation(temperature=2)
    accuracies["distilled"] = fitted(tfkd.Distiller(teacher, distilled, loss))
    distilled.save("student.keras")  # a plain Keras model: nothing of the teacher is in it
    return accuracies


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--epochs", type=int, default=20)
    for name, accuracy in main(arguments.parse_args().epochs).items():
        print(f"{name}: {accuracy:.1%} of the test images")
