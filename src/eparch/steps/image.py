"""The steps ``build_docker_image`` and ``push_docker_image``: an image of this project, by a Docker engine.

Owns what their arguments mean, the Dockerfile ``auto`` and what is said when the engine refuses. The engine
is reached as docker-py finds it (``DOCKER_HOST``); nothing is imported before a step runs.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from eparch.core.errors import StepFailed, did_you_mean
from eparch.steps.command import LAST_LINES, run_command, tell

DEFAULT_IMAGE = f"prefecthq/prefect:3-python{sys.version_info.major}.{sys.version_info.minor}"
"""What a job runs in, and ``auto`` builds on, unless told otherwise."""

IMAGE_HOME = "/opt/prefect"
"""Where images keep code: each project in a folder of its own name (row D21)."""

TIMEOUT = 600
"""Seconds without a sign of life after which a build or a push is given up."""

_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_MOST = 1000


@dataclass(frozen=True, slots=True)
class _Build:
    """One image to build: where, from which Dockerfile, and how."""

    image: str
    path: Path
    dockerfile: str
    arguments: Mapping[str, Any]


def build_docker_image(
    image_name: str,
    dockerfile: str = "Dockerfile",
    tag: str | None = None,
    additional_tags: Sequence[str] | None = None,
    ignore_cache: bool = False,
    persist_dockerfile: bool = False,
    dockerfile_output_path: str = "Dockerfile.generated",
    build_backend: str = "docker-py",
    base_image: str | None = None,
    **build_kwargs: Any,
) -> dict[str, Any]:
    """Build the image of the folder ``path``, which is the working directory unless ``build_kwargs`` say so.

    ``dockerfile: auto`` makes one: ``base_image``, ``requirements.txt`` installed, the folder in
    ``/opt/prefect/<name of the folder>``. It is kept at ``dockerfile_output_path`` with
    ``persist_dockerfile``. ``tag`` is the time unless given. A deployment of many builds once;
    ``ignore_cache`` builds for each. ``build_kwargs`` are docker-py's, or options of ``docker buildx build``.

    Returns:
        ``image_name``, ``tag``, ``image``, ``image_id`` and ``additional_tags``.

    Raises:
        StepFailed: there is no engine, no Dockerfile, or it cannot be built.
    """
    tag = tag or default_tag(datetime.now(UTC))
    tags = _tags(tag, additional_tags)
    arguments = {"pull": True, **build_kwargs}
    path = Path(str(arguments.pop("path", "."))).resolve()
    if not path.is_dir():
        raise StepFailed(f"The folder '{path}' cannot be built", why="there is no such directory")
    backend = _backend(build_backend)
    with _dockerfile(dockerfile, path, base_image, persist_dockerfile, dockerfile_output_path) as file:
        build = _Build(f"{image_name}:{tag}", path, file, arguments)
        more = [f"{image_name}:{one}" for one in tags]
        image_id = (
            _build_buildx(build, more) if backend == "buildx" else _build_engine(build, image_name, tags)
        )
    return {
        "image_name": image_name,
        "tag": tag,
        "image": build.image,
        "image_id": image_id,
        "additional_tags": list(additional_tags or []),
    }


def push_docker_image(
    image_name: str,
    tag: str | None = None,
    credentials: Mapping[str, Any] | None = None,
    additional_tags: Sequence[str] | None = None,
    ignore_cache: bool = False,
    build_backend: str = "docker-py",
) -> dict[str, Any]:
    """Push an image to the registry that its name begins with, Docker Hub if it names none.

    ``credentials`` have ``username``, ``password`` and perhaps ``registry_url``; without them the engine's
    own logins hold (``docker login``). With ``ignore_cache`` it is pushed for each deployment.

    Returns:
        ``image_name``, ``tag``, ``image`` and ``additional_tags``.

    Raises:
        StepFailed: there is no engine or no such image, or the registry refuses.
    """
    _backend(build_backend)
    tag = tag or "latest"
    tags = _tags(tag, additional_tags)
    login = _login(image_name, credentials)
    hidden = str((login or {}).get("password") or "")
    for one in (tag, *tags):
        _push(image_name, one, login, hidden)
    return {
        "image_name": image_name,
        "tag": tag,
        "image": f"{image_name}:{tag}",
        "additional_tags": list(additional_tags or []),
    }


def default_tag(now: datetime) -> str:
    """The tag of an image that was not given one: the time."""
    return now.strftime("%Y-%m-%dt%H-%M-%S-%f")


def registry_name(url: str) -> str:
    """One name for a registry, however its URL is written."""
    from docker import auth

    name = str(auth.resolve_index_name(url)).lower()
    return "docker.io" if name in ("registry-1.docker.io", "registry.hub.docker.com") else name


def auto_dockerfile(base_image: str, name: str, *, has_requirements: bool) -> str:
    """The Dockerfile that ``auto`` stands for: the folder called ``name``, in ``/opt/prefect`` (row D21)."""
    folder = f"{IMAGE_HOME}/{name}"
    lines = [f"FROM {base_image}"]
    if has_requirements:
        place = f"{folder}/requirements.txt"
        lines += [
            f"COPY {_quoted('requirements.txt', place)}",
            f"RUN {_quoted('python', '-m', 'pip', 'install', '--no-cache-dir', '-r', place, literal=True)}",
        ]
    lines += [f"COPY {_quoted('.', folder + '/')}", f"WORKDIR {_literal(folder)}/"]
    return "\n".join(lines) + "\n"


def _quoted(*words: str, literal: bool = False) -> str:
    return json.dumps([word if literal else _literal(word) for word in words])


def _literal(text: str) -> str:
    """``text`` where a Dockerfile would put in variables."""
    return text.replace("\\", "\\\\").replace("$", "\\$")


@contextmanager
def _dockerfile(given: str, path: Path, base: str | None, keep: bool, kept: str) -> Iterator[str]:
    """The Dockerfile; what is made for ``auto`` is gone after the build, unless it is to be kept."""
    if given != "auto":
        place = path / given
        if not place.is_file():
            hint = "write one, or set 'dockerfile: auto'"
            raise StepFailed(f"There is no Dockerfile '{given}'", why=f"'{place}' is not there", fix=hint)
        if base:
            raise StepFailed("'base_image' is for 'dockerfile: auto'", fix="name it in your Dockerfile: FROM")
        yield given
        return
    has_requirements = (path / "requirements.txt").is_file()
    text = auto_dockerfile(base or DEFAULT_IMAGE, path.name, has_requirements=has_requirements)
    if keep:
        place = path / kept
        if place.exists() and place.read_text(errors="replace") != text:
            raise StepFailed(
                f"'{kept}' is in the way of the Dockerfile that is made",
                why="it is there, and holds something else",
                fix=f"build it with 'dockerfile: {kept}', remove it, or set 'dockerfile_output_path'",
            )
        place.write_text(text)
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        # Outside of what is built, so that nothing of it is in the image.
        place = Path(folder) / "Dockerfile"
        place.write_text(text)
        yield str(place)


def _backend(given: str) -> str:
    known = ("docker-py", "buildx")
    if given not in known:
        hint = did_you_mean(given, known) or f"there are: {', '.join(known)}"
        raise StepFailed(f"There is no build backend '{given}'", fix=hint)
    return given


def _tags(tag: str, more: Sequence[str] | None) -> list[str]:
    if isinstance(more, str):
        raise StepFailed("'additional_tags' must be a list of tags, not a text", fix=f"write ['{more}']")
    for one in (tag, *(more or ())):
        if not _TAG.fullmatch(one):
            raise StepFailed(
                f"'{one}' is not a tag of an image",
                why="a tag has up to 128 letters, digits, '_', '.' and '-', and begins with no '.' or '-'",
            )
    return [one for one in dict.fromkeys(more or ()) if one != tag]


def _build_engine(build: _Build, name: str, tags: Sequence[str]) -> str:
    """Build by the engine's own builder; the id of the image."""
    with _engine() as client:
        events = _asked(
            lambda: client.api.build(
                path=str(build.path),
                dockerfile=build.dockerfile,
                tag=build.image,
                rm=True,
                decode=True,
                **build.arguments,
            ),
            build.image,
        )
        _follow(events, build.image)
        found = _asked(lambda: client.images.get(build.image), build.image)
        for one in tags:
            _asked(partial(found.tag, name, tag=one), build.image)
        return str(found.id)


