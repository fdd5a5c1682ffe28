"""What the command line writes: nothing is lost, and what cannot be written is told in a line."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unit.client.command_line import in_shell, ran, vaeserve
from unit.client.scripted_model import pictures
from unit.client.scripted_server import Script


@pytest.mark.parametrize("suffix", ["png", "npy", "npz"])
def test_a_write_that_fails_leaves_the_older_file(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    out = tmp_path / f"x.{suffix}"
    out.write_bytes(b"older")
    real = Path.open

    def full(path: Path, mode: str = "r", *rest: object) -> object:
        if "w" in mode:
            real(path, "wb").close()
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, mode)

    monkeypatch.setattr(Path, "open", full)
    result = vaeserve("sample", script.address, "--model", "digits", "--seed", 1, "-o", out)
    assert result.exit_code == 1
    assert result.output == f"Error: {out} cannot be written: No space left on device\n"
    assert out.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_file_that_can_only_be_overwritten_is(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    out = tmp_path / "x.npy"
    out.write_bytes(b"older")
    real = getattr(Path, step)

    def refused(path: Path, *rest: Any) -> Any:
        if path.name.startswith("."):
            raise OSError(errno.EACCES if step == "write_bytes" else errno.EBUSY, "no")
        return real(path, *rest)

    monkeypatch.setattr(Path, step, refused)
    ran("sample", script.address, "--model", "digits", "-n", 3, "-o", out)
    assert np.load(out).shape == (3, 2, 3)
    assert list(tmp_path.iterdir()) == [out]


def test_a_file_that_is_replaced_keeps_its_rights_and_a_link_stays_one(
    script: Script, tmp_path: Path
) -> None:
    file, link = tmp_path / "x.npy", tmp_path / "link.npy"
    file.touch(0o600)
    link.symlink_to(file)
    ran("sample", script.address, "--model", "digits", "-n", 3, "-o", link)
    assert link.is_symlink()
    assert np.load(file).shape == (3, 2, 3)
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "words", ["models $A", "models $A --json", "sample $A --json", "score $A $D/x.npy"]
)
def test_a_full_disk_behind_standard_output(script: Script, tmp_path: Path, words: str) -> None:
    np.save(tmp_path / "x.npy", pictures(1))
    done = in_shell(f"vaeserve {words} > /dev/full", A=script.address, D=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == (
        "Error: standard output cannot be written: No space left on device"
    )
    assert "Traceback" not in done.stderr


def test_who_stops_reading_ends_it_without_a_word(script: Script) -> None:
    done = in_shell("set -o pipefail; vaeserve models $A | true", A=script.address)
    assert done.stderr == ""


def test_closed_streams_are_told(script: Script) -> None:
    done = in_shell("vaeserve encode $A - --json <&-", A=script.address)
    assert done.returncode == 2
    assert "standard input is closed" in done.stderr
    done = in_shell("vaeserve sample $A -o - >&-", A=script.address)
    assert done.stderr.splitlines()[0] == "Error: standard output cannot be written: it is closed"


def test_a_file_that_is_called_as_a_pipe_is(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran("sample", script.address, "-n", 2, "-o", "./-", "--format", "npz")
    ran("decode", script.address, "./-", "-o", "y.npy")
    assert np.load("y.npy").shape == (2, 2, 3)


def test_a_table_of_scores_needs_no_place(script: Script, tmp_path: Path) -> None:
    x = saved(tmp_path / "x.npy")
    shown = ran("score", script.address, x, "--format", "csv")
    assert shown == ran("score", script.address, x, "--format", "csv", "-o", "-")
    assert shown.startswith("negative_elbo,")


def test_a_token_that_is_no_text(script: Script, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    result = vaeserve("models", script.address, "--token-file", tmp_path / "token")
    assert result.exit_code == 2
    assert "holds no text" in result.output


def test_what_is_typed_about_tls_overrules_the_environment(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("no certificate")
    both = vaeserve("models", script.address, "--no-tls", "--tls-ca", ca)
    assert both.exit_code == 2
    assert "--no-tls and --tls-ca do not go together" in both.output

    monkeypatch.setenv("VAESERVE_CLIENT_TLS_CA", str(ca))
    assert "digits" in ran("models", script.address, "--no-tls")
    monkeypatch.setenv("VAESERVE_CLIENT_TLS", "false")
    assert "digits" in ran("models", script.address)
    monkeypatch.delenv("VAESERVE_CLIENT_TLS_CA")
    assert vaeserve("models", script.address, "--tls-ca", ca, "--timeout", 5).exit_code == 1


def saved(path: Path) -> Path:
    np.save(path, pictures(2))
    return path
