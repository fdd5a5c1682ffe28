"""What `servers` starts each baseline with."""

import argparse
from pathlib import Path


def baseline() -> argparse.Namespace:
    """Port, folder of the bundle's version, latent size, ONNX Runtime threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--folder", type=Path, help="The version's folder of the bundle.")
    parser.add_argument("--latent", type=int)
    parser.add_argument("--threads", type=int)
    return parser.parse_args()
