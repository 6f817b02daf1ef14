import base64
from pathlib import Path

import pytest
from tests.steps.repositories import Origin, run, serve

from eparch.core.errors import StepFailed
from eparch.steps import git
from eparch.steps.command import OUTPUT
from eparch.steps.git import git_clone


@pytest.fixture
def origin(tmp_path):
    (tmp_path / "origin").mkdir()
    return Origin(tmp_path / "origin")


@pytest.fixture(autouse=True)
def told(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(git, "_pause", lambda seconds: None)
    lines: list[str] = []
    token = OUTPUT.set(lines.append)
    yield lines
    OUTPUT.reset(token)


def test_a_clone_holds_the_newest_commit_only(origin):
    origin.commit(flow="one")
    origin.commit(flow="two")
    assert git_clone(origin.url) == {"directory": "code"}
    assert Path("code/flow").read_text() == "two"
    assert run("git", "rev-list", "--count", "HEAD", cwd=Path("code")) == "1"


def test_branches_tags_and_names(origin):
    origin.commit(flow="main")
    origin.commit("feature/x", flow="feature")
    run("git", "tag", "v1", cwd=origin.work)
    run("git", "push", "-q", "origin", "v1", cwd=origin.work)
    assert git_clone(origin.url, branch="feature/x") == {"directory": "code-feature-x"}
    assert Path("code-feature-x/flow").read_text() == "feature"
    assert run("git", "branch", "--show-current", cwd=Path("code-feature-x")) == "feature/x"
    assert git_clone(origin.url, branch="v1", clone_directory_name="mine") == {"directory": "mine"}
    assert Path("mine/flow").read_text() == "feature"


@pytest.mark.parametrize("digits", [40, 8])
def test_a_commit_is_found_by_its_whole_or_short_name(origin, digits):
    first = origin.commit(flow="one")
    origin.commit(flow="two")
    git_clone(origin.url, commit_sha=first[:digits])
    assert Path("code/flow").read_text() == "one"


def test_a_second_run_brings_the_clone_up_to_date_and_drops_changes(origin):
    origin.commit(flow="one", gone="x")
    git_clone(origin.url)
    Path("code/flow").write_text("changed here")
    origin.commit(flow="two")
    git_clone(origin.url)
    assert Path("code/flow").read_text() == "two"
    origin.commit("other", flow="three")
    git_clone(origin.url, branch="other", clone_directory_name="code")
    assert Path("code/flow").read_text() == "three"


def test_rewritten_history_is_followed(origin):
    origin.commit(flow="one")
    git_clone(origin.url)
    run("git", "checkout", "-q", "--orphan", "fresh", cwd=origin.work)
    origin.commit("main", flow="rewritten")
    git_clone(origin.url)
    assert Path("code/flow").read_text() == "rewritten"


def test_a_broken_clone_is_made_anew(origin, told):
    origin.commit(flow="one")
    git_clone(origin.url)
    Path("code/.git/HEAD").write_text("ref: refs/heads/nothing")
    Path("code/.git/objects/pack").chmod(0o755)
    for path in Path("code/.git/objects").rglob("*"):
        if path.is_file():
            path.unlink()
    Path("code/.git/index").write_bytes(b"broken")
    git_clone(origin.url)
    assert Path("code/flow").read_text() == "one"
    assert any("cloned again" in line for line in told)


def test_a_foreign_directory_is_never_overwritten(origin, tmp_path):
    origin.commit(flow="one")
    Path("code").mkdir()
    Path("code/precious").write_text("x")
    with pytest.raises(StepFailed, match="in the way"):
        git_clone(origin.url)
    assert Path("code/precious").read_text() == "x"
    run("git", "clone", "-q", origin.url, "other", cwd=Path())
    with pytest.raises(StepFailed) as caught:
        git_clone(f"file://{tmp_path}/else.git", clone_directory_name="other")
    assert origin.url in caught.value.why


def test_a_clone_of_another_repository_that_the_step_made_is_made_anew(origin, tmp_path):
    origin.commit(flow="one")
    git_clone(origin.url, clone_directory_name="mine")
    (tmp_path / "second").mkdir()
    second = Origin(tmp_path / "second")
    second.commit(flow="another")
    git_clone(second.url, clone_directory_name="mine")
    assert Path("mine/flow").read_text() == "another"
    # Where nothing can be had the one that is there stays.
    with pytest.raises(StepFailed):
        git_clone(f"file://{tmp_path}/nothing.git", clone_directory_name="mine")
    assert Path("mine/flow").read_text() == "another"
    assert [path.name for path in Path().iterdir()] == ["mine"]


def test_a_clone_whose_own_notes_are_broken_is_made_anew(origin):
    origin.commit(flow="one")
    git_clone(origin.url)
    Path("code/.git/config").write_text("[broken")
    git_clone(origin.url)
    assert Path("code/flow").read_text() == "one"


def test_a_failed_clone_leaves_no_directory(tmp_path):
    with pytest.raises(StepFailed, match="git fetch"):
        git_clone(f"file://{tmp_path}/nothing.git")
    assert not Path("nothing").exists()


def test_only_wanted_directories_are_checked_out(origin):
    origin.commit(flows__a="a", other__b="b")
    git_clone(origin.url, directories=["flows"])
    assert Path("code/flows/a").exists()
    assert not Path("code/other").exists()


def test_submodules(origin, tmp_path, monkeypatch):
    (tmp_path / "second").mkdir()
    inner = Origin(tmp_path / "second")
    inner.commit(inside="yes")
    for name, value in (("COUNT", "1"), ("KEY_0", "protocol.file.allow"), ("VALUE_0", "always")):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    origin.commit(flow="one")
    run("git", "submodule", "--quiet", "add", inner.url, "sub", cwd=origin.work)
    origin.commit(flow="two")
    git_clone(origin.url)
    assert not Path("code/sub/inside").exists()
    git_clone(origin.url, include_submodules=True)
    assert Path("code/sub/inside").read_text() == "yes"


def test_passing_faults_are_tried_three_times_and_lasting_ones_once(told, monkeypatch):
    calls: list[str] = []
    faults = {"fetch": "Could not resolve host: nowhere"}

    def failing(argv, directory, **kwargs):
        calls.append(argv[1])
        (directory / ".git").mkdir(exist_ok=True)
        if argv[1] in faults:
            raise StepFailed("git fetch ended with exit code 128", why=faults[argv[1]])

    monkeypatch.setattr(git, "run_command", failing)
    with pytest.raises(StepFailed):
        git_clone("https://example.invalid/a/code.git")
    assert calls.count("fetch") == 3
    calls.clear()
    faults["fetch"] = "fatal: Authentication failed for 'https://example.invalid/'"
    with pytest.raises(StepFailed):
        git_clone("https://example.invalid/a/code.git")
    assert calls.count("fetch") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"branch": "a", "commit_sha": "abcd"}, "not both"),
        ({"access_token": "a", "credentials": {"token": "b"}}, "not both"),
        ({"branch": "--upload-pack=touch x"}, "cannot begin with '-'"),
        ({"commit_sha": "main"}, "is not a commit"),
        ({"directories": ["--all"]}, "cannot begin with '-'"),
        ({"clone_directory_name": "-x"}, "cannot begin with '-'"),
        ({"credentials": {"username": "u"}}, "hold no token"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(StepFailed, match=message):
        git_clone("https://example.invalid/a/code.git", **arguments)


def test_a_repository_that_is_an_option_is_refused():
    with pytest.raises(StepFailed, match="not the URL"):
        git_clone("--upload-pack=touch x")


@pytest.mark.parametrize(
    ("url", "given", "secret"),
    [
        ("https://github.com/o/r", {"access_token": "t"}, "x-access-token:t"),
        ("https://gitlab.example.com/o/r", {"access_token": "t"}, "oauth2:t"),
        ("https://bitbucket.org/o/r", {"access_token": "t"}, "x-token-auth:t"),
        ("https://github.com/o/r", {"access_token": "u:t"}, "u:t"),
        ("https://github.com/o/r", {"credentials": {"token": "t"}}, "x-access-token:t"),
        ("https://github.com/o/r", {"credentials": {"username": "u", "password": "t"}}, "u:t"),
        ("https://u:p%40q@github.com/o/r", {}, "u:p@q"),
        ("https://t@github.com/o/r", {}, "x-access-token:t"),
    ],
)
def test_tokens_go_to_git_by_its_environment_only(url, given, secret, monkeypatch):
    seen: list[tuple[list[str], dict]] = []

    def note(argv, env, directory, **rest):
        seen.append((argv, env))
        (directory / ".git").mkdir(exist_ok=True)

    monkeypatch.setattr(git, "run_command", note)
    git_clone(url, **given)
    header = "Authorization: Basic " + base64.b64encode(secret.encode()).decode()
    host = url.split("/")[2].rpartition("@")[2]
    for argv, env in seen:
        assert not any("@" in part or part == secret for part in argv)
        assert env["GIT_CONFIG_VALUE_0"] == header
        assert env["GIT_CONFIG_KEY_0"] == f"http.https://{host}/.extraHeader"
    assert seen


@pytest.fixture
def served(origin):
    origin.commit(flow="over http")
    with serve(origin.root, "x-access-token", "t0ken-of-mine") as address:
        yield f"{address}/code.git"


def test_a_private_repository_over_http(served, told):
    git_clone(served, access_token="t0ken-of-mine")
    assert Path("code/flow").read_text() == "over http"
    everything = "\n".join(path.read_text(errors="replace") for path in Path("code/.git").rglob("config"))
    assert "t0ken" not in everything + "\n".join(told)
    git_clone(served, credentials={"token": "t0ken-of-mine"})


def test_a_wrong_token_is_said_once_and_never_shown(served, told):
    with pytest.raises(StepFailed) as caught:
        git_clone(served, access_token="wrong-t0ken")
    assert "exit code 128" in caught.value.message
    assert "t0ken" not in caught.value.message + caught.value.why + "\n".join(told)
