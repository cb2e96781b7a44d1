"""Language models: the next character of a text."""

from typing import ClassVar

from tfkd.evaluation.tables import Measure
from tfkd.tasks.base import Task

BATCH = 64
CONTINUED = 96  # windows that are continued for ROUGE-L


class Language(Task):
    """The next token of a text, judged by perplexity.

    ROUGE-L compares what a model makes of the first half of a window, greedily, with the second
    half, over the first windows of a split.
    """

    name = "language"
    things = "sequences"
    figures = {
        "perplexity": Measure("perplexity", 1, 3, True),
        "rouge_l": Measure("ROUGE-L (%)", 100, 1, True),
    }
    lower_is_better, timed = True, True
    replays = True
    unit = "points of perplexity"
    names = ("decoder",)
    not_exported: ClassVar = {
        "int8": "a language model's int8 file answers otherwise than the student (measured: it "
        "agrees on 53 % of the tokens that the student is sure of), for one range of 256 steps has "
        "to hold attention's scores and their mask"
    }

    def load(self, settings, limit=None):
        from tfkd import _extras
        from tfkd.data import text

        _extras.needs_extra("tasks", "ROUGE-L")
        limit = settings.limit if limit is None else limit
        return text.windows(settings.data, settings.length, settings.data_dir, limit)

    def build(self, role, settings, info):
        from tfkd.models import text

        (known,), (length,) = info.vocabularies, info.lengths
        options = getattr(settings, f"{role}_options")
        name = getattr(settings, role)
        return text.language_model(
            known.size, length, name=name, tokens=f"tokens_{known.identity}", **options
        )

    def check(self, role, model, name, info):
        from tfkd.tasks import text_models

        text_models.check(role, model, name, info, takes={"tokens"})

    def augmentation(self, settings, info):
        return None  # of images

    def loss(self, info, settings, judge):
        from tfkd.tasks import labels

        return labels.loss(settings.label_smoothing, from_logits=True)

    def judge(self, model, dataset, info, output=None):
        from tfkd.tasks import text_models

        return text_models.LanguageJudge(model, dataset.batch(BATCH), info, CONTINUED)

    def exports(self, student, splits, check=True):
        from tfkd.tasks.exports import TextExports

        return TextExports(student, splits, check)
