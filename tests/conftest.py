"""Fixtures that several folders use; models are trained and a server started once a session."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support.repositories import add_precisions, make_repository
from support.servers import running_app
from vaeserve import Client
from vaeserve_server.app import App

# Examples are not timed: how long one takes is the machine's affair.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def torchlib() -> Iterator[None]:
    """For whoever exports: PyTorch's operators are parsed once a session."""
    from support.torchlib import parse_once  # loads PyTorch

    with pytest.MonkeyPatch.context() as patch:
        parse_once(patch)
        yield


@pytest.fixture(scope="session")
def repository(torchlib: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repository with `digits`, `rgb`, `vectors`; the runs lie beside it. Not to be changed."""
    return make_repository(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def precisions(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repository with `digits-fp16` and `digits-int8`: the same run as `digits`."""
    folder = tmp_path_factory.mktemp("precisions")
    add_precisions(repository.parent / "runs" / "digits", folder)
    return folder


@pytest.fixture
def own_repository(repository: Path, tmp_path: Path) -> Path:
    """A copy of `digits` alone, for tests that break it."""
    shutil.copytree(repository / "digits", tmp_path / "repository" / "digits")
    return tmp_path / "repository"


@pytest.fixture(scope="session")
def app(repository: Path) -> Iterator[App]:
    """A running server with all three models."""
    with running_app(repository) as running:
        yield running


@pytest.fixture(scope="session")
def address(app: App) -> str:
    """HOST:PORT of that server."""
    return f"127.0.0.1:{app.port}"


@pytest.fixture(scope="session")
def bound_app(repository: Path) -> Iterator[App]:
    """The same, running graphs as GPUs do."""
    with running_app(repository, execution="bound") as running:
        yield running


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    """A client of that server."""
    with Client(address) as connected:
        yield connected
