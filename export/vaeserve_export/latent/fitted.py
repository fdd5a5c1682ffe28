"""What was fitted to a latent space, beside the run or bundle that it belongs to.

A run keeps it as prior.npz and attributes.npz, as a bundle does, and latent.json: the manifest's
part about them, with their digests and that of the weights they were fitted to. `export` takes it
into the bundle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from google.protobuf import json_format

from vaeserve.v1 import archives, bundle, model_pb2
from vaeserve.v1.noise import Floats
from vaeserve_export import npz
from vaeserve_export.errors import LatentError, RunError, VerifyError
from vaeserve_export.latent.attribute import AttributeFit
from vaeserve_export.latent.prior import PriorFit
from vaeserve_export.training import run as run_folder
from vaeserve_export.training.files import write_atomic

ENTRIES = "latent.json"


@dataclass(frozen=True)
class Fitted:
    """A prior, and directions.

    Attributes:
        info: manifest of which `latent_shape`, `prior` and `attributes` count.
        files: contents of bundle.PRIOR and bundle.ATTRIBUTES, as far as there are any.
    """

    info: model_pb2.ModelInfo
    files: Mapping[str, bytes] = field(default_factory=dict)

    def with_prior(self, fit: PriorFit) -> "Fitted":
        """The same with another prior."""
        info = _copy(self.info)
        info.prior.CopyFrom(fit.entry)
        content = npz.to_bytes(fit.mixture._asdict())
        return Fitted(info, {**self.files, bundle.PRIOR: content})

    def with_attribute(self, fit: AttributeFit) -> "Fitted":
        """The same with one direction more, or another one of that name."""
        vectors = self.directions | {fit.entry.name: fit.direction}
        entries = {entry.name: entry for entry in self.info.attributes} | {
            fit.entry.name: fit.entry
        }
        info = _copy(self.info)
        del info.attributes[:]
        info.attributes.extend(entries[name] for name in sorted(entries))
        stacked = np.stack([vectors[name] for name in sorted(entries)])
        return Fitted(
            info, {**self.files, bundle.ATTRIBUTES: npz.to_bytes({"directions": stacked})}
        )

    @property
    def directions(self) -> dict[str, Floats]:
        """The directions [latent_dim] by name."""
        if not self.info.attributes:
            return {}
        vectors = archives.read_attributes(self.files[bundle.ATTRIBUTES], self.info)
        names = [entry.name for entry in self.info.attributes]
        return dict(zip(names, vectors, strict=True))

    def some(self, names: tuple[str, ...]) -> dict[str, Floats]:
        """Some of the directions.

        Raises:
            LatentError: one is not there.
        """
        missing = [name for name in names if name not in self.directions]
        if missing:
            there = ", ".join(self.directions) or "none"
            raise LatentError(f"no attribute {missing[0]!r} was fitted; there is: {there}")
        return {name: self.directions[name] for name in names}


def read_run(run: Path) -> Fitted:
    """What was fitted to a run's weights; nothing, if nothing was.

    Raises:
        RunError: no finished run, files that are damaged, or that belong to other weights.
    """
    config = run_folder.read_config(run)
    path = run / ENTRIES
    if not path.exists():
        return Fitted(model_pb2.ModelInfo(latent_shape=[config.settings.latent_dim]))
    try:
        info = json_format.Parse(path.read_text(encoding="utf-8"), model_pb2.ModelInfo())
        files = {entry.name: (run / entry.name).read_bytes() for entry in info.files}
    except (OSError, ValueError, json_format.ParseError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from error
    for entry in info.files:
        if bundle.digest(entry.name, files[entry.name]) != entry:
            raise RunError(
                f"{run / entry.name}: is not what {ENTRIES} was written for; delete {ENTRIES} and "
                "fit again"
            )
    files.pop(run_folder.WEIGHTS, None)
    return Fitted(info, files)


def write_run(run: Path, fitted: Fitted) -> None:
    """Keep it beside the weights it was fitted to; latent.json last, for it seals the others.

    Raises:
        RunError: it cannot be written.
    """
    info = _copy(fitted.info)
    sealed = {**fitted.files, run_folder.WEIGHTS: (run / run_folder.WEIGHTS).read_bytes()}
    info.files.extend(bundle.digest(name, sealed[name]) for name in sorted(sealed))
    for name, content in fitted.files.items():
        write_atomic(run / name, content)
    text = json_format.MessageToJson(
        info, preserving_proto_field_name=True, indent=2, sort_keys=True
    )
    write_atomic(run / ENTRIES, f"{text}\n".encode())


def read_fitted(folder: Path) -> Fitted:
    """What was fitted to the model in a folder, run or bundle.

    Raises:
        RunError: see `read_run`.
        VerifyError: no sound bundle.
    """
    if not (folder / bundle.MANIFEST).exists():
        return read_run(folder)
    try:
        info = bundle.read_manifest(folder)
        files = bundle.read_files(folder, info)
    except bundle.BundleError as error:
        raise VerifyError(str(error)) from error
    names = (bundle.PRIOR, bundle.ATTRIBUTES)
    return Fitted(_copy(info), {name: files[name] for name in names if name in files})


def into(
    fitted: Fitted, files: Mapping[str, bytes], info: model_pb2.ModelInfo
) -> tuple[dict[str, bytes], model_pb2.ModelInfo]:
    """The files and the manifest of a bundle, with what was fitted in them."""
    taken = model_pb2.ModelInfo()
    taken.CopyFrom(info)
    for field_name in ("latent_shape", "prior", "attributes"):
        taken.ClearField(field_name)
    taken.MergeFrom(_copy(fitted.info))
    return {**files, **fitted.files}, taken


def _copy(info: model_pb2.ModelInfo) -> model_pb2.ModelInfo:
    """The part of a manifest that is about what was fitted."""
    return model_pb2.ModelInfo(
        latent_shape=info.latent_shape,
        prior=info.prior if info.HasField("prior") else None,
        attributes=info.attributes,
    )
