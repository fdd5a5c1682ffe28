"""vaeserve."""
