"""Labels of jobs as each platform takes them (row W23).

Owns the rules of Kubernetes, Google Cloud, AWS and Azure on keys and values. Pure: what is legal stays as it
is, what is not becomes the nearest legal text, and labels that would fall together stay apart.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping

Clean = Callable[[str], str]

_DIGEST = 7
"""Characters that tell apart what was cut off or fell together: a hyphen and six of a digest."""

_DASHES = "-_."


def for_kubernetes(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels of a Kubernetes object: keys ``[prefix/]name``, names and values of at most 63 characters.

    https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
    """
    return _translated(labels, _kubernetes_key, lambda value: _word(value, 63))


def for_google(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels of Google Cloud: lower case, digits, ``_`` and ``-``, at most 63 characters, 64 labels."""
    return _translated(labels, _google_key, lambda value: _cut(_lower(value), 63), most=64)


def for_aws(labels: Mapping[str, str]) -> dict[str, str]:
    """Tags of AWS: keys of at most 128 characters that do not begin with ``aws:``, values of 256, 50 tags."""
    return _translated(labels, _aws_key, lambda value: _cut(_aws(value), 256), most=50)


def for_azure(labels: Mapping[str, str]) -> dict[str, str]:
    """Tags of Azure: keys of at most 512 characters without ``<>%&\\?/``, values of 256, 50 tags."""
    return _translated(labels, _azure_key, lambda value: _cut(value, 256), most=50)


def _translated(
    labels: Mapping[str, str], key_of: Clean, value_of: Clean, *, most: int | None = None
) -> dict[str, str]:
    """``labels`` with legal keys and values; a key of which nothing is left is left out."""
    found: dict[str, str] = {}
    legal = {key for key in labels if key_of(key) == key}
    for key, value in labels.items():
        new = key_of(key)
        if not new or len(found) == most:
            continue
        if new != key and (new in found or new in legal):
            new = key_of(f"{new[: max(1, len(new) - _DIGEST)]}-{_digest(key)}")
        found[new] = value_of(value)
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[: _DIGEST - 1]


def _cut(text: str, size: int) -> str:
    """At most ``size`` characters; what is cut off is told apart by a digest."""
    return text if len(text) <= size else f"{text[: size - _DIGEST]}-{_digest(text)}"


def _word(text: str, size: int) -> str:
    """A name or value of Kubernetes: letters, digits and dashes, a letter or digit at both ends."""
    return _cut(re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip(_DASHES), size)


def _kubernetes_key(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    name = _word(name, 63)
    if not slash or not name:
        return name
    parts = (re.sub(r"[^a-z0-9-]+", "-", part.lower()).strip("-") for part in prefix.split("."))
    domain = ".".join(part for part in parts if part)[:253].strip("-.")
    return f"{domain}/{name}" if domain else name


def _lower(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower())


def _google_key(key: str) -> str:
    return _cut(re.sub(r"^[^a-z]+", "", _lower(key)), 63)


def _aws(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9 +\-=._:/@]+", "-", text)


def _aws_key(key: str) -> str:
    return _cut(re.sub(r"^(aws:)+", "", _aws(key), flags=re.IGNORECASE), 128)


def _azure_key(key: str) -> str:
    return _cut(re.sub(r"[<>%&\\?/\x00-\x1f]+", "-", key), 512)
