"""The variational autoencoder and its objective."""
