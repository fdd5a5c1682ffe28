"""The page: the verdict first, then what it rests on, each figure with how to read it."""

import html
from collections.abc import Callable
from functools import partial

from vaeserve_export.evaluation.comparison import Figure, claim, figures
from vaeserve_export.evaluation.diagnosis import Diagnosis
from vaeserve_export.evaluation.fault import Fault
from vaeserve_export.evaluation.page import gallery, plots
from vaeserve_export.evaluation.page.style import STYLE
from vaeserve_export.evaluation.still_improving import Remark
from vaeserve_export.trained.of_run import RunSubject
from vaeserve_export.training import run as run_folder

_TILES = 9  # the distances have a plot of their own
_NO_PICTURES = (
    "Rows are vectors, so there are no pictures of reconstructions, samples, paths and traversals."
)

Draw = Callable[[Diagnosis, str], str]


def page(diagnoses: list[Diagnosis]) -> str:
    """Write the page of one model, or of two side by side.

    Returns:
        HTML that refers to nothing outside itself.
    """
    names = [diagnosis.subject.origin.name for diagnosis in diagnoses]
    title = " and ".join(names)
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}: diagnosis</title><style>{STYLE}</style></head><body>",
        f'<p class="kicker">vaeserve diagnose</p><h1>{_text(title)}</h1>',
        f'<p class="what">{_text(_what(diagnoses[0]))}</p>',
        f'<p class="claim">{_text(claim(diagnoses))}</p>' if len(diagnoses) > 1 else "",
        _side_by_side(diagnoses, _verdict),
        _numbers(diagnoses),
        *_sections(diagnoses),
        f"<footer>{_text(_foot(diagnoses[0]))}</footer></body></html>",
    ]
    return "\n".join(parts)


def _sections(diagnoses: list[Diagnosis]) -> list[str]:
    pictures = len(diagnoses[0].subject.input_shape) == 3
    alone = len(diagnoses) == 1
    found = []
    if all(diagnosis.departures for diagnosis in diagnoses):
        found.append(
            _section(
                "Distance from the data",
                "How far rows lie from those trained on, as a small classifier of the data sees "
                "them: left as whole sets, right each by itself. What the model makes should lie "
                "little above held-out rows; latent midpoints should beat pixel cross-fades.",
                f'<div class="plot">{plots.distances(diagnoses)}</div>',
            )
        )
    with_history = [one for one in diagnoses if one.evidence.history]
    if with_history:
        found.append(
            _section(
                "Training",
                "All three should fall together and level out; a validation curve that turns up "
                "while training falls is overfitting. The dotted line is the epoch that was kept.",
                _side_by_side(diagnoses, partial(_curves, width=11 if alone else 7)),
            )
        )
    if pictures:
        found += [
            _section(
                "Reconstructions",
                "Held-out inputs, and what comes back from the posterior's mean and from a draw: "
                "the two should show the same thing.",
                _side_by_side(
                    diagnoses, lambda one, _: gallery.reconstructions(one, 16 if alone else 10)
                ),
            ),
            _section(
                "Prior samples",
                "Decoded draws from N(0, I): they should look like the data. Nonsense means holes "
                "in the latent space.",
                _side_by_side(
                    diagnoses, lambda one, _: gallery.samples(one, 20 if alone else 10, 4)
                ),
            ),
            _section(
                "Interpolation",
                "A path through latent space should pass through pictures that could be data; the "
                "cross-fade below it only lays one picture over the other.",
                _side_by_side(
                    diagnoses, lambda one, _: gallery.interpolations(one, 17 if alone else 9)
                ),
            ),
            _section(
                "Traversals",
                "One code with one dimension moved from -3 to 3, the most active first: each "
                "should change something one can name; where nothing changes, nothing is stored.",
                _side_by_side(
                    diagnoses, lambda one, _: gallery.traversals(one, 15 if alone else 9)
                ),
            ),
        ]
    else:
        found.append(f'<section><p class="how">{_NO_PICTURES}</p></section>')
    charts = [
        (
            "Latent map",
            "Codes of held-out rows, coloured by label, in the plane in which they vary most. "
            "Circles are 1, 2 and 3 standard deviations of the prior: codes should fill them.",
            plots.latent_map,
        ),
        (
            "KL per dimension",
            "How many nats each latent dimension stores. A few tall bars are usual, none is "
            "collapse, all of one height is a KL that costs too little.",
            plots.kl_bars,
        ),
        (
            "Sigma",
            "Active dimensions lie below 1, unused ones at 1, the prior's; a heap near 0 means "
            "that codes are points, as an autoencoder's are.",
            plots.sigma_histogram,
        ),
        (
            "Aggregated posterior",
            "Codes of all rows together, dimension by dimension: close to the dashed N(0, 1), or "
            "prior draws fall where the decoder was never trained.",
            plots.aggregated,
        ),
    ]
    if not alone:
        return found + [
            _section(title, how, _side_by_side(diagnoses, _plot(draw)))
            for title, how, draw in charts
        ]
    cells = [_section(title, how, _plot(draw)(diagnoses[0], "a")) for title, how, draw in charts]
    return [*found, f'<div class="pair">{"".join(cells)}</div>']


def _plot(draw: Draw) -> Draw:
    return lambda one, name: f'<div class="plot">{draw(one, name)}</div>'


def _curves(diagnosis: Diagnosis, name: str, width: float) -> str:
    if not diagnosis.evidence.history:
        return '<p class="how">A bundle does not carry the history of its training.</p>'
    return f'<div class="plot">{plots.loss_curves(diagnosis, name, width)}</div>'


