"""``eparch init`` as people run it (row D22)."""

import subprocess

import pytest

from eparch.deploy.project import read_project

from .terminals import Terminal


@pytest.fixture
def folder(environ, tmp_path):
    found = tmp_path / "etl"
    found.mkdir()
    environ.chdir(found)
    return found


def test_d22_init_guesses_and_writes_both_files(folder, run):
    done = run("init", code=0)
    assert "recipe 'local'" in done.err
    project = read_project(folder / "prefect.yaml")
    assert (project.name, project.notes) == ("etl", [])
    assert project.pull[0].arguments == {"directory": str(folder.resolve())}
    assert "__pycache__/" in (folder / ".prefectignore").read_text()


def test_d22_a_repository_and_a_dockerfile_decide(folder, run):
    (folder / "Dockerfile").write_text("FROM scratch\n")
    subprocess.run(["git", "init", "-q", "-b", "trunk"], check=True)
    url = "https://ann:secret@git.example/team/etl.git"
    subprocess.run(["git", "remote", "add", "origin", url], check=True)
    run("init", "-f", "image_name=registry.example/etl", "--field", "tag=1", "--name", "reports", code=0)
    text = (folder / "prefect.yaml").read_text()
    project = read_project(folder / "prefect.yaml")
    assert project.name == "reports"
    assert project.build[0].arguments["dockerfile"] == "Dockerfile"
    assert project.build[0].arguments["tag"] == "1"
    assert project.pull[0].arguments == {
        "repository": "https://git.example/team/etl.git",
        "branch": "trunk",
    }
    assert "secret" not in text


@pytest.mark.parametrize(
    ("arguments", "message", "fix"),
    [
        (["--recipe", "s3"], "needs bucket", "-f bucket=..."),
        (["--recipe", "docker"], "needs image_name, tag", "-f image_name=... -f tag=..."),
        (["--recipe", "s4"], "no recipe 's4'", "Choose one"),
        (["--recipe", "s3", "-f", "buckt=x"], "no input 'buckt'", "'bucket'"),
        (["-f", "x"], "key=value", "x=value"),
    ],
)
def test_d4_what_is_missing_is_named_and_nothing_is_written(folder, run, arguments, message, fix):
    done = run("--no-prompt", "init", *arguments, code=2)
    assert message in done.err
    assert fix in done.err
    assert list(folder.iterdir()) == []


def test_a_file_is_not_replaced_without_a_yes(folder, run):
    (folder / "prefect.yaml").write_text("mine: [\n")
    (folder / ".prefectignore").write_text("mine\n")
    assert "--yes" in run("--no-prompt", "init", code=2).err
    assert (folder / "prefect.yaml").read_text() == "mine: [\n"
    run("init", "--yes", code=0)
    assert read_project(folder / "prefect.yaml").name == "etl"
    assert (folder / ".prefectignore").read_text() == "mine\n"


def test_d22_on_a_terminal_what_is_missing_is_asked_for(folder):
    with Terminal("init", "--recipe", "docker-azure", "-f", "tag=7") as terminal:
        terminal.answer("(image_name): ", "registry.example/etl\n")
        terminal.answer("(container): ", "code\n")
        assert terminal.end() == 0
    project = read_project(folder / "prefect.yaml")
    assert (project.build[0].arguments["image_name"], project.build[0].arguments["tag"]) == (
        "registry.example/etl",
        "7",
    )
    assert project.push[1].arguments == {"container": "code", "folder": "etl"}
    before = (folder / "prefect.yaml").read_text()
    with Terminal("init") as terminal:
        terminal.answer("Replace it? [y/N]: ", "n\n")
        assert terminal.end() == 130
    with Terminal("init", "--recipe", "s3") as terminal:
        assert terminal.interrupt("(bucket): ") == 130
    assert (folder / "prefect.yaml").read_text() == before
