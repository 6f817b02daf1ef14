"""Settings and profiles on the command line."""

from eparch.version import __version__


def test_set_view_unset(run):
    done = run("config", "set", "PREFECT_API_URL=http://h:1/api", "debug=yes", code=0)
    assert done.err == "Set EPARCH_API_URL, EPARCH_DEBUG in profile 'default'.\n"
    rows = {row["name"]: row for row in run("config", "view", "-o", "json").json()}
    assert rows["EPARCH_API_URL"] == {
        "name": "EPARCH_API_URL",
        "value": "http://h:1/api",
        "source": "profile default",
    }
    assert rows["EPARCH_HOME"]["source"] == "environment EPARCH_HOME"
    assert "EPARCH_LEASE_SECONDS" not in rows
    assert "EPARCH_LEASE_SECONDS" in run("config", "view", "--show-defaults").out
    assert "profile default" not in run("config", "view", "--hide-sources").out
    run("config", "unset", "EPARCH_API_URL", code=0)
    assert "EPARCH_API_URL" not in run("config", "view").out
    assert "is not set in profile 'default'" in run("config", "unset", "api_url", code=3).err


def test_set_refuses_what_cannot_be_and_changes_nothing(run):
    done = run("config", "set", "debug=yes", "server_port=many", code=2)
    assert "EPARCH_SERVER_PORT cannot be 'many'" in done.err
    assert "EPARCH_DEBUG" not in run("config", "view").out
    assert run("config", "set", "EPARCH_API_ULR=x", code=3).err.splitlines()[1] == (
        "  do: Did you mean 'EPARCH_API_URL'?"
    )
    assert "Write config set debug=value" in run("config", "set", "debug", code=2).err
    assert "cannot be set in a profile" in run("config", "set", "home=/x", code=2).err


def test_secrets_are_masked(run):
    run("config", "set", "api_key=geheim", "database_url=postgresql://u:geheim@h/d", code=0)
    for command in (["config", "view"], ["profile", "inspect"], ["config", "view", "-o", "json"]):
        done = run(*command, code=0)
        assert "geheim" not in done.out + done.err
        assert "********" in done.out
    assert "geheim" in run("config", "view", "--show-secrets").out


def test_environment_that_goes_before_is_told(run, environ):
    environ.setenv("PREFECT_API_URL", "http://env/api")
    done = run("config", "set", "EPARCH_API_URL=http://file/api", code=0)
    assert "warning: the environment PREFECT_API_URL goes before it." in done.err


def test_unknown_variable_is_a_warning(run, environ):
    environ.setenv("EPARCH_API_ULR", "x")
    warning = "EPARCH_API_ULR is not a setting. Did you mean 'EPARCH_API_URL'?"
    assert f"warning: {warning}" in run("config", "view", code=0).err
    found = run("doctor", "-o", "json", "--api-url", "http://127.0.0.1:1/api", code=1).json()
    assert {"name": "settings", "status": "warning", "detail": warning, "fix": ""} in found
    assert run("config", "validate", "-o", "json", code=0).json()["warnings"] == [warning]


def test_validate_reads_every_profile(run, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "profiles.toml").write_text('[profiles.other]\nEPARCH_SERVER_PORT = "many"\n')
    assert "EPARCH_SERVER_PORT in profile 'other' cannot be 'many'" in run("config", "validate", code=2).err


def test_profiles(run):
    run("profile", "create", "a", code=0)
    run("--profile", "a", "config", "set", "api_url=http://a/api", code=0)
    run("profile", "create", "b", "--from", "a", code=0)
    run("profile", "create", "b", code=5)
    run("profile", "use", "b", code=0)
    listed = run("profile", "ls", "-o", "json").json()
    assert listed == [{"name": "a", "active": False}, {"name": "b", "active": True}]
    assert run("profile", "inspect", "-o", "json").json() == {"EPARCH_API_URL": "http://a/api"}
    run("profile", "delete", "b", "-y", code=5)
    run("profile", "rename", "b", "c", code=0)
    assert run("profile", "ls", "-o", "name").out == "a\nc\n"
    assert "Did you mean" not in run("profile", "use", "zzz", code=3).err
    assert "* " in run("profile", "ls").out


def test_profile_that_cannot_be_used_can_be_left(run, environ, tmp_path):
    run("profile", "create", "good", code=0)
    file = tmp_path / "home" / "profiles.toml"
    file.write_text('active = "gone"\n' + file.read_text())
    assert "There is no profile 'gone'" in run("config", "view", code=2).err
    run("profile", "use", "good", code=0)
    run("config", "view", code=0)


def test_per_call_profile_and_url(run):
    run("profile", "create", "a", code=0)
    run("--profile", "a", "config", "set", "api_url=http://127.0.0.1:1/a", code=0)
    assert "http://127.0.0.1:1/a" in run("flow", "ls", "--profile", "a", code=6).err
    assert (
        "http://127.0.0.1:1/b" in run("flow", "ls", "--profile", "a", "--api-url", "http://127.0.0.1:1/b").err
    )


def test_version_says_what_is_known_and_needs_no_server(run, environ):
    environ.setenv("EPARCH_API_URL", "http://127.0.0.1:1/api")
    found = run("version", "-o", "json", code=0).json()
    assert found["version"] == __version__
    assert "Cannot reach" in found["server_error"]
    assert run("version", "-o", "name", code=0).out == f"{__version__}\n"


def test_home_that_cannot_be_written_is_found(run, environ, tmp_path):
    (tmp_path / "file").touch()
    environ.setenv("EPARCH_HOME", str(tmp_path / "file" / "home"))
    found = run("doctor", "-o", "json", "--api-url", "http://127.0.0.1:1/api", code=1).json()
    assert next(one for one in found if one["name"] == "home")["status"] == "failed"


def test_settings_that_cannot_be_read_are_found(run, environ):
    environ.setenv("EPARCH_SERVER_PORT", "many")
    found = run("doctor", "-o", "json").json()
    assert [one["status"] for one in found if one["name"] == "settings"] == ["failed"]
