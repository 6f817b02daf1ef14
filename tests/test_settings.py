"""Settings: precedence, parsing, profiles, and that the page in docs is the table."""

import contextlib
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch import settings
from eparch.core.errors import Conflict, NotFound, SettingInvalid, SourceError
from eparch.settings import BY_NAME, TABLE, profiles
from eparch.settings.table import MASK, masked_url

ROOT = Path(__file__).parents[1]


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def load(home, environ=None, **options):
    return settings.load({"EPARCH_HOME": str(home), **(environ or {})}, **options)


def write(home, text):
    home.mkdir(exist_ok=True)
    (home / "profiles.toml").write_text(text)


def test_page_is_the_table():
    page = runpy.run_path(str(ROOT / "scripts" / "print_settings.py"))["page"]
    assert (ROOT / "docs" / "settings.md").read_text() == page()


def test_every_setting_says_what_it_is_and_has_one_owner_of_each_name():
    names = [name for row in TABLE for name in row.names]
    assert len(names) == len(set(names))
    for row in TABLE:
        assert row.about.text.endswith("."), row.name
        assert all(alias.startswith("PREFECT_") for alias in row.about.aliases), row.name


def test_every_default_passes_its_own_check():
    for row in TABLE:
        if row.default is not None:
            assert settings.parse(row, row.default) == row.default, row.name


def test_defaults_follow_the_home(home):
    found = load(home)
    assert found.home == home
    assert found.profiles_path == home / "profiles.toml"
    assert found.database_url == f"sqlite:///{home}/eparch.db"
    assert found.api_url is None
    assert found.profile == "default"


def test_precedence_override_environment_alias_profile_default(home):
    write(
        home, 'active = "a"\n[profiles.a]\nPREFECT_API_URL = "http://file/api"\nEPARCH_SERVER_PORT = 4300\n'
    )
    both = {"EPARCH_API_URL": "http://ours/api", "PREFECT_API_URL": "http://theirs/api"}
    resolved = settings.resolve({"EPARCH_HOME": str(home), **both}, overrides={"api_url": "http://given/api"})
    assert resolved.settings.api_url == "http://given/api"
    assert resolved.sources["api_url"] == "override"
    assert resolved.sources["server_port"] == "profile a"
    assert resolved.sources["late_after_seconds"] == "default"
    assert load(home, both).api_url == "http://ours/api"
    assert load(home, {"PREFECT_API_URL": "http://theirs/api"}).api_url == "http://theirs/api"
    assert load(home).api_url == "http://file/api"
    assert load(home).server_port == 4300


def test_stronger_alias_of_prefect_wins(home):
    environ = {
        "PREFECT_API_DATABASE_CONNECTION_URL": "sqlite:///old.db",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite:///new.db",
    }
    assert load(home, environ).database_url == "sqlite:///new.db"


def test_empty_variable_is_not_set(home):
    assert load(home, {"EPARCH_SERVER_PORT": "", "PREFECT_SERVER_API_PORT": "4301"}).server_port == 4301


def test_prefect_home_is_used_only_when_set(tmp_path):
    assert settings.load({"PREFECT_HOME": str(tmp_path)}).home == tmp_path
    assert settings.load({}).home == Path.home() / ".eparch"


def test_relative_paths_follow_the_folder_given(tmp_path):
    found = settings.load({"EPARCH_HOME": "state", "EPARCH_TLS_CA_FILE": "ca.pem"}, tmp_path)
    assert found.home == tmp_path / "state"
    assert found.tls_ca_file == tmp_path / "ca.pem"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("EPARCH_SERVER_PORT", "many", "a whole number from 0 to 65535"),
        ("EPARCH_SERVER_PORT", "70000", "a whole number from 0 to 65535"),
        ("PREFECT_SERVER_API_PORT", "-1", "a whole number from 0 to 65535"),
        ("EPARCH_CSRF_ENABLED", "perhaps", "true or false"),
        ("PREFECT_LOGGING_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("EPARCH_API_URL", "localhost:4200", "a URL with a scheme and a host"),
        ("EPARCH_API_URL", "http://host:port/api", "a URL with a scheme and a host"),
        ("EPARCH_LEASE_SECONDS", "nan", "a number from 1 to 3600"),
        ("EPARCH_CUSTOM_HEADERS", "[1]", "a JSON object of texts"),
    ],
)
def test_value_that_cannot_be_parsed_names_variable_and_what_was_expected(home, variable, value, expected):
    with pytest.raises(SettingInvalid) as caught:
        load(home, {variable: value})
    assert variable in caught.value.message
    assert expected in caught.value.message
    assert value in caught.value.message or variable == "EPARCH_CUSTOM_HEADERS"


def test_secret_is_not_in_the_error_nor_in_the_repr(home):
    with pytest.raises(SettingInvalid) as caught:
        load(home, {"EPARCH_CUSTOM_HEADERS": "hunter2"})
    assert "hunter2" not in str(caught.value)
    found = load(home, {"EPARCH_API_KEY": "hunter2", "EPARCH_DATABASE_URL": "postgresql://u:hunter2@h/d"})
    assert found.api_key == "hunter2"
    assert "hunter2" not in repr(found)
    assert MASK in repr(found)
    assert found.database_url == "postgresql://u:hunter2@h/d"


