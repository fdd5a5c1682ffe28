"""Publish a bundle: its files become one version of a model in a repository, once verified."""

import re
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from vaeserve.v1 import bundle, model_pb2
from vaeserve_export.bundling.verify import verify
from vaeserve_export.errors import ExportError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def publish(
    files: Mapping[str, bytes],
    info: model_pb2.ModelInfo,
    repository: Path,
    name: str,
    version: int | None = None,
) -> Path:
    """Write a version of a model.

    The folder is written under a temporary name, verified there, and renamed: a reader sees a
    version that has passed, or none. Equal files and manifests give equal bytes.

    Args:
        files: contents by file name: the two graphs, golden rows, calibration, and what else the
            manifest speaks of (`bundle.PRIOR`, `bundle.ATTRIBUTES`).
        info: the manifest. Name, version, layout, list of files, latent space and measured
            figures are filled in here, whatever it says of them, so that the manifest of another
            version can be given. It is not changed.
        repository: folder of models; made if it is not there.
        name: of the model: lower-case letters, digits, dot, dash and underscore; at most 64.
        version: a positive integer; by default one above the highest there is.

    Returns:
        The version's folder.

    Raises:
        ExportError: an impossible name, a version that exists, or a folder that cannot be written.
        VerifyError: a bundle that does not keep what it promises, as one whose graphs do not give
            its golden rows.
    """
    target = place_of(repository, name, version)
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        fresh.mkdir(parents=True)
        for file, content in files.items():
            (fresh / file).write_bytes(content)
        bundle.write_manifest(fresh, _sealed(files, info, name, int(target.name)))
        # A read-only bundle may be verified, but one being written must hold its figures.
        if not verify(fresh).recorded:
            raise ExportError(f"{target}: cannot be written: recording the measured figures failed")
        fresh.rename(target)
    except OSError as error:
        raise ExportError(f"{target}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # after the rename there is nothing there
        with suppress(OSError):
            target.parent.rmdir()  # only if this export made it and left nothing
    return target


def place_of(repository: Path, name: str, version: int | None) -> Path:
    """The folder that `publish` would write, asked before the work of making its contents.

    Raises:
        ExportError: an impossible name or version, or one that exists.
    """
    if not _NAME.fullmatch(name):
        raise ExportError(f"model name {name!r}: use a-z, 0-9, dot, dash, underscore; at most 64")
    version = _next_version(repository / name) if version is None else version
    if version < 1:
        raise ExportError(f"version {version}: use a positive integer")
    target = repository / name / str(version)
    if target.exists():
        raise ExportError(f"{target}: exists already; versions are never overwritten")
    return target


def _sealed(
    files: Mapping[str, bytes], info: model_pb2.ModelInfo, name: str, version: int
) -> model_pb2.ModelInfo:
    """The manifest of exactly these files."""
    sealed = model_pb2.ModelInfo()
    sealed.CopyFrom(info)
    sealed.name, sealed.version, sealed.format_version = name, version, bundle.FORMAT_VERSION
    sealed.latent_space_id = bundle.latent_space_id(
        files[info.encoder.file], files[info.decoder.file]
    )
    del sealed.files[:]
    sealed.files.extend(bundle.digest(file, files[file]) for file in sorted(files))
    sealed.ClearField("numerics")
    sealed.ClearField("device_numerics")
    return sealed


def _next_version(model_folder: Path) -> int:
    """One above the highest version in a model's folder."""
    if not model_folder.is_dir():
        return 1
    names = [path.name for path in model_folder.iterdir()]
    return max((int(name) for name in names if name.isdecimal()), default=0) + 1
