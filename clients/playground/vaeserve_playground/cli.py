"""`vaeserve playground`: serve the page on this machine until it is stopped."""

import errno
import os
import signal
import socket
import tempfile

import click

# The command line's own, not the SDK's: how every command is told of TLS and tokens.
from vaeserve._dial import client_at, connection_options


@click.command(context_settings={"show_default": True})
@click.argument("address")
@connection_options
@click.option("--host", default="127.0.0.1", help="Interface to listen on; this machine's alone.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=7860, help="Port to listen on; 0: a free one."
)
@click.option("--no-browser", is_flag=True, help="Only print where the page is.")
def playground(*, address: str, host: str, port: int, no_browser: bool) -> None:
    """Look at the models of the server at ADDRESS (host:port) on a local web page.

    Pictures that are dropped in go to the server and to a folder of this machine that is removed
    when the page is stopped (Ctrl-C); to nobody else.
    """
    with (
        client_at(address) as client,
        tempfile.TemporaryDirectory(prefix="vaeserve-playground-") as folder,
    ):
        client.models()  # a server that does not answer is told of here and now
        port = _free(host, port)
        # Read by Gradio when it is imported, and by the library it has its downloads from.
        os.environ |= {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_TEMP_DIR": folder,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "1",
        }
        from vaeserve_playground import page  # noqa: PLC0415  loads Gradio, which takes seconds

        # SIGTERM ends it as Ctrl-C does: the folder goes.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        blocks = page.build(client, address)
        _, url, _ = blocks.launch(
            server_name=host,
            server_port=port,
            inbrowser=not no_browser,
            quiet=True,
            share=False,
            prevent_thread_lock=True,
            footer_links=[],
            ssr_mode=False,
            theme=page.theme(),
            css_paths=page.STYLE,
        )
        click.echo(f"playground of {address}: {url}  (Ctrl-C stops it)")
        blocks.block_thread()


def _free(host: str, port: int) -> int:
    """The port, or any free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            taken = exc.errno == errno.EADDRINUSE
            # Gradio cannot print the address of another family.
            advice = "try --port 0 for a free one" if taken else "--host takes an own IPv4 address"
            raise click.ClickException(
                f"cannot listen on {host}:{port}, {exc.strerror}: {advice}"
            ) from exc
        free: int = probe.getsockname()[1]
        return free
