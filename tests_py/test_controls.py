"""The negative controls fit the code that they are for; ``make controls`` runs them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_control_applies_to_this_tree_and_names_tests_that_there_are() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "controls", "--dry-run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
