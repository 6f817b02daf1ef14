"""The table of every setting: its type, default, meaning and names.

Owns the one frozen value ``Settings``. Where values come from is in ``loading``, the profile file in
``profiles``. A new setting is one row here; then run ``python scripts/print_settings.py`` for the docs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
Color = Literal["auto", "always", "never"]
OnStop = Literal["finish", "hand-back", "cancel"]


@dataclass(frozen=True, slots=True)
class About:
    """What a row says of a setting besides its name, type and default."""

    text: str
    aliases: tuple[str, ...] = ()
    """Names of Prefect's that mean the same, the first one wins."""
    secret: bool = False
    least: float | None = None
    most: float | None = None


def _row(
    text: str,
    *aliases: str,
    secret: bool = False,
    least: float | None = None,
    most: float | None = None,
) -> About:
    return About(text, aliases, secret, least, most)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be configured, read once at an entry point and handed down."""

    # Where things are
    home: Annotated[Path, _row("Folder for the profile file, the default database and logs.", "PREFECT_HOME")]
    profiles_path: Annotated[
        Path, _row("The profile file; `profiles.toml` in the home unless set.", "PREFECT_PROFILES_PATH")
    ]
    profile: Annotated[
        str, _row("Profile to use; the file's `active` one unless set.", "PREFECT_PROFILE")
    ] = "default"

    # Reaching a server
    api_url: Annotated[
        str | None,
        _row("URL of the server's API. Not set: a server found on this machine.", "PREFECT_API_URL"),
    ] = None
    ui_url: Annotated[
        str | None,
        _row("URL of the web page, for the links in messages of automations.", "PREFECT_UI_URL"),
    ] = None
    api_key: Annotated[
        str | None, _row("Key sent as `Authorization: Bearer`.", "PREFECT_API_KEY", secret=True)
    ] = None
    auth_string: Annotated[
        str | None,
        _row("`user:password` sent as `Authorization: Basic`.", "PREFECT_API_AUTH_STRING", secret=True),
    ] = None
    request_timeout: Annotated[
        float, _row("Seconds to wait for an answer.", "PREFECT_API_REQUEST_TIMEOUT", least=0.001, most=86400)
    ] = 60.0
    max_retries: Annotated[
        int,
        _row(
            "How often a request is sent again after a fault that passes.",
            "PREFECT_CLIENT_MAX_RETRIES",
            least=0,
            most=100,
        ),
    ] = 5
    custom_headers: Annotated[
        dict[str, str],
        _row("JSON object of headers sent with every request.", "PREFECT_CLIENT_CUSTOM_HEADERS", secret=True),
    ] = {}
    tls_ca_file: Annotated[
        Path | None, _row("Certificates to trust for https.", "PREFECT_API_SSL_CERT_FILE")
    ] = None
    tls_insecure: Annotated[
        bool, _row("Trust any certificate. For tests only.", "PREFECT_API_TLS_INSECURE_SKIP_VERIFY")
    ] = False
    local_server_idle_seconds: Annotated[
        float,
        _row(
            "Seconds without a request after which a server started for a script stops; 0 is never.", least=0
        ),
    ] = 300.0

    # The server
    server_host: Annotated[str, _row("Address that the server listens on.", "PREFECT_SERVER_API_HOST")] = (
        "127.0.0.1"
    )
    server_port: Annotated[
        int, _row("Port that the server listens on.", "PREFECT_SERVER_API_PORT", least=0, most=65535)
    ] = 4200
    server_auth_string: Annotated[
        str | None,
        _row(
            "`user:password` that the server asks of clients.",
            "PREFECT_SERVER_API_AUTH_STRING",
            secret=True,
        ),
    ] = None
    server_encryption_keys: Annotated[
        str | None,
        _row(
            "Keys that seal the secrets of blocks: 32 random bytes in base64 each, separated by commas; the "
            "first one seals, all of them open. Several servers of one database need it. Not set: a key "
            "file, beside a SQLite database or in the home.",
            "PREFECT_SERVER_ENCRYPTION_KEY",
            secret=True,
        ),
    ] = None
    csrf_enabled: Annotated[
        bool,
        _row(
            "Ask browsers for a token against cross-site requests.",
            "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED",
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED",
        ),
    ] = False
    csrf_token_seconds: Annotated[
        float,
        _row(
            "Seconds for which such a token is good.",
            "PREFECT_SERVER_API_CSRF_TOKEN_EXPIRATION",
            "PREFECT_SERVER_CSRF_TOKEN_EXPIRATION",
            least=1,
            most=31_536_000,
        ),
    ] = 3600.0
    server_cors_allowed_origins: Annotated[
        str | None,
        _row(
            "Other sites whose pages may call the API, `https://flows.example`, separated by commas; "
            "`*` is every site.",
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS",
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS",
        ),
    ] = None
    server_cors_allowed_methods: Annotated[
        str,
        _row(
            "Methods that those pages may use, separated by commas; `*` is every one.",
            "PREFECT_SERVER_API_CORS_ALLOWED_METHODS",
            "PREFECT_SERVER_CORS_ALLOWED_METHODS",
        ),
    ] = "*"
    server_cors_allowed_headers: Annotated[
        str,
        _row(
            "Headers that those pages may send, separated by commas; `*` is every one.",
            "PREFECT_SERVER_API_CORS_ALLOWED_HEADERS",
            "PREFECT_SERVER_CORS_ALLOWED_HEADERS",
        ),
    ] = "*"
    server_allowed_hosts: Annotated[
        str | None,
        _row(
            "Public names by which the server may be called, separated by commas; `*` is any. Not set: any, "
            "but none where it listens on this machine only and asks for no secret."
        ),
    ] = None
    server_api_base_path: Annotated[
        str, _row("Path below which the API is.", "PREFECT_SERVER_API_BASE_PATH")
    ] = "/api"
    server_default_limit: Annotated[
        int,
        _row(
            "Rows of an answer when no number is asked for; as many may be asked for, and 200 in any case.",
            "PREFECT_SERVER_API_DEFAULT_LIMIT",
            "PREFECT_API_DEFAULT_LIMIT",
            least=1,
            most=10_000,
        ),
    ] = 200
    server_max_connections: Annotated[
        int, _row("Connections that the server holds at once; one more is turned away.", least=10)
    ] = 5000
    admin_version: Annotated[str, _row("The version of Prefect whose API the server says it speaks.")] = (
        "3.9.1"
    )
    database_url: Annotated[
        str,
        _row(
            "Database of the server, SQLite or PostgreSQL; `eparch.db` in the home unless set.",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL",
            "PREFECT_API_DATABASE_CONNECTION_URL",
            secret=True,
        ),
    ]
    max_body_bytes: Annotated[int, _row("Largest request body that the server takes.", least=1024)] = (
        10_000_000
    )
    deployment_versions_kept: Annotated[
        int, _row("Versions of each deployment that the server keeps.", least=1, most=10_000)
    ] = 50
    services_enabled: Annotated[
        bool, _row("Run the scheduler, the watchdog and the other services inside the server.")
    ] = True
    scheduler_seconds: Annotated[
        float,
        _row(
            "Seconds between two rounds of the scheduler.",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS",
            "PREFECT_API_SERVICES_SCHEDULER_LOOP_SECONDS",
            least=0.01,
        ),
    ] = 60.0
    watchdog_seconds: Annotated[
        float,
        _row(
            "Seconds between two rounds of the watchdog (late runs, lapsed leases).",
            "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS",
            "PREFECT_API_SERVICES_LATE_RUNS_LOOP_SECONDS",
            least=0.01,
        ),
    ] = 3.0
    late_after_seconds: Annotated[
        float,
        _row(
            "Seconds after its time at which a run that has not begun is Late.",
            "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS",
            "PREFECT_API_SERVICES_LATE_RUNS_AFTER_SECONDS",
            least=0,
        ),
    ] = 15.0
    heartbeat_silence_seconds: Annotated[
        float,
        _row(
            "Seconds without a sign of life after which a run of a Prefect client that sent heartbeats is "
            "Crashed, three times their interval if that is longer; 0 is never.",
            least=0,
        ),
    ] = 90.0

    worker_missed_heartbeats: Annotated[
        float, _row("Heartbeats that may be missing until a worker is offline.", least=1, most=1000)
    ] = 3.0
    worker_forget_seconds: Annotated[
        float, _row("Seconds after which a worker process that is not seen is forgotten.", least=60)
    ] = 604800.0

    # Workers and deploying
    default_work_pool: Annotated[
        str | None,
        _row(
            "Work pool of a deployment that names none.",
            "PREFECT_DEPLOYMENTS_DEFAULT_WORK_POOL_NAME",
            "PREFECT_DEFAULT_WORK_POOL_NAME",
        ),
    ] = None
    worker_poll_seconds: Annotated[
        float,
        _row(
            "Seconds between two polls, where the server cannot tell a worker.",
            "PREFECT_WORKER_QUERY_SECONDS",
            least=0.01,
        ),
    ] = 10.0
    worker_heartbeat_seconds: Annotated[
        float, _row("Seconds between two heartbeats.", "PREFECT_WORKER_HEARTBEAT_SECONDS", least=0.1)
    ] = 30.0
    worker_log_level: Annotated[
        LogLevel, _row("Least level of what a worker says that the server keeps.")
    ] = "INFO"
    worker_on_stop: Annotated[
        OnStop,
        _row(
            "What a worker that is told to stop does with its runs: lets them finish, hands back those"
            " that have not begun, or ends them."
        ),
    ] = "finish"
    worker_grace_seconds: Annotated[
        float, _row("Seconds that runs have before a worker that is told to stop ends them.", least=0)
    ] = 20.0
    worker_warm_start: Annotated[
        bool,
        _row(
            "Fork runs of the process type from a process that is ready, where that is safe; else each is a"
            " new interpreter."
        ),
    ] = True
    worker_health_host: Annotated[
        str, _row("Address at which a worker answers probes.", "PREFECT_WORKER_WEBSERVER_HOST")
    ] = "0.0.0.0"  # noqa: S104  probes come from outside
    worker_health_port: Annotated[
        int, _row("Port of it; 0 takes a free one.", "PREFECT_WORKER_WEBSERVER_PORT", least=0, most=65535)
    ] = 8080
    serve_limit: Annotated[
        int,
        _row(
            "Most runs at once of a process that serves deployments, unless it says otherwise.",
            "PREFECT_RUNNER_PROCESS_LIMIT",
            least=1,
        ),
    ] = 5
    prefetch_seconds: Annotated[
        float,
        _row(
            "Seconds before its time at which a worker takes a run.",
            "PREFECT_WORKER_PREFETCH_SECONDS",
            least=0,
            most=86400,
        ),
    ] = 10.0
    lease_seconds: Annotated[
        float,
        _row(
            "Seconds that a worker holds a run before it has to renew; with the rounds of the watchdog it is "
            "how soon a run whose machine died is Crashed.",
            least=1,
            most=3600,
        ),
    ] = 24.0

    steps_install: Annotated[
        bool, _row("Whether what a step of a project file `requires` is installed when it is missing.")
    ] = True

    # What people see
    log_level: Annotated[LogLevel, _row("Least level that is logged.", "PREFECT_LOGGING_LEVEL")] = "INFO"
    cli_prompt: Annotated[
        bool | None, _row("Ask questions. Not set: when a person is there.", "PREFECT_CLI_PROMPT")
    ] = None
    color: Annotated[Color, _row("Colours on the terminal.", "PREFECT_CLI_COLORS")] = "auto"
    debug: Annotated[bool, _row("Show tracebacks.", "PREFECT_DEBUG_MODE")] = False

    def __repr__(self) -> str:
        shown = (f"{row.name}={row.show(getattr(self, row.name))}" for row in TABLE)
        return f"Settings({', '.join(shown)})"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    type: Any
    default: Any
    """``None`` with ``computed`` set: it follows from the home."""
    computed: bool
    about: About

    @property
    def variable(self) -> str:
        """The environment variable, which is also the key in a profile."""
        return f"EPARCH_{self.name.upper()}"

    @property
    def names(self) -> tuple[str, ...]:
        """Every variable that sets it, the strongest first."""
        return (self.variable, *self.about.aliases)

    @property
    def optional(self) -> bool:
        """Whether it can be without a value."""
        return type(None) in get_args(self.type)

    @property
    def kind(self) -> Any:
        """Its type without None."""
        if not self.optional:
            return self.type
        return next(part for part in get_args(self.type) if part is not type(None))

    def show(self, value: Any, *, secrets: bool = False) -> str:
        """``value`` as text that may be shown; a secret is masked unless ``secrets``."""
        if value is None:
            return ""
        if self.about.secret and value and not secrets:
            return masked_url(value) if self.name == "database_url" else MASK
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, dict):
            return msgspec.json.encode(value).decode()
        return str(value)


MASK = "********"


def masked_url(url: str) -> str:
    """``url`` with its password masked; other URLs stay as they are."""
    scheme, separator, rest = url.partition("://")
    userinfo, at, place = rest.rpartition("@")
    if not separator or not at or ":" not in userinfo:
        return url
    return f"{scheme}://{userinfo.partition(':')[0]}:{MASK}@{place}"


def _rows() -> tuple[Setting, ...]:
    rows = []
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        kind, about = hints[field.name].__origin__, hints[field.name].__metadata__[0]
        computed = field.required
        default = None if computed else field.default
        if field.default_factory is not msgspec.NODEFAULT:
            computed, default = False, field.default_factory()
        rows.append(Setting(field.name, kind, default, computed, about))
    return tuple(rows)


TABLE: tuple[Setting, ...] = _rows()
"""Every setting, in the order in which it is documented."""

BY_NAME: dict[str, Setting] = {row.name: row for row in TABLE}
BY_VARIABLE: dict[str, Setting] = {name: row for row in TABLE for name in row.names}


def expected_of(row: Setting) -> str:
    """What a value of the setting has to be, in words."""
    kind = row.kind
    if kind is bool:
        return "true or false"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    if get_origin(kind) is dict:
        return "a JSON object of texts"
    if kind in (int, float):
        word = "a whole number" if kind is int else "a number"
        least, most = row.about.least, row.about.most
        if least is not None and most is not None:
            return f"{word} from {least:g} to {most:g}"
        return f"{word}, at least {least:g}" if least is not None else word
    if row.name.endswith("_url"):
        return "a database URL" if row.name == "database_url" else "a URL with a scheme and a host"
    return "a path" if kind is Path else "a text"
