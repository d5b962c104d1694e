"""What a newcomer sees first: the show, run as it is typed."""

import subprocess
from pathlib import Path

from tests.fixtures.processes import PROGRAM
from tests.fixtures.testbed import needs_umockdev


@needs_umockdev
def test_a_show_that_ends_gives_no_commands_for_a_placement_that_is_gone(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, "demo", "--once", "--state-dir", tmp_path], capture_output=True, text=True, timeout=120, check=True
    )
    assert "instance 3: refused" in done.stdout
    assert "--os-cloud" not in done.stdout
