"""What the configuration files have without effect: unknown names, old names, and options that another overrules.

oslo.config ignores a name that no program declares, so a misspelt option leaves the default in force. Only the doctor
asks; load.py reads the values.
"""

import difflib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path

from oslo_config import cfg

from usb_provider.conf.load import Options

_DEFAULT = "DEFAULT"
_ITS_OWN = ("config_dir", "config_file", "config_source")
"""Options of oslo.config itself."""
_DECLARING = ("oslo.log", "oslo.reports")
_OVERRULED_BY_LIBVIRT = ("hook", "libvirt")


def without_effect(conf: cfg.ConfigOpts, options: Options) -> tuple[str, ...]:
    """A sentence on each such entry of the files that *conf* was read from.

    :raises OSError: when a file has become unreadable since.
    """
    written = _written(conf)
    declared = _declared(conf)
    for source in conf.config_source or ():
        written.pop(source.lower(), None)
    known = {group: frozenset(names) & declared.get(group, {}).keys() for group, names in written.items()}
    return (*_unknown(written, declared), *_overruled(known, options))


def _written(conf: cfg.ConfigOpts) -> dict[str, frozenset[str]]:
    """By section, the names of the options that the files set, with underscores for dashes."""
    sections: dict[str, dict[str, list[str]]] = {}
    directories = [Path(each) for each in conf.config_dir or ()]
    for path in (*(conf.config_file or ()), *(each for top in directories for each in sorted(top.glob("*.conf")))):
        cfg.ConfigParser(str(path), sections).parse()
    found: dict[str, frozenset[str]] = {}
    for name, values in sections.items():
        group = _DEFAULT if name.upper() == _DEFAULT else name.lower()
        found[group] = found.get(group, frozenset()) | {each.replace("-", "_") for each in values}
    return found


def _declared(conf: cfg.ConfigOpts) -> dict[str, dict[str, str]]:
    """By section and name, the name that counts today: the same, or ``[section]name`` where that one is deprecated."""
    from usb_provider.conf import placement
    from usb_provider.conf.opts import list_opts

    listed: list[tuple[str, cfg.Opt]] = [(_DEFAULT, cfg.StrOpt(name)) for name in _ITS_OWN]
    listed += [(group.name, opt) for group, declared in list_opts() for opt in declared]
    # The way in which oslo-config-generator finds the options of each library.
    for entry in entry_points(group="oslo.config.opts"):
        if entry.name in _DECLARING:
            groups: Iterable[tuple[object, list[cfg.Opt]]] = entry.load()()
            listed += [(str(group or _DEFAULT), opt) for group, declared in groups for opt in declared]
    listed += [(conf.placement.auth_section or placement.group.name, opt) for opt in placement.of_any_plugin()]
    found: dict[str, dict[str, str]] = {}
    for group, opt in listed:
        for old in opt.deprecated_opts:
            where = found.setdefault(old.group or group, {})
            where.setdefault((old.name or opt.name).replace("-", "_"), f"[{group}]{opt.dest}")
    for group, opt in listed:
        found.setdefault(group, {})[opt.dest] = opt.dest
    return found


def _unknown(written: Mapping[str, Collection[str]], declared: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for group, names in sorted(written.items()):
        known = declared.get(group)
        if known is None:
            yield f"[{group}] is no section of usb-provider{_meant(group, declared)}."
            continue
        for name in sorted(names):
            now = known.get(name)
            if now is None:
                yield f"[{group}]{name} is no option of usb-provider{_meant(name, known)}."
            elif now != name:
                yield f"[{group}]{name} is an old name of {now}."


def _meant(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f" (is it {close[0]}?)" if close else ""


def _overruled(written: Mapping[str, Collection[str]], options: Options) -> Iterator[str]:
    agent = written.get("agent", ())
    if options.agent.root_provider_uuid:
        for name in ("root_provider_name", "compute_id_file"):
            if name in agent:
                yield f"[agent]{name} has no effect, since [agent]root_provider_uuid names the compute node."
    elif "root_provider_name" in agent and os.path.exists(options.agent.compute_id_file):
        yield f"[agent]root_provider_name has no effect, since {options.agent.compute_id_file} names the compute node."
    if not options.libvirt.enabled:
        for group in _OVERRULED_BY_LIBVIRT:
            for name in sorted(set(written.get(group, ())) - {"enabled"}):
                yield f"[{group}]{name} has no effect, since [libvirt]enabled is false."
