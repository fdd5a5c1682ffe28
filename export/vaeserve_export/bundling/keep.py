"""Keep what was fitted to a model: in its run, or in the next version of its bundle."""

from pathlib import Path

from vaeserve.v1 import bundle
from vaeserve_export.bundling.publish import publish
from vaeserve_export.errors import ExportError, VerifyError
from vaeserve_export.latent.fitted import Fitted, into, write_run


def keep(folder: Path, fitted: Fitted) -> Path:
    """Write it to where the model lies.

    A published version never changes: others may serve it or have copied it. The next one has the
    same graphs, and so the same latent space, in which latents of this one stay valid.

    Args:
        folder: a run, or a bundle's version folder.
        fitted: everything that is to be there.

    Returns:
        The run, or the new version's folder.

    Raises:
        ExportError: a bundle that lies in no repository, or cannot be written.
        RunError: a run that cannot be written.
        VerifyError: a damaged bundle.
    """
    if not (folder / bundle.MANIFEST).exists():
        write_run(folder, fitted)
        return folder
    place = folder.resolve()
    try:
        info = bundle.read_manifest(place)
        files = bundle.read_files(place, info)
    except bundle.BundleError as error:
        raise VerifyError(str(error)) from error
    if (place.parent.name, place.name) != (info.name, str(info.version)):
        raise ExportError(
            f"{folder}: the next version goes beside this one, which must lie in "
            f"REPOSITORY/{info.name}/{info.version}"
        )
    return publish(*into(fitted, files, info), place.parent.parent, info.name)
