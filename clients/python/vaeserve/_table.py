"""Lines laid out in columns, for a terminal. Pure."""

from collections.abc import Collection, Sequence


def laid_out(
    headings: Sequence[str], lines: Sequence[Sequence[str]], right: Collection[str] = ()
) -> str:
    """A table with its headings in the first line.

    Args:
        headings: of the columns.
        lines: cells of each line.
        right: headings of the columns that are set against their right edge: numbers.
    """
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if heading in right else cell.ljust(width)
            for heading, cell, width in zip(headings, line, widths, strict=True)
        ).rstrip()
        for line in (headings, *lines)
    )
