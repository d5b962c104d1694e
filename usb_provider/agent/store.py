"""The one thing kept on disk: names of traits that rules of this host have given, so that dropped ones can be removed.

Nothing else tells a trait that a rule once gave from one that an operator added (docs/adr/0005-rule-traits.md).
Losing the file loses nothing but that: such a trait then stays until somebody removes it.
"""

import json
import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from usb_provider.exception import ConfigError

FILE_NAME = "rule-traits.json"


class RuleTraitStore:
    """Names in ``<state_dir>/rule-traits.json``; written whole or not at all."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE_NAME

    def load(self) -> frozenset[str]:
        """The names, none when nothing was saved yet. :raises ConfigError: when the file cannot be understood."""
        try:
            names = json.loads(self._path.read_text(encoding="utf-8"))
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()
        except OSError as error:
            raise ConfigError(
                [f"{self._path} cannot be read ({error.strerror}); let the agent's user read it."]
            ) from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                [
                    f"{self._path} is not a list of trait names; delete it, and remove by hand what traits rules "
                    f"no longer give."
                ]
            ) from error
        return frozenset(names)

    def save(self, names: Collection[str]) -> None:
        """Replace the names. :raises ConfigError: when the directory cannot be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, prefix=FILE_NAME, delete=False) as new:
                try:
                    json.dump(sorted(names), new)
                    new.flush()
                    # The agent's user must be able to read and replace what root wrote with "usb-provider sync".
                    os.fchmod(new.fileno(), 0o644)
                    if os.geteuid() == 0:
                        owner = self._path.parent.stat()
                        os.fchown(new.fileno(), owner.st_uid, owner.st_gid)
                    os.fsync(new.fileno())
                    os.replace(new.name, self._path)
                except OSError:
                    os.unlink(new.name)
                    raise
        except OSError as error:
            raise ConfigError(
                [
                    f"[agent]state_dir {self._path.parent} cannot be written ({error.strerror}); let the agent's user "
                    f"write it."
                ]
            ) from error
