"""Reads configuration files to checked values, and reports every mistake at once, each in one sentence."""

import ipaddress
import itertools
import math
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oslo_config import cfg

from usb_provider.conf import agent, hook, libvirt, metrics, usb
from usb_provider.conf.opts import register_opts
from usb_provider.exception import ConfigError
from usb_provider.model.devices.keys import JUNK, JunkSerials, junk_entries
from usb_provider.model.devices.spec import DeviceSpec, parse_specs
from usb_provider.model.text import printable

PROJECT = "usb-provider"

_SOCKET_PATH_BYTES = 107
_ITSELF = "an option refers to itself; write $$ for a dollar sign"
_PATHS = {("agent", "compute_id_file"), ("agent", "state_dir"), ("hook", "socket")}


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """The group [agent], checked. Durations are in seconds."""

    root_provider_uuid: str | None
    root_provider_name: str | None
    root_name_may_differ: bool
    compute_id_file: Path
    resync_interval: int
    debounce: float
    start_spread: int
    purge_absent_after: int
    purge_wait: int
    max_providers: int
    state_dir: Path


@dataclass(frozen=True, slots=True)
class UsbOptions:
    """The group [usb], checked and parsed."""

    specs: tuple[DeviceSpec, ...]
    junk_serials: JunkSerials
    report_serial_trait: bool


@dataclass(frozen=True, slots=True)
class LibvirtOptions:
    """The group [libvirt], checked. Durations are in seconds."""

    enabled: bool
    connection_uri: str
    attach_timeout: int
    detach_timeout: int


@dataclass(frozen=True, slots=True)
class HookOptions:
    """The group [hook], checked. ``timeout`` is in seconds."""

    socket: Path
    timeout: float
    socket_owner: str | None
    socket_group: str | None


@dataclass(frozen=True, slots=True)
class MetricsOptions:
    """The group [metrics], checked: addresses and ports, none of which twice."""

    listen: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that this project's own groups say."""

    agent: AgentOptions
    usb: UsbOptions
    libvirt: LibvirtOptions
    hook: HookOptions
    metrics: MetricsOptions


def open_files(
    arguments: Sequence[str],
    *,
    declare: Callable[[cfg.ConfigOpts], None] = lambda conf: None,
    with_placement: bool = True,
) -> cfg.ConfigOpts:
    """Read the files that oslo.config's own *arguments* name, or those under /etc/usb-provider.

    :param declare: declares further options, such as oslo.log's, before anything is read.
    :param with_placement: whether the group [placement] will be asked for; declaring it takes its time.
    :raises ConfigError: when a file is missing or cannot be read or parsed.
    """
    conf = cfg.ConfigOpts()
    declare(conf)
    try:
        conf(
            list(arguments),
            prog=PROJECT,
            default_config_files=default_files(),
            default_config_dirs=list(dict.fromkeys(cfg.find_config_dirs(PROJECT, PROJECT))),
        )
        register_opts(conf, with_placement=with_placement)
    except cfg.ConfigFilesNotFoundError as error:
        names = ", ".join(error.config_files)
        raise ConfigError([f"The configuration file {names} does not exist; check --config-file."]) from error
    except cfg.ConfigFilesPermissionDeniedError as error:
        names = ", ".join(error.config_files)
        raise ConfigError(
            [f"The configuration file {names} cannot be read; run this as root, or as the agent's user."]
        ) from error
    except cfg.ConfigDirNotFoundError as error:
        raise ConfigError([f"The directory {error.config_dir} does not exist; check --config-dir."]) from error
    except cfg.ConfigFileParseError as error:
        raise ConfigError(
            [f"The configuration file {error.config_file} cannot be parsed: {_line(error.msg)}."]
        ) from error
    except UnicodeDecodeError as error:
        name = _unreadable(arguments)
        raise ConfigError([f"The configuration file {name} is not UTF-8 text; save it as such."]) from error
    except OSError as error:
        name = error.filename or _unreadable(arguments)
        raise ConfigError([f"The configuration file {name} cannot be read: {error.strerror}."]) from error
    except cfg.Error as error:
        raise ConfigError([f"The configuration cannot be read: {_line(error)}."]) from error
    except RecursionError as error:
        raise ConfigError([f"The configuration cannot be read: {_ITSELF}."]) from error
    return conf


def default_files() -> list[str]:
    """The files that are read when none is named, each once (oslo.config gives it once for the project and again for
    the program, which would double every rule).
    """
    return list(dict.fromkeys(cfg.find_config_files(PROJECT, PROJECT)))


def reread(conf: cfg.ConfigOpts) -> Options:
    """Read the same files again and give their checked values; options that cannot change while running stay.

    :raises ConfigError: with every mistake.
    """
    try:
        conf.mutate_config_files()
    except (cfg.Error, OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"The configuration cannot be read again: {_line(error)}."]) from error
    except RecursionError as error:
        raise ConfigError([f"The configuration cannot be read again: {_ITSELF}."]) from error
    return read(conf)


def defaults() -> cfg.ConfigOpts:
    """A configuration of which no file was read."""
    conf = cfg.ConfigOpts()
    conf([], prog=PROJECT, default_config_files=[], default_config_dirs=[])
    register_opts(conf)
    return conf


def read(conf: cfg.ConfigOpts) -> Options:
    """The checked values of this project's own groups.

    :raises ConfigError: with every mistake in any of them.
    """
    options, problems = survey(conf)
    if problems:
        raise ConfigError(problems)
    return options


