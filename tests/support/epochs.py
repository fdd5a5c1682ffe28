"""Records of epochs that nobody trained."""

from vaeserve_export.training.records import EpochRecord


def epoch_record(epoch: int) -> EpochRecord:
    """An epoch of a training that is about to end; change what a test is about."""
    return EpochRecord(
        epoch=epoch,
        step=epoch,
        train_reconstruction_nats=0,
        train_kl_nats=0,
        train_negative_elbo_nats=0,
        train_loss=0,
        beta_now=1,
        learning_rate=0.001,
        validation_reconstruction_nats=20,
        validation_kl_nats=4,
        validation_negative_elbo_nats=24,
        validation_loss=24,
        active_units=3,
        gaussian_variance=0,
        seconds=1.5,
        cpu_seconds=1.5,
    )
