"""HEAD: a two-stage teacher's head, copied, assists a dense detector while it trains."""

import keras
from keras import layers, ops

from tfkd import boxes, regions
from tfkd.losses.base import DistillationLoss
from tfkd.losses.detection import DetectionLoss

WARM_UP = 2000 / 87960  # iterations of the authors' code, of 12 epochs of COCO at 16 images


@keras.saving.register_keras_serializable(package="tfkd")
class HeadAssistance(DistillationLoss):
    """A RoI head on the student's features bridges a two-stage teacher and a dense student.

    Wang et al. 2022, "HEAD: HEtero-Assists Distillation for Heterogeneous Object Detectors", arXiv
    2207.05345. The assistant is a copy of the teacher's RoI head, which looks at the student's own
    proposals (and at the labels' boxes) on the student's feature maps. The loss is the sum of

    * what the assistant gets wrong of the labels (`DetectionLoss`);
    * `hidden_weight` times the squared distance of each of its two hidden layers, behind a linear
      layer, from those of the teacher's head on the same boxes ("AKD");
    * `cross_weight` times the squared distance of the student's class tower where a box comes from,
      behind a linear layer, from the teacher's second hidden layer on that box ("CKD").

    Assistant and linear layers belong to the loss: the student is not changed, and nothing is left
    of them where it is exported. The pyramids of both need the same levels and channels.

    ```python
    head = teacher.get_layer("roi_head")
    loss = tfkd.losses.HeadAssistance(head, 3)
    distiller = tfkd.Distiller(
        teacher, student, loss, student_loss_weight=1.0, independent_weights=True
    )
    distiller.compile("adam", tfkd.losses.DetectionLoss(3))
    ```

    Args:
        head: the teacher's RoI head, see `tfkd.models.detectors.roi_head`; of which a copy is made.
        classes: number of classes.
        levels: numbers of the pyramid's levels; their layers are "P<n>" in both models, and
            "tower_P<n>" in the student.
        assist_weight: of the assistant's own loss.
        hidden_weight, cross_weight: see above.
        warm_up: share of the training in which these two rise from 0 to their values.
        normalized: whether both distances are divided by the mean square, over an image's boxes, of
            what the teacher's layer says; the paper's are not.
        proposals: of the student, how many an image.
        teacher_free: whether no trained teacher takes part: `head` begins at random, and only the
            assistant's own loss counts ("TF-HEAD").
        name: name of the loss's metric.

    Raises:
        ValueError: other channels; or a weight of the teacher where there is none.
    """

    adapts = "itself"
    needs = ("labels", "progress")

    def __init__(
        self,
        head: keras.Model,
        classes: int,
        levels: tuple = (2, 3, 4),
        assist_weight: float = 1.0,
        hidden_weight: float = 2.0,
        cross_weight: float = 2.0,
        warm_up: float = WARM_UP,
        normalized: bool = False,
        proposals: int = 48,
        teacher_free: bool = False,
        name: str | None = None,
    ):
        if teacher_free and (hidden_weight or cross_weight):
            raise ValueError(
                "Without a teacher there is nothing to come near to: teacher_free=True takes "
                f"hidden_weight=0 and cross_weight=0; got {hidden_weight} and {cross_weight}."
            )
        maps = tuple(f"P{level}" for level in levels)
        towers = tuple(f"tower_P{level}" for level in levels)
        super().__init__(maps, (*maps, *towers, "output"), name)
        self._given = lambda: head  # no attribute of its own: the loss trains its copy
        self.taught_by = "student" if teacher_free else "teacher"
        self.classes, self.levels, self.teacher_free = classes, tuple(levels), teacher_free
        self.assist_weight, self.warm_up, self.proposals = assist_weight, warm_up, proposals
        self.hidden_weight, self.cross_weight = hidden_weight, cross_weight
        self.normalized = normalized

    def check_shapes(self, teacher_shape, student_shape):
        head = self._given()
        for shape in (*teacher_shape, *student_shape[: len(self.levels)]):
            if shape[-1] != head.input_shape[-1]:
                raise ValueError(
                    f"{self.name} has a head for maps of {head.input_shape[-1]} channels, but a "
                    f"pyramid's maps have the shape {tuple(shape)}. Build both models with the "
                    "same channels=."
                )

    def build(self, teacher_shape, student_shape):
        head = self._given()
        self.assistant = _copy(head)
        if not self.teacher_free:
            self.reference = _copy(head)
            self.reference.trainable = False
            widths = [head.output[name].shape[-1] for name in ("fc1", "fc2")]
            self.linear = [layers.Dense(width, name=f"linear_{width}") for width in widths]
            for layer, width in zip(self.linear, widths, strict=True):
                layer.build((None, None, width))
            self.cross = layers.Dense(widths[1], name="cross")
            self.cross.build((None, None, student_shape[len(self.levels)][-1]))

    def call(self, teacher, student, labels, progress):
        count = len(self.levels)
        maps, towers, candidates = student[:count], student[count : 2 * count], student[-1]
        own, rows, valid = regions.propose(
            candidates, self.classes, boxes.DETECTION, self.proposals
        )
        labels = ops.cast(labels, "float32")
        known = ops.greater_equal(labels[..., boxes.CLASS], 0)
        truth = ops.where(known[..., None], boxes.corners(labels), 0.0)
        places = ops.concatenate([own, truth], axis=1)
        counted = ops.concatenate([valid, known], axis=1)
        answer = self.assistant(self._seen(maps, places, self.assistant))
        detected = regions.rows(places, counted, answer["logits"], answer["regression"])
        total = self.assist_weight * DetectionLoss(self.classes).call(labels, detected)
        if self.teacher_free:
            return total
        wanted = self.reference(self._seen(teacher, places, self.reference))
        wanted = {name: ops.stop_gradient(wanted[name]) for name in ("fc1", "fc2")}
        hidden = sum(
            self._distance(layer(answer[name]), wanted[name], counted)
            for layer, name in zip(self.linear, ("fc1", "fc2"), strict=True)
        )
        source = self._tower(towers, rows, candidates)
        crossed = self._distance(self.cross(source), wanted["fc2"][:, : self.proposals], valid)
        warm = ops.minimum(progress / self.warm_up, 1.0) if self.warm_up else 1.0
        return total + warm * (self.hidden_weight * hidden + self.cross_weight * crossed)

    def _seen(self, maps, places, head):
        return regions.look(maps, self.levels, places, head.input_shape[2])

    def _distance(self, given, wanted, counted):
        """The mean squared distance over the boxes that count, (batch,); 0 where none does."""
        distance = _mean_square(given - wanted, counted)
        if not self.normalized:
            return distance
        return distance / ops.maximum(_mean_square(wanted, counted), 1e-6)

    def _tower(self, towers, rows, candidates):
        """The class tower's features at the positions that candidates come from."""
        flat = [ops.reshape(t, (-1, t.shape[1] * t.shape[2], t.shape[3])) for t in towers]
        flat = ops.concatenate(flat, axis=1)
        anchors = candidates.shape[1] // flat.shape[1]
        return ops.take_along_axis(flat, (rows // anchors)[..., None], axis=1)

    def get_config(self):
        names = (
            *("classes", "levels", "assist_weight", "hidden_weight", "cross_weight"),
            *("warm_up", "normalized", "proposals", "teacher_free", "name"),
        )
        head = keras.saving.serialize_keras_object(self._given())
        return {"head": head, **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "head": keras.saving.deserialize_keras_object(config["head"])})


def _copy(model):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    # The layers of a frozen teacher are copied frozen; Keras skips a value that the model has.
    copy.trainable = False
    copy.trainable = True
    return copy


def _mean_square(values, counted):
    """Over the boxes that count, (batch, boxes, width) -> (batch,); 0 where none does."""
    counted = ops.cast(counted, "float32")
    squares = ops.mean(ops.square(values), axis=-1) * counted
    return ops.sum(squares, axis=-1) / ops.maximum(ops.sum(counted, axis=-1), 1.0)
