"""What a proof has found: a table to read and the same as JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure. `bar` names what it must reach, if anything: then `wanted` says it in words."""

    what: str
    value: float
    bar: str = ""
    wanted: str = ""
    passed: bool = True


@dataclass
class Report:
    """Figures in the order they were found; each is printed at once."""

    rows: list[Row] = field(default_factory=list)

    def heading(self, text: str) -> None:
        click.echo(f"\n{text}")

    def add(self, what: str, value: float) -> None:
        """A figure that nothing hangs on."""
        self._add(Row(what=what, value=value))

    def require(self, bar: str, what: str, value: float, *, wanted: str, passed: bool) -> None:
        """A figure that must reach a bar."""
        self._add(Row(bar=bar, what=what, value=value, wanted=wanted, passed=bool(passed)))

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        verdict = f"{row.bar}: {row.wanted}: {'PASS' if row.passed else 'FAIL'}" if row.bar else ""
        click.echo(f"  {row.what:58}{row.value:10.4f}  {verdict}".rstrip())

    def finish(self, file: Path) -> int:
        """Write the JSON; the exit status."""
        file.write_text(json.dumps([asdict(row) for row in self.rows], indent=2) + "\n")
        failed = sum(not row.passed for row in self.rows)
        required = sum(bool(row.bar) for row in self.rows)
        click.echo(f"\n{required - failed} of {required} bars held; {file}")
        return 1 if failed else 0
