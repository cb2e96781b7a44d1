"""One class of many for a text."""

from tfkd.tasks.base import Task
from tfkd.tasks.classification import DATA_SEED, Classification

WORDS = 10_000  # that a model knows unless told, padding and unknown words included


class Text(Classification):
    """Classes of texts, judged as those of images are.

    A model takes strings: the layer that cuts them into words is part of it, and knows the words of
    the training split alone.
    """

    name = "text"
    things = "texts"
    stores = False
    suffixes = (".txt",)
    not_exported = {"int8": "its ranges are those of pixels, and a model of texts takes tokens"}
    names = ("text_transformer", "text_cnn")

    def check_name(self, name):
        Task.check_name(self, name)

    def load(self, settings, limit=None):
        from tfkd.data import labelled_texts

        return labelled_texts.load(
            settings.data,
            settings.data_dir,
            seed=DATA_SEED,
            limit=settings.limit if limit is None else limit,
            skip_damaged=settings.skip_damaged,
        )

    def build(self, role, settings, info):
        from tfkd.data.labelled_texts import vectorizer
        from tfkd.models import text_classifiers

        options = dict(getattr(settings, f"{role}_options"))
        words, length = options.pop("words", WORDS), options.pop("length", info.usual_length)
        for what, number, least in (("words", words, 3), ("length", length, 1)):
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ValueError(f"{what} must be a whole number of at least {least}: {number!r}.")
        builder = getattr(text_classifiers, getattr(settings, role))
        known = info.words[: words - 2]  # padding and the unknown word are two more
        return builder(vectorizer(known, length), info.num_classes, **options)

    def check(self, role, model, name, info):
        from tfkd.tasks import fitting

        fitting.check_strings(role, model, name, info)
        fitting.check_classes(role, model, name, info, dtype="string")

    def exports(self, student, splits, check=True):
        from tfkd.tasks.exports import LabelledTextExports

        return LabelledTextExports(student, splits, check, self.head, self.classifies)

    def read(self, path, data):
        text = path.read_bytes().decode("utf-8-sig")
        if not text.strip():
            raise ValueError("it is empty")
        return text.encode()

    def opened(self, path, student):
        from tfkd.export import open_exported
        from tfkd.models.text_classifiers import from_tokens
        from tfkd.runtime.exported_models import Behind

        exported = open_exported(path)
        if not str(path).endswith(".tflite"):
            return exported
        _, vectorizer = from_tokens(student())
        return Behind(exported, lambda texts: vectorizer(texts).numpy())

    def typical(self, examples):
        """The text of the median length."""
        order = sorted(range(len(examples)), key=lambda n: len(examples[n].numpy()))
        return examples[order[len(order) // 2]][None]

    def seen(self, role, model, name, info):
        from tfkd.data.labelled_texts import cut

        count, length = cut(model, info)
        if not count:
            return []
        return [
            f'{count:,} of {len(info.counts):,} training texts of "{info.name}" have more than '
            f'{length} words: of these the {role} "{name}" reads the first {length}. Built models '
            f"read more by --{role}-option length=N."
        ]
