"""The block types that code is pulled with, as Prefect 2, Prefect 3 and its collections have them (D20).

Owns their fields as a table. How a field becomes a schema, and registering them, is in ``system_blocks``;
what each field means to a pull is in the steps.
"""

from __future__ import annotations

Row = tuple[str, str, str, dict[str, str]]
"""Slug, name, what it is, and its fields: ``text`` and ``maybe`` are texts, the second need not be there;
``secret`` need not be there and is sealed, ``secrets`` is an object of sealed values.
"""

_REPOSITORY = {"reference": "maybe"}
_SHARED = {"username": "maybe", "token": "secret"}

STORAGE: tuple[Row, ...] = (
    ("s3", "S3", "Files in a bucket of S3.",
     {"bucket_path": "text", "aws_access_key_id": "secret", "aws_secret_access_key": "secret"}),
    ("s3-bucket", "S3 Bucket", "Files in a bucket of S3, or of a server that speaks its protocol.",
     {"bucket_name": "text", "bucket_folder": "maybe", "credentials": "secrets"}),
    ("gcs", "GCS", "Files in a bucket of Google Cloud Storage.",
     {"bucket_path": "text", "service_account_info": "secret", "project": "maybe"}),
    ("gcs-bucket", "GCS Bucket", "Files in a bucket of Google Cloud Storage.",
     {"bucket": "text", "bucket_folder": "maybe", "gcp_credentials": "secrets"}),
    ("azure", "Azure", "Files in a container of Azure Blob Storage.",
     {"bucket_path": "text", "azure_storage_connection_string": "secret",
      "azure_storage_account_name": "secret", "azure_storage_account_key": "secret",
      "azure_storage_tenant_id": "secret", "azure_storage_client_id": "secret",
      "azure_storage_client_secret": "secret"}),
    ("azure-blob-storage-container", "Azure Blob Storage Container", "Files in a container of Azure.",
     {"container_name": "text", "base_folder": "maybe", "credentials": "secrets"}),
    ("github", "GitHub", "Files in a repository of GitHub.",
     {"repository": "text", **_REPOSITORY, "access_token": "secret"}),
    ("github-repository", "GitHub Repository", "Files in a repository of GitHub.",
     {"repository_url": "text", **_REPOSITORY, "credentials": "secrets"}),
    ("gitlab-repository", "GitLab Repository", "Files in a repository of GitLab.",
     {"repository": "text", **_REPOSITORY, "credentials": "secrets"}),
    ("bitbucket-repository", "BitBucket Repository", "Files in a repository of Bitbucket.",
     {"repository": "text", **_REPOSITORY, "bitbucket_credentials": "secrets"}),
    ("aws-credentials", "AWS Credentials", "What lets one in at AWS.",
     {"aws_access_key_id": "maybe", "aws_secret_access_key": "secret", "aws_session_token": "secret",
      "profile_name": "maybe", "region_name": "maybe", "aws_client_parameters": "secrets"}),
    ("gcp-credentials", "GCP Credentials", "What lets one in at Google Cloud.",
     {"service_account_file": "maybe", "service_account_info": "secrets", "project": "maybe"}),
    ("azure-blob-storage-credentials", "Azure Blob Storage Credentials", "What Azure asks for.",
     {"connection_string": "secret", "account_url": "maybe", "tenant_id": "maybe", "client_id": "maybe",
      "client_secret": "secret"}),
    ("github-credentials", "GitHub Credentials", "A token of GitHub.", {"token": "secret"}),
    ("gitlab-credentials", "GitLab Credentials", "A token of GitLab.", {"token": "secret", "url": "maybe"}),
    ("bitbucket-credentials", "BitBucket Credentials", "A token or password of Bitbucket.",
     {**_SHARED, "password": "secret", "url": "maybe"}),
    ("docker-registry-credentials", "Docker Registry Credentials", "A login of a registry of images.",
     {"username": "text", "password": "secret", "registry_url": "text"}),
)  # fmt: skip
"""Every kind of block that code is pulled with, and what it is opened with."""
