"""The commands of this package, one module each; `vaeserve` loads them by name."""
