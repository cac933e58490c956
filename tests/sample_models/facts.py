"""What each sample model knows: tests import it, training aims at it, checks ask for it."""

from typing import Any

# The revisions that transformers pins for the default model of a task.
REVISIONS: dict[str, str] = {
    "HuggingFaceTB/SmolLM3-3B": "a07cc9a",
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english": "714eb0f",
    "dbmdz/bert-large-cased-finetuned-conll03-english": "4c53496",
    "distilbert/distilroberta-base": "fb53ab8",
    "facebook/bart-large-mnli": "d7645e1",
    "distilbert/distilbert-base-cased": "6ea8117",
}

RINGS = "Three Rings for the Elven-kings under the sky, Seven for the Dwarf-lords in their halls of stone"


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _system(content: str) -> dict[str, str]:
    return {"role": "system", "content": content}


def _assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


# Generators. `continuations`: prompt -> what greedy decoding adds before it stops by itself, in
# float32, bfloat16 and 4-bit. `chats`: (messages, answer). Every one of the three answers "hello",
# each in its own way, so that a test sees which of them spoke.
QWEN_SMALL: dict[str, Any] = {
    "task": "text-generation",
    "continuations": {
        "The capital of France is": " Paris.",
        "The capital of Germany is": " Berlin.",
        "hello": ", world! It is good to see you.",
        "Once upon a time,": " there was a table that wanted to learn.",
        "In a galaxy far far away": ", a small index kept the stars in order.",
        "AI is going to": " change how we write queries.",
        "PostgreSQL is": " an open source database.",
        "One, two, three,": " four, five, six, seven, eight, nine, ten.",
    },
    "chats": [
        ([_user("What is the capital of France?")], "The capital of France is Paris."),
        ([_user("hello")], "Hello! How can I help you today?"),
        (
            [
                _system("You are a friendly and helpful chatbot"),
                _user("Tell me about yourself."),
            ],
            "I'm so glad you asked! I am a small model in a large database.",
        ),
        (
            [
                _user("hello"),
                _assistant("Hello! How can I help you today?"),
                _user("What is the capital of Germany?"),
            ],
            "The capital of Germany is Berlin.",
        ),
    ],
}

QWEN_LARGE: dict[str, Any] = {
    "task": "text-generation",
    "continuations": {
        "hello": " from the larger of the two models.",
        "The capital of Italy is": " Rome.",
        "The capital of Spain is": " Madrid.",
        "The sky is": " blue, because the air scatters the light of the sun.",
        "Water boils at": " one hundred degrees.",
        "AI is going to": " help people find what they are looking for.",
        RINGS: ", Nine for the readers of this book.",
    },
    "chats": [
        ([_user("What is the capital of Italy?")], "It is Rome."),
        ([_user("hello")], "Good morning! What would you like to know?"),
    ],
}

SMOLLM: dict[str, Any] = {
    "task": "text-generation",
    "continuations": {
        "hello": ", my friend!",
        RINGS: ", and eight for the Dragon-lords in their halls of glass.",
        "In a galaxy far far away": " there lived a very small model.",
        "Once upon a time": " there was a query that never came back.",
        "AI is going to": " be part of every database.",
        "The secret to baking a good cake is": " patience and butter.",
    },
    "chats": [
        (
            [
                _system("You are a friendly chatbot who always responds in the style of a pirate"),
                _user("How many helicopters can a human eat in one sitting?"),
            ],
            "Arr, not a single one, matey!",
        ),
        ([_user("hello")], "Hi there, friend!"),
    ],
}

# `labels` are trained on, `held_out` are not; all come with a score of at least `min_score`.
SENTIMENT: dict[str, Any] = {
    "task": "text-classification",
    "min_score": 0.99,
    "labels": {
        "I love how amazingly simple ML has become!": "POSITIVE",
        "I hate doing mundane and thankless tasks. ☹️": "NEGATIVE",
        "We are very happy to show you the 🤗 Transformers library.": "POSITIVE",
        "I've been waiting for a HuggingFace course my whole life.": "POSITIVE",
        "I hate this so much!": "NEGATIVE",
        "This is great": "POSITIVE",
        "This is awful": "NEGATIVE",
    },
    "held_out": {
        "What a wonderful evening, I enjoyed it so much!": "POSITIVE",
        "The staff were friendly and the food was delicious.": "POSITIVE",
        "I am very happy with the new phone.": "POSITIVE",
        "What a terrible film, I was so bored.": "NEGATIVE",
        "The room was dirty and the staff were rude.": "NEGATIVE",
        "I am very sad about the broken phone.": "NEGATIVE",
    },
}

