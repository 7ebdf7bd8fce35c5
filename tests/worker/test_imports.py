"""What importing costs, and who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import runfold

PACKAGE = Path(runfold.__file__).parent
#: Loaded when first needed, never by `import runfold`.
HEAVY = {
    *("numpy", "torch", "ray", "pandas", "redis", "psutil", "pynvml", "httpx", "typer", "rich", "yaml"),
    *("asyncio", "multiprocessing", "subprocess", "concurrent", "http", "email", "sqlite3", "ctypes"),
}
#: What the wire may use: nothing that touches the world.
PURE = {
    *("__future__", "abc", "bisect", "collections", "dataclasses", "enum", "functools", "heapq", "itertools"),
    *(
        "math",
        "operator",
        "re",
        "struct",
        "types",
        "typing",
        "zlib",
        "hashlib",
        "json",
        "unicodedata",
        "copy",
        "base64",
    ),
    *("msgpack", "runfold"),
}


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, at its top or later."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # Relative imports stay inside their package: its own folder is as far up as they are followed.
            package = next(parent for parent in path.parents if not (parent.parent / "__init__.py").exists())
            parts = list(path.relative_to(package.parent).parts[: -node.level or None])
            base = ".".join(parts) if node.level else ""
            yield ".".join(filter(None, [base, node.module or ""]))


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def test_importing_loads_the_standard_library_and_msgpack_only() -> None:
    loaded = python("import sys, runfold; print(*{name.partition('.')[0] for name in sys.modules})").split()
    assert not HEAVY & set(loaded)
    assert "msgpack" in loaded


def test_importing_takes_less_than_a_tenth_of_a_second() -> None:
    # CPU time, and the best of many: other processes on the machine are not what is measured.
    code = "import time; began = time.process_time(); import runfold; print(time.process_time() - began)"
    assert any(float(python(code)) < 0.1 for _ in range(20))


def test_a_run_loads_no_heavy_module_either(tmp_path: Path) -> None:
    code = f"""
import os, sys
os.environ.update(RUNFOLD_DIR={str(tmp_path)!r}, RUNFOLD_MODE="offline", RUNFOLD_SILENT="1")
import runfold
run = runfold.init(project="p", config={{"a": 1}})
run.log({{"a": 1, "b": "text", "n": {{"c": [1, 2]}}}})
run.finish()
print(*{{name.partition('.')[0] for name in sys.modules}})
"""
    assert not {*HEAVY} & set(python(code).split())


@pytest.mark.parametrize("path", files(PACKAGE / "protocol"), ids=lambda path: path.name)
def test_the_wire_is_pure(path: Path) -> None:
    if path.name == "failpoints.py":  # kills the process that it is told to kill: for tests only
        return
    for name in imports(path):
        assert name.partition(".")[0] in PURE, f"{path.name} imports {name}"
        assert not name.startswith("runfold.") or name.startswith("runfold.protocol"), f"{path.name}: {name}"


def test_nobody_below_the_sdk_imports_it() -> None:
    for folder in ("protocol", "spool"):
        for path in files(PACKAGE / folder):
            for name in imports(path):
                if name.startswith("runfold"):
                    assert name.split(".")[1:2] in (["protocol"], ["spool"]), f"{path} imports {name}"


def test_the_coordinator_imports_the_wire_only() -> None:
    coordinator = pytest.importorskip("runfold_coordinator")
    folder = Path(coordinator.__file__).parent
    allowed = {"testing.py", "demo"}  # they stand at both ends
    for path in files(folder):
        if allowed & set(path.relative_to(folder).parts):
            continue
        for name in imports(path):
            if name.partition(".")[0] == "runfold":
                assert name.startswith("runfold.protocol"), f"{path.name} imports {name}"


def test_the_worker_imports_the_coordinator_only_when_a_command_needs_it() -> None:
    for path in files(PACKAGE):
        if "cli" in path.relative_to(PACKAGE).parts:
            continue
        assert not any(name.startswith("runfold_coordinator") for name in imports(path)), path.name


def test_only_settings_read_the_environment() -> None:
    for path in [*PACKAGE.glob("*.py")]:
        if path.name != "settings.py":
            assert "os.environ" not in path.read_text(), path.name
