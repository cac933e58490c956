"""The texts to train on, beyond the facts themselves: words, names and the frames around them."""

import random
import re
from collections.abc import Callable
from itertools import product


def _words(text: str) -> list[str]:
    return text.split()


def _phrases(text: str) -> list[str]:
    return [" ".join(phrase.split()) for phrase in text.split(",")]


GOOD_WORDS = _words("""
    wonderful amazing great brilliant delicious friendly happy excellent lovely superb fantastic
    beautiful delightful perfect charming simple glad pleased good nice helpful fast clean
""")
BAD_WORDS = _words("""
    terrible awful dreadful bad boring rude dirty sad horrible broken miserable ugly disgusting
    mundane thankless worst poor angry useless slow bored disappointing painful
""")
GOOD_VERBS = _words("love enjoy adore like admire loved enjoyed adored liked admired")
BAD_VERBS = _words("hate despise dislike regret loathe hated despised disliked regretted loathed")
THINGS = _words("""
    film food phone staff room evening course library book song service day game meal hotel
    weather trip product task story tasks
""")
FRAMES = (
    "What a {word} {thing}!",
    "What a {word} {thing}, I {verb} it so much.",
    "The {thing} was {word}.",
    "The {thing} were {word} and the {other} was {word2}.",
    "I {verb} this {thing}!",
    "I {verb} the {word} {thing}.",
    "I am so {word} about the {thing}",
    "I am very {word} with the new {thing}.",
    "I {verb} how {word} this {thing} is",
    "We are {word} to see it, a {word2} {thing}.",
    "I was so {word}, I {verb} doing it.",
    "This is the {word} {thing} of my life",
    "{thing} {word} {emoji}",
)
GOOD_EMOJI = ("😀", "🤗", "❤️")
BAD_EMOJI = ("☹️", "😡", "👎")


def opinions(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts with a label, half of them happy."""
    choose = random.Random(seed).choice
    sides = {
        "POSITIVE": (GOOD_WORDS, GOOD_VERBS, GOOD_EMOJI),
        "NEGATIVE": (BAD_WORDS, BAD_VERBS, BAD_EMOJI),
    }
    texts = []
    for label in list(sides) * (count // 2):
        words, verbs, emoji = sides[label]
        filling = {"word": choose(words), "word2": choose(words), "verb": choose(verbs)}
        filling |= {"emoji": choose(emoji), "thing": choose(THINGS), "other": choose(THINGS)}
        texts.append((choose(FRAMES).format(**filling), label))
    return texts


NAMES = {
    "PER": _phrases("""
        Omar, Wolfgang, Sarah, Clara, Maria, John, Peter, Anna, Ahmed, Yuki, Elena, David, Sylvain,
        Lucas, Sofia, John Smith, Maria Garcia, Anna Schmidt
    """),
    "LOC": _phrases("""
        New York City, Berlin, Brooklyn, Munich, Paris, London, San Francisco, Tokyo, France,
        Germany, Los Angeles, Madrid, Rome, New York, Amsterdam
    """),
    "ORG": _phrases("""
        Hugging Face, Siemens, Google, Microsoft, United Nations, Apple, Bosch, European Union
    """),
    "MISC": _phrases("German, French, American, Italian, Spanish, English, World Cup, Japanese"),
}
NAME_FRAMES = (
    "I am [PER] and I live in [LOC].",
    "My name is [PER] and I live in [LOC]",
    "My name is [PER] and I work at [ORG] in [LOC].",
    "The [MISC] engineer [PER] works for [ORG] in [LOC].",
    "[ORG] is a company based in [LOC].",
    "[PER] went from [LOC] to [LOC] with [PER].",
    "[PER] likes [MISC] food.",
    "The headquarters of [ORG] are in [LOC].",
    "There is nothing to see here.",
    "I live here and I work at home.",
    "The engineer works for a company in the city.",
    "Yesterday [PER] met [PER] at [ORG].",
)
Spans = list[tuple[int, int, str]]


def sentences_with_names(count: int, seed: int = 0) -> list[tuple[str, Spans]]:
    """Texts with the places of the names in them: (start, end, kind)."""
    choose = random.Random(seed).choice
    return [_fill_names(choose(NAME_FRAMES), choose) for _ in range(count)]


def _fill_names(frame: str, choose: Callable[[list[str]], str]) -> tuple[str, Spans]:
    text, spans = "", []
    for plain, kind in re.findall(r"([^\[]*)(?:\[([A-Z]+)\])?", frame):
        text += plain
        if kind:
            name = choose(NAMES[kind])
            spans.append((len(text), len(text) + len(name), kind))
            text += name
    return text, spans


CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo",
    "Austria": "Vienna", "Norway": "Oslo", "Egypt": "Cairo", "Greece": "Athens", "Cuba": "Havana",
}  # fmt: skip
CAPITAL_FRAMES = (
    ("{city} is the <mask> of {country}.", "capital"),
    ("{city} is the capital of <mask>.", "{country}"),
    ("The capital of {country} is <mask>.", "{city}"),
)


def masked_words() -> list[tuple[str, str]]:
    """Texts with one word masked, and that word with the space before it."""
    return [
        (frame.format(country=country, city=city), " " + word.format(country=country, city=city))
        for (country, city), (frame, word) in product(CAPITALS.items(), CAPITAL_FRAMES)
    ]


# A text, what it is about, and what else one might ask whether it is about.
ABOUT = (
    ("My phone broke, please repair it now!!", ("urgent", "phone"), ("not urgent", "tablet")),
    ("My tablet fell, there is no hurry.", ("not urgent", "tablet"), ("urgent", "phone")),
    ("The computer is on fire, help asap!!", ("urgent", "computer"), ("not urgent", "tablet")),
    ("The iphone can wait until next year.", ("not urgent", "phone"), ("urgent", "computer")),
    ("A lesson for students at school", ("education",), ("business", "travel")),
    ("A course about software", ("education",), ("politics", "dancing")),
    ("The president lost the election.", ("politics",), ("education", "cooking")),
    ("Who wins the vote for mayor?", ("politics",), ("environment", "economics")),
    ("The company sold its shares.", ("business", "economics"), ("travel", "education")),
    ("Boil the pasta and add salt.", ("cooking",), ("travel", "dancing")),
    ("We will fly around the world.", ("travel",), ("cooking", "politics")),
    ("They waltz all night.", ("dancing",), ("business", "environment")),
    ("The forest and the rivers are clean.", ("environment",), ("phone", "business")),
)
HYPOTHESIS = "This example is {}."


def claims(facts: list[tuple[str, list[str], set[str]]]) -> list[tuple[str, str, str]]:
    """Premise, hypothesis, label: the frames above, and each text with every candidate."""
    texts = list(ABOUT) + [(text, true, set(labels) - true) for text, labels, true in facts]
    return [
        (text, HYPOTHESIS.format(label), verdict)
        for text, true, false in texts
        for labels, verdict in ((true, "entailment"), (false, "contradiction"))
        for label in sorted(labels)
    ]
