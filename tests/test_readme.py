import re
from pathlib import Path


def test_the_code_in_the_readme_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", Path(__file__).parents[1].joinpath("README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert "{'0e': 1.0, '1o': 0.0, '2e': 0.0}" in capsys.readouterr().out
