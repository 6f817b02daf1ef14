"""What a person is told when a Kubernetes cluster refuses: from its ``Status`` to our errors. Pure.

Owns the words for every refusal, and which of them may pass. Does not own asking again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from eparch.core.errors import InfrastructureError

_MOST = 1000
"""Characters of what the cluster says that are repeated."""

_BUSY = frozenset({408, 429, 500, 502, 503, 504})


class Asked(NamedTuple):
    """What was asked of a cluster, in the words of its rules of access."""

    verb: str
    resource: str
    """Plural, with its subresource: ``pods/log``."""
    group: str = ""
    namespace: str | None = None
    name: str = ""


class ClusterAway(InfrastructureError):
    """The cluster does not answer, or is busy; it may come back."""


class Missing(InfrastructureError):
    """The cluster has no such object."""


class Taken(InfrastructureError):
    """There is one of that name, or somebody else changed it meanwhile."""


class Denied(InfrastructureError):
    """The worker's account may not do it."""


class Outdated(InfrastructureError):
    """A watch asked for changes that the cluster does not remember any more."""


def explain_status(code: int, status: Mapping[str, Any], asked: Asked, origin: str) -> InfrastructureError:
    """The error for an answer of the cluster; ``origin`` is where the account came from."""
    said = " ".join(str(status.get("message") or f"status {code}").split())[:_MOST]
    reason = str(status.get("reason") or "")
    if code in _BUSY:
        return ClusterAway("The Kubernetes API cannot answer now", why=said, fix="it is asked again")
    if code == 401:
        return Denied(
            "The Kubernetes API does not know who asks",
            why=said,
            fix=f"renew the credentials of {origin}",
        )
    if code == 403:
        return _denied(said, asked)
    if code == 404:
        return _missing(said, status, asked)
    if code == 409:
        return Taken(_subject("{} was changed or made by somebody else", asked), why=said)
    if code == 410:
        return Outdated("The changes since then are not known any more", why=said)
    if code in (400, 422) or reason == "Invalid":
        return _invalid(said, status, asked)
    return InfrastructureError(
        f"The Kubernetes API refused to {asked.verb} {asked.resource}", why=f"{code} {reason}: {said}"
    )


def _subject(text: str, asked: Asked) -> str:
    kind = {"jobs": "Job", "pods": "pod", "leases": "Lease", "namespaces": "namespace"}
    name = f" '{asked.name}'" if asked.name else ""
    return text.format(f"The {kind.get(asked.resource.partition('/')[0], asked.resource)}{name}")


def _denied(said: str, asked: Asked) -> InfrastructureError:
    """Which rule is missing, for whom."""
    if re.search(
        r"exceeded quota|admission webhook|denied the request|violates PodSecurity|is forbidden because", said
    ):
        return InfrastructureError(
            "The Kubernetes cluster does not admit the Job", why=said,
            fix="change the pool's job_manifest or job variables by what it says, or the rule of the cluster",
        )  # fmt: skip
    if "is being terminated" in said:
        return InfrastructureError(
            f"The namespace '{asked.namespace}' is being deleted",
            why=said,
            fix="use another: job variable 'namespace'",
        )
    found = re.search(r'User "([^"]+)"', said)
    user = found[1] if found else "the worker's account"
    where = f"in the namespace '{asked.namespace}'" if asked.namespace else "in the whole cluster"
    group = f'apiGroups: ["{asked.group}"]'
    kind = "a Role" if asked.namespace else "a ClusterRole"
    return Denied(
        f"'{user}' may not {asked.verb} {asked.resource} {where}",
        why=said,
        fix=f'bind it to {kind} with {group}, resources: ["{asked.resource}"], verbs: ["{asked.verb}"];'
        " docs/kubernetes.md has all that a worker needs",
    )


def _missing(said: str, status: Mapping[str, Any], asked: Asked) -> InfrastructureError:
    details = status.get("details")
    kind = details.get("kind") if isinstance(details, Mapping) else None
    if kind == "namespaces" and asked.resource != "namespaces":
        return InfrastructureError(
            f"There is no namespace '{asked.namespace}' in the cluster", why=said,
            fix=f"create it: kubectl create namespace {asked.namespace},"
            " or correct the job variable 'namespace'",
        )  # fmt: skip
    return Missing(_subject("{} is not there", asked), why=said)


def _invalid(said: str, status: Mapping[str, Any], asked: Asked) -> InfrastructureError:
    """Each field that the cluster did not take."""
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, Mapping) else None
    fields = [
        f"{cause.get('field')}: {cause.get('message')}"
        for cause in causes or []
        if isinstance(cause, Mapping)
    ]
    return InfrastructureError(
        f"The Kubernetes API does not take the {'Job' if asked.resource == 'jobs' else asked.resource}",
        why=("; ".join(fields) or said)[:_MOST],
        fix="correct 'job_manifest' of the pool, or the job variables that fill it in;"
        " eparch deployment render shows the whole manifest",
    )
