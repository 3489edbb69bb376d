"""The configuration: what wins, what is refused, and the exact line that a person gets for it."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from pydantic import ValidationError

from server.config import SETTINGS, Config, ConfigError, Loaded, load, option, variable

SOCKET = "an absolute path of at most 107 bytes, with or without unix:// before it"
LEVELS = '"debug", "info", "warning", "error"'
KEYS = (
    "state_dir, listen, containerd, drain_seconds, default_grace_seconds, zero_timeout, on_corrupt, retention_hours, "
    "hooks_dir, kubelet_prestop, front, post_stop_hours, admin, reach.hosts, reach.cidrs, http.listen, "
    "events.kubeconfig, events.node_name, events.containerd, traces.endpoint, log.level, log.format"
)
HTTP = "a loopback address with a port, as 127.0.0.1:9480, a socket's absolute path, or nothing"
LONG = "/" + "a" * 107

#: For every setting: a value as TOML writes it, the same as text, and what Config then has.
GOOD: dict[str, tuple[str, str, object]] = {
    "state_dir": ('"/srv/a b"', "/srv/a b", Path("/srv/a b")),
    "listen": ('"unix:///run/a.sock"', "unix:///run/a.sock", Path("/run/a.sock")),
    "containerd": ('"/run/b.sock"', "/run/b.sock", Path("/run/b.sock")),
    "drain_seconds": ("0", "0", 0.0),
    "default_grace_seconds": ("0.5", "0.5", 0.5),
    "zero_timeout": ('"skip"', "skip", "skip"),
    "on_corrupt": ('"refuse"', "refuse", "refuse"),
    "retention_hours": ("0.5", "0.5", 0.5),
    "hooks_dir": ('"/srv/h"', "/srv/h", Path("/srv/h")),
    "kubelet_prestop": ('"ensure"', "ensure", "ensure"),
    "front": ('"grpc"', "grpc", "grpc"),
    "post_stop_hours": ("48", "48", 48.0),
    "admin": ('"/run/c.sock"', "unix:///run/c.sock", Path("/run/c.sock")),
    "reach.hosts": ('["*.example.com", "db-?"]', " *.example.com, db-?,", ("*.example.com", "db-?")),
    "reach.cidrs": (
        '["10.0.0.0/8", "fd00::/8", "192.0.2.1"]',
        "10.0.0.0/8,fd00::/8,192.0.2.1",
        (IPv4Network("10.0.0.0/8"), IPv6Network("fd00::/8"), IPv4Network("192.0.2.1/32")),
    ),
    "http.listen": ('"127.0.0.1:9480"', "127.0.0.1:9480", "127.0.0.1:9480"),
    "events.kubeconfig": ('"/etc/k.conf"', "/etc/k.conf", "/etc/k.conf"),
    "events.node_name": ('"node-1"', "node-1", "node-1"),
    "events.containerd": ("false", "false", False),
    "traces.endpoint": ('"http://127.0.0.1:4318"', "http://127.0.0.1:4318", "http://127.0.0.1:4318"),
    "log.level": ('"debug"', "debug", "debug"),
    "log.format": ('"json"', "json", "json"),
}

#: A file's text, and the problems it has, each without the file's name.
BAD_FILES: list[tuple[str, list[str]]] = [
    ('statedir = "/x"', ["statedir: unknown key; did you mean state_dir?"]),
    ('log-level = "info"', ["log-level: unknown key; did you mean log.level?"]),
    ("colour = 1", [f"colour: unknown key; known are {KEYS}"]),
    ("hook_dir = 1", ["hook_dir: unknown key; did you mean hooks_dir?"]),
    ('[reach]\nhost = "x"', ["reach.host: unknown key; did you mean reach.hosts?"]),
    ("reach = 1", ["reach: expected a table, [reach]; found 1"]),
    ('hooks_dir = "x"', ['hooks_dir: expected an absolute path; found "x" (it does not begin with /)']),
    ("kubelet_prestop = true", ['kubelet_prestop: expected one of "off", "ensure"; found true']),
    ("post_stop_hours = 0", ["post_stop_hours: expected a number of hours, more than 0; found 0"]),
    ('admin = "x.sock"', [f'admin: expected {SOCKET}; found "x.sock" (it does not begin with /)']),
    ('http.listen = "9480"', [f'http.listen: expected {HTTP}; found "9480" (it is neither ADDRESS:PORT nor a path)']),
    ('http.listen = "/run/x/"', [f'http.listen: expected {HTTP}; found "/run/x/" (it names a directory)']),
    ("http.listen = 9480", [f"http.listen: expected {HTTP}; found 9480 (it is not a string)"]),
    (
        'http.listen = "0.0.0.0:80"',
        [f'http.listen: expected {HTTP}; found "0.0.0.0:80" (0.0.0.0 can be reached from other machines)'],
    ),
    ('http.listen = "1.2.3:80"', [f'http.listen: expected {HTTP}; found "1.2.3:80" (1.2.3 is no address)']),
    ('http.listen = "[::1]:99999"', [f'http.listen: expected {HTTP}; found "[::1]:99999" (99999 is no port)']),
    (
        'events.kubeconfig = "x"',
        ['events.kubeconfig: expected an absolute path, or nothing; found "x" (it does not begin with /)'],
    ),
    ("events.containerd = 1", ["events.containerd: expected true or false; found 1"]),
    (
        'traces.endpoint = "http://a:b@x"',
        ['traces.endpoint: expected an http or https URL, or nothing; found "http://...@x" (it has a password)'],
    ),
    (
        'traces.endpoint = "ftp://x"',
        ['traces.endpoint: expected an http or https URL, or nothing; found "ftp://x" (it is no URL)'],
    ),
    ('[log]\nlevle = "info"', ["log.levle: unknown key; did you mean log.level?"]),
    ('"a\\u001b[31mb" = 1', [f"a\\x1b[31mb: unknown key; known are {KEYS}"]),
    ("state_dir = 3", ["state_dir: expected an absolute path; found 3 (it is not a string)"]),
    ('state_dir = "x"', ['state_dir: expected an absolute path; found "x" (it does not begin with /)']),
    ('state_dir = ""', ['state_dir: expected an absolute path; found "" (it does not begin with /)']),
    (
        'state_dir = "/a\\u0000b"',
        ['state_dir: expected an absolute path; found "/a\\u0000b" (it has a character that cannot be seen)'],
    ),
    (
        'state_dir = "unix:///x"',
        ['state_dir: expected an absolute path; found "unix:///x" (it does not begin with /)'],
    ),
    ('listen = "x.sock"', [f'listen: expected {SOCKET}; found "x.sock" (it does not begin with /)']),
    (
        'listen = "tcp://127.0.0.1:80"',
        [f'listen: expected {SOCKET}; found "tcp://127.0.0.1:80" (it does not begin with /)'],
    ),
    ('listen = "unix://x"', [f'listen: expected {SOCKET}; found "unix://x" (it does not begin with /)']),
    ('listen = "/run/x/"', [f'listen: expected {SOCKET}; found "/run/x/" (it names a directory)']),
    (
        f'containerd = "{LONG}"',
        [f'containerd: expected {SOCKET}; found "{LONG[:99]}... (it has 108 bytes)'],
    ),
    ("containerd = false", [f"containerd: expected {SOCKET}; found false (it is not a string)"]),
    ('drain_seconds = "5"', ['drain_seconds: expected a number of seconds, 0 or more; found "5"']),
    ("drain_seconds = true", ["drain_seconds: expected a number of seconds, 0 or more; found true"]),
    ("drain_seconds = -1", ["drain_seconds: expected a number of seconds, 0 or more; found -1"]),
    ("drain_seconds = nan", ["drain_seconds: expected a number of seconds, 0 or more; found NaN"]),
    ("drain_seconds = inf", ["drain_seconds: expected a number of seconds, 0 or more; found Infinity"]),
    ("drain_seconds = [1]", ["drain_seconds: expected a number of seconds, 0 or more; found [1]"]),
    (
        "drain_seconds = 2026-01-01",
        ['drain_seconds: expected a number of seconds, 0 or more; found "2026-01-01"'],
    ),
    (
        f"drain_seconds = 1{'0' * 400}",
        [f"drain_seconds: expected a number of seconds, 0 or more; found 1{'0' * 99}..."],
    ),
    (
        "default_grace_seconds = 0",
        ["default_grace_seconds: expected a number of seconds, more than 0; found 0"],
    ),
    (
        "default_grace_seconds = {}",
        ["default_grace_seconds: expected a number of seconds, more than 0; found {}"],
    ),
    ('zero_timeout = "Run"', ['zero_timeout: expected one of "run", "skip"; found "Run"']),
    ("zero_timeout = 0", ['zero_timeout: expected one of "run", "skip"; found 0']),
    ("on_corrupt = true", ['on_corrupt: expected one of "replace", "refuse"; found true']),
    ("retention_hours = 0", ["retention_hours: expected a number of hours, more than 0; found 0"]),
    ("log = 3", ["log: expected a table, [log]; found 3"]),
    ('[[log]]\nlevel = "info"', ['log: expected a table, [log]; found [{"level": "info"}]']),
    ('[log]\nlevel = "INFO"', [f'log.level: expected one of {LEVELS}; found "INFO"']),
    ("[log]\nlevel = 3", [f"log.level: expected one of {LEVELS}; found 3"]),
    ('log.format = "xml"', ['log.format: expected one of "auto", "console", "json"; found "xml"']),
    (
        'log.format = 1\nlog.file = "/x"',
        [
            'log.format: expected one of "auto", "console", "json"; found 1',
            "log.file: unknown key; did you mean log.level?",
        ],
    ),
]

#: What is no TOML at all: the file's bytes, and how the problem begins (the parser's own words follow).
NO_TOML: list[tuple[bytes, str]] = [
    (b"listen = ", "line 1, at the end of the file: expected TOML: "),
    (b"\n\nx\n", "line 3, column 2: expected TOML: "),
    (b'[log]\nlevel = "', "line 2, at the end of the file: expected TOML: "),
    (b"a = 1\na = 2\n", "line 2, column 6: expected TOML: "),
    (b"a = 1\nb = '\xff'\n", "line 2: expected UTF-8; found byte 0xff"),
    (b"\xff", "line 1: expected UTF-8; found byte 0xff"),
]


def toml(tmp_path: Path, text: str | bytes) -> Path:
    """A configuration file with this in it."""
    file = tmp_path / "config.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def line(path: str, value: str) -> str:
    """A setting as a line of TOML."""
    return f"{path} = {value}\n"


def value_of(loaded: Loaded, path: str) -> object:
    """A setting's value in a Config."""
    value: object = loaded.config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def problems(
    tmp_path: Path,
    *,
    file: Path | None = None,
    environ: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> tuple[str, ...]:
    """What a load is refused for."""
    with pytest.raises(ConfigError) as refused:
        load(file, environ or {}, options or {}, tmp_path / "none.toml")
    return refused.value.problems


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    """No file, no variable, no option: every setting has its documented default, and says so."""
    loaded = load(None, {}, {}, tmp_path / "none.toml")
    assert loaded.config == Config()
    assert {path: value_of(loaded, path) for path in SETTINGS} == {
        "state_dir": Path("/var/lib/hookshim"),
        "listen": Path("/run/hookshim/hookshim.sock"),
        "containerd": Path("/run/containerd/containerd.sock"),
        "drain_seconds": 10.0,
        "default_grace_seconds": 30.0,
        "zero_timeout": "run",
        "on_corrupt": "replace",
        "retention_hours": 24.0,
        "hooks_dir": Path("/etc/hookshim/hooks.d"),
        "kubelet_prestop": "off",
        "front": "relay",
        "post_stop_hours": 24.0,
        "admin": Path("/run/hookshim/admin.sock"),
        "reach.hosts": (),
        "reach.cidrs": (),
        "http.listen": "",
        "events.kubeconfig": "",
        "events.node_name": "",
        "events.containerd": True,
        "traces.endpoint": "",
        "log.level": "info",
        "log.format": "auto",
    }
    assert set(loaded.sources.values()) == {"default"}


def test_the_table_of_good_values_has_every_setting() -> None:
    """A setting that is added must be added to GOOD, or the tests below would pass it over."""
    assert GOOD.keys() == SETTINGS.keys()


@pytest.mark.parametrize("path", SETTINGS)
def test_each_setting_can_be_set_in_every_source(tmp_path: Path, path: str) -> None:
    """The file, the variable and the option each set it, to the same value, and are named as its source."""
    in_toml, text, expected = GOOD[path]
    file = toml(tmp_path, line(path, in_toml))
    for loaded, source in (
        (load(file, {}, {}), str(file)),
        (load(None, {variable(path): text}, {}, tmp_path / "none.toml"), variable(path)),
        (load(None, {}, {path: text}, tmp_path / "none.toml"), option(path)),
    ):
        assert value_of(loaded, path) == expected
        assert loaded.sources[path] == source
        assert [name for name, at in loaded.sources.items() if at != "default"] == [path]


def test_variables_and_options_have_the_documented_names() -> None:
    """The names in the README are the names in force."""
    assert [variable(path) for path in SETTINGS] == [
        "HOOKSHIM_STATE_DIR",
        "HOOKSHIM_LISTEN",
        "HOOKSHIM_CONTAINERD",
        "HOOKSHIM_DRAIN_SECONDS",
        "HOOKSHIM_DEFAULT_GRACE_SECONDS",
        "HOOKSHIM_ZERO_TIMEOUT",
        "HOOKSHIM_ON_CORRUPT",
        "HOOKSHIM_RETENTION_HOURS",
        "HOOKSHIM_HOOKS_DIR",
        "HOOKSHIM_KUBELET_PRESTOP",
        "HOOKSHIM_FRONT",
        "HOOKSHIM_POST_STOP_HOURS",
        "HOOKSHIM_ADMIN",
        "HOOKSHIM_REACH_HOSTS",
        "HOOKSHIM_REACH_CIDRS",
        "HOOKSHIM_HTTP_LISTEN",
        "HOOKSHIM_EVENTS_KUBECONFIG",
        "HOOKSHIM_EVENTS_NODE_NAME",
        "HOOKSHIM_EVENTS_CONTAINERD",
        "HOOKSHIM_TRACES_ENDPOINT",
        "HOOKSHIM_LOG_LEVEL",
        "HOOKSHIM_LOG_FORMAT",
    ]
    assert [option("state_dir"), option("log.format")] == ["--state-dir", "--log-format"]


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    """Each source replaces only what it sets, also inside [log]."""
    file = toml(tmp_path, 'listen = "/f"\nstate_dir = "/f"\ndrain_seconds = 1\nlog = {level = "error"}')
    loaded = load(
        file,
        {"HOOKSHIM_STATE_DIR": "/e", "HOOKSHIM_DRAIN_SECONDS": "2", "HOOKSHIM_LOG_FORMAT": "json"},
        {"drain_seconds": "3"},
    )
    assert loaded.config == Config.model_validate(
        {
            "listen": Path("/f"),
            "state_dir": Path("/e"),
            "drain_seconds": 3,
            "log": {"level": "error", "format": "json"},
        }
    )
    assert loaded.sources["log.level"] == str(file)
    assert loaded.sources["log.format"] == "HOOKSHIM_LOG_FORMAT"


def test_the_file_is_the_options_then_the_variables_then_the_default(tmp_path: Path) -> None:
    """--config wins over HOOKSHIM_CONFIG, that over the default file; only one of them is read."""
    files = {name: tmp_path / name for name in ("option", "variable", "default")}
    for name, file in files.items():
        file.write_text(f'state_dir = "/{name}"')
    environ = {"HOOKSHIM_CONFIG": str(files["variable"])}
    assert load(files["option"], environ, {}, files["default"]).config.state_dir == Path("/option")
    assert load(None, environ, {}, files["default"]).config.state_dir == Path("/variable")
    assert load(None, {}, {}, files["default"]).config.state_dir == Path("/default")


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    """A typing error in --config or HOOKSHIM_CONFIG does not silently mean "the defaults"."""
    missing = tmp_path / "missing.toml"
    assert problems(tmp_path, file=missing) == (f"{missing}: there is no such file",)
    assert problems(tmp_path, environ={"HOOKSHIM_CONFIG": str(missing)}) == (f"{missing}: there is no such file",)


def test_a_file_that_cannot_be_read_is_refused_also_at_the_default_place(tmp_path: Path) -> None:
    """A default file that exists counts, so that it cannot be ignored by mistake."""
    with pytest.raises(ConfigError) as refused:
        load(None, {}, {}, tmp_path)
    assert str(refused.value) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize(("text", "expected"), BAD_FILES, ids=[text[:40] for text, _ in BAD_FILES])
def test_a_malformed_setting_is_refused_with_its_path_and_what_was_expected(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    """The exact lines for every kind of mistake in a file."""
    file = toml(tmp_path, text)
    assert list(problems(tmp_path, file=file)) == [f"{file}: {problem}" for problem in expected]


@pytest.mark.parametrize(("text", "expected"), NO_TOML, ids=[repr(text) for text, _ in NO_TOML])
def test_what_is_not_toml_is_refused_with_its_line(tmp_path: Path, text: bytes, expected: str) -> None:
    """The line, and what the parser missed there."""
    file = toml(tmp_path, text)
    (problem,) = problems(tmp_path, file=file)
    assert problem.startswith(f"{file}: {expected}")


@pytest.mark.parametrize("text", ["x = " + "[" * 100_000, "x = 1" + "0" * 5000])
def test_a_file_that_overstrains_the_parser_is_refused_not_a_crash(tmp_path: Path, text: str) -> None:
    """Nesting and numbers without bounds end in a line, too."""
    file = toml(tmp_path, text)
    (problem,) = problems(tmp_path, file=file)
    assert problem.startswith(f"{file}: expected TOML: ")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("HOOKSHIM_LOG_LEVL", "x", "unknown variable; did you mean HOOKSHIM_LOG_LEVEL?"),
        ("HOOKSHIM_DRAIN_SECONDS", "", 'drain_seconds: expected a number of seconds, 0 or more; found ""'),
        ("HOOKSHIM_DRAIN_SECONDS", "10s", 'drain_seconds: expected a number of seconds, 0 or more; found "10s"'),
        ("HOOKSHIM_DRAIN_SECONDS", "nan", 'drain_seconds: expected a number of seconds, 0 or more; found "nan"'),
        ("HOOKSHIM_LOG_FORMAT", "JSON", 'log.format: expected one of "auto", "console", "json"; found "JSON"'),
        ("HOOKSHIM_LISTEN", "run/x", f'listen: expected {SOCKET}; found "run/x" (it does not begin with /)'),
    ],
)
def test_a_malformed_variable_is_refused_with_its_name(tmp_path: Path, name: str, value: str, expected: str) -> None:
    """A variable that starts with HOOKSHIM_ is meant for hookshim: it is right, or refused."""
    assert problems(tmp_path, environ={name: value}) == (f"environment variable {name}: {expected}",)


