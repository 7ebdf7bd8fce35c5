"""The client costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_client_loads_no_http_library_and_no_arrays() -> None:
    program = (
        "import sys, runfold.api; runfold.api.Api(url='http://127.0.0.1:9')\n"
        "heavy = {'httpx', 'numpy', 'pandas', 'redis', 'rich', 'typer'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_machine_without_pandas_gets_lists_of_dicts() -> None:
    program = (
        "import sys; sys.modules['pandas'] = None\n"
        "from runfold.api.columns import shaped\n"
        "table = {'length': 1, 'columns': [{'name': 'a', 'values': [1], 'rows': None}]}\n"
        "assert shaped(table, pandas=True) == [{'a': 1}]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "pandas is not installed" in done.stderr
