"""Where a cluster is and who the worker is there: a kubectl configuration, or the pod that it runs in.

Owns reading both, credentials that change (tokens in files, commands that print them) and the TLS context.
Does not own requests. Formats: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
and https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import msgspec

from eparch.core.errors import InfrastructureError, did_you_mean
from eparch.core.model import Value
from eparch.workers.kubernetes_jobs import ClusterConfig

POD_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its own account."""

_TOKEN_AGE = 60.0
"""Seconds after which a token in a file is read again; the kubelet renews it long before it ends."""

_EARLY = 60.0
"""Seconds before its end at which a credential is asked for again."""

_COMMAND_TIME = 60.0
_MOST_BYTES = 4 * 1024 * 1024


class Account(Value, frozen=True, kw_only=True):
    """Who asks: what of it is set counts, the first first."""

    exec_: dict[str, Any] | None = msgspec.field(default=None, name="exec")
    token: str | None = None
    token_file: str | None = msgspec.field(default=None, name="tokenFile")
    username: str | None = None
    password: str | None = None
    certificate: str | None = msgspec.field(default=None, name="client-certificate")
    certificate_data: str | None = msgspec.field(default=None, name="client-certificate-data")
    key: str | None = msgspec.field(default=None, name="client-key")
    key_data: str | None = msgspec.field(default=None, name="client-key-data")
    auth_provider: dict[str, Any] | None = msgspec.field(default=None, name="auth-provider")

    def __repr__(self) -> str:
        """Nothing of it is for people."""
        return "Account(...)"


class Place(Value, frozen=True, kw_only=True):
    """Where a cluster is."""

    server: str
    authority: str | None = msgspec.field(default=None, name="certificate-authority")
    authority_data: str | None = msgspec.field(default=None, name="certificate-authority-data")
    insecure: bool = msgspec.field(default=False, name="insecure-skip-tls-verify")
    server_name: str | None = msgspec.field(default=None, name="tls-server-name")
    proxy: str | None = msgspec.field(default=None, name="proxy-url")


