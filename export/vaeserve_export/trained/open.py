"""Open what a user names: a run folder or a bundle's version folder."""

from pathlib import Path

from vaeserve.v1 import bundle
from vaeserve_export.errors import RunError
from vaeserve_export.trained.of_bundle import BundleSubject
from vaeserve_export.trained.of_run import RunSubject
from vaeserve_export.trained.subject import Subject
from vaeserve_export.training import run as run_folder


def open_subject(folder: Path) -> Subject:
    """Load the model in a folder.

    Args:
        folder: a finished run, or a version of a bundle (REPOSITORY/NAME/VERSION).

    Raises:
        RunError: neither of them, or a run that is not finished.
        VerifyError: a damaged bundle.
    """
    if (folder / bundle.MANIFEST).exists():
        return BundleSubject.open(folder)
    if (folder / run_folder.CONFIG).exists():
        return RunSubject(folder)
    raise RunError(f"{folder}: is neither a run (config.json) nor a bundle (model.json)")
