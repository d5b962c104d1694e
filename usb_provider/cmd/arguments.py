"""The arguments that every command takes: which configuration to read, and how much to say."""

import argparse


def oslo_arguments(arguments: argparse.Namespace) -> list[str]:
    """Those arguments that belong to oslo.config and oslo.log, before or after the command."""
    words: list[str] = []
    for prefix in ("global_", ""):
        for file in getattr(arguments, f"{prefix}config_file") or ():
            words += ["--config-file", file]
        for directory in getattr(arguments, f"{prefix}config_dir") or ():
            words += ["--config-dir", directory]
        if getattr(arguments, f"{prefix}debug"):
            words.append("--debug")
    return words


def declare_common(command: argparse.ArgumentParser, prefix: str) -> None:
    """Declare what every command takes, before or after its name: *prefix* distinguishes the two places."""
    group = command.add_argument_group("configuration")
    group.add_argument(
        "--config-file",
        action="append",
        metavar="FILE",
        dest=f"{prefix}config_file",
        help="read this file; may be repeated: later values win, and rules add up "
        "(default: /etc/usb-provider/usb-provider.conf and /etc/usb-provider/usb-provider.conf.d/)",
    )
    group.add_argument(
        "--config-dir",
        action="append",
        metavar="DIR",
        dest=f"{prefix}config_dir",
        help="read every *.conf file of this directory, after the files",
    )
    group.add_argument("--debug", action="store_true", dest=f"{prefix}debug", help="say how each decision is made")