def test_words_for_true_false_colour_and_level(home):
    assert load(home, {"EPARCH_DEBUG": "Yes"}).debug is True
    assert load(home, {"PREFECT_DEBUG_MODE": "0"}).debug is False
    assert load(home, {"PREFECT_CLI_COLORS": "false"}).color == "never"
    assert load(home, {"PREFECT_CLI_COLORS": "true"}).color == "auto"
    assert load(home, {"EPARCH_COLOR": "ALWAYS"}).color == "always"
    assert load(home, {"PREFECT_LOGGING_LEVEL": "debug"}).log_level == "DEBUG"
    assert load(home).cli_prompt is None
    assert load(home, {"PREFECT_CLI_PROMPT": "off"}).cli_prompt is False


def test_trailing_slash_of_the_api_url_is_dropped(home):
    assert load(home, {"EPARCH_API_URL": "http://h:1/api/"}).api_url == "http://h:1/api"


def test_unknown_variable_of_ours_is_reported_with_the_nearest_name(home):
    environ = {
        "EPARCH_HOME": str(home),
        "EPARCH_API_ULR": "x",
        "PREFECT_NO_SUCH": "x",
        "EPARCH_CLAIM_TOKEN": "1",
    }
    (warning,) = settings.resolve(environ).warnings
    assert warning == "EPARCH_API_ULR is not a setting. Did you mean 'EPARCH_API_URL'?"


def test_unknown_override_is_refused(home):
    with pytest.raises(SettingInvalid, match="api_ulr"):
        load(home, overrides={"api_ulr": "x"})


def test_profile_asked_for_must_be_there(home):
    write(home, "[profiles.staging]\n")
    with pytest.raises(SettingInvalid) as caught:
        load(home, {"PREFECT_PROFILE": "stagin"})
    assert "PREFECT_PROFILE" in caught.value.message
    assert caught.value.fix == "Did you mean 'staging'?"
    assert load(home, profile="staging").profile == "staging"


def test_broken_profile_file_is_named_with_its_place(home):
    write(home, "active = \n")
    with pytest.raises(SourceError) as caught:
        load(home)
    assert str(home / "profiles.toml") in str(caught.value)
    assert "line 1" in caught.value.why
    write(home, "profiles = 3\n")
    with pytest.raises(SourceError, match="shape"):
        load(home)


def test_profiles_are_made_used_changed_renamed_and_deleted(home):
    path = home / "profiles.toml"
    profiles.create(path, "a", values={"EPARCH_API_URL": "http://a/api"})
    profiles.use(path, "a")
    profiles.assign(path, "a", {"EPARCH_DEBUG": "true"}, drop=("EPARCH_API_URL",))
    assert profiles.read(path) == profiles.Profiles("a", {"a": {"EPARCH_DEBUG": "true"}})
    profiles.rename(path, "a", "b")
    assert profiles.read(path) == profiles.Profiles("b", {"b": {"EPARCH_DEBUG": "true"}})
    with pytest.raises(Conflict):
        profiles.delete(path, "b")
    profiles.create(path, "c")
    profiles.use(path, "c")
    profiles.delete(path, "b")
    assert list(profiles.read(path).tables) == ["c"]
    assert path.stat().st_mode & 0o077 == 0


def test_refused_edit_leaves_the_file_and_its_comments_as_they_were(home):
    text = '# mine\nactive = "a"\n\n[profiles.a]  # here\nEPARCH_DEBUG = "1"\n'
    write(home, text)
    path = home / "profiles.toml"
    for refused in (
        lambda: profiles.create(path, "a"),
        lambda: profiles.rename(path, "a", "a"),
    ):
        with pytest.raises(Conflict):
            refused()
    for absent in (lambda: profiles.use(path, "z"), lambda: profiles.delete(path, "z")):
        with pytest.raises(NotFound):
            absent()
    assert path.read_text() == text
    profiles.assign(path, "a", {"EPARCH_COLOR": "never"})
    assert "# mine" in path.read_text()
    assert "# here" in path.read_text()
    assert [p.name for p in home.iterdir()] == ["profiles.toml"]


@given(st.sampled_from(TABLE), st.text(max_size=30) | st.integers() | st.floats() | st.booleans())
def test_any_value_is_refused_or_parsed_to_what_parses_again(row, raw):
    with contextlib.suppress(SettingInvalid):
        value = settings.parse(row, raw, named="THE_NAME")
        assert settings.parse(row, value) == value


def test_masked_url():
    assert masked_url("postgresql://u:p@h/d") == f"postgresql://u:{MASK}@h/d"
    assert masked_url("sqlite:////x/y.db") == "sqlite:////x/y.db"
    assert BY_NAME["database_url"].show("postgresql://u:p@h/d", secrets=True) == "postgresql://u:p@h/d"
