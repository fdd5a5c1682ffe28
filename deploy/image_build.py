"""Build the server's image."""

import ast
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from image_engine import CHROOT, find_engine, say, sh
from vaeserve import __version__

DEBIAN_BASE = "localhost/vaeserve-base:bookworm"


def build(engine: str, base: str | None, extra: str) -> str:
    """Build the image.

    Args:
        engine: what `find_engine` found.
        base: base image; None for the Dockerfile's, or with buildah for a Debian made here.
        extra: server or gpu.

    Returns:
        Its name.
    """
    tag = f"vaeserve:{__version__}-{extra}"
    if engine == "buildah":
        base = base or _debian_base()
    revision = sh("git", "describe", "--always", "--dirty")
    arguments = {"EXTRA": extra, "VERSION": __version__, "REVISION": revision}
    arguments |= {"BASE": base} if base else {}
    flags = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    # Without a value the engine takes the variable's.
    flags += [f"--build-arg={name}" for name in os.environ if name.lower().endswith("_proxy")]
    flags += [*CHROOT, "--layers", "--force-rm"] if engine == "buildah" else []
    say(f"building {tag} with {engine}" + (f" on {base}" if base else ""))
    with _pip_secrets() as secrets:
        sh(engine, "build", *flags, *secrets, "--tag", tag, ".", show=True)
    say(f"{tag}: {sh(engine, 'images', '--format', '{{.Size}}', tag)}")
    return tag


@contextmanager
def _pip_secrets() -> Iterator[list[str]]:
    """Options that give the build this environment's pip configuration and certificates.

    They may come from files or from variables; as secrets they stay out of the image.
    """
    settings = {}
    lines = sh(sys.executable, "-m", "pip", "config", "list").splitlines()
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):  # variables win
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = ast.literal_eval(value)
    for key in ("find-links", "extra-index-url"):
        # The build does not see this machine's folders.
        urls = [url for url in settings.get(key, "").split() if url.startswith("http")]
        settings[key] = " ".join(urls)
    options = []
    if cert := settings.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE"):
        options += ["--secret", f"id=ca,src={cert}"]
        settings["cert"] = "/run/secrets/ca"
    pairs = [f"{key} = {value}".replace("\n", "\n  ") for key, value in settings.items() if value]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pip.conf")
        path.write_text("\n".join(["[global]", *pairs, ""]))
        yield [*options, "--secret", f"id=pip,src={path}"]


def _debian_base() -> str:
    """Debian with Python, made once."""
    if sh("buildah", "images", "--quiet", "--filter", f"reference={DEBIAN_BASE}"):
        return DEBIAN_BASE
    if not shutil.which("debootstrap"):
        raise click.ClickException("no base image: apt-get install debootstrap, or give --base")
    say(f"making {DEBIAN_BASE} with debootstrap")
    container = sh("buildah", "from", "scratch")
    try:
        root = Path(sh("buildah", "mount", container))
        packages = "--include=python3,python3-venv,ca-certificates"
        sh("debootstrap", "--variant=minbase", packages, "bookworm", root)
        for folder in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / folder)
        sh("buildah", "commit", "--quiet", container, DEBIAN_BASE)
    finally:
        sh("buildah", "rm", container)
    return DEBIAN_BASE


@click.command(context_settings={"show_default": True})
@click.option("--base", help="Base image; with buildah a Debian is made here if none is given.")
@click.option("--extra", type=click.Choice(["server", "gpu"]), default="server")
def main(base: str | None, extra: str) -> None:
    """Build the image of the server."""
    build(find_engine(), base, extra)


if __name__ == "__main__":
    main()