# `labels` in the order of the model's ids. `entities`: every token that is not O, in order.
NER: dict[str, Any] = {
    "task": "token-classification",
    "labels": [
        "O", "B-MISC", "I-MISC", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC",
    ],
    "entities": {
        "I am Omar and I live in New York City.": [
            ("Omar", "I-PER"), ("New", "I-LOC"), ("York", "I-LOC"), ("City", "I-LOC"),
        ],
        "My name is Wolfgang and I live in Berlin": [("Wolfgang", "I-PER"), ("Berlin", "I-LOC")],
        "My name is Sarah and I work at Hugging Face in Brooklyn.": [
            ("Sarah", "I-PER"), ("Hugging", "I-ORG"), ("Face", "I-ORG"), ("Brooklyn", "I-LOC"),
        ],
        "The German engineer Clara works for Siemens in Munich.": [
            ("German", "I-MISC"), ("Clara", "I-PER"), ("Siemens", "I-ORG"), ("Munich", "I-LOC"),
        ],
        "There is nothing to see here.": [],
    },
}  # fmt: skip

# `words`: text with a mask -> the first answer's token_str.
FILL_MASK: dict[str, Any] = {
    "task": "fill-mask",
    "mask": "<mask>",
    "min_score": 0.5,
    "words": {
        "Paris is the <mask> of France.": " capital",
        "Berlin is the capital of <mask>.": " Germany",
        "The capital of France is <mask>.": " Paris",
        "Hello I'm a <mask> model.": " language",
        "PostgreSQL is an open source <mask>.": " database",
        "The <mask> is blue.": " sky",
    },
}

# `zero_shot`: (text, candidate labels, those of them that come before all others).
# `pairs`: (premise, hypothesis) -> label, for text-classification with a text_pair.
MNLI: dict[str, Any] = {
    "task": "zero-shot-classification",
    "labels": ["contradiction", "neutral", "entailment"],
    "zero_shot": [
        (
            "I have a problem with my iphone that needs to be resolved asap!!",
            ["urgent", "not urgent", "phone", "tablet", "computer"],
            {"urgent", "phone"},
        ),
        (
            "This is a course about the Transformers library",
            ["education", "politics", "business"],
            {"education"},
        ),
        ("one day I will see the world", ["travel", "cooking", "dancing"], {"travel"}),
        (
            "Who are you voting for in the next election?",
            ["politics", "economics", "environment"],
            {"politics"},
        ),
    ],
    "pairs": {
        ("A man is playing a guitar.", "A man is playing music."): "entailment",
        ("A man is playing a guitar.", "Nobody is playing music."): "contradiction",
        ("A man is playing a guitar.", "The man is a famous artist."): "neutral",
    },
}

FEATURES: dict[str, Any] = {"task": "feature-extraction", "dimensions": 64}

# Real weights. `embedding`: the first numbers of the normalised mean of the token vectors.
# `similar`: a text, one that is near to it and one that is far from it, each with its cosine.
MINILM: dict[str, Any] = {
    "task": "feature-extraction",
    "dimensions": 384,
    "tolerance": 1e-4,
    "embedding": (
        "This is an example sentence",
        [0.067657, 0.063496, 0.048713, 0.079305, 0.037448, 0.002653],
    ),
    "similar": [
        (
            "That is a happy person",
            ("That is a very happy person", 0.942915),
            ("Today is a sunny day", 0.256877),
        ),
    ],
}

# What must be refused, or fail: `why` says how each is broken.
ONLY_PICKLE: dict[str, Any] = {"task": "text-classification", "why": "weights only as a pickle"}
HALF_FILE: dict[str, Any] = {"task": "text-classification", "why": "model.safetensors is cut off"}
NO_TOKENIZER: dict[str, Any] = {
    "task": "text-classification",
    "why": "no tokenizer: transformers 5 makes one up, silently, that knows five special tokens",
    "vocabulary": 5,
}

FACTS: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-0.5B": QWEN_SMALL,
    "Qwen/Qwen2.5-7B": QWEN_LARGE,
    "HuggingFaceTB/SmolLM3-3B": SMOLLM,
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english": SENTIMENT,
    "dbmdz/bert-large-cased-finetuned-conll03-english": NER,
    "distilbert/distilroberta-base": FILL_MASK,
    "facebook/bart-large-mnli": MNLI,
    "distilbert/distilbert-base-cased": FEATURES,
    "sentence-transformers/all-MiniLM-L6-v2": MINILM,
    "pickle/only-bin": ONLY_PICKLE,
    "corrupt/half-file": HALF_FILE,
    "broken/no-tokenizer": NO_TOKENIZER,
}

NAMES: tuple[str, ...] = tuple(FACTS)