def _build_buildx(build: _Build, more: Sequence[str]) -> str:
    """Build by ``docker buildx``; the id of the image, which the engine then has."""
    named = [word for image in (build.image, *more) for word in ("--tag", image)]
    with tempfile.TemporaryDirectory() as folder:
        id_file = Path(folder) / "id"
        file = str(build.path / build.dockerfile)
        command = ["docker", "buildx", "build", "--progress", "plain", "--load", "--iidfile", str(id_file)]
        options = [word for name, value in build.arguments.items() for word in _option(name, value)]
        try:
            run_command(
                [*command, "--file", file, *named, *options, str(build.path)],
                # Values of build arguments may be secret: an error shows none.
                shown=f"docker buildx build --tag {build.image}",
            )
        except StepFailed as error:
            if re.search(
                r"unknown command|not a docker command|could not be started", str(error) + error.why
            ):
                error.fix = "install the buildx plugin of Docker, or set 'build_backend: docker-py'"
            raise
        return id_file.read_text().strip()


_OPTIONS = {"buildargs": "build-arg", "labels": "label", "nocache": "no-cache", "network_mode": "network"}


def _option(name: str, value: Any) -> Iterable[str]:
    """The words of the command line for an argument by docker-py's name, or buildx' own."""
    option = f"--{_OPTIONS.get(name, name.replace('_', '-'))}"
    if value is None or value is False:
        return []
    if value is True:
        return [option]
    if isinstance(value, Mapping):
        return [word for key, one in value.items() for word in (option, f"{key}={one}")]
    if isinstance(value, list | tuple):
        return [word for one in value for word in (option, str(one))]
    return [option, str(value)]


