import subprocess
import sys


def test_importing_us_imports_neither_ase_nor_pymatgen():
    code = (
        "import sys; before = set(sys.modules); import torch_geometric; theirs = set(sys.modules);"
        "import pyg_relaxed.adapters, pyg_relaxed.data, pyg_relaxed.structures;"
        "ours = {m.split('.')[0] for m in set(sys.modules) - theirs};"
        "assert not ours & {'ase', 'pymatgen', 'spglib'}, ours"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
