"""Blocks: ``from eparch.blocks import Block, Secret``.

Owns the public names only; what they do is in ``eparch.sdk.blocks``.
"""

from eparch.core.secrets import SecretDict as SecretDict
from eparch.core.secrets import SecretStr as SecretStr
from eparch.sdk.blocks.block import Block as Block
from eparch.sdk.blocks.fields import Field as Field
from eparch.sdk.blocks.filesystems import LocalFileSystem as LocalFileSystem
from eparch.sdk.blocks.filesystems import RemoteFileSystem as RemoteFileSystem
from eparch.sdk.blocks.system import Secret as Secret
from eparch.sdk.blocks.webhook import Webhook as Webhook

__all__ = [
    "Block",
    "Field",
    "LocalFileSystem",
    "RemoteFileSystem",
    "Secret",
    "SecretDict",
    "SecretStr",
    "Webhook",
]
