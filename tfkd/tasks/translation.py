"""Translators: a sentence in one language to one in another."""

from typing import ClassVar

from tfkd.evaluation.tables import Measure
from tfkd.tasks.base import Task

BATCH = 128  # sentences that are translated at once


class Translation(Task):
    """Sentences in another language, judged by BLEU of greedy translations (sacrebleu, lower case).

    Perplexity is that of the references' words, unknown ones as one.
    """

    name = "translation"
    things = "sentences"
    figures = {
        "bleu": Measure("BLEU", 1, 1, True),
        "perplexity": Measure("perplexity", 1, 2, True),
    }
    replays = True
    unit = "points of BLEU"
    names = ("encoder_decoder",)
    not_exported: ClassVar = {
        "tflite": "a translator takes and gives text, and TFLite's built-in operations know no "
        "strings and no lookup tables"
    }

    def load(self, settings, limit=None):
        from tfkd import _extras
        from tfkd.data import text

        _extras.needs_extra("tasks", "BLEU")
        return text.sentence_pairs(
            settings.data,
            settings.length,
            settings.vocabulary,
            settings.data_dir,
            settings.limit if limit is None else limit,
            settings.monolingual,
        )

    def build(self, role, settings, info):
        from tfkd.models import text

        options = getattr(settings, f"{role}_options")
        sides = zip(("source", "target"), info.vocabularies, strict=True)
        return text.translator(
            [known.size for known in info.vocabularies],
            info.lengths,
            name=getattr(settings, role),
            tokens=[f"{side}_{known.identity}" for side, known in sides],
            **options,
        )

    def check(self, role, model, name, info):
        from tfkd.tasks import text_models

        text_models.check(role, model, name, info, takes={"source", "target"})

    def examples(self, dataset, info):
        from tfkd.data import text

        return text.token_pairs(dataset, info)

    def augmentation(self, settings, info):
        return None  # of images

    def storable(self, names):
        """The distribution of each next word alone: other tensors may have the source's length."""
        return set(names) == {"output"}

    def trimmed(self, batches):
        from tfkd.data import text

        return batches.map(text.without_padding).prefetch(2)

    def trimmed_shapes(self, shapes):
        return {name: (None, None, *shape[2:]) for name, shape in shapes.items()}

    def loss(self, info, settings, judge):
        from tfkd.tasks import labels

        return labels.loss(settings.label_smoothing, from_logits=True)

    def judge(self, model, dataset, info, output=None):
        from tfkd.tasks import text_models

        return text_models.TranslationJudge(model, dataset.batch(BATCH), info, output)

    def exports(self, student, splits, check=True):
        from tfkd.tasks.exports import TextExports

        return TextExports(student, splits, check)


def sequence_level(splits, teacher, beams=4, batch_size=64):
    """The same data with the teacher's best translations as training targets.

    Sequence-level distillation (Kim and Rush 2016, "Sequence-Level Knowledge Distillation",
    arXiv:1606.07947): the student is trained on what beam search finds likeliest under the teacher.
    Beams are searched once, here; a sentence without a translation stays without one.

    Args:
        splits: as `Translation.load` returns them.
        teacher: a trained translator.
        beams: beams of the search; 1 is greedy, which needs no KerasHub.
        batch_size: sentences at once.

    Returns:
        `tfkd.data.Splits`.
    """
    import tensorflow as tf

    from tfkd.data import text
    from tfkd.tasks import text_models

    translate = text_models.translate_function(teacher, splits.info, beams)
    sources, _ = text.lines_of(splits.train)
    found = []
    for batch in tf.data.Dataset.from_tensor_slices(sources).batch(batch_size):
        found += [line.decode("utf-8") for line in translate(batch).numpy()]
    return text.with_targets(splits, found)