def test_a_malformed_option_is_refused_with_its_name(tmp_path: Path) -> None:
    """The option as it was typed, the setting it sets, what was expected and found."""
    assert problems(tmp_path, options={"log.level": "loud"}) == (
        f'option --log-level: log.level: expected one of {LEVELS}; found "loud"',
    )


def test_the_variables_of_a_kubernetes_service_called_hookshim_are_no_settings(tmp_path: Path) -> None:
    """A kubelet sets these in every pod beside such a Service; they must not keep hookshim from starting."""
    load(
        None,
        {
            "HOOKSHIM_SERVICE_HOST": "10.0.0.1",
            "HOOKSHIM_SERVICE_PORT": "9100",
            "HOOKSHIM_SERVICE_PORT_METRICS": "9100",
            "HOOKSHIM_PORT": "tcp://10.0.0.1:9100",
            "HOOKSHIM_PORT_9100_TCP": "tcp://10.0.0.1:9100",
            "HOOKSHIM_PORT_9100_TCP_ADDR": "10.0.0.1",
            "HOOKSHIM_METRICS_SERVICE_HOST": "10.0.0.2",
            "HOOKSHIM_FAILPOINTS": "",
            "PATH": "/bin",
        },
        {},
        tmp_path / "none.toml",
    )


def test_every_problem_of_every_source_is_told_at_once(tmp_path: Path) -> None:
    """A person mends all of it in one go, also the values that another source would replace."""
    file = toml(tmp_path, 'drain_seconds = "x"\ncolour = true\nlisten = "/run/a"\ncontainerd = "/run/b"')
    with pytest.raises(ConfigError) as refused:
        load(
            file,
            {"HOOKSHIM_LOG_LEVEL": "x", "HOOKSHIM_DRAIN_SECONDS": "1"},
            {"listen": "/run/b", "state_dir": "."},
        )
    assert str(refused.value).split("\n") == [
        "the configuration has 5 problems:",
        f'  {file}: drain_seconds: expected a number of seconds, 0 or more; found "x"',
        f"  {file}: colour: unknown key; known are {KEYS}",
        f'  environment variable HOOKSHIM_LOG_LEVEL: log.level: expected one of {LEVELS}; found "x"',
        '  option --state-dir: state_dir: expected an absolute path; found "." (it does not begin with /)',
        (
            f'  listen and containerd are the same socket, "/run/b" (listen from --listen, containerd from {file}); '
            "expected two"
        ),
    ]


