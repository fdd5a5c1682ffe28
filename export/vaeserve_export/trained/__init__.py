"""A trained model as it is asked for rows: a run by PyTorch, a bundle by ONNX Runtime."""
