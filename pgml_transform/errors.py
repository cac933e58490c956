"""Every error that a caller can see, as one tree with its SQLSTATE.

PgmlError
├── InvalidTask          22023  the task, or a keyword in it, is malformed or contradicts itself
├── InvalidArgument      22023  `args` is malformed, or the pipeline has no such argument
├── InvalidInput         22023  an input is not what the task takes
├── InvalidSetting       22023  no such setting, or a bad value for it
├── UnknownTask          0A000  no such task
├── MissingPackage       0A000  a Python package that the model needs is not installed
├── ModelNotFound        58P01  the model or its revision is not to be had from here
├── ModelBroken          58P01  the model's files are there but can't be used
├── NotAllowed           42501  policy forbids the model, its code, its path or a keyword
├── OutOfMemory          53200  it does not fit, before or during the load or the run
├── DeviceNotAvailable   55000  a device is asked for by name and is not there
├── NotInstalled         55000  the extension and its Python package are not of one version
└── ModelFailed          38000  the model itself fails on this input

Messages are lower case with no full stop and carry the offending value; the reason goes into `detail`,
the exact remedy into `hint`.
"""

from __future__ import annotations


class PgmlError(Exception):
    """The root: never raised itself. `detail` and `hint` become PostgreSQL's fields of those names."""

    sqlstate = "38000"

    def __init__(self, message: str, *, detail: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint


class InvalidTask(PgmlError):
    """The task, or a keyword in it, is malformed or contradicts itself."""

    sqlstate = "22023"


class InvalidArgument(PgmlError):
    """`args` is malformed, or the pipeline has no such argument."""

    sqlstate = "22023"


class InvalidInput(PgmlError):
    """An input is not what the task takes."""

    sqlstate = "22023"


class InvalidSetting(PgmlError):
    """There is no such setting, or the value is not one of its type."""

    sqlstate = "22023"


class UnknownTask(PgmlError):
    """There is no such task."""

    sqlstate = "0A000"


class MissingPackage(PgmlError):
    """A Python package that the model needs is not installed."""

    sqlstate = "0A000"


class ModelNotFound(PgmlError):
    """The model or its revision is not to be had from here: offline, gated, or misspelt."""

    sqlstate = "58P01"


class ModelBroken(PgmlError):
    """The model's files are there but can't be used: cut off, of the wrong shape, or incomplete."""

    sqlstate = "58P01"


class NotAllowed(PgmlError):
    """Policy forbids the model, its code, its path or a keyword."""

    sqlstate = "42501"


class OutOfMemory(PgmlError):
    """It does not fit into RAM or VRAM: before or during the load or the run."""

    sqlstate = "53200"


class DeviceNotAvailable(PgmlError):
    """A device is asked for by name and is not there."""

    sqlstate = "55000"


class NotInstalled(PgmlError):
    """The extension in this database and the Python package are not of one version."""

    sqlstate = "55000"


class ModelFailed(PgmlError):
    """The model itself fails on this input."""

    sqlstate = "38000"
