"""Counts and small images (or excerpts) for a run's page, taken while the run is measured: no model
is run for the page, and nothing is read twice that the measuring read."""

import base64
import io

import numpy as np
from PIL import Image
from scipy.special import softmax

import tfkd
from tfkd import data
from tfkd.evaluation.scores import checked, reliability
from tfkd.runs.page.kept import (
    LOSSLESS,
    MATRIX_CLASSES,
    Answers,
    Bins,
    Differing,
    Excerpt,
    Kept,
    Picture,
    Sample,
)

PAIRS = 30  # of classes that are confused, where there are more than a matrix can show
DIFFERING = 24  # images
SAMPLES, VIEWS = 6, 3  # training images, and augmented versions of each
THUMBNAIL = 96  # pixels: the longer side of what is kept of an image
EXCERPT = 300  # characters that are kept of a text


class Collector:
    """Takes what is to be kept from the answers that a run is measured with.

    Args:
        record: `Record`, as far as rows, seeds and trainings.
    """

    def __init__(self, record):
        self.record, self.row = record, record.row()
        rows = {"student": self.row}
        if self.row.baseline is not None:
            rows["alone"] = record.row(self.row.baseline)
        self.parts = {role: f"{record.kept_seed}/{row.file}" for role, row in rows.items()}
        if self.row.taught_by is not None:
            taught_by = record.row(self.row.taught_by)
            self.parts["teacher"] = f"{record.kept_seed}/{taught_by.file}"
        elif self.row.teacher is not None:
            teacher = record.teachers[self.row.teacher].file
            self.parts["teacher"] = teacher.removesuffix(".keras")
        self.labels, self.answers, self.told = None, {}, {}

    def __call__(self, number, part, logits, labels, temperature):
        """Takes a model's answers to the test images, if they are wanted; of several the first.

        Args:
            number: position of the data set.
            part: the model's training.
            logits, labels: of the test split.
            temperature: that calibrates the model.
        """
        if number == self.row.data:
            for role in (role for role, own in self.parts.items() if own == part):
                if role not in self.answers:
                    logits, self.labels = checked(logits, labels)
                    self.answers[role] = answers_of(part, logits, self.labels, temperature)
                    self.told[role] = logits.argmax(axis=1), softmax(logits, axis=1).max(axis=1)

    def kept(self, splits, lesson, settings):
        """What is kept.

        Args:
            splits: `tfkd.data.Splits` of the row.
            lesson: its `tfkd.runs.lessons.Lesson`.
            settings: its `TrainingSettings`.

        Returns:
            `Kept`.
        """
        labels, told = self.labels, self.told
        (teacher, _), (student, _) = told["teacher"], told["student"]
        teacher_right, student_right = teacher == labels, student == labels
        return Kept(
            tfkd=tfkd.__version__,
            row=self.record.main,
            seed=self.record.kept_seed,
            images=np.bincount(labels, minlength=splits.info.num_classes).tolist(),
            **self.answers,
            both_right=int((teacher_right & student_right).sum()),
            only_teacher=int((teacher_right & ~student_right).sum()),
            only_student=int((~teacher_right & student_right).sum()),
            both_wrong=int((~teacher_right & ~student_right).sum()),
            both_wrong_differ=int((~teacher_right & ~student_right & (teacher != student)).sum()),
            differing=_differing(splits.test, labels, told["teacher"], told["student"]),
            augment=settings.augment,
            views=lesson.views,
            samples=_samples(lesson, settings),
        )


def answers_of(part, logits, labels, temperature):
    """The `Answers` of a model, given its logits on the test images."""
    answers, classes = logits.argmax(axis=1), logits.shape[1]
    right = np.bincount(labels[answers == labels], minlength=classes)
    wrong = answers != labels
    pairs, counts = np.unique(
        np.stack([labels[wrong], answers[wrong]], axis=1), axis=0, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")
    order = order if classes <= MATRIX_CLASSES else order[:PAIRS]
    return Answers(
        part=part,
        right=right.tolist(),
        wrong=[[*pairs[n].tolist(), int(counts[n])] for n in order],
        temperature=float(temperature),
        bins=Bins(**reliability(logits, labels)),
        calibrated=Bins(**reliability(logits / temperature, labels)),
    )


def _differing(dataset, labels, teacher, student):
    """Images on which the answers differ: half where the teacher alone is right, a quarter where
    the student alone is, the rest where neither is; the surest teacher first."""
    (taught, sure), (own, confidence) = teacher, student
    differ = taught != own
    groups = (
        (differ & (taught == labels), DIFFERING // 2),
        (differ & (own == labels), DIFFERING // 4),
        (differ & (taught != labels) & (own != labels), DIFFERING // 4),
    )
    chosen = []
    for group, count in groups:
        places = np.flatnonzero(group)
        chosen += places[np.argsort(-sure[places], kind="stable")][:count].tolist()
    images = images_at(dataset, chosen)
    return [
        Differing(
            label=int(labels[n]),
            teacher=int(taught[n]),
            student=int(own[n]),
            teacher_confidence=round(float(sure[n]), 4),
            student_confidence=round(float(confidence[n]), 4),
            picture=shown(images[n]),
        )
        for n in chosen
    ]


def images_at(dataset, places):
    """{place: image} of an unbatched dataset, which is read as far as the last of them."""
    if not places:
        return {}
    source = data.source_of(dataset)
    if source is not None:
        return dict(zip(places, source.gather(np.array(places))[0].numpy(), strict=True))
    wanted, read = set(places), dataset.take(max(places) + 1).enumerate().as_numpy_iterator()
    return {int(n): image for n, (image, _) in read if int(n) in wanted}


def _samples(lesson, settings):
    """Training images of different classes as far as the first ones hold them, each with the
    versions of the first epochs."""
    first = list(lesson.train.take(10 * SAMPLES).as_numpy_iterator())
    by_class = {int(label): n for n, (_, label) in reversed(list(enumerate(first)))}
    chosen = sorted(by_class.values())[:SAMPLES]
    augment = data.augmentation(settings.augment)
    images = [first[n][0] for n in chosen]
    versions = []
    if augment is not None:
        for view in range(min(VIEWS, lesson.views)):
            seeds = data.view_seed(np.array(chosen), view, settings.seed)
            versions.append(augment(np.stack(images), seeds).numpy())
    return [
        Sample(
            label=int(first[n][1]),
            picture=shown(images[place]),
            views=[picture(own[place]) for own in versions],
        )
        for place, n in enumerate(chosen)
    ]


def shown(example):
    """What is kept of an example: the `Picture` of an image, the `Excerpt` of a text in UTF-8."""
    if not isinstance(example, bytes):
        return picture(example)
    text = example.decode("utf-8")
    return Excerpt(text=text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…")


def picture(pixels):
    """The `Picture` of an image, uint8, shape (height, width, channels); large ones made small."""
    pixels = np.asarray(pixels)
    channels = pixels.shape[-1]
    image = Image.fromarray(pixels[..., :3] if channels >= 3 else pixels[..., 0])
    kind = "png" if max(image.size) <= LOSSLESS else "jpeg"
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    image.save(content, kind, **({"optimize": True} if kind == "png" else {"quality": 85}))
    return Picture(
        kind=kind,
        data=base64.b64encode(content.getvalue()).decode("ascii"),
        width=image.width,
        height=image.height,
    )
