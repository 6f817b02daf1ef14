import importlib.util
import sys

import pytest

from eparch.core.errors import StepFailed
from eparch.core.step_names import ALIASES
from eparch.steps import runner
from eparch.steps.runner import FUNCTIONS, find_function, read_step, run_steps

SHELL = "prefect.deployments.steps.run_shell_script"


def echo(text: str, **more) -> dict:
    return {SHELL: {"script": f"echo '{text}'", "stream_output": False, **more}}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of steps that somebody wrote."""
    (tmp_path / "own_steps.py").write_text(
        "calls = []\n"
        "def keep(**given):\n    calls.append(given)\n    return {'kept': given}\n"
        "async def later(value):\n    return {'value': value * 2}\n"
        "def nothing():\n    return None\n"
        "def broken():\n    raise KeyError('x')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield __import__("own_steps")
    sys.modules.pop("own_steps", None)


def test_outputs_are_known_flat_where_the_last_wins_and_by_id(own):
    outputs = run_steps(
        [
            echo("a", id="first-one"),
            echo("b"),
            {"own_steps.keep": {"flat": "{{ stdout }}", "by_id": "{{ first-one.stdout }}!"}},
        ]
    )
    assert own.calls == [{"flat": "b", "by_id": "a!"}]
    assert outputs["first-one"] == {"stdout": "a", "stderr": ""}
    assert outputs["stdout"] == "b"
    assert outputs["kept"] == own.calls[0]


def test_a_placeholder_alone_keeps_its_type(own):
    run_steps([{"own_steps.keep": {"n": "{{ n }}", "text": "n={{ n }}"}}], upstream={"n": 3})
    assert own.calls == [{"n": 3, "text": "n=3"}]


def test_environment_is_read_when_the_step_runs(own, monkeypatch):
    monkeypatch.setenv("SEEN", "now")
    run_steps([{"own_steps.keep": {"value": "{{ $SEEN }}"}}])
    run_steps([{"own_steps.keep": {"value": "{{ $SEEN }}"}}], environ={"SEEN": "given"})
    assert own.calls == [{"value": "now"}, {"value": "given"}]


def test_what_was_put_in_is_not_rendered_again(own):
    run_steps([{"own_steps.keep": {"value": "{{ text }}"}}], upstream={"text": "{{ $HOME }}"})
    assert own.calls == [{"value": "{{ $HOME }}"}]


def test_asynchronous_steps_and_steps_without_outputs(own):
    assert run_steps([{"own_steps.nothing": {}}, {"own_steps.later": {"value": 2}}]) == {"value": 4}
    assert run_steps([{"own_steps.nothing": None}, {}]) == {}


def test_output_goes_where_the_caller_says():
    told: list[str] = []
    run_steps([echo("hello", stream_output=True)], on_output=told.append)
    assert told == ["hello"]


def test_d9_unresolved_placeholders_are_refused_with_the_nearest_name():
    with pytest.raises(StepFailed) as caught:
        run_steps([echo("a", id="clone-step"), echo("{{ clone-stp.stdout }}")])
    assert caught.value.message.startswith("Step 2 (run_shell_script): '{{ clone-stp.stdout }}'")
    assert caught.value.fix == "Did you mean 'clone-step.stdout'?"
    with pytest.raises(StepFailed) as caught:
        run_steps([echo("{{ $NOT_SET }}")], environ={})
    assert "'NOT_SET' is not set" in caught.value.why


@pytest.mark.parametrize("name", ["prefect.blocks.secret.token", "prefect.variables.region"])
def test_d19_references_are_asked_for_and_refused_when_nobody_keeps_them(name, own):
    class Kept:
        def block(self, name):
            return {"kind": "block", "name": name}

        def variable(self, name):
            return {"kind": "variable", "name": name}

        def hide(self, text):
            return text

    with pytest.raises(StepFailed, match="cannot be read here"):
        run_steps([{"own_steps.keep": {"value": f"{{{{ {name} }}}}"}}])
    assert own.calls == []
    run_steps([{"own_steps.keep": {"value": f"{{{{ {name} }}}}"}}], references=Kept())
    assert own.calls[0]["value"]["name"] in ("secret.token", "region")


def test_nothing_runs_after_a_step_that_failed(tmp_path):
    with pytest.raises(StepFailed) as caught:
        run_steps(
            [{SHELL: {"script": "sh -c 'echo bad >&2; exit 3'"}}, echo("b")], on_output=lambda line: None
        )
    assert "Step 1 (run_shell_script)" in caught.value.message
    assert "exit code 3" in caught.value.message
    assert caught.value.why == "bad"


def test_an_exception_of_a_step_is_a_failed_step(own):
    with pytest.raises(StepFailed, match=r"Step 1 \(broken\): KeyError: 'x'"):
        run_steps([{"own_steps.broken": {}}])


def test_arguments_that_a_step_does_not_take_are_explained():
    with pytest.raises(StepFailed) as caught:
        run_steps([{SHELL: {"skript": "echo a"}}])
    assert caught.value.fix == "Did you mean 'script'?"


@pytest.mark.parametrize("alias", [name for name in ALIASES if ALIASES[name] in FUNCTIONS])
def test_every_spelling_of_a_shipped_step_is_found(alias):
    assert find_function(alias) is find_function(ALIASES[alias])


def test_unknown_steps_name_the_nearest():
    with pytest.raises(StepFailed) as caught:
        run_steps([{"prefect.deployments.steps.get_clone": {"repository": "x"}}])
    assert caught.value.fix == "Did you mean 'prefect.deployments.steps.git_clone'?"
    with pytest.raises(StepFailed, match="There is no step 'git_clon'"):
        find_function("git_clon")


def test_requirements_are_installed_only_when_the_import_fails(tmp_path, monkeypatch, own):
    run_steps([{"own_steps.keep": {"requires": "own-steps>=1", "a": 1}}])
    assert own.calls == [{"a": 1}]
    package = tmp_path / "needed"
    package.mkdir()
    with pytest.raises(StepFailed, match="pip install"):
        find_function("needed_steps.run", [str(package / "missing.whl")])
    with pytest.raises(StepFailed, match="is not a requirement"):
        run_steps([{"own_steps.keep": {"requires": "--index-url=x"}}])


@pytest.mark.parametrize("has_pip", [True, False])
def test_what_a_step_requires_is_told_and_installed_by_pip_or_uv(tmp_path, monkeypatch, has_pip):
    found = importlib.util.find_spec
    hidden = lambda name, *rest: None if name == "pip" else found(name, *rest)  # noqa: E731
    installed: list[list[str]] = []

    def install(argv):
        installed.append(argv)
        (tmp_path / f"brought_{has_pip}.py").write_text("def run():\n    return {'made': 1}\n")

    monkeypatch.setattr(runner, "run_command", install)
    monkeypatch.setattr(runner.shutil, "which", lambda name: f"/bin/{name}")
    if not has_pip:
        monkeypatch.setattr(importlib.util, "find_spec", hidden)
    monkeypatch.syspath_prepend(str(tmp_path))
    told: list[str] = []
    step = {f"brought_{has_pip}.run": {"requires": ["brought>=1", "more"]}}
    with pytest.raises(StepFailed, match="requires brought>=1 more, which is not installed") as caught:
        run_steps([step], install=False)
    assert "pip install brought>=1 more" in caught.value.fix
    assert installed == []
    assert run_steps([step], on_output=told.append) == {"made": 1}
    python = sys.executable
    tool = [python, "-m", "pip", "install"] if has_pip else ["/bin/uv", "pip", "install", "--python", python]
    assert installed == [[*tool, "brought>=1", "more"]]
    assert told == [
        f"Installing brought>=1 more into {sys.prefix}, as the step '{next(iter(step))}' requires it"
    ]


def test_requirements_of_a_shipped_step_are_not_needed():
    outputs = run_steps([echo("a", requires="prefect-docker")])
    assert outputs["stdout"] == "a"


def test_shapes_of_a_step():
    assert read_step({"a.b": {"x": 1}}) == ("a.b", {"x": 1})
    assert read_step({"a.b": None, "x": 1}) == ("a.b", {"x": 1})
    with pytest.raises(StepFailed, match="additional keys: y"):
        read_step({"a.b": {"x": 1}, "y": 2})
    with pytest.raises(StepFailed, match="must be a mapping, not list"):
        read_step({"a.b": [1]})
