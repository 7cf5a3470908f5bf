"""A cold start pays for every import: what is needed only where headers are read or made is not imported before."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = {"pydicom", "numpy", "PIL", "imagecodecs", "codicefiscale", "moto", "pynetdicom", "fpdf"}


def test_what_is_heavy_is_imported_only_where_it_is_needed():
    code = f"import app, sys; print(sorted({{name.split('.')[0] for name in sys.modules}} & {HEAVY}))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
