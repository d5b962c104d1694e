"""How the tests' ssh reaches a host of theirs: as root with a key of its own, without a look at the user's files."""

from pathlib import Path


def ssh_words(key: Path, **more: str) -> list[str]:
    """Options of ssh that log in with *key*; *more* are further options by ssh's names."""
    options = {
        "IdentityFile": str(key),
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "LogLevel": "ERROR",
        "BatchMode": "yes",
        "ConnectTimeout": "10",
        **more,
    }
    return ["-F", "none", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
