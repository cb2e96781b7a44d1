"""A small made language and its translation, for tries and tests without a network.

A sentence is a subject, a verb and an object, often with a time, a place, and a second clause:

    yesterday the old teacher saw a red boat near the river , and anna laughed .

Its translation is into a made language of 60 roots in which word order carries the grammar. The
verb stands at the end of its clause, with the time of the action as a prefix; an adjective follows
its noun; the article is the end of the noun, by its gender and by whether it is known; a place
stands in front of the object; the time stands behind the subject:

    pirosto gamil lusta tolenu sivroka botami nevid , ke anna nehal .

(that is: teacher-the old yesterday river-near boat-a red past-see , and anna past-laugh .)

Every sentence has one translation, which a model that has learnt the rules gives exactly.

The same clauses make short texts of classes (`who_acted`): three persons do something, one of them
in the past, and that one is the class. Words alone do not tell who it is, only their order does:

    anna paints a lamp , and clara took the red boat , and today emil waits .           (clara)
"""

import numpy as np

NAME = "small_grammar"
PAIRS = {"train": 2000, "validation": 150, "test": 300}
WHO_ACTED = "who_acted"
TEXTS = {"train": 2000, "validation": 500, "test": 1000}

_PEOPLE = ("teacher", "doctor", "child", "sailor", "farmer", "king", "girl", "singer", "baker")
_THINGS = ("boat", "house", "book", "tree", "bell", "ring", "horse", "lamp", "door", "letter")
_PLACES = ("river", "hill", "market", "forest", "bridge", "garden")
_ADJECTIVES = ("old", "young", "red", "small", "quiet", "bright", "strange")
NAMES = ("anna", "bruno", "clara", "david", "emil")
_DO = ("sees", "finds", "takes", "paints", "sells", "loves")
_DID = ("saw", "found", "took", "painted", "sold", "loved")
_REST = ("sleeps", "laughs", "waits", "sings")
_RESTED = ("slept", "laughed", "waited", "sang")
_TIMES = {"past": ("yesterday", "once"), "present": ("today", "now")}
_NEAR = ("near", "behind", "in")

_SYLLABLES = [c + v for c in "bdfgklmnprstv" for v in "aeiou"]


def _roots():
    """{English word: root}: two syllables each, all different, the same on every machine."""
    words = [*_PEOPLE, *_THINGS, *_PLACES, *_ADJECTIVES, *_DO, *_REST, *_NEAR]
    words += [word for times in _TIMES.values() for word in times]
    order = np.random.RandomState(11).permutation(len(_SYLLABLES) ** 2)[: len(words)]
    first, second = np.divmod(order, len(_SYLLABLES))
    roots = [_SYLLABLES[a] + _SYLLABLES[b] for a, b in zip(first, second, strict=True)]
    found = dict(zip(words, roots, strict=True))
    tenses = [*zip(_DO, _DID, strict=True), *zip(_REST, _RESTED, strict=True)]
    return found | {past: found[present] for present, past in tenses}


_ROOTS = _roots()
# The gender of a noun is that of its last letter in the made language.
_ARTICLES = {("the", True): "sto", ("the", False): "nu", ("a", True): "mi", ("a", False): "ra"}


def pairs(count, seed):
    """Lists of `count` English sentences and of their translations.

    Args:
        count: number of sentences; some may be alike.
        seed: which ones.
    """
    random = np.random.RandomState(seed)
    made = [_sentence(random) for _ in range(count)]
    return [english for english, _ in made], [translation for _, translation in made]


def who_acted(count, seed):
    """`count` texts, and who acted in the past in each.

    Args:
        count: number of texts; some may be alike.
        seed: which ones.

    Returns:
        (list of str, list of names).
    """
    random = np.random.RandomState(seed)
    texts, actors = [], []
    for _ in range(count):
        persons = [NAMES[number] for number in random.permutation(len(NAMES))[:3]]
        actor = random.randint(len(persons))
        clauses = [_clause(random, n == actor, name)[0] for n, name in enumerate(persons)]
        texts.append(" , and ".join(clauses) + " .")
        actors.append(persons[actor])
    return texts, actors


def _sentence(random):
    first = _clause(random)
    if random.rand() < 0.3:
        second = _clause(random)
        return f"{first[0]} , and {second[0]} .", f"{first[1]} , ke {second[1]} ."
    return f"{first[0]} .", f"{first[1]} ."


def _clause(random, past=None, person=None):
    past = random.rand() < 0.5 if past is None else past
    subject, translated = _subject(random) if person is None else (person, person)
    english, behind = [subject], [translated]
    if random.rand() < 0.4:
        time = _pick(random, _TIMES["past" if past else "present"])
        english.insert(0, time)
        behind.append(_ROOTS[time])
    acts = random.rand() < 0.75
    present, gone = (_DO, _DID) if acts else (_REST, _RESTED)
    verb = _pick(random, gone if past else present)
    english.append(verb)
    thing = _phrase(random, _THINGS) if acts else None
    english += [thing[0]] if acts else []
    if random.rand() < 0.4:
        near, place = _pick(random, _NEAR), _phrase(random, _PLACES, ("the",), 0.0)
        english.append(f"{near} {place[0]}")
        behind.append(f"{place[1]} {_ROOTS[near]}")
    behind += [thing[1]] if acts else []
    behind.append(("ne" if past else "") + _ROOTS[verb])
    return " ".join(english), " ".join(behind)


def _subject(random):
    if random.rand() < 0.4:
        name = _pick(random, NAMES)
        return name, name
    return _phrase(random, _PEOPLE)


def _phrase(random, nouns, articles=("the", "a"), adjectives=0.4):
    article, noun = _pick(random, articles), _pick(random, nouns)
    translated = _ROOTS[noun] + _ARTICLES[article, _ROOTS[noun][-1] in "aei"]
    if random.rand() < adjectives:
        adjective = _pick(random, _ADJECTIVES)
        return f"{article} {adjective} {noun}", f"{translated} {_ROOTS[adjective]}"
    return f"{article} {noun}", translated


def _pick(random, words):
    return words[random.randint(len(words))]
