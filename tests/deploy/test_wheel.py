"""A wheel is all there is: installed elsewhere, hookshim works without its checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.deploy.debian import ROOT, once, run
from tests.support.process import Process
from tests.support.waiting import until


@pytest.fixture(scope="module")
def wheel(shared: Path) -> Path:
    """A wheel of the checkout, built from a copy: a build leaves directories behind."""

    def build(place: Path) -> None:
        source = place / "source"
        source.mkdir(parents=True)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        for name in ("shim", "server"):
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        run(*pip, "wheel", "--no-deps", "--wheel-dir", place, source)

    [made] = once(shared / "wheel", build).glob("hookshim-*.whl")
    return made


def test_it_has_every_file_that_belongs_to_the_code(wheel: Path) -> None:
    """SQL, templates and whatever else is read at run time; nothing but the two packages."""
    wanted = {
        str(path.relative_to(ROOT))
        for name in ("shim", "server")
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    with ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    assert sorted(wanted - names) == []
    assert sorted(names - wanted) == []


def test_it_runs_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    """Its command is there, and reads its settings and a journal, with the checkout out of sight."""
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin/python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python)]
    run(*pip, "install", "--no-deps", "--no-index", wheel)
    # The parts are those of the tests' environment; the checkout, which is there by a .pth of its own, is not seen.
    [site] = (environment / "lib").glob("python3.*/site-packages")
    (site / "parts.pth").write_text(sysconfig.get_path("purelib"))
    asked = "import server, shim; print(server.__file__, shim.__file__)"
    found = run(python, "-P", "-c", asked).split()
    assert [str(site) in path for path in found] == [True, True]

    def hookshim(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(environment / "bin/hookshim"), *words]
        variables = {"PATH": os.environ["PATH"], "HOOKSHIM_STATE_DIR": str(tmp_path / "state")}
        return subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=tmp_path, env=variables, timeout=60
        )

    assert hookshim("version").stdout.startswith("hookshim ")
    checked = hookshim("check-config", "--config", str(ROOT / "hack/deploy/config.toml"))
    assert (checked.returncode, checked.stderr) == (0, "")
    assert f'state_dir = "{tmp_path}/state"  # HOOKSHIM_STATE_DIR' in checked.stdout
    # A journal is made by its own SQL.
    socket = tmp_path / "h.sock"
    options = ["--listen", str(socket), "--containerd", str(tmp_path / "nobody.sock")]
    variables = {"HOOKSHIM_STATE_DIR": str(tmp_path / "state"), "HOOKSHIM_ADMIN": str(tmp_path / "a.sock")}
    daemon = Process([environment / "bin/hookshim", "serve", *options], tmp_path / "log", variables)
    try:
        until(lambda: socket.exists() or daemon.exit_status is not None, "its socket is there")
        assert socket.exists(), daemon.tail()
        assert daemon.terminate() == 0
    finally:
        daemon.kill()
    assert (tmp_path / "state/journal.db").exists()
