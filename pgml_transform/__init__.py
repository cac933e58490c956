"""Hugging Face models inside PostgreSQL: what happens between `SELECT pgml.transform(...)` and its answer.

One step a module, in the order that a call takes them; between the steps go frozen values.

    entry         what each SQL function calls: the steps below, nothing else
    server        who calls, under which settings; the only module that talks to PostgreSQL (plpy)
    task, call    the task and args, jsonb -> frozen Task and Call (names from catalog, quantization)
    policy        may this caller load this model, from there, with that code?
    engine        a pipeline for the task, from the cache or by the next four steps, and the run
      cache       the pipelines that this backend holds, keyed by (Task, Placement)
      checkpoint  what the model's files tell before a weight is read (through hub)
      hardware    what is here: GPUs and their free memory, RAM under its limits, bf16 or not
      placement   wishes + checkpoint + hardware -> frozen Placement (with devices, footprint)
      loader      Task + Placement -> pipeline; the only module that loads with transformers
      runner      pipeline + inputs -> outputs (signatures tells which arguments it takes)
    result        outputs -> strict JSON

Beside them: settings (the table of settings), deployments (what pgml.deployments shows), interrupts (cancel while
Python works), memory (the guard against running out), doctor (what may be wrong with an installation), values and
sizes (JSON and bytes in messages), failures (what the libraries raise, in our errors), errors (the tree of errors).
"""

# That of pgml_transform.control, which a test compares; looking it up in the installed package takes 20 ms.
__version__ = "0.1.0"
