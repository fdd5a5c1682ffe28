"""Bundles: two ONNX graphs, what belongs to them, and their proof."""
