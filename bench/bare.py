"""What a first call can't do without, in a process of its own: import, load, one forward; then a line `ready`.

`python bare.py MODEL` reads names of modules from stdin after that, imports them in their order, and answers how long
each took, as JSON: {"known": [...], "seconds": {...}}.
"""

import sys

import torch
from transformers import AutoTokenizer, DistilBertForSequenceClassification

model = DistilBertForSequenceClassification.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
with torch.no_grad():
    model(**tokenizer(["x"], return_tensors="pt"))
print("ready", flush=True)

known = list(sys.modules)
import contextlib  # noqa: E402 - nothing may be imported before the moment that is measured
import importlib  # noqa: E402
import json  # noqa: E402
import time  # noqa: E402

seconds = {}
for name in sys.stdin.read().split():
    if name not in sys.modules:
        started = time.perf_counter()
        with contextlib.suppress(Exception):  # such as plpy, which is in a server only
            importlib.import_module(name)
            seconds[name] = time.perf_counter() - started
print(json.dumps({"known": known, "seconds": seconds}))