def test_one_socket_for_both_is_refused_also_by_another_name(tmp_path: Path) -> None:
    """In front of itself hookshim would take containerd's socket away: links and dots do not hide that."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    real, link = tmp_path / "real/c.sock", tmp_path / "link/../link/c.sock"
    assert problems(tmp_path, options={"containerd": str(real), "listen": str(link)}) == (
        (
            f'listen and containerd are the same socket, "{link}" '
            "(listen from --listen, containerd from --containerd); expected two"
        ),
    )


@pytest.mark.parametrize("other", ["listen", "containerd", "admin"])
def test_http_is_served_at_nobody_elses_socket(tmp_path: Path, other: str) -> None:
    """The observer takes a socket that nobody serves for a left-over: containerd's is one while it restarts."""
    (problem,) = problems(tmp_path, options={other: "/run/a.sock", "http.listen": "/run/a.sock"})
    assert problem.startswith(f'{other} and http.listen are the same socket, "/run/a.sock"')


def test_a_configuration_does_not_change() -> None:
    """It is frozen, and strict also for code that builds one."""
    with pytest.raises(ValidationError, match="frozen"):
        Config().drain_seconds = 1.0
    with pytest.raises(ValidationError, match="valid number"):
        Config.model_validate({"drain_seconds": "1"})
