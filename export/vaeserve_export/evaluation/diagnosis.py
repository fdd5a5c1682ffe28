"""`vaeserve diagnose`: one model, or two side by side, measured and judged."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaeserve_export.errors import DataError, RunError
from vaeserve_export.evaluation.departures import Departures, departures
from vaeserve_export.evaluation.evidence import Evidence, Rows, gather, rows_for
from vaeserve_export.evaluation.fault import Fault
from vaeserve_export.evaluation.faults import find_faults
from vaeserve_export.evaluation.features import FeatureNet, feature_net
from vaeserve_export.evaluation.likelihood import Bound, importance_bounds
from vaeserve_export.evaluation.still_improving import Remark, still_improving
from vaeserve_export.trained.of_run import RunSubject
from vaeserve_export.trained.subject import Subject
from vaeserve_export.training import run as run_folder

_BOUND_ROWS, _BOUND_SAMPLES = 200, 100  # a second or two; `vaeserve evaluate` is for figures


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was found about a model.

    Attributes:
        subject: the model.
        data: source of its rows.
        binarised: whether pixels were drawn with the grey levels as probabilities.
        train: rows that it was trained on.
        validation: rows held out.
        evidence: what was measured.
        faults: what is wrong; empty for a sound model.
        remark: what else is worth knowing of a model without faults; None if nothing is.
        departures: how far its pictures lie from the data; None if the data have no labels.
        bound: of -log p(x) by importance sampling.
    """

    subject: Subject
    data: str
    binarised: bool
    train: Rows
    validation: Rows
    evidence: Evidence
    faults: tuple[Fault, ...]
    remark: Remark | None
    departures: Departures | None
    bound: Bound

    def to_json(self) -> dict[str, Any]:
        """Plain values, None where undefined, without the history, which metrics.jsonl has."""
        evidence = dataclasses.asdict(self.evidence)
        del evidence["history"]
        return {
            "model": self.subject.origin.name,
            "data": self.data,
            "binarised": self.binarised,
            "faults": [dataclasses.asdict(fault) for fault in self.faults],
            "remark": dataclasses.asdict(self.remark) if self.remark else None,
            "evidence": _defined(evidence),
            "departures": dataclasses.asdict(self.departures) if self.departures else None,
            "bound": dataclasses.asdict(self.bound),
        }


def diagnose(
    subjects: list[Subject],
    *,
    spec: str | None = None,
    data_dir: Path | None = None,
    binarise: bool = False,
) -> list[Diagnosis]:
    """Diagnose one model, or two that were trained on the same data.

    Args:
        subjects: one or two.
        spec: source of their data; None for what a run has recorded.
        data_dir: of named sets.
        binarise: of a bundle: it was trained on binarised pixels. A run has that recorded.

    Raises:
        DataError: unreadable data, rows that are not the model's, or too few of them.
        RunError: no source of data, or two models of other data.
    """
    spec = spec or next(filter(None, map(_recorded_data, subjects)), None)
    if spec is None:
        raise RunError("a bundle does not say where its data are: name them with --data")
    if len({subject.origin.data_sha256 for subject in subjects} - {""}) > 1:
        names = " and ".join(subject.origin.name for subject in subjects)
        raise RunError(f"{names} were trained on different data: their figures do not compare")
    net: FeatureNet | None = None
    found = []
    for subject in subjects:
        recorded = subject.origin.binarise
        binarised = binarise if recorded is None else recorded
        train, validation = rows_for(subject, spec, data_dir, binarise=binarised)
        _require_rows(spec, validation)
        net = net or _features(train)
        evidence = gather(subject, train, validation)
        faults = tuple(find_faults(evidence))
        found.append(
            Diagnosis(
                subject=subject,
                data=spec,
                binarised=binarised,
                train=train,
                validation=validation,
                evidence=evidence,
                faults=faults,
                remark=None if faults else _remark(subject, evidence),
                departures=departures(subject, net, train, validation) if net else None,
                bound=_bound(subject, validation, evidence),
            )
        )
    return found


def _defined(value: Any) -> Any:
    """The value with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {name: _defined(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _bound(subject: Subject, validation: Rows, evidence: Evidence) -> Bound:
    """A bound for the rows of the -ELBO: less what more samples gain on some of them.

    Rows differ by tens of nats, but little in that gain, so a few of them measure it; and the
    spread of the bound, of which the standard error is for all rows.
    """
    some = validation.x[:_BOUND_ROWS]
    first, *_, last = importance_bounds(subject, some, _BOUND_SAMPLES)
    elbo = evidence.validation.statistics.negative_elbo_nats
    error = last.standard_error * math.sqrt(len(some) / len(validation.x))
    return Bound(last.samples, elbo - (first.nats - last.nats), error)


def _require_rows(spec: str, validation: Rows) -> None:
    if len(validation.x) < 2:
        raise DataError(
            f"{spec}: {len(validation.x)} validation row: a spread needs two at least, and a "
            "verdict some hundreds. A tenth of the rows is held out: give it more rows, or a "
            "validation part"
        )


def _recorded_data(subject: Subject) -> str | None:
    if isinstance(subject, RunSubject):
        return run_folder.read_config(subject.origin.folder).data
    return None


def _remark(subject: Subject, evidence: Evidence) -> Remark | None:
    """Of a run; with a fault there is none, since more epochs of a wrong training are no remedy."""
    if isinstance(subject, RunSubject):
        patience = run_folder.read_config(subject.origin.folder).settings.patience
        return still_improving(evidence.history, patience)
    return None


def _features(train: Rows) -> FeatureNet | None:
    try:
        return feature_net(train.data)
    except DataError:  # no labels, or one class: there is nothing to learn features from
        return None
