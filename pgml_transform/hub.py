"""The model hub and its cache: when it may be asked, and its errors in ours."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pgml_transform.errors import ModelBroken, ModelNotFound
from pgml_transform.settings import Settings
from pgml_transform.task import Task


def offline(task: Task, settings: Settings) -> bool:
    """Whether only the cache may be used: by the administrator's setting, the environment, or the task."""
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return settings.offline or HF_HUB_OFFLINE or json.loads(task.loading).get("local_files_only") is True


@contextmanager
def errors(task: Task, settings: Settings) -> Iterator[None]:
    """Make ModelNotFound of whatever the hub's library raises when it can't hand out a file."""
    from huggingface_hub import errors as hub

    name = f'model "{task.model}"' + (f' at revision "{task.revision}"' if task.revision else "")
    try:
        yield
    except hub.HFValidationError:
        raise ModelNotFound(
            f'"{task.model}" is no name of a model',
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
        raise _not_cached(task, settings, name) from None
    except hub.EntryNotFoundError as error:
        raise ModelBroken(f"{name} lacks a file that a model needs", detail=_first_line(error)) from None
    except (hub.HfHubHTTPError, hub.OfflineModeIsEnabled, ConnectionError, TimeoutError) as error:
        raise ModelNotFound(
            f"{name} could not be fetched",
            detail=_first_line(error),
            hint="look at the server's connection to the model hub, or download the model beforehand",
        ) from None


def _not_cached(task: Task, settings: Settings, name: str) -> ModelNotFound:
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = settings.hub_cache or HF_HUB_CACHE
    if offline(task, settings):
        why = "This server does not ask the model hub (offline)"
    else:
        why = "The model hub could not be reached"
    return ModelNotFound(
        f"{name} is not in the cache",
        detail=f'{why}, and the model is not in the cache "{cache}".',
        hint=f"download it as the server's user: HF_HUB_CACHE={cache} hf download {task.model}"
        + (f" --revision {task.revision}" if task.revision else "")
        + ("" if os.access(cache, os.R_OK) else "; that directory can't be read now"),
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
