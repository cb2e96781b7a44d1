"""What `tfkd export` writes of a task's students: SavedModels and TFLite files, each checked."""

import json

import keras
import numpy as np

from tfkd.data import vocabulary
from tfkd.export import export_detector, export_saved_model, export_text, export_tflite
from tfkd.export.calibration import choose
from tfkd.export.detector import export_candidates
from tfkd.models.text_classifiers import from_tokens

CALIBRATION_SEED = 0


class Exports:
    """How a student is exported; a subclass for each way.

    Images to check with come from the validation split, those to calibrate with from training.

    Args:
        student: the `keras.Model`.
        splits: `tfkd.data.Splits` of the run.
        check: False leaves the checks out.

    Attributes:
        notes: list of str, what a reader of the exports has to know.
    """

    checked_with = 256  # examples of the validation split

    def __init__(self, student, splits, check=True):
        self.student, self.splits, self.check, self.info = student, splits, check, splits.info
        self.notes = []

    def saved_model(self, directory, manifest):
        """Writes a version of a SavedModel.

        Args:
            directory: base directory of the versions.
            manifest: dict of facts about the run, which travels with it.

        Returns:
            `pathlib.Path` of the version.

        Raises:
            ExportCheckError: it does not do what the student does.
        """
        raise NotImplementedError

    def tflite(self, path, quantization, calibration_images):
        """Writes a TFLite file.

        Args:
            path: of the file.
            quantization: "float32", "float16", "dynamic" or "int8".
            calibration_images: how many, for int8.

        Returns:
            `pathlib.Path` of the file.

        Raises:
            ExportCheckError: it does not do what the student does.
        """
        raise NotImplementedError

    def note(self, text):
        """Adds a note that does not stand there yet."""
        if text not in self.notes:
            self.notes.append(text)

    def validation(self):
        """(inputs, labels) to check with, arrays; None where nothing is checked."""
        if not self.check:
            return None
        pairs = list(self.splits.validation.take(self.checked_with).as_numpy_iterator())
        return tuple(np.stack(parts) for parts in zip(*pairs, strict=True))


class HeadExports(Exports):
    """Of students of images whose numbers a head explains.

    Args:
        student, splits, check: as for `Exports`.
        head: `tfkd.heads.Head`.
        labelled: whether accuracies on the labels are compared, too.
    """

    def __init__(self, student, splits, check, head, labelled):
        super().__init__(student, splits, check)
        examples = self.validation()
        self._options = {
            "labels": self.info.label_names if head.labels else None,
            "head": head,
            "resize": self.info.resize,
            "examples": examples if labelled or examples is None else examples[0],
            "check": check,
        }

    def saved_model(self, directory, manifest):
        return export_saved_model(self.student, directory, manifest=manifest, **self._options)

    def tflite(self, path, quantization, calibration_images):
        calibration = None
        if quantization == "int8":
            calibration = choose(self.splits.train, calibration_images, CALIBRATION_SEED)
        options = {"quantization": quantization, "calibration": calibration}
        return export_tflite(self.student, path, **options, **self._options)


class LabelledTextExports(HeadExports):
    """Strings to classes; as TFLite the part of the student behind its words, from tokens."""

    def tflite(self, path, quantization, calibration_images):
        part, vectorizer = from_tokens(self.student)
        self.note(
            "TFLite: its built-in operations know no strings, so the files take "
            f"{part.input.shape[1]} tokens, padded with 0 behind: the numbers of a text's words, "
            "cut as the SavedModel does, in vocabulary.txt, which lies in the file (unzip -p FILE "
            "vocabulary.txt), counted from 0. Their times are those without the cutting."
        )
        options, examples = dict(self._options), self._options["examples"]
        if examples is not None:
            options["examples"] = (vectorizer(examples[0]).numpy(), examples[1])
        words = "".join(f"{word}\n" for word in vectorizer.get_vocabulary())
        files = {"vocabulary.txt": words}
        return export_tflite(part, path, quantization=quantization, files=files, **options)


class DetectorExports(Exports):
    """Boxes by `export_detector`; the candidates as TFLite, and wherever boxes are turned."""

    checked_with = 64  # larger images than those of classes

    def __init__(self, student, splits, check=True):
        super().__init__(student, splits, check)
        examples = self.validation()
        self._options = {"examples": None if examples is None else examples[0], "check": check}

    def saved_model(self, directory, manifest):
        options = {"manifest": manifest, **self._options}
        if not self.info.rotated:
            labels = self.info.label_names
            return export_detector(self.student, directory, labels=labels, **options)
        self.note(
            "SavedModel: the boxes are turned, for which TensorFlow has no suppression, so that it "
            "gives the candidates (tfkd.boxes). tfkd.models.best_candidates and "
            "tfkd.evaluation.suppressed make boxes of them."
        )
        options["resize"] = self.info.resize
        return export_saved_model(self.student, directory, head="numbers", **options)

    def tflite(self, path, quantization, calibration_images):
        self.note(
            "TFLite: non-maximum suppression is none of its built-in operations, so the files give "
            "the candidates (tfkd.boxes), and who runs them suppresses."
        )
        options = {"quantization": quantization, "resize": self.info.resize}
        return export_candidates(self.student, path, **options, **self._options)


class TextExports(Exports):
    """Text to text by `export_text`; a language model's tokens to logits as TFLite."""

    def saved_model(self, directory, manifest):
        options = {"manifest": manifest, "check": self.check}
        return export_text(self.student, directory, self.info, **options)

    def tflite(self, path, quantization, calibration_images):
        (known,), (length,) = self.info.vocabularies, self.info.lengths
        self.note(
            "TFLite: its built-in operations know no strings, so the files take "
            f"{length} tokens, padded with 0 behind, and give the logits of the token after each. "
            "Their labels are the vocabulary in the order of its tokens, as JSON writes strings."
        )
        tokens = keras.Input((length,), dtype="int32", name="tokens")
        fixed = keras.Model(tokens, self.student(tokens), name=self.student.name)
        examples = self.validation()
        return export_tflite(
            fixed,
            path,
            quantization=quantization,
            head="logits",
            labels=[
                json.dumps(name)[1:-1] for name in ("[PAD]", *vocabulary.SPECIAL[1:], *known.tokens)
            ],
            examples=None if examples is None else examples[0],
            check=self.check,
        )