def _side_by_side(diagnoses: list[Diagnosis], draw: Draw) -> str:
    """What `draw` gives for each model, under its letter where there are two."""
    if len(diagnoses) == 1:
        return f'<div class="models"><div>{draw(diagnoses[0], "a")}</div></div>'
    cells = []
    for letter, place, one in zip("AB", ("first", "second"), diagnoses, strict=True):
        name = f'<p class="name {place}"><b>{letter}</b>{_text(one.subject.origin.name)}</p>'
        cells.append(f"<div>{name}{draw(one, letter.lower())}</div>")
    return f'<div class="models two">{"".join(cells)}</div>'


def _verdict(diagnosis: Diagnosis, _: str) -> str:
    if diagnosis.faults:
        return "".join(map(_fault, diagnosis.faults))
    evidence = diagnosis.evidence
    found, weight = evidence.validation.statistics, evidence.kl_weight
    return (
        f"{_headline(diagnosis.remark)}<p>The KL weight that the model shows is {weight}; "
        f"{found.active_units} of {evidence.latent_dim} latent dimensions are active; all codes "
        f"together lie {found.marginal_kl_nats:.2f} nats from the prior. Held-out rows gain "
        f"{evidence.validation.gain_nats:.1f} nats over a constant answer, rows trained on "
        f"{evidence.train.gain_nats:.1f}.</p></div>"
    )


def _headline(remark: Remark | None) -> str:
    """The start of the box of a model without faults."""
    if remark is None:
        return '<div class="verdict"><h2>Sound: no fault found</h2>'
    return (
        f'<div class="verdict remark"><h2>{_text(remark.title)}</h2><code>{remark.name}</code>'
        f"<ul>{_list(remark.evidence)}</ul><p><b>Remedy.</b> {_text(remark.remedy)}</p>"
    )


def _list(sentences: tuple[str, ...]) -> str:
    return "".join(f"<li>{_text(sentence)}</li>" for sentence in sentences)


def _fault(fault: Fault) -> str:
    return (
        f'<div class="verdict fault"><h2>{_text(fault.title)}</h2><code>{fault.name}</code>'
        f"<ul>{_list(fault.evidence)}</ul><p><b>Likely cause.</b> {_text(fault.cause)}</p>"
        f"<p><b>Remedy.</b> {_text(fault.remedy)}</p></div>"
    )


def _numbers(diagnoses: list[Diagnosis]) -> str:
    """Tiles for one model; a table for two."""
    rows = figures(diagnoses)
    if len(diagnoses) == 1:
        rows = rows[:_TILES]
        tiles = [
            f"<div><dt>{_text(row.name)}</dt>"
            f"<dd><b>{row.written(0)}</b><small>{_text(row.about)}</small></dd></div>"
            for row in rows
        ]
        return f'<dl class="tiles">{"".join(tiles)}</dl>'
    names = [
        f"<th>{letter}: {_text(one.subject.origin.name)}</th>"
        for letter, one in zip("AB", diagnoses, strict=True)
    ]
    lines = [f"<tr><th></th>{''.join(names)}</tr>", *map(_table_row, rows)]
    return f"<section><h2>In numbers</h2><table>{''.join(lines)}</table></section>"


def _table_row(row: Figure) -> str:
    known = [value for value in row.values if value is not None]
    best = min(known) if row.lower_is_better and len(set(known)) > 1 else None
    cells = [
        f"<td>{'<b>' * (value == best)}{row.written(number)}{'</b>' * (value == best)}</td>"
        for number, value in enumerate(row.values)
    ]
    return f"<tr><td>{_text(row.name)}<small>{_text(row.about)}</small></td>{''.join(cells)}</tr>"


def _section(title: str, how: str, content: str) -> str:
    return f'<section><h2>{title}</h2><p class="how">{how}</p>{content}</section>'


def _what(diagnosis: Diagnosis) -> str:
    drawn = " with pixels drawn once" if diagnosis.binarised else ""
    return (
        f"Measured on {len(diagnosis.train.x)} rows of {diagnosis.data}{drawn} that were trained "
        f"on and {len(diagnosis.validation.x)} that were held out. {_net(diagnosis)}"
    )


def _net(diagnosis: Diagnosis) -> str:
    subject = diagnosis.subject
    if not isinstance(subject, RunSubject):
        return f"A bundle with {subject.latent_dim} latent dimensions, {subject.likelihood.name}."
    settings = run_folder.read_config(subject.origin.folder).settings
    return (
        f"{settings.model}, {settings.layers} x {settings.hidden} {settings.activation}, "
        f"{settings.latent_dim} latent dimensions, {settings.likelihood}, beta {settings.beta:g}, "
        f"seed {settings.seed}."
    )


def _foot(diagnosis: Diagnosis) -> str:
    bound = diagnosis.bound
    text = (
        f"Nats are means a row over held-out rows. -log p(x) is estimated with {bound.samples} "
        "importance samples on some of them; vaeserve evaluate measures it fully."
    )
    if not diagnosis.validation.held_out:
        text += (
            " The model does not say which rows it was trained on: some of these may be among "
            "them, and overfitting may not show."
        )
    far = diagnosis.departures
    if far is None:
        return f"{text} The data have no labels, so there are no Frechet distances."
    return (
        f"{text} Frechet distances: {far.rows} rows in the features of a classifier trained here, "
        f"which is right on {far.accuracy:.1%} of held-out rows; they compare within this page."
    )


def _text(text: str) -> str:
    return html.escape(text)
