"""Code in object stores: S3 by moto, Google's and Azure's by servers of ours (features 1.5)."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.steps.buckets import Azure, Google, Store, serve
from tests.steps.keeping import Keeper

from eparch.core.errors import StepFailed
from eparch.core.step_names import SHIPPED
from eparch.steps import transfer
from eparch.steps.references import ServerReferences
from eparch.steps.runner import run_steps

PUSH = {"s3": "prefect_aws.deployments.steps.push_to_s3", "gcs": "prefect_gcp.deployments.steps.push_to_gcs",
        "azure": "prefect_azure.deployments.steps.push_to_azure_blob_storage"}  # fmt: skip
PULL = {name: step.replace("push_to", "pull_from") for name, step in PUSH.items()}
TOKEN = "t0ken-of-mine"
KEY = base64.b64encode(b"key-of-mine").decode()
FILES = {"flow.py": "one", "sub dir/in#ner.py": "two", "empty": "", "sub dir/ä.txt": "three"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    for name, text in {
        **FILES,
        "data/big.csv": "x",
        "a.log": "x",
        ".prefectignore": "*.log\ndata/\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(transfer, "_pause", lambda seconds: None)
    return folder


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def there(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


KEPT = {**FILES, ".prefectignore": "*.log\ndata/\n"}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a server that speaks S3, with the bucket ``code``."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys).create_bucket(Bucket="code")
    yield f"http://{host}:{port}"
    server.stop()


def of_aws(address: str) -> dict[str, Any]:
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s3cret", "region_name": "us-east-1"}
    return {
        **keys,
        "aws_client_parameters": {"endpoint_url": address, "config": {"retries": {"max_attempts": 1}}},
    }


def round_trip(
    kind: str, where: dict[str, str], credentials: Any, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a push sends a pull brings, without what is ignored, and nothing of a folder that begins alike."""
    told: list[str] = []
    pushed = run_steps([{PUSH[kind]: {**where, "folder": "flows/v1/", "credentials": credentials}}],
                       on_output=told.append)  # fmt: skip
    assert pushed == {**where, "folder": "flows/v1/"}
    run_steps(
        [{PUSH[kind]: {**where, "folder": "flows/v10", "credentials": credentials}}], on_output=told.append
    )
    monkeypatch.chdir(empty)
    pull = {PULL[kind]: {**where, "folder": "flows/v1", "credentials": credentials}}
    assert run_steps([pull], on_output=told.append)["directory"] == str(empty)
    assert there(empty) == KEPT
    assert told == [
        "5 files sent to 'flows/v1/'",
        "5 files sent to 'flows/v10'",
        "5 files brought from 'flows/v1'",
    ]
    with pytest.raises(StepFailed, match="There is nothing in 'flows/v2'"):
        run_steps([{PULL[kind]: {**where, "folder": "flows/v2", "credentials": credentials}}])


