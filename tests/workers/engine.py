"""A real Docker engine for tests, in a mount namespace of its own, with an image of the running Python.

No registry is asked: the image is packed from this interpreter, the packages that eparch needs, and a shell.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import distribution
from pathlib import Path

import docker
import pytest
from packaging.requirements import Requirement

import eparch

IMAGE = "eparch-test:1"
READY = 20.0

# A root that is a mount point of its own, as runc needs it and a plain chroot has none, with control groups.
_INSIDE = """
mountpoint -q /sys/fs/cgroup || {
    if awk 'NR > 1 && $2 != 0 { v1 = 1 } END { exit v1 }' /proc/cgroups; then
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
    else
        mount -t tmpfs cgroup /sys/fs/cgroup
        for each in $(awk 'NR > 1 && $4 == 1 { print $1 }' /proc/cgroups); do
            mkdir -p "/sys/fs/cgroup/$each"
            mount -t cgroup -o "$each" cgroup "/sys/fs/cgroup/$each" || rmdir "/sys/fs/cgroup/$each"
        done
    fi
}
exec "$@"
"""
_OUTSIDE = """
root=$1; inside=$2; shift 2
mount --rbind / "$root" && mount --make-rprivate "$root" || exit 1
exec chroot "$root" sh -c "$inside" sh "$@"
"""

_ATTEMPTS = (
    (True, []),
    (True, ["--storage-driver=vfs"]),
    (True, ["--storage-driver=vfs", "--iptables=false", "--ip6tables=false", "--bridge=none"]),
    (False, []),
)
"""Whether in a namespace, and with which options; the first that works is taken."""

_TOOLS = ("sh", "sleep", "cat", "head", "env", "true", "ls")
_LEFT_OUT = re.compile(
    r"/(test|tests|idlelib|tkinter|lib2to3|ensurepip|turtledemo|site-packages|dist-packages|config-[^/]*)(/|$)"
)


class Engine:
    """A running engine."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        folder: Path,
        again: Callable[[], subprocess.Popen[bytes] | None],
    ) -> None:
        self.process, self.folder, self._again = process, folder, again
        self.url = f"unix://{folder / 's'}"
        self.client = docker.DockerClient(self.url, version="auto", timeout=60)

    def container(self, handle: str):
        """The container of a handle."""
        return self.client.containers.get(handle.rpartition(":")[2])

    def restart(self) -> None:
        """End it as a system does, and start it again."""
        _end(self.process)
        process = self._again()
        assert process is not None, _log(self.folder, [])
        self.process = process


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    """The engine with the image; a machine without one skips the test, CI fails."""
    program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None or os.geteuid() != 0:
        _give_up("no Docker engine can be started: dockerd is missing, or this is not root")
    # A socket's path is short, and layers do not belong in memory.
    base = "/var/tmp" if os.access("/var/tmp", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="dk", dir=base))
    said = []
    try:
        for own, options in _ATTEMPTS:
            start = partial(_start, str(program), folder, own, options)
            process = start()
            if process is None:
                said.append(_log(folder, options))
                shutil.rmtree(folder / "data", ignore_errors=True)
                continue
            engine = Engine(process, folder, start)
            try:
                if not (fault := _load(engine)):
                    yield engine
                    return
                said.append(f"{options}: {fault}")
            finally:
                _end(engine.process)
                shutil.rmtree(folder / "data", ignore_errors=True)
        _give_up("no Docker engine could be started:\n" + "\n".join(said))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _give_up(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def _start(program: str, folder: Path, own: bool, options: list[str]) -> subprocess.Popen[bytes] | None:
    root = folder / "root"
    root.mkdir(exist_ok=True)
    command = [
        program, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec",
        "--pidfile", f"{folder}/pid", "--host", f"unix://{folder}/s", *options,
    ]  # fmt: skip
    if own:
        namespace = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", _OUTSIDE, "sh"]
        command = [*namespace, str(root), _INSIDE, *command]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    end = time.monotonic() + READY
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(docker.errors.DockerException):
            client = docker.DockerClient(f"unix://{folder}/s", version="auto")
            client.close()
            return process
        time.sleep(0.05)
    _end(process)
    return None


def _log(folder: Path, options: list[str]) -> str:
    lines = (folder / "log").read_text(errors="replace").splitlines()
    told = [line for line in lines if "module=grpc" not in line]
    return f"{options}:\n" + "\n".join(told[-8:])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _load(engine: Engine) -> str:
    """Import the image and run it once; what was wrong."""
    tar = engine.folder / "image.tar"
    if not tar.exists():
        with tarfile.open(tar, "w") as file:
            _pack(file)
    try:
        engine.client.api.import_image(
            str(tar), repository=IMAGE.split(":")[0], tag="1", changes=["ENV PYTHONPATH=/src:/packages"]
        )
        engine.client.containers.run(IMAGE, ["eparch", "--version"], network_mode="host", remove=True)
    except docker.errors.DockerException as error:
        return str(error)
    return ""


def _pack(file: tarfile.TarFile) -> None:
    programs = [Path(str(shutil.which(tool))) for tool in _TOOLS]
    python = Path(sys.executable).resolve()
    for program in programs:
        file.add(program.resolve(), f"bin/{program.name}")
    file.add(python, str(python).lstrip("/"))
    stdlib = Path(sysconfig.get_path("stdlib")).resolve()
    file.add(stdlib, str(stdlib).lstrip("/"), filter=_needed)
    packages = list(_packages())
    for source, name in packages:
        file.add(source, f"packages/{name}")
    file.add(Path(eparch.__file__).parent, "src/eparch")
    libraries = [*stdlib.glob("lib-dynload/*.so")]
    libraries += [path for source, _ in packages if source.suffix == ".so" for path in [source]]
    for library in _linked([python, *(program.resolve() for program in programs), *libraries]):
        file.add(Path(library).resolve(), library.lstrip("/"))
    script = f'#!/bin/sh\nexec {python} -m eparch "$@"\n'.encode()
    for name, data, mode in (("usr/local/bin/eparch", script, 0o755), ("etc/hostname", b"", 0o644)):
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), mode
        file.addfile(info, io.BytesIO(data))
    temporary = tarfile.TarInfo("tmp")
    temporary.type, temporary.mode = tarfile.DIRTYPE, 0o1777
    file.addfile(temporary)


def _needed(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if _LEFT_OUT.search(f"/{info.name}") else info


def _packages() -> Iterator[tuple[Path, str]]:
    """The files of everything that eparch needs, and their names."""
    wanted, seen = ["eparch"], set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        found = distribution(name)
        needs = [Requirement(text) for text in found.requires or []]
        wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
        for path in found.files or ():
            source = Path(str(path.locate()))
            if ".." not in path.parts and source.is_file() and not str(path).endswith(".pth"):
                yield source, str(path)


def _linked(programs: list[Path]) -> set[str]:
    """The libraries of the system that programs need; one that lies beside a package comes with it."""
    told = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False).stdout
    found = set(re.findall(r"=> (/\S+)", told)) | set(re.findall(r"^\s+(/\S+) \(", told, re.MULTILINE))
    packages = sysconfig.get_path("platlib")
    return {library for library in found if not library.startswith(packages)}
