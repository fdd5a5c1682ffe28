"""Published sets: looked for on this machine, else downloaded; only published bytes are read."""

import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pooch  # here, since its logger takes the standard error of whoever imports it first
import pytest

from support.idx_files import idx
from vaeserve_export.data.named import SETS, Digests, Published, read
from vaeserve_export.errors import DataError

pooch.get_logger().setLevel("ERROR")


class Server(ThreadingHTTPServer):
    """Files of a folder on a port of 127.0.0.1; counts what it is asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        server = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path.rpartition("/")[2])
                super().do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache" / "vaeserve" / "toy"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Four packed files, as a publisher has them."""
    (tmp_path / "site").mkdir()
    for prefix, rows in (("train", 3), ("t10k", 2)):
        images, labels = np.full((rows, 4, 4), 51, np.uint8), np.arange(rows, dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{prefix}-{kind}-ubyte.gz"
            (tmp_path / "site" / name).write_bytes(gzip.compress(idx(array), mtime=0))
    return tmp_path / "site"


@pytest.fixture
def server(site: Path) -> Iterator[Server]:
    with Server(site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def unreachable() -> str:
    """An address where nobody listens any more."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as gone:
        return f"http://127.0.0.1:{gone.server_port}/"


def toy(site: Path, *mirrors: str) -> Published:
    files = {}
    for path in site.iterdir():
        packed = path.read_bytes()
        content = gzip.decompress(packed)
        files[path.stem] = Digests(*(hashlib.sha256(b).hexdigest() for b in (packed, content)))
    return Published("toy", mirrors, files)


def test_downloaded_once(site: Path, server: Server, cache: Path) -> None:
    published = toy(site, server.url)
    rows = read(published, "train", None)
    assert rows is not None
    np.testing.assert_array_equal(rows.x, np.full((3, 1, 4, 4), np.float32(0.2)))
    assert rows.labels is not None
    assert rows.labels.tolist() == [0, 1, 2]
    images, labels = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
    assert server.asked == [images, labels]  # the test part stays where it is
    assert sorted(path.name for path in cache.iterdir()) == [images, labels]
    read(published, "train", None)
    assert len(server.asked) == 2
    assert read(published, "valid", None) is None


def test_a_damaged_cache_is_mended(site: Path, server: Server, cache: Path) -> None:
    published = toy(site, server.url)
    read(published, "test", None)
    (cache / "t10k-images-idx3-ubyte.gz").write_bytes(b"half")
    rows = read(published, "test", None)
    assert rows is not None
    assert len(rows.x) == 2
    assert server.asked.count("t10k-images-idx3-ubyte.gz") == 2


def test_a_damaged_download_is_refused(site: Path, server: Server, cache: Path) -> None:
    published = toy(site, server.url)
    path = site / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match="what came is damaged: its sha256 differs"):
        read(published, "train", None)
    assert not any(cache.iterdir())


def test_mirrors_are_tried_in_turn(site: Path, server: Server, unreachable: str) -> None:
    assert read(toy(site, unreachable, f"{server.url}none/", server.url), "test", None)
    assert len(server.asked) == 4


def test_offline_says_what_was_tried_and_what_to_do(
    site: Path, server: Server, unreachable: str, tmp_path: Path, cache: Path
) -> None:
    published = toy(site, unreachable, f"{server.url}none/")
    with pytest.raises(DataError) as caught:
        read(published, "train", tmp_path)
    assert str(caught.value) == (
        f"toy: train-images-idx3-ubyte, plain or .gz, is not in {tmp_path / 'toy'} and cannot be "
        f"downloaded from {unreachable} (no connection) or {server.url}none/ (HTTP status 404); "
        "put it there by hand, or say --data-dir DIR where DIR/toy holds it. "
        "--data digits needs no download"
    )
    with pytest.raises(DataError, match=f"is not in {cache} and cannot be downloaded"):
        read(published, "train", None)
    cache.mkdir(parents=True, exist_ok=True)
    for path in site.iterdir():  # what the message asks for is enough
        (cache / path.name).write_bytes(path.read_bytes())
    assert read(published, "train", None)


@pytest.mark.parametrize("packed", [True, False])
def test_a_folder_of_ones_own(site: Path, tmp_path: Path, unreachable: str, packed: bool) -> None:
    (tmp_path / "toy").mkdir()
    for path in site.iterdir():
        content = gzip.decompress(path.read_bytes())
        again = gzip.compress(content, 1) if packed else content  # packed otherwise is the same
        (tmp_path / "toy" / (path.name if packed else path.stem)).write_bytes(again)
    assert read(toy(site, unreachable), "train", tmp_path)


def test_other_files_under_the_name_are_refused(site: Path, tmp_path: Path) -> None:
    """As when Fashion-MNIST lies in a folder named mnist: the files' names are the same."""
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "train-images-idx3-ubyte").write_bytes(idx(np.ones((3, 4, 4), np.uint8)))
    with pytest.raises(DataError, match="is not the file of toy that was published"):
        read(toy(site), "train", tmp_path)


def test_digests_are_pinned() -> None:
    assert set(SETS) == {"mnist", "fashion-mnist"}
    digests = [digest for s in SETS.values() for file in s.files.values() for digest in file]
    assert len(set(digests)) == 16
    assert {len(digest) for digest in digests} == {64}
    assert all(
        m.startswith("https://") and m.endswith("/") for s in SETS.values() for m in s.mirrors
    )


def test_the_command_says_it_in_a_line(
    refused: Callable[..., str],
    tmp_path: Path,
    unreachable: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", unreachable)  # whatever network there is, is not asked
    monkeypatch.setenv("VAESERVE_DATA_DIR", str(tmp_path / "mine"))
    line = refused("train", "--data", "fashion-mnist", "--out", tmp_path / "run")
    assert f"is not in {tmp_path / 'mine' / 'fashion-mnist'} and cannot be downloaded" in line
    assert line.count("(no connection)") == len(SETS["fashion-mnist"].mirrors)
