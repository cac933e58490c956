"""The model hub and its cache: when it may be asked, and its errors in ours."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgml_transform.errors import ModelBroken, ModelNotFound, PgmlError
from pgml_transform.failures import first_line
from pgml_transform.settings import Settings
from pgml_transform.task import Task

# What the system says of a cache that can't be read or written.
_OF_THE_CACHE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT}


def offline(task: Task, settings: Settings) -> bool:
    """Whether only the cache may be used: by the administrator's setting, the environment, or the task."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return settings.offline or HF_HUB_OFFLINE or task.local_files_only


@contextmanager
def errors(task: Task, settings: Settings, repository: str | None = None) -> Iterator[None]:
    """Make ours of what the hub's library raises when it can't hand out a file, and of what others make of that.

    The files are the model's unless another repository is named.
    """
    with _translated(task, settings, repository or task.model):
        try:
            yield
        except PgmlError:
            raise
        except Exception as error:
            cause = _cause(error)
            if cause is None:
                raise
            raise cause from None


def _cause(error: BaseException | None) -> BaseException | None:
    """The hub's or the system's error that this one was raised from, or is; None where there is none."""
    from huggingface_hub import errors as hub
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    theirs = (httpx.HTTPError, hub.HFValidationError, hub.EntryNotFoundError, hub.OfflineModeIsEnabled)
    while error is not None and not isinstance(error, theirs) and getattr(error, "errno", None) not in _OF_THE_CACHE:
        error = error.__cause__
    return error


@contextmanager
def _translated(task: Task, settings: Settings, repository: str) -> Iterator[None]:
    from huggingface_hub import errors as hub
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    name = _name(task, repository)
    try:
        yield
    except hub.HFValidationError:
        raise ModelNotFound(
            f'"{repository}" is no name of a model',
            hint='write "organization/name" as the hub shows it, or the absolute path of a directory',
        ) from None
    except hub.GatedRepoError:
        raise ModelNotFound(
            f"{name} is gated",
            detail="Its owner gives access to those who asked for it on the model's page.",
            hint='accept its conditions there, then give a "token" in the task, or `hf auth login` as the '
            "server's user",
        ) from None
    except hub.RevisionNotFoundError:
        raise ModelNotFound(f"{name} is not on the hub: it has no such revision") from None
    except hub.RepositoryNotFoundError:
        raise ModelNotFound(
            f"{name} is not on the hub",
            detail="There is no public model of that name.",
            hint='correct the name; a private model needs a "token" in the task',
        ) from None
    except hub.LocalEntryNotFoundError:
        raise not_cached(task, settings, repository) from None
    except hub.EntryNotFoundError as error:
        raise ModelBroken(f"{name} lacks a file that a model needs", detail=first_line(error)) from None
    except (httpx.HTTPError, hub.OfflineModeIsEnabled) as error:  # a connection that fails is an HTTPError, too
        raise ModelNotFound(
            f"{name} could not be fetched",
            detail=first_line(error),
            hint="look at the server's connection to the model hub, or download the model beforehand",
        ) from None
    except OSError as error:
        if error.errno not in _OF_THE_CACHE or Path(repository).is_absolute():
            raise
        raise ModelNotFound(
            f"{name} could not be fetched",
            detail=first_line(error),
            hint=f'let the server\'s user read and write "{_cache(settings)}", and see that its disk has room',
        ) from None


def not_cached(task: Task, settings: Settings, repository: str | None = None) -> ModelNotFound:
    """The error for a model, or another repository of the task, that only the hub has, when that can't be asked."""
    cache, repository = _cache(settings), repository or task.model
    if offline(task, settings):
        why = "This server does not ask the model hub (offline)"
    else:
        why = "The model hub could not be reached"
    return ModelNotFound(
        f"{_name(task, repository)} is not in the cache",
        detail=f'{why}, and the model is not in the cache "{cache}".',
        hint=f"download it as the server's user: HF_HUB_CACHE={cache} hf download {repository}"
        + (f" --revision {task.revision}" if task.revision and repository == task.model else "")
        + ("" if os.access(cache, os.R_OK) else "; that directory can't be read now"),
    )


def _cache(settings: Settings) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return settings.hub_cache or HF_HUB_CACHE


def _name(task: Task, repository: str) -> str:
    """How messages call a repository; a task's revision is that of its model."""
    of_model = task.revision and repository == task.model
    return f'model "{repository}"' + (f' at revision "{task.revision}"' if of_model else "")
