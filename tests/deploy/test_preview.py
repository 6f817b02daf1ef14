"""The job before and after, what is masked, and where code comes from (moonshot 1, rows P7, D25)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.shelf import TEMPLATE

from eparch.core.deploy_plans import Standing
from eparch.core.deployments import Deployment
from eparch.core.model import new_id
from eparch.core.pools import WorkPool
from eparch.deploy.origin import plain_url, project_id, read_origin
from eparch.deploy.plan import Wanted, plan
from eparch.deploy.preview import MASK, compare_jobs, mask

POOLS = {"local": WorkPool(id=new_id(), name="local", type="process", base_job_template=TEMPLATE)}


def job(before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, Any]:
    """Key -> (before, after), of what differs."""
    fields: dict[str, Any] = {
        "flow_name": "f",
        "name": "d",
        "entrypoint": "f.py:f",
        "work_pool_name": "local",
    }
    wanted = Wanted(**fields, job_variables=after)
    standings = {}
    if before is not None:
        old = Deployment(
            id=new_id(), name="d", flow_id=new_id(), work_pool_name="local", job_variables=before
        )
        standings = {wanted.key: Standing(flow_name="f", deployment=old)}
    [action] = plan([wanted], standings)
    return {one.key: (one.before, one.after) for one in compare_jobs(action, POOLS) if one.differs}


def test_only_what_differs_of_the_job_is_a_change() -> None:
    assert job({"memory": 1}, {"memory": 2}) == {"memory": (1, 2)}
    assert job({"memory": 1}, {"memory": 1}) == {}
    assert job(None, {"env": {"A": "1"}})["env.A"] == (None, "1")
    assert "image" in job({"image": "a:1"}, {})


def test_secrets_are_masked_and_a_changed_one_is_said_to_be() -> None:
    same = job({"env": {"DB_PASSWORD": "tip"}}, {"env": {"DB_PASSWORD": "tip"}, "memory": 1})
    assert list(same) == ["memory"]
    changed = job({"env": {"DB_PASSWORD": "tip"}}, {"env": {"DB_PASSWORD": "top"}})
    assert changed == {"env.DB_PASSWORD": (MASK, f"{MASK} (changed)")}
    reference = "{{ prefect.blocks.secret.db }}"
    assert job(None, {"env": {"TOKEN": reference}})["env.TOKEN"] == (None, reference)
    masked = mask({"a": [{"apiKey": "x", "plain": "y"}], "access_token": "z", "port": 5})
    assert masked == {"a": [{"apiKey": MASK, "plain": "y"}], "access_token": MASK, "port": 5}


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://user:token@github.com/org/repo.git", "github.com/org/repo"),
        ("git@github.com:org/repo.git", "github.com/org/repo"),
        ("ssh://git@github.com/org/repo", "github.com/org/repo"),
        ("https://github.com/org/repo/", "github.com/org/repo"),
        ("/srv/git/repo.git", "/srv/git/repo"),
    ],
)
def test_d25_every_clone_of_a_repository_has_one_address_without_secrets(url: str, plain: str) -> None:
    assert plain_url(url) == plain
    assert project_id("shop", plain) == f"shop of {plain}"
    assert project_id("shop", None) == "shop"
    assert project_id(None, plain) is None


def test_the_commit_is_told_and_that_files_were_changed_since(tmp_path: Path) -> None:
    assert read_origin(tmp_path / "not there") == (None, None)

    def git(*words: str) -> str:
        options = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", "-C", tmp_path, *options, *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "x")
    commit = git("rev-parse", "HEAD")
    assert read_origin(tmp_path) == (None, commit)
    git("remote", "add", "origin", "https://u:p@host/r.git")
    (tmp_path / "a").write_text("2")
    assert read_origin(tmp_path) == ("host/r", f"{commit}-dirty")