def test_s3_there_and_back(s3: str, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    round_trip("s3", {"bucket": "code"}, of_aws(s3), empty, monkeypatch)
    minio = {"minio_root_user": "k", "minio_root_password": "s3cret"}
    parameters = {"endpoint_url": s3, "region_name": "us-east-1"}
    step = {"bucket": "code", "folder": "flows/v1", "credentials": minio, "client_parameters": parameters}
    run_steps([{PULL["s3"]: step}], on_output=lambda line: None)
    with pytest.raises(StepFailed, match="'nowhere/flows/v1/'") as caught:
        run_steps([{PULL["s3"]: {**step, "bucket": "nowhere"}}])
    assert "NoSuchBucket" in caught.value.why
    assert "s3cret" not in str(caught.value) + caught.value.why


@pytest.mark.parametrize("slug", ["s3", "s3-bucket"])
def test_d20_s3_blocks(
    s3: str, keeper: Keeper, slug: str, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = of_aws(s3)
    run_steps([{PUSH["s3"]: {"bucket": "code", "folder": "blocks", "credentials": keys}}])
    monkeypatch.chdir(empty)
    if slug == "s3":
        # A block of Prefect 2 has no endpoint; AWS' own variable says where the server is.
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
        pair = {name: keys[name] for name in ("aws_access_key_id", "aws_secret_access_key")}
        keeper.keep(slug, "code", bucket_path="code/blocks", **pair)
    else:
        keeper.keep(slug, "code", bucket_name="code", bucket_folder="blocks", credentials=keys)
    step = {"prefect.deployments.steps.pull_with_block": {
        "block_type_slug": slug, "block_document_name": keeper.name("code"),
    }}  # fmt: skip
    outputs = run_steps([step], references=ServerReferences(keeper.client), on_output=lambda line: None)
    assert there(empty / outputs["directory"]) == KEPT


@pytest.fixture
def google() -> Iterator[tuple[str, type[Store]]]:
    with serve(Google, token=TOKEN) as served:
        yield served


def test_gcs_there_and_back(google: Any, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, store = google
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    store.faults[:] = [503, 429]
    round_trip("gcs", {"bucket": "code"}, {"access_token": TOKEN}, empty, monkeypatch)
    with pytest.raises(StepFailed, match="Listing 'code/flows/'") as caught:
        run_steps(
            [{PULL["gcs"]: {"bucket": "code", "folder": "flows", "credentials": {"access_token": "wr0ng"}}}]
        )
    assert "403" in caught.value.why
    assert "wr0ng" not in caught.value.why
    store.faults[:] = [500, 502, 503]
    with pytest.raises(StepFailed, match="Listing") as caught:
        run_steps([{PULL["gcs"]: {"bucket": "code", "folder": "f", "credentials": {"access_token": TOKEN}}}])
    assert "503" in caught.value.why


@pytest.mark.parametrize("slug", ["gcs", "gcs-bucket"])
def test_d20_gcs_blocks_with_the_key_of_a_service_account(
    google: Any, keeper: Keeper, slug: str, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    address, store = google
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    info = {"type": "service_account", "client_email": "me@example.com", "private_key": pem.decode(),
            "token_uri": f"{address}/token", "private_key_id": "1"}  # fmt: skip
    store.objects["blocks/flow.py"] = b"x"
    monkeypatch.chdir(empty)
    if slug == "gcs":
        keeper.keep(slug, "code", bucket_path="code/blocks", service_account_info=json.dumps(info))
    else:
        keys = {"service_account_info": info, "project": "mine"}
        keeper.keep(slug, "code", bucket="code", bucket_folder="blocks", gcp_credentials=keys)
    step = {"prefect.deployments.steps.pull_with_block": {
        "block_type_slug": slug, "block_document_name": keeper.name("code"),
    }}  # fmt: skip
    outputs = run_steps([step], references=ServerReferences(keeper.client), on_output=lambda line: None)
    assert there(empty / outputs["directory"]) == {"flow.py": "x"}
    assert sum("/token" in line for line in store.seen) == 1


@pytest.fixture
def azure() -> Iterator[tuple[str, type[Store]]]:
    with serve(Azure, key=KEY) as served:
        yield served


def test_azure_there_and_back(azure: Any, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, _ = azure
    text = f"AccountName=me;AccountKey={KEY};BlobEndpoint={address}/;EndpointSuffix=core.windows.net"
    round_trip("azure", {"container": "code"}, {"connection_string": text}, empty, monkeypatch)
    other = base64.b64encode(b"other").decode()
    wrong = {"account_url": address, "account_name": "me", "account_key": other}
    with pytest.raises(StepFailed, match="Listing 'code/flows/v1/'") as caught:
        run_steps([{PULL["azure"]: {"container": "code", "folder": "flows/v1", "credentials": wrong}}])
    assert other not in str(caught.value) + caught.value.why


@pytest.mark.parametrize("slug", ["azure", "azure-blob-storage-container"])
def test_d20_azure_blocks(
    azure: Any, keeper: Keeper, slug: str, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, store = azure
    store.objects["blocks/flow.py"] = b"x"
    text = f"AccountName=me;AccountKey={KEY};BlobEndpoint={address}"
    monkeypatch.chdir(empty)
    if slug == "azure":
        keeper.keep(slug, "code", bucket_path="code/blocks", azure_storage_connection_string=text)
    else:
        keys = {"connection_string": text}
        keeper.keep(slug, "code", container_name="code", base_folder="blocks", credentials=keys)
    step = {"prefect.deployments.steps.pull_with_block": {
        "block_type_slug": slug, "block_document_name": keeper.name("code"),
    }}  # fmt: skip
    outputs = run_steps([step], references=ServerReferences(keeper.client), on_output=lambda line: None)
    assert there(empty / outputs["directory"]) == {"flow.py": "x"}


def test_a_signature_in_an_address_is_sent_and_never_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Azure, "is_let_in", lambda self: self.query.get("sig") == "s1gned" and self.seen)
    with serve(Azure, key=KEY) as (address, store):
        store.objects["f/flow.py"] = b"x"
        given = {"connection_string": f"BlobEndpoint={address};SharedAccessSignature=sv=1&sig=s1gned"}
        step = {PULL["azure"]: {"container": "code", "folder": "f", "credentials": given}}
        run_steps([step], on_output=lambda line: None)
        assert Path("flow.py").read_text() == "x"
        given["connection_string"] += "x"
        with pytest.raises(StepFailed) as caught:
            run_steps([step])
        assert "s1gned" not in str(caught.value) + caught.value.why


@pytest.mark.parametrize("name", ["f/../../outside", "f//x", "f/a\\b", "f/./x"])
def test_an_object_whose_name_leads_out_of_the_folder_is_refused(
    google: Any, empty: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    address, store = google
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    monkeypatch.chdir(empty)
    store.objects[name] = b"x"
    step = {PULL["gcs"]: {"bucket": "code", "folder": "f", "credentials": {"access_token": TOKEN}}}
    with pytest.raises(StepFailed, match="has no place in a folder"):
        run_steps([step])
    assert there(empty.parent / "empty") == {}


def test_an_ignore_file_of_another_name_has_to_be_there() -> None:
    step = {"bucket": "code", "folder": "f", "credentials": {"access_token": TOKEN}, "ignore_file": ".gone"}
    with pytest.raises(StepFailed, match=r"no '\.gone'"):
        run_steps([{PUSH["gcs"]: step}])


@pytest.mark.parametrize(
    ("module", "step", "arguments", "extra"),
    [
        ("boto3", PULL["s3"], {"bucket": "b", "folder": "f"}, "eparch[aws]"),
        ("google.auth", PULL["gcs"], {"bucket": "b", "folder": "f"}, "eparch[gcp]"),
        ("azure", PULL["azure"], {"container": "c", "folder": "f", "credentials": {"account_name": "n"}},
         "eparch[azure]"),
    ],
)  # fmt: skip
def test_a_missing_library_is_named_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, module: str, step: str, arguments: dict, extra: str
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StepFailed) as caught:
        run_steps([{step: arguments}])
    assert extra in caught.value.fix


def test_credentials_of_azure_name_an_account() -> None:
    with pytest.raises(StepFailed, match="name no account"):
        run_steps([{PULL["azure"]: {"container": "c", "folder": "f"}}])


def test_all_of_them_are_shipped() -> None:
    assert {*PUSH.values(), *PULL.values()} <= set(SHIPPED)
