import re
from pathlib import Path

README = Path(__file__).parents[1].joinpath("README.md")


def test_the_code_in_the_readme_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert "{'0e': 1.0, '1o': 0.0, '2e': 0.0}" in capsys.readouterr().out
