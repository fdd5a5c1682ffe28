"""What the trainer costs over a bare loop: `make bench-train`."""
