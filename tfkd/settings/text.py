"""Settings of recipes on text."""

from typing import Annotated, ClassVar

from pydantic import Field

from tfkd.settings.base import Above0, AtLeast0, Count, options
from tfkd.settings.recipe import RecipeSettings


class LanguageSettings(RecipeSettings):
    """Data, models and budget of a recipe on language models."""

    learns: ClassVar = "language"

    data: Annotated[str, Field(min_length=1)] = "small_grammar"
    """"small_grammar" (built in), or a TFDS name of a set with one text a split."""
    teacher: Annotated[str, Field(min_length=1)] = "decoder"
    """Language model to train as teacher, or a trained one: a .keras file."""
    teacher_options: options("--teacher-option", width=96, depth=2, dropout=0.0)
    """Of the teacher, such as width=128 (repeatable)."""
    student: Annotated[str, Field(min_length=1)] = "decoder"
    """Language model to train as student."""
    student_options: options("--student-option", width=32, depth=2, dropout=0.0)
    """Of the student, such as width=32 (repeatable)."""
    length: Annotated[int, Field(ge=4)] = 64
    """Characters that a model sees at once."""
    epochs: Count = 5
    """Epochs of each student."""
    teacher_epochs: Count = 5
    """Epochs of a teacher that is trained."""
    batch_size: Count = 32
    """Sequences a batch."""


class TranslationSettings(RecipeSettings):
    """Data, models and budget of a recipe on translators."""

    learns: ClassVar = "translation"

    data: Annotated[str, Field(min_length=1)] = "small_grammar"
    """"small_grammar" (built in), or a TFDS name of a set of pairs of sentences."""
    teacher: Annotated[str, Field(min_length=1)] = "encoder_decoder"
    """Translator to train as teacher, or a trained one: a .keras file."""
    teacher_options: options("--teacher-option", width=64, depth=2)
    """Of the teacher, such as width=128 (repeatable)."""
    student: Annotated[str, Field(min_length=1)] = "encoder_decoder"
    """Translator to train as student."""
    student_options: options("--student-option", width=32, depth=1)
    """Of the student, such as width=32 (repeatable)."""
    length: Annotated[int, Field(ge=4)] = 24
    """Tokens of the longest sentence, its end included."""
    vocabulary: Annotated[int, Field(ge=5)] = 2000
    """Words of each language at most; the rarer ones are one unknown word."""
    monolingual: AtLeast0 = 0.25
    """Sentences without a translation, as a share of the pairs: source sentences that limit leaves
    out, or those of the pairs once more."""
    epochs: Count = 6
    """Epochs of each student."""
    teacher_epochs: Count = 6
    """Epochs of a teacher that is trained."""
    learning_rate: Above0 = 0.006
    """First learning rate; it falls to 0 along a cosine."""
