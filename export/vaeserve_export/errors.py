"""What can go wrong for reasons the user can mend: one line each, shown without a traceback."""


class VaeError(Exception):
    """Base of the errors below."""


class DataError(VaeError):
    """The training data cannot be read or is not what it should be."""


class NoSuchPart(DataError):
    """A source that is sound, but without the part that was asked for."""


class TrainError(VaeError):
    """Training cannot start, or cannot go on."""


class RunError(VaeError):
    """A run folder that is missing, unfinished, taken, or of another training."""


class ExportError(VaeError):
    """The bundle cannot be written."""


class VerifyError(VaeError):
    """A bundle that does not keep what it promises."""


class LatentError(VaeError):
    """A prior or an attribute cannot be fitted."""
