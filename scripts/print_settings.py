"""Print ``docs/settings.md`` from the table of settings."""

from eparch.settings import TABLE
from eparch.settings.table import expected_of

HEAD = """# Settings

This page is printed by `scripts/print_settings.py` from the table in `src/eparch/settings/table.py`.

A value comes from the first of these that has one:

1. an option of the command (`--api-url`, `--profile`, `--debug` ...);
2. the environment: the `EPARCH_` variable, then its Prefect aliases in the order shown;
   an empty variable is not set;
3. the active profile in the profile file, with the same names as keys;
4. the default.

`eparch config view --show-sources` says which one it was. A value that cannot be used stops the command
and is named; an `EPARCH_` variable that is no setting is reported by `eparch config view` and
`eparch doctor`.
Secrets are masked wherever settings are shown.

| setting | variable, aliases | expected | default | meaning |
| --- | --- | --- | --- | --- |
"""

COMPUTED = {
    "home": "`~/.eparch`",
    "profiles_path": "`profiles.toml` in the home",
    "database_url": "`sqlite:///` + `eparch.db` in the home",
}


def page() -> str:
    """The page."""
    lines = []
    for row in TABLE:
        default = COMPUTED.get(row.name) or (
            f"`{row.show(row.default)}`" if row.default not in (None, {}) else ""
        )
        names = "<br>".join(f"`{name}`" for name in row.names)
        secret = " Secret." if row.about.secret else ""
        lines.append(
            f"| `{row.name}` | {names} | {expected_of(row)} | {default} | {row.about.text}{secret} |"
        )
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
