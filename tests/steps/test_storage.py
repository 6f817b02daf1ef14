"""Code from storage blocks, and from URLs (row D20)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.steps.keeping import Keeper
from tests.steps.repositories import Origin, serve

from eparch.core.errors import StepFailed
from eparch.core.step_names import SHIPPED
from eparch.steps import storage
from eparch.steps.references import ServerReferences
from eparch.steps.runner import run_steps

PULL = "prefect.deployments.steps.pull_with_block"
REMOTE = "prefect.deployments.steps.pull_from_remote_storage"
TOKEN = "t0ken-of-mine"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def pull(keeper: Keeper, slug: str, start: str) -> str:
    step = {PULL: {"block_type_slug": slug, "block_document_name": keeper.name(start)}}
    told: list[str] = []
    outputs = run_steps([step], on_output=told.append, references=ServerReferences(keeper.client))
    assert TOKEN not in "\n".join(told)
    return str(outputs["directory"])


def test_d20_a_local_folder_is_copied_anew_without_what_is_ignored(keeper: Keeper, tmp_path: Path) -> None:
    source = tmp_path / "code"
    (source / "inner").mkdir(parents=True)
    for name in ("flow.py", "inner/a.py", "inner/b.log"):
        (source / name).write_text(name)
    (source / ".prefectignore").write_text("*.log\n")
    keeper.keep("local-file-system", "code", basepath=str(source))
    directory = pull(keeper, "local-file-system", "code")
    assert directory == f"local-file-system-{keeper.name('code')}"
    assert (Path(directory) / "inner/a.py").read_text() == "inner/a.py"
    assert not (Path(directory) / "inner/b.log").exists()
    (source / "flow.py").unlink()
    pull(keeper, "local-file-system", "code")
    assert not (Path(directory) / "flow.py").exists()


def test_d20_the_working_directory_itself_can_be_the_source(keeper: Keeper, here: Path) -> None:
    (here / "flow.py").write_text("x")
    keeper.keep("local-file-system", "here")
    directory = pull(keeper, "local-file-system", "here")
    assert [path.name for path in Path(directory).iterdir()] == ["flow.py"]


def test_d20_a_copy_never_replaces_its_source(keeper: Keeper, here: Path) -> None:
    source = here / f"local-file-system-{keeper.name('same')}"
    source.mkdir()
    (source / "precious").write_text("x")
    keeper.keep("local-file-system", "same", basepath=str(source))
    with pytest.raises(StepFailed, match="lies where its copy would be"):
        pull(keeper, "local-file-system", "same")
    assert (source / "precious").exists()


@pytest.mark.parametrize(
    ("slug", "field", "credentials"),
    [
        ("github", "repository", None),
        ("github-repository", "repository_url", "credentials"),
        ("gitlab-repository", "repository", "credentials"),
        ("bitbucket-repository", "repository", "bitbucket_credentials"),
    ],
)
def test_d20_repositories_with_a_token(
    keeper: Keeper, tmp_path: Path, slug: str, field: str, credentials: str | None
) -> None:
    (tmp_path / "origin").mkdir()
    origin = Origin(tmp_path / "origin")
    origin.commit("release", flow="private")
    given = {credentials: {"token": TOKEN, "username": None}} if credentials else {"access_token": TOKEN}
    with serve(origin.root, "x-access-token", TOKEN) as address:
        keeper.keep(slug, "code", **{field: f"{address}/code.git", "reference": "release", **given})
        directory = pull(keeper, slug, "code")
        assert (Path(directory) / "flow").read_text() == "private"
        everything = [path.read_text(errors="replace") for path in Path(directory).rglob("config")]
        assert TOKEN not in "\n".join(everything)


def test_d20_git_clone_takes_a_block_for_its_credentials(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    origin = Origin(tmp_path / "origin")
    origin.commit(flow="private")
    keeper.keep("github-credentials", "mine", token=TOKEN)
    keeper.keep("secret", "token", value=TOKEN)
    clone = "prefect.deployments.steps.git_clone"
    named = {
        "credentials": f"github-credentials.{keeper.name('mine')}",
        "access_token": f"secret.{keeper.name('token')}",
    }
    with serve(origin.root, "x-access-token", TOKEN) as address:
        for argument, block in named.items():
            step = {clone: {
                "repository": f"{address}/code.git", argument: f"{{{{ prefect.blocks.{block} }}}}",
                "clone_directory_name": argument,
            }}  # fmt: skip
            run_steps([step], references=ServerReferences(keeper.client))
            assert Path(argument, "flow").read_text() == "private"


def test_d20_anything_that_fsspec_opens(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "bucket/folder").mkdir(parents=True)
    (tmp_path / "bucket/folder/flow.py").write_text("remote")
    keeper.keep(
        "remote-file-system", "files", basepath=f"file://{tmp_path}/bucket", settings={"auto_mkdir": True}
    )
    directory = pull(keeper, "remote-file-system", "files")
    assert (Path(directory) / "folder/flow.py").read_text() == "remote"
    outputs = run_steps([{REMOTE: {"url": f"file://{tmp_path}/bucket/folder", "auto_mkdir": False}}])
    assert (Path(outputs["directory"]) / "flow.py").read_text() == "remote"


BUCKETS = [
    ("s3", {"bucket_path": "b/f", "aws_access_key_id": "k", "aws_secret_access_key": "s"}, ("S3", "b", "f")),
    ("s3-bucket", {"bucket_name": "b", "basepath": "f", "minio_credentials": {"minio_root_user": "u"},
                   "endpoint_url": "http://m"}, ("S3", "b", "f")),
    ("gcs", {"bucket_path": "b", "service_account_info": '{"a": 1}'}, ("GoogleBucket", "b", "")),
    ("gcs-bucket", {"bucket": "b", "bucket_folder": "f/g"}, ("GoogleBucket", "b", "f/g")),
    ("azure", {"bucket_path": "az://c/f/g"}, ("Container", "c", "f/g")),
    ("azure-blob-storage-container", {"container_name": "c", "base_folder": "f"}, ("Container", "c", "f")),
]  # fmt: skip


@pytest.mark.parametrize(("slug", "data", "wanted"), BUCKETS)
def test_d20_where_blocks_of_both_ages_keep_code(
    monkeypatch: pytest.MonkeyPatch, slug: str, data: dict, wanted: tuple[str, str, str]
) -> None:
    opened, asked = [], []
    for kind in ("S3", "GoogleBucket", "Container"):
        monkeypatch.setattr(storage, kind, lambda *given, kind=kind: opened.append((kind, *given)))
    monkeypatch.setattr(storage, "pull_folder", lambda bucket, *given: asked.append(given))
    storage.KINDS[slug](data, Path("x"))
    [(kind, bucket, keys, *parameters)], [(folder, target)] = opened, asked
    assert (kind, bucket, folder, target) == (*wanted, Path("x"))
    assert keys == data.get("minio_credentials", data)
    assert parameters == ([{"endpoint_url": "http://m"}] if "endpoint_url" in data else [{}] * (kind == "S3"))


def test_d20_what_the_fields_of_a_share_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(storage, "_copy_remote", lambda *given: asked.append(given) or {})
    data = {"share_path": "/share/f", "smb_host": "h", "smb_username": "u", "smb_password": "p"}
    storage.KINDS["smb"](data, Path("x"))
    assert asked == [("smb://h/share/f", {"username": "u", "password": "p"}, Path("x"))]


def test_d20_a_missing_library_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(StepFailed) as caught:
        run_steps([{REMOTE: {"url": "s3://bucket/folder"}}])
    assert "s3fs" in caught.value.fix
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(StepFailed) as caught:
        run_steps([{REMOTE: {"url": "memory://x"}}])
    assert caught.value.fix == "install eparch[storage]"


def test_d20_a_block_that_keeps_no_code_is_refused(keeper: Keeper) -> None:
    keeper.keep("secret", "x", value="y")
    with pytest.raises(StepFailed, match="type 'secret' cannot pull code"):
        pull(keeper, "secret", "x")
    keeper.keep("remote-file-system", "empty")
    with pytest.raises(StepFailed, match="has no 'basepath'"):
        pull(keeper, "remote-file-system", "empty")
    with pytest.raises(StepFailed, match="no block 'local-file-system/gone-"):
        pull(keeper, "local-file-system", "gone")


def test_both_steps_are_shipped() -> None:
    assert {PULL, REMOTE} <= set(SHIPPED)
