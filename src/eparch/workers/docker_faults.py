"""What a person is told when the Docker engine refuses: a table from its words to ours.

Owns the translation of every exception that docker-py raises. Does not own retrying.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound

from eparch.core.errors import InfrastructureError


class EngineAway(InfrastructureError):
    """The engine does not answer; it may come back."""


class Missing(InfrastructureError):
    """The engine has no such container or image."""


class Fault(NamedTuple):
    """What the engine says, and what is told; ``{subject}`` is the image or the container."""

    said: str
    told: str
    fix: str


FAULTS = (
    Fault(
        r"toomanyrequests|rate limit",
        "The registry refuses to send '{subject}': too many pulls",
        "set 'registry_credentials', wait, or use 'image_pull_policy: IfNotPresent' with a fixed tag",
    ),
    Fault(
        r"no matching manifest|does not match the (specified|detected) platform|exec format error",
        "The image '{subject}' does not run on this kind of machine",
        "build it for this platform, or set 'platform' in 'container_create_kwargs'",
    ),
    Fault(
        r"manifest unknown|manifest for .* not found|failed to resolve reference .* not found",
        "The registry has no image '{subject}'",
        "correct the tag in the job variable 'image', or push the image",
    ),
    Fault(
        r"pull access denied|unauthorized|authentication required|no basic auth|denied: |incorrect username",
        "The image '{subject}' cannot be pulled: it does not exist, or its registry does not let you in",
        "correct the job variable 'image', or set 'registry_credentials' for its registry",
    ),
    Fault(
        r"no such image|image not known",
        "The image '{subject}' is not on this machine",
        "pull or build it here, or allow pulling with 'image_pull_policy: IfNotPresent'",
    ),
    Fault(
        r"no such host|i/o timeout|failure in name resolution|server misbehaving|TLS handshake"
        r"|x509:|Client\.Timeout|HTTP response to HTTPS|dial tcp|network is unreachable",
        "The registry of '{subject}' cannot be reached",
        "check the name of the registry and the network of the engine, or use 'image_pull_policy: Never'",
    ),
    Fault(
        r"no space left on device|disk quota exceeded",
        "The engine has no room left on its disk for '{subject}'",
        "free some: docker system prune",
    ),
    Fault(
        r"network .* not found|unable to find network|no such network",
        "A network of the job does not exist",
        "create it with 'docker network create', or correct the job variable 'networks'",
    ),
    Fault(
        r"executable file not found|no such file or directory: unknown|permission denied: unknown"
        r"|no such file or directory.*OCI|exec: .*permission denied",
        "The command of the job is not in the image '{subject}', or cannot be executed",
        "install eparch or prefect in the image, or correct the job variable 'command'",
    ),
    Fault(
        r"port is already allocated|address already in use",
        "A port of the job is taken",
        "leave 'ports' out of 'container_create_kwargs', or choose another",
    ),
    Fault(
        r"minimum memory limit|memory limit should be|memoryswap|can not set memory",
        "The memory limits of the job are not possible",
        "correct the job variables 'mem_limit' and 'memswap_limit'",
    ),
    Fault(
        r"invalid mount|invalid volume|bind source path|mount path must be absolute|mounts denied"
        r"|duplicate mount point|error while creating mount source|includes invalid characters for a local",
        "A volume of the job cannot be mounted",
        "correct the job variable 'volumes': place:path[:mode], with a place on the engine's machine",
    ),
    Fault(
        r"permission denied.*docker|docker.*permission denied|PermissionError",
        "This user may not use the Docker engine",
        "add the user of the worker to the group 'docker', or set DOCKER_HOST to an engine of its own",
    ),
    Fault(
        r"operation not permitted",
        "The engine may not run '{subject}' with the rights that the job asks for",
        "leave 'privileged' and capabilities out, or use an engine that has these rights",
    ),
    Fault(r"", "The Docker engine refused '{subject}'", "correct the job's variables by what it says"),
)
"""Rows from the most special to the one that fits everything."""

_AWAY = (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError, OSError)
"""What is raised when the engine cannot be reached, or goes away in the middle."""

_MOST = 1000
"""Characters of what the engine says that are repeated."""


def explain_fault(said: str, subject: str) -> InfrastructureError:
    """The error for what the engine said about an image or a container."""
    found = next(fault for fault in FAULTS if re.search(fault.said, said, re.IGNORECASE | re.DOTALL))
    return InfrastructureError(
        found.told.format(subject=subject), why=" ".join(said.split())[:_MOST], fix=found.fix
    )


@contextmanager
def told(subject: str) -> Iterator[None]:
    """Turn what docker-py raises into errors for people.

    Raises:
        EngineAway: the engine cannot be reached.
        Missing: it does not know the container.
        InfrastructureError: anything else.
    """
    try:
        yield
    except APIError as error:
        said = str(error.explanation or error)
        if isinstance(error, NotFound) and "container" in said.lower():
            raise Missing(f"There is no container '{subject}'", why=said) from None
        if "no such container" in said.lower():
            raise Missing(f"There is no container '{subject}'", why=said) from None
        raise explain_fault(said, subject) from None
    except _AWAY as error:
        raise _away(error) from None
    except DockerException as error:
        cause = str(error)
        if "fetching server API version" in cause or "Connection" in cause or "Not supported URL" in cause:
            raise _away(error) from None
        raise explain_fault(cause, subject) from None
    except (TypeError, ValueError, KeyError) as error:
        raise explain_fault(f"the job's settings do not fit: {error}", subject) from None


def _away(error: Exception) -> InfrastructureError:
    if "PermissionError" in repr(error) or "Permission denied" in str(error):
        return explain_fault(f"PermissionError: {error}", "the engine")
    place = os.environ.get("DOCKER_HOST") or "the default socket"
    return EngineAway(
        "The Docker engine cannot be reached",
        why=f"{place}: {str(error)[:_MOST]}",
        fix="start it, or set DOCKER_HOST to where it listens",
    )
