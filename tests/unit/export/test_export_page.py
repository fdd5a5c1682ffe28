"""What docs/export.md shows works as it stands."""

import re
import subprocess
import sys
from pathlib import Path

from vaeserve.v1 import bundle

PAGE = Path(__file__).parents[3] / "docs" / "export.md"


def test_the_example_runs_and_its_bundle_is_proven(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "models/my-vae/1\n"
    info = bundle.read_manifest(tmp_path / done.stdout.strip())
    assert list(info.latent_shape) == [4, 4, 4]
    assert max(info.numerics.parity_mu, info.numerics.parity_x_hat) <= 1e-5
    assert info.numerics.HasField("batch_difference")
    assert info.numerics.batch_difference == 0
