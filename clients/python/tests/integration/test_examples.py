from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rig import Rig

HERE = Path(__file__).parents[2]


def test_the_readme_s_example_works_as_it_stands(rig: Rig) -> None:
    example = re.search(r"```python\n(.*?)```", (HERE / "README.md").read_text(), re.DOTALL)
    assert example is not None
    assert len([line for line in example[1].splitlines() if line]) <= 10
    program = f"DATABASE_URL = {database(rig)!r}\n{example[1]}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("it works\n", 0), done.stderr


def test_the_web_service_lives_through_rotations(rig: Rig) -> None:
    command = [sys.executable, str(HERE / "examples" / "web_service.py"), "0", database(rig)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            address = f"http://127.0.0.1:{service.stdout.readline().split()[-1]}"
            token = asked(urllib.request.Request(address, b"", method="POST"))["token"]
            request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
            users = {asked(request)["user"]}
            for _ in range(3):
                rig.rotate("JWT")
                rig.rotate("DB")
                users.add(asked(request)["user"])
                token = asked(urllib.request.Request(address, b"", method="POST"))["token"]
                request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
            assert len(users) >= 2
            with pytest.raises(urllib.error.HTTPError) as raised:
                asked(urllib.request.Request(address))
            assert raised.value.code == 401
            raised.value.close()
        finally:
            service.terminate()


def asked(request: urllib.request.Request) -> Any:
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def database(rig: Rig) -> str:
    return rig.pg.replace("postgresql:", "postgresql+psycopg:")
