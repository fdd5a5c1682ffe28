"""A browser that is installed, without a window, and the page it looks at."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def installed() -> str:
    """Path of the browser; skips where there is none, or no Gradio."""
    if find_spec("gradio") is None:
        pytest.skip("the page needs the [playground] extra")
    paths = [path for name in _NAMES if (path := shutil.which(name))]
    if not paths:
        pytest.skip(f"no browser is installed: {', '.join(_NAMES)}")
    return paths[0]


@contextmanager
def playground(address: str) -> Iterator[str]:
    """`vaeserve playground` as users start it; yields its URL, and keeps nothing afterwards."""
    command = [sys.executable, "-m", "vaeserve", "playground", address, "--port", "0"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [*command, "--no-browser"],
            env=os.environ | {"TMPDIR": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            yield next(word for word in words if word.startswith("http://"))
        finally:
            process.terminate()
            _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert "Traceback" not in err, err
        assert not [*Path(folder).iterdir()], "the pictures that were dropped in are gone"


@contextmanager
def browsing(path: str) -> Iterator[Page]:
    """An empty page in the browser at a path, which cannot reach anything but this machine."""
    # No sandbox: it needs rights that containers withhold.
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(30_000)
            expect.set_options(timeout=30_000)
            yield page
        finally:
            browser.close()
