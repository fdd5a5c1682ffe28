"""`python -m vaeserve_server REPOSITORY` is `vaeserve serve REPOSITORY`."""

from vaeserve_server.cli import serve

serve()
