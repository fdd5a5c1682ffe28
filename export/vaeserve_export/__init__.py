"""Train a variational autoencoder, export it as a bundle of two ONNX graphs, verify the bundle."""
