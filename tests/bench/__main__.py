"""`make bench`: the real server beside its peers, on this machine, in one run."""

import statistics
import sys
from dataclasses import asdict
from pathlib import Path

import click

from bench import h2load, servers
from bench.cases import STREAMS, Case, RawGraphs
from bench.measuring import Measurement, Target, raw_runs
from bench.models import MODELS, repository_of


@click.command()
@click.option("--quick", is_flag=True)
@click.option("--servers", "chosen", default="raw,aio,vaeserve")
@click.option("--only", type=click.Choice(tuple(MODELS)))
@click.option("--repeat", default=5)
@click.option("--seconds", default=1.0)
@click.option("--rpcs", default="encode")
@click.option("--rows", default="1,16")
@click.option("--python", default=sys.executable)
@click.option("--cache", type=click.Path(path_type=Path), default=Path(".bench"))
def main(*, quick, chosen, only, repeat, seconds, rpcs, rows, python, cache):  # type: ignore
    if not h2load.available():
        raise click.ClickException(h2load.MISSING)
    for name, model in MODELS.items():
        if only and only != name:
            continue
        repository = repository_of(model, cache)
        raw = RawGraphs(repository, model, 1)
        running = {}
        try:
            if "vaeserve" in chosen:
                running["vaeserve"] = servers.Vaeserve(repository, 1, python, cache / "logs")
            if "aio" in chosen:
                running["aio"] = servers.aio(repository / name / "1", model, 1, cache / "logs")
            for s in running.values():
                s.process.wait_for_port(s.port)
            import time

            time.sleep(3)
            for rpc in rpcs.split(","):
                for n in (1,) if quick else map(int, rows.split(",")):
                    case = Case(model, rpc, n)
                    targets = {}
                    for key, s in running.items():
                        request, reply = s.check(case, raw)
                        targets[key] = Target(s, case, request, reply, cache / "load" / key)
                    for streams in (8, 64) if quick else STREAMS:
                        found: dict[str, list[Measurement]] = {}
                        for _ in range(1 if quick else repeat):
                            if "raw" in chosen:
                                found.setdefault("raw", []).append(
                                    raw_runs(raw, case, streams, seconds / 2)
                                )
                            for key, t in targets.items():
                                found.setdefault(key, []).append(t.closed_loop(streams, seconds))
                        for key, ms in found.items():
                            med = {
                                f: round(statistics.median(getattr(m, f) for m in ms), 3)
                                for f in asdict(ms[0])
                            }
                            click.echo(f"{case}, c{streams}: {key:10} {med}")
        finally:
            for s in running.values():
                s.process.stop()


if __name__ == "__main__":
    main()
