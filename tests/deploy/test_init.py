"""A project's file from every recipe, and a deployment that is added to any file (rows D2, D22)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core.errors import SourceErrors, Usage
from eparch.core.step_names import SHIPPED
from eparch.deploy.init import check_inputs, project_text
from eparch.deploy.project import parse_project
from eparch.deploy.recipes import RECIPES, defaults, find_recipe, guess_recipe, recipe_steps
from eparch.deploy.source import parse
from eparch.deploy.writing import add_deployment, write_mapping

NAMES = ["local", "git", "docker", "docker-git", "s3", "docker-s3", "gcs", "docker-gcs", "azure"]
NAMES.append("docker-azure")


def inputs_of(recipe):
    known = defaults(recipe, folder="/code/etl", name="etl", repository="", branch="", dockerfile=False)
    return known | dict.fromkeys(recipe.required, "given")


def test_d22_every_recipe_of_prefect_is_there():
    assert sorted(RECIPES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_d22_a_recipe_is_accepted_without_a_finding(name):
    recipe = find_recipe(name)
    project = parse_project(project_text("etl", recipe, inputs_of(recipe)))
    assert project.notes == []
    assert project.name == "etl"
    steps = [step for part in ("build", "push", "pull") for step in getattr(project, part) or ()]
    assert {step.function for step in steps} <= set(SHIPPED)
    assert bool(project.build) is name.startswith("docker")
    assert project.pull
    written = " ".join(str(step.arguments) for step in steps)
    assert all(f"'{key}': 'given'" in written for key in recipe.required)


@pytest.mark.parametrize("name", NAMES)
def test_d22_the_example_in_the_file_is_a_deployment_that_is_accepted(name):
    recipe = find_recipe(name)
    text = project_text("etl", recipe, inputs_of(recipe))
    head, _, example = text.partition("deployments: []\n")
    body = "".join(line.removeprefix("#") + "\n" for line in example.splitlines())
    project = parse_project(f"{head}deployments:\n{body}")
    assert project.notes == []
    [deployment] = project.deployments
    assert (deployment.name, deployment.entrypoint) == ("nightly", "flows.py:my_flow")
    assert ("image" in deployment.work_pool.job_variables) is recipe.image


def test_d22_the_folder_decides_when_no_recipe_is_named():
    table = {
        (False, False): "local",
        (True, False): "git",
        (False, True): "docker",
        (True, True): "docker-git",
    }
    for (repository, dockerfile), name in table.items():
        assert guess_recipe(repository=repository, dockerfile=dockerfile) == name


def test_d22_what_is_pulled_is_where_it_was_pushed():
    recipe = find_recipe("azure")
    steps = recipe_steps(recipe, {"container": "code", "folder": "etl"})
    [[push]], [[pull]] = (step.values() for step in steps["push"]), (step.values() for step in steps["pull"])
    assert (push["container"], push["folder"]) == ("code", "etl")
    assert pull["container"] == "{{ push_code.container }}"


def test_inputs_that_a_recipe_has_not_are_refused_with_the_nearest():
    with pytest.raises(Usage, match="no input 'buckett'") as caught:
        check_inputs(find_recipe("s3"), ["folder", "buckett"])
    assert "'bucket'" in caught.value.fix
    with pytest.raises(Usage, match="no recipe 'dcoker'") as caught:
        find_recipe("dcoker")
    assert "'docker'" in caught.value.fix


NEW = {"name": "new", "entrypoint": "flows.py:report", "work_pool": {"name": "local"}}
ITEM = "- name: old\n  entrypoint: a.py:f\n  work_pool: {name: p}\n"


def indented(text, by):
    return "".join(" " * by + line + "\n" for line in text.splitlines())


FILES = {
    "": "deployments:\n  - name: new\n",
    "# only a comment\n": "# only a comment\n\ndeployments:\n",
    "name: x\ndeployments: []  # none yet\n# end\n": "deployments:  # none yet\n  - name: new\n",
    "deployments:\n": "deployments:\n  - name: new\n",
    "name: x\ndeployments:\n"
    + indented(ITEM, 2)
    + "# end\npull: []\n": "work_pool: {name: p}\n  - name: new\n",
    "name: x\ndeployments:\n" + ITEM + "\npull: []\n": "work_pool: {name: p}\n- name: new\n",
    "deployments:\n" + indented(ITEM, 4) + "    # last\n": "    # last\n    - name: new\n",
    "deployments: [{name: old, entrypoint: 'a.py:f'}]  # one\nname: x\n": "# one\n",
}


@pytest.mark.parametrize("text", FILES)
def test_d2_a_deployment_is_added_and_everything_else_stays(text):
    changed = add_deployment(text, NEW)
    assert FILES[text] in changed
    before = (parse(text, "f").data or {}).get("deployments") or []
    assert parse(changed, "f").data["deployments"] == [*before, NEW]
    rest = iter(changed.splitlines())
    if "[{" not in text and "[]" not in text.partition("pull")[0]:
        assert all(line in rest for line in text.splitlines()), changed


def test_line_ends_stay():
    text = "name: x\r\ndeployments:\r\n  - name: old\r\n"
    changed = add_deployment(text, NEW)
    assert changed.startswith(text)
    assert changed.count("\n") == changed.count("\r\n")


@pytest.mark.parametrize("text", ["- a\n", "deployments: {}\nname: [\n", "deployments: text\n"])
def test_what_is_no_project_is_refused(text):
    with pytest.raises(SourceErrors):
        add_deployment(text, NEW)


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "yes",
        "1",
        "0x1F",
        "1:30",
        "~",
        "null",
        "- a",
        "a: b",
        "#",
        "{{ x }}",
        "off",
        "1e3",
        "2026-01-01",
        "=",
        "<<",
    ]
)
values = st.recursive(
    words | st.booleans() | st.none() | st.integers(-9999, 9999),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(words, values, max_size=4))
def test_what_is_written_is_read_as_it_was(mapping):
    text = "".join(write_mapping({"top": mapping}))
    assert parse(text, "f").data == {"top": mapping}
