"""The project as it is handed out: packages, import arrows, documents."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKER = ROOT / "worker" / "runfold"
COORDINATOR = ROOT / "coordinator" / "runfold_coordinator"
#: Loaded when first needed only: each costs start-up time or memory in every training process.
HEAVY = (
    "numpy",
    "redis",
    "psutil",
    "torch",
    "ray",
    "httpx",
    "typer",
    "rich",
    "pynvml",
    "pandas",
    "pyarrow",
    "yaml",
    "asyncio",
)


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of what a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_the_coordinator_imports_only_the_protocol_of_the_worker() -> None:
    # The demo's programs are a user's code, started as processes of their own.
    files = [
        path
        for path in sources(COORDINATOR)
        if not (path.parent.name == "demo" and path.stem.startswith(("train_", "read_")))
    ]
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for name in imported(path)
        if name.split(".")[0] == "runfold"
        and not (name + ".").startswith("runfold.protocol.")
        and name != "runfold"
    }
    wrong |= {str(path.relative_to(ROOT)) for path in files if _imports_bare_runfold(path)}
    assert not wrong


def _imports_bare_runfold(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import) and any(alias.name == "runfold" for alias in node.names):
            return True
        if (
            isinstance(node, ast.ImportFrom)
            and node.module == "runfold"
            and any(alias.name != "protocol" for alias in node.names)
        ):
            return True
    return False


def test_the_worker_imports_the_coordinator_only_when_a_command_needs_it() -> None:
    users = {
        path.relative_to(WORKER).as_posix()
        for path in sources(WORKER)
        if any(name.startswith("runfold_coordinator") for name in imported(path))
    }
    assert all(name.startswith("cli") for name in users), users


def test_the_protocol_is_pure() -> None:
    forbidden = {
        "socket",
        "threading",
        "time",
        "logging",
        "numpy",
        "asyncio",
        "pathlib",
        "redis",
        "subprocess",
        "random",
        "pickle",
    }
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(WORKER / "protocol")
        if path.name != "failpoints.py"  # reads one variable when the process starts
        for name in imported(path)
        if name.split(".")[0] in forbidden
    }
    assert not wrong


def test_aggregation_is_pure() -> None:
    forbidden = {"socket", "threading", "time", "logging", "sqlalchemy", "redis", "asyncio", "pickle"}
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(COORDINATOR / "aggregate")
        for name in imported(path)
        if name.split(".")[0] in forbidden
    }
    assert not wrong


@pytest.mark.parametrize("folder", [WORKER, COORDINATOR])
def test_nothing_is_unpickled_or_evaluated(folder: Path) -> None:
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(folder)
        for name in imported(path) | _called(path)
        if name.split(".")[0] in ("pickle", "cPickle", "marshal", "shelve", "eval", "exec")
        or name == "yaml.load"
    }
    assert not wrong


def _called(path: Path) -> set[str]:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    # What is given a text in the source evaluates nothing that came from elsewhere.
    return {
        ast.unparse(call.func)
        for call in calls
        if not call.args or not isinstance(call.args[0], ast.Constant)
    }


def test_import_loads_nothing_heavy() -> None:
    program = f"import runfold, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_takes_less_than_100_ms() -> None:
    # Users have compiled modules; an environment that forbids writing them would measure the compiler.
    env = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    program = "import time; began = time.process_time(); import runfold; print(time.process_time() - began)"
    taken = [
        float(
            subprocess.run(
                [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(6)
    ]
    assert min(taken) < 0.1, taken


def test_files_stay_within_the_ceiling() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in sources(WORKER) + sources(COORDINATOR)
        if (count := len(path.read_text().splitlines())) > 600
    }
    assert not long


def test_every_variable_is_documented() -> None:
    said = (ROOT / "docs" / "settings.md").read_text()
    names: set[str] = set()
    for path in sources(WORKER) + sources(COORDINATOR):
        names |= set(re.findall(r"\bRUNFOLD_[A-Z][A-Z_]+\b", path.read_text()))
    missing = {name for name in names if f"`{name}`" not in said}
    assert not missing


def test_links_between_documents_lead_somewhere() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    dead = {
        f"{document.relative_to(ROOT)}: {link}"
        for document in documents
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
        if not (document.parent / link).exists()
    }
    assert not dead


def test_the_architecture_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`((?:worker|coordinator)/[\w/.]+)`", text))
    assert len(named) > 10
    missing = {name for name in named if not (ROOT / name).exists()}
    assert not missing


def test_the_wheel_holds_both_packages_and_their_files(tmp_path: Path) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"runfold/py.typed", "runfold_coordinator/py.typed", "runfold/__init__.py"} <= names
    for package in (WORKER, COORDINATOR):
        in_tree = {
            path.relative_to(package.parent).as_posix()
            for path in package.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
        }
        assert in_tree <= names
    assert any(name.startswith("runfold_coordinator/store/migrations/") for name in names)
    assert any(name.endswith(".html") for name in names), "the page is missing"
    assert not {name for name in names if name.startswith(("tests/", "docs/")) or "/tests/" in name}


def test_dependencies_of_the_worker_are_few() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=!~ ]", line)[0] for line in project["dependencies"]}
    assert names == {
        "httpx",
        "msgpack",
        "nvidia-ml-py",
        "psutil",
        "pyyaml",
        "redis",
        "rich",
        "textual",
        "typer",
    }