def _push(name: str, tag: str, login: dict[str, str] | None, hidden: str) -> None:
    more = {} if login is None else {"auth_config": login}
    image = f"{name}:{tag}"
    tell(f"push {image}")
    with _engine() as client:
        events = _asked(
            lambda: client.api.push(name, tag=tag, stream=True, decode=True, **more), image, hidden
        )
        _follow(events, image, hidden)


def _login(image_name: str, given: Mapping[str, Any] | None) -> dict[str, str] | None:
    """What logs in to the registry of the image; a password is sent to no other registry than its own."""
    if not given:
        return None
    missing = [key for key in ("username", "password") if not given.get(key)]
    if missing:
        raise StepFailed(f"The credentials of '{image_name}' have no {' and no '.join(missing)}")
    with _docker_py():
        from docker import auth

    wanted = registry_name(auth.resolve_repository_name(image_name)[0])
    url = str(given.get("registry_url") or wanted)
    if registry_name(url) != wanted:
        raise StepFailed(
            f"The credentials are for the registry '{registry_name(url)}', not for '{wanted}'",
            why=f"'{image_name}' goes to '{wanted}'",
            fix=f"write the image as '{registry_name(url)}/...', or correct 'registry_url'",
        )
    return {"username": str(given["username"]), "password": str(given["password"]), "serveraddress": url}


@contextmanager
def _docker_py() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        message = "The library that talks to Docker is not installed"
        raise StepFailed(message, why=str(error), fix="pip install 'eparch[docker]'") from error


@contextmanager
def _engine() -> Iterator[Any]:
    """A connection to the engine.

    Raises:
        StepFailed: there is none.
    """
    with _docker_py():
        import docker

    client = _asked(lambda: docker.from_env(version="auto", timeout=TIMEOUT), "the engine")
    try:
        yield client
    finally:
        client.close()


def _asked(call: Any, subject: str, hidden: str = "") -> Any:
    """What the engine answers.

    Raises:
        StepFailed: it refuses, or does not answer.
    """
    import requests
    from docker.errors import APIError, DockerException

    try:
        return call()
    except APIError as error:
        raise _refused(subject, str(error.explanation or error), hidden) from None
    except (DockerException, requests.RequestException, OSError) as error:
        raise StepFailed(
            "The Docker engine cannot be reached",
            why=str(error)[:_MOST],
            fix="start Docker, or set DOCKER_HOST to where it listens",
        ) from None
    except (TypeError, ValueError, KeyError) as error:
        raise StepFailed(f"'{subject}' cannot be built with these arguments", why=str(error)) from None


def _follow(events: Iterator[Mapping[str, Any]], subject: str, hidden: str = "") -> None:
    """Tell what the engine tells, line by line, until it is done.

    Raises:
        StepFailed: it failed; with the last lines.
    """
    last: list[str] = []
    seen: dict[str, str] = {}
    while (event := _asked(lambda: next(events, None), subject, hidden)) is not None:
        if "error" in event:
            raise _refused(subject, str(event["error"]), hidden, last)
        for line in _lines(event, seen):
            last = [*last, line][-LAST_LINES:]
            tell(line)


def _lines(event: Mapping[str, Any], seen: dict[str, str]) -> list[str]:
    """What of an event is worth a line; of a layer only how it changes, not how far it is."""
    if "stream" in event:
        return [line for line in str(event["stream"]).splitlines() if line.strip()]
    status, layer = str(event.get("status") or ""), str(event.get("id") or "")
    if not status or seen.get(layer) == status:
        return []
    seen[layer] = status
    return [f"{layer}: {status}" if layer else status]


_REFUSALS = (
    (
        r"unauthorized|authentication required|denied|no basic auth|incorrect username",
        "the registry does not let you in: set 'credentials', or use 'docker login'",
    ),
    (r"manifest.*(unknown|not found)|not found.*manifest", "correct the name after FROM, or pull it by hand"),
    (
        r"No such image|does not exist locally|image does not exist",
        "build it first, with the same name and tag",
    ),
    (
        r"no such host|dial tcp|i/o timeout|x509|HTTP response to HTTPS",
        "the registry cannot be reached: check its name and the network, or set 'pull: false' to build on"
        " an image that is here",
    ),
    (r"no space left", "free some room: docker system prune"),
)


def _refused(subject: str, said: str, hidden: str, last: Sequence[str] = ()) -> StepFailed:
    said = said.replace(hidden, "***") if hidden else said
    fix = next((fix for words, fix in _REFUSALS if re.search(words, said, re.IGNORECASE)), "")
    why = "\n".join([*last, " ".join(said.split())[:_MOST]])
    return StepFailed(f"The Docker engine could not do it for '{subject}'", why=why, fix=fix)