class Access:
    """A cluster as one account may use it; for any number of threads."""

    def __init__(self, place: Place, account: Account, namespace: str, origin: str, folder: Path) -> None:
        self.place, self.namespace, self.origin = place, namespace, origin
        self._account, self._folder = account, folder
        self._parts = urlsplit(place.server)
        if self._parts.scheme not in ("http", "https") or not self._parts.hostname:
            _refuse(origin, f"the cluster's 'server' is {place.server!r}, which is no http or https URL")
        if account.auth_provider is not None:
            name = account.auth_provider.get("name")
            _refuse(
                origin, f"'auth-provider: {name}' is no part of Kubernetes any more", "use an 'exec' plugin"
            )
        self._token, self._token_end = "", 0.0
        self._issued: dict[str, Any] = {}
        self._tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        """Where the API is, for people."""
        return self.place.server.rstrip("/")

    @property
    def is_tls(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self._parts.scheme == "https"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        assert self._parts.hostname is not None
        return self._parts.hostname, self._parts.port or (443 if self.is_tls else 80)

    @property
    def prefix(self) -> str:
        """What stands before every path."""
        return self._parts.path.rstrip("/")

    def headers(self) -> dict[str, str]:
        """What proves who asks; may read a file or run a command.

        Raises:
            InfrastructureError: the credentials cannot be had.
        """
        account = self._account
        if account.username is not None and account.exec_ is None and account.token is None:
            pair = f"{account.username}:{account.password or ''}".encode()
            return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        if time.monotonic() >= self._token_end:
            self._renew()
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def forget(self) -> None:
        """What was shown was refused: get it again next time."""
        self._token_end = 0.0

    def context(self) -> ssl.SSLContext | None:
        """Whom to trust and which certificate to show; None without TLS.

        Raises:
            InfrastructureError: a certificate cannot be read.
        """
        if not self.is_tls:
            return None
        self.headers()
        if self._tls is None:
            try:
                self._tls = self._make_context()
            except (OSError, ValueError) as error:
                _refuse(self.origin, f"a certificate cannot be read: {error}")
        return self._tls

    def _make_context(self) -> ssl.SSLContext:
        place, account = self.place, self._account
        context = ssl.create_default_context()
        if place.authority_data or place.authority:
            data = self._read(place.authority_data, place.authority, "certificate-authority")
            context = ssl.create_default_context(cadata=data)
        if place.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        certificate = self._issued.get("clientCertificateData") or self._read(
            account.certificate_data, account.certificate, "client-certificate"
        )
        key = self._issued.get("clientKeyData") or self._read(account.key_data, account.key, "client-key")
        if certificate:
            # Python takes certificates only from files; mode 0600, and gone at once.
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                file.write(f"{certificate}\n{key}\n")
                file.flush()
                context.load_cert_chain(file.name)
        return context

    def _renew(self) -> None:
        account = self._account
        if account.exec_ is not None:
            self._issued, before = self._run(account.exec_), self._issued
            if self._issued.get("clientCertificateData") != before.get("clientCertificateData"):
                self._tls = None
            self._token = str(self._issued.get("token") or "")
            self._token_end = time.monotonic() + _lasting(self._issued.get("expirationTimestamp"))
        elif account.token_file is not None:
            self._token = self._read(None, account.token_file, "tokenFile").strip()
            self._token_end = time.monotonic() + _TOKEN_AGE
        else:
            self._token, self._token_end = account.token or "", float("inf")

    def _run(self, plugin: Mapping[str, Any]) -> dict[str, Any]:
        """What a credential plugin prints."""
        version = str(plugin.get("apiVersion") or "client.authentication.k8s.io/v1")
        command = [str(plugin.get("command") or ""), *(str(word) for word in plugin.get("args") or [])]
        if os.sep in command[0]:
            command[0] = str(self._folder / command[0])
        about: dict[str, Any] = {"interactive": False}
        if plugin.get("provideClusterInfo"):
            about["cluster"] = {"server": self.place.server}
            if self.place.authority_data:
                about["cluster"]["certificate-authority-data"] = self.place.authority_data
        asked = json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": about})
        env = {str(one.get("name")): str(one.get("value")) for one in plugin.get("env") or []}
        try:
            done = subprocess.run(
                command, env={**os.environ, **env, "KUBERNETES_EXEC_INFO": asked}, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=_COMMAND_TIME, check=True,
            )  # fmt: skip
            return dict(json.loads(done.stdout)["status"])
        except subprocess.CalledProcessError as error:
            why = f"'{command[0]}' ended with exit code {error.returncode}: {error.stderr.strip()[-500:]}"
        except subprocess.TimeoutExpired:
            why = f"'{command[0]}' did not end within {_COMMAND_TIME:g} seconds"
        except OSError as error:
            why = f"'{command[0]}': {error.strerror}"
        except (ValueError, KeyError, TypeError):
            why = f"'{command[0]}' printed no ExecCredential"
        hint = str(plugin.get("installHint") or "").strip()
        raise _unusable(self.origin, why, hint or "run the command yourself and see what it says")

    def _read(self, data: str | None, path: str | None, key: str) -> str:
        if data:
            try:
                return base64.b64decode("".join(data.split()), validate=True).decode()
            except ValueError:
                _refuse(self.origin, f"'{key}-data' is not base64")
        if not path:
            return ""
        try:
            return (self._folder / path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            _refuse(self.origin, f"'{key}' cannot be read: {error}")


def find_access(config: ClusterConfig | None, environ: Mapping[str, str]) -> Access:
    """The cluster of a block; else the one that this process runs in; else that of kubectl.

    Raises:
        InfrastructureError: there is none, or what there is cannot be used.
    """
    if config is not None:
        if not config.config:
            _refuse("cluster_config", "the block was not read", "let a worker do it")
        loaded = _parse(config.config, "cluster_config") if isinstance(config.config, str) else config.config
        return _from_config([(dict(loaded), Path.cwd())], config.context_name, "cluster_config")
    host = environ.get("KUBERNETES_SERVICE_HOST")
    if host and (POD_FOLDER / "token").is_file():
        return _in_cluster(host, environ.get("KUBERNETES_SERVICE_PORT", "443"))
    named = environ.get("KUBECONFIG")
    paths = [Path(one) for one in (named or "").split(os.pathsep) if one] or [
        Path.home() / ".kube" / "config"
    ]
    found = [(_load(path), path.parent) for path in paths if path.is_file()]
    if not found:
        raise InfrastructureError(
            "There is no cluster for the worker",
            why=f"it runs in no pod, and there is no {', '.join(map(str, paths))}",
            fix="set KUBECONFIG, give 'cluster_config' in the pool, or run the worker in the cluster",
        )
    return _from_config(found, None, ", ".join(map(str, paths)))


def _in_cluster(host: str, port: str) -> Access:
    authority = POD_FOLDER / "ca.crt"
    place = Place(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        authority=str(authority) if authority.is_file() else None,
    )
    account = Account(token_file=str(POD_FOLDER / "token"))
    try:
        namespace = (POD_FOLDER / "namespace").read_text().strip()
    except OSError:
        namespace = "default"
    return Access(place, account, namespace, "the service account of the pod", POD_FOLDER)


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        _refuse(str(path), f"it cannot be read: {error}")
    return _parse(text, str(path))


def _parse(text: str, origin: str) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        loaded = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        _refuse(origin, f"it is not YAML{f', line {mark.line + 1}' if mark else ''}")
    if not isinstance(loaded, dict):
        _refuse(origin, "it is no kubectl configuration")
    return loaded


def _from_config(found: list[tuple[dict[str, Any], Path]], context_name: str | None, origin: str) -> Access:
    """The access that a context means; of several files the first that has a name counts."""
    name = context_name or next((str(c["current-context"]) for c, _ in found if c.get("current-context")), "")
    if not name:
        _refuse(origin, "it has no 'current-context'", "set one with: kubectl config use-context NAME")
    context, _ = _named(found, "contexts", "context", name, origin)
    cluster, folder = _named(found, "clusters", "cluster", str(context.get("cluster")), origin)
    user: Mapping[str, Any] = {}
    if context.get("user"):
        user, folder = _named(found, "users", "user", str(context["user"]), origin)
    try:
        place, account = msgspec.convert(dict(cluster), Place), msgspec.convert(dict(user), Account)
    except msgspec.ValidationError as error:
        _refuse(origin, f"the context '{name}' does not fit: {error}")
    return Access(place, account, str(context.get("namespace") or "default"), origin, folder)


def _named(
    found: list[tuple[dict[str, Any], Path]], many: str, one: str, name: str, origin: str
) -> tuple[Mapping[str, Any], Path]:
    known = []
    for config, folder in found:
        entries = config.get(many) or []
        for entry in entries if isinstance(entries, list) else []:
            if not isinstance(entry, dict):
                continue
            known.append(str(entry.get("name")))
            if known[-1] == name and isinstance(entry.get(one), dict):
                return entry[one], folder
    hint = did_you_mean(name, known) or f"there are: {', '.join(known) or 'none'}"
    raise _unusable(origin, f"it has no {one} '{name}'", hint)


def _lasting(end: Any) -> float:
    """Seconds for which a credential may be used; one that does not say it lasts until it is refused."""
    if not isinstance(end, str):
        return float("inf")
    try:
        return max(datetime.fromisoformat(end).timestamp() - time.time() - _EARLY, 1.0)
    except ValueError:
        return _TOKEN_AGE


def _refuse(origin: str, why: str, fix: str = "") -> NoReturn:
    raise _unusable(origin, why, fix)


def _unusable(origin: str, why: str, fix: str) -> InfrastructureError:
    return InfrastructureError(
        "The Kubernetes cluster cannot be used", why=f"{origin}: {why}", fix=fix or f"correct {origin}"
    )