def survey(conf: cfg.ConfigOpts) -> tuple[Options, tuple[str, ...]]:
    """The values of this project's own groups, defaults in the place of those that are wrong, and every mistake."""
    problems: list[str] = []
    values = {
        (module.group.name, opt.name): _value(conf, module.group.name, opt, problems)
        for module in (agent, usb, libvirt, hook, metrics)
        for opt in module.opts
    }
    root_uuid = values["agent", "root_provider_uuid"]
    if root_uuid is not None and not _is_uuid(root_uuid):
        problems.append(f"[agent]root_provider_uuid is not a UUID: {root_uuid!r}.")
        root_uuid = None
    specs: tuple[DeviceSpec, ...] = ()
    try:
        specs = parse_specs(values["usb", "device_spec"] or [])
    except ConfigError as error:
        problems += error.problems
    junk = JUNK
    try:
        junk = JunkSerials(junk_entries(values["usb", "junk_serials"]))
    except ValueError as error:
        problems.append(f"[usb]junk_serials: {error}")
    if len(str(values["hook", "socket"]).encode()) > _SOCKET_PATH_BYTES:
        problems.append(f"[hook]socket is longer than the {_SOCKET_PATH_BYTES} bytes that unix(7) allows.")
    listen = _addresses(values["metrics", "listen"] or [], problems)
    options = Options(
        agent=AgentOptions(
            root_provider_uuid=str(uuid.UUID(root_uuid)) if root_uuid else None,
            root_provider_name=values["agent", "root_provider_name"] or None,
            root_name_may_differ=values["agent", "root_name_may_differ"],
            compute_id_file=Path(values["agent", "compute_id_file"]),
            resync_interval=values["agent", "resync_interval"],
            debounce=values["agent", "debounce"],
            start_spread=values["agent", "start_spread"],
            purge_absent_after=values["agent", "purge_absent_after"],
            purge_wait=values["agent", "purge_wait"],
            max_providers=values["agent", "max_providers"],
            state_dir=Path(values["agent", "state_dir"]),
        ),
        usb=UsbOptions(
            specs=specs,
            junk_serials=junk,
            report_serial_trait=values["usb", "report_serial_trait"],
        ),
        libvirt=LibvirtOptions(**{opt.name: values["libvirt", opt.name] for opt in libvirt.opts}),
        hook=HookOptions(
            socket=Path(values["hook", "socket"]),
            timeout=values["hook", "timeout"],
            socket_owner=values["hook", "socket_owner"] or None,
            socket_group=values["hook", "socket_group"] or None,
        ),
        metrics=MetricsOptions(listen),
    )
    return options, tuple(problems)


def _value(conf: cfg.ConfigOpts, group: str, opt: cfg.Opt, problems: list[str]) -> Any:
    try:
        value = conf[group][opt.dest]
        # oslo.config's limits accept nan, since it is neither above nor below any number.
        if isinstance(value, float) and math.isnan(value):
            raise ValueError("nan is not a number")
        if isinstance(opt, cfg.StrOpt) and isinstance(value, str) and opt.name != "root_provider_uuid":
            _check_text(value, is_path=(group, opt.name) in _PATHS)
        return value
    except (cfg.Error, ValueError) as error:
        problems.append(f"[{group}]{opt.name} has a value that is not allowed: {_line(error)}.")
    except RecursionError:
        problems.append(
            f"[{group}]{opt.name} has a value that is not allowed: it refers to itself; write $$ for a dollar sign."
        )
    return opt.default


def _check_text(value: str, *, is_path: bool) -> None:
    """:raises ValueError: when *value* has a control character, or should be an absolute path and is none."""
    control = next((char for char in value if not char.isprintable()), None)
    if control == "\n":
        raise ValueError("it has a second line (an indented line continues the option above it)")
    if control is not None:
        raise ValueError(f"it contains the control character {printable(control)}")
    if is_path and not value.startswith("/"):
        raise ValueError(f"{value!r} is no absolute path")


def _addresses(values: Sequence[str], problems: list[str]) -> tuple[tuple[str, int], ...]:
    found: dict[tuple[str, int], None] = {}
    for value in values:
        # Without the brackets, it is not clear where an IPv6 address ends and its port begins.
        match = re.fullmatch(
            r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<four>[0-9.]+)):(?P<port>[0-9]{1,5})", value.strip()
        )
        try:
            if match is None or not 0 < int(match["port"]) < 1 << 16:
                raise ValueError
            kind = ipaddress.IPv6Address if match["six"] else ipaddress.IPv4Address
            found[str(kind(match["six"] or match["four"])), int(match["port"])] = None
        except ValueError:
            problems.append(
                f"[metrics]listen has a value that is not allowed: {value!r} is not an address and a port, such as "
                f"127.0.0.1:9753 or [::1]:9753."
            )
    return tuple(found)


def _unreadable(arguments: Sequence[str]) -> str:
    """The first file that cannot be read as text, of those that *arguments* name or that are read by default."""
    named = [value for word, value in itertools.pairwise(arguments) if word == "--config-file"]
    for directory in [value for word, value in itertools.pairwise(arguments) if word == "--config-dir"]:
        named += sorted(str(path) for path in Path(directory).glob("*.conf"))
    for path in named or default_files():
        try:
            Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return str(path)
    return "among those by default"


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _line(error: object) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    if missing := re.fullmatch(r"no such option (\S+) in group \[DEFAULT\]", text):
        return f"${missing[1]} refers to an option that does not exist; write $$ for a dollar sign"
    # oslo.config names the option once more, and the place as the repr of a Python object.
    return re.sub(r"^Value for option \S+ from LocationInfo\(.*?\) is not valid: ", "", text)
