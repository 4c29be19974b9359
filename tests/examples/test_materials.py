"""The examples print what their first lines promise."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "materials"


@pytest.mark.slow
def test_the_phases_of_barium_titanate(tmp_path):
    command = [sys.executable, str(EXAMPLES / "batio3.py"), "--out", str(tmp_path)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = {fields[0]: fields for fields in map(str.split, lines) if fields}
    expected = {"P4mm": ["4mm", "6", "T1u"], "Amm2": ["mm2", "12", "T1u"], "R3m": ["3m", "8", "T1u"]}
    for phase, row in expected.items():
        assert rows[phase][1:4] == row
        amplitude, published = (float(x) for x in rows[phase] if x.startswith("0.1"))
        assert amplitude == pytest.approx(published, abs=0.003)
        assert (tmp_path / phase / "index.html").is_file()
    assert rows["Pm-3m"][1:4] == ["m-3m", "1", "none"]
    assert (tmp_path / "phases.png").is_file()
