"""Storage blocks as pull steps (row M5).

Owns which step brings the code that a block keeps. Does not own where in it a flow is.
"""

from __future__ import annotations

from eparch.core.model import Json
from eparch.migrate.account import Account
from eparch.migrate.inventory import OF_DOCUMENT, Block, is_masked
from eparch.steps.storage import KINDS

_STEPS = "prefect.deployments.steps."


def pull_steps(storage: Block, account: Account) -> list[dict[str, Json]] | None:
    """The steps that bring the code of ``storage``; None if a tool cannot say.

    A saved block keeps its secrets: the step names it. Of one that was not saved only its place is known.
    """
    account_for(storage, account)
    if storage.name and storage.slug in KINDS:
        account.renamed("storage", "pull", "the step reads the saved block, with its secrets")
        inputs = {"block_type_slug": storage.slug, "block_document_name": storage.name}
        return [{f"{_STEPS}pull_with_block": inputs}]
    step = _step(storage)
    if step is None:
        account.needs_you(
            "storage", f"write pull steps: nothing is known of {storage.slug} blocks that were not saved"
        )
        return None
    account.renamed("storage", "pull", "its place only: it was not saved as a block")
    return [step]


def account_for(storage: Block, account: Account) -> None:
    """Say what became of each field of the block."""
    for field in dict.fromkeys([*storage.data, *storage.references]):
        value, name = storage.data.get(field), f"storage.{field}"
        if field in OF_DOCUMENT:
            account.renamed(name, "pull", "it says which block it was")
        elif storage.name and storage.slug in KINDS:
            account.carried(name, "pull", "the saved block has it")
        elif is_masked(value) or field in storage.references:
            account.needs_you(name, "a secret that was masked: give it to the pull step, from a saved block")
        elif value in (None, {}, [], "") or field in _PLACES.get(storage.slug, ()):
            account.carried(name, "pull", "" if value else "it was empty")
        else:
            account.needs_you(name, "no pull step takes it: save the block, and pull with 'pull_with_block'")


_PLACES = {
    "github": ("repository", "reference"),
    "s3": ("bucket_path",),
    "s3-bucket": ("bucket_name", "bucket_folder"),
    "gcs": ("bucket_path",),
    "gcs-bucket": ("bucket", "bucket_folder"),
    "azure": ("bucket_path",),
    "remote-file-system": ("basepath",),
    "local-file-system": ("basepath",),
}
"""Slug -> fields that say where the code is."""


def _step(storage: Block) -> dict[str, Json] | None:
    place = [storage.data.get(field) for field in _PLACES.get(storage.slug, ())]
    if not place or not isinstance(place[0], str) or not place[0] or is_masked(place[0]):
        return None
    first, second = place[0], place[1] if len(place) > 1 else None
    if storage.slug == "github":
        return {f"{_STEPS}git_clone": {"repository": first, **({"branch": second} if second else {})}}
    if storage.slug == "local-file-system":
        return {f"{_STEPS}set_working_directory": {"directory": first}}
    if storage.slug == "remote-file-system":
        return {f"{_STEPS}pull_from_remote_storage": {"url": first}}
    bucket, _, folder = first.partition("://")[2 if "://" in first else 0].partition("/")
    folder = folder or (second if isinstance(second, str) else "")
    kind = storage.slug.partition("-")[0]
    if kind == "azure":
        step, key = "prefect_azure.deployments.steps.pull_from_azure_blob_storage", "container"
    else:
        step, key = f"prefect_{'aws' if kind == 's3' else 'gcp'}.deployments.steps.pull_from_{kind}", "bucket"
    return {step: {key: bucket, "folder": folder}}
