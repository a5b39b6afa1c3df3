"""Models of the user's own: found beside the recipe, run only with trust, blamed by file and line."""

from __future__ import annotations

import pickle
import sys
import textwrap
from pathlib import Path

import pytest
from torch import nn

from edgecompress.errors import DataError, ExitCode, ModelError, UsageError
from edgecompress.models.libraries.python_models import python_source_file
from edgecompress.sources.python_code import call_function, load_function
from tests.unit.models.conftest import Build

NET = """
from dataclasses import dataclass
import torch
from torch import nn

@dataclass
class Settings:
    width: int = 4

class Net(nn.Module):
    def __init__(self, num_classes, width=4):
        super().__init__()
        self.settings = Settings(width)
        self.conv = nn.Conv2d(3, width, 3)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))

def make(input_shape, num_classes, *, width=4):
    assert input_shape == (3, 32, 32)
    return Net(num_classes, width)

def anything(**keywords):
    return Net(keywords["num_classes"], keywords["input_shape"][0])

def fails():
    raise OSError("no such thing")  # line 28

def returns_none():
    return None

class Tuple(Net):
    def forward(self, x):
        return super().forward(x), x

class Features(Net):
    def forward(self, x):
        return self.conv(x)

class Broken(Net):
    def forward(self, x):
        return x @ x.reshape(7, -1)

NUMBER = 3
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


@pytest.mark.parametrize("function", ["make", "Net", "anything"])
def test_functions_and_classes_get_what_their_signature_has(build: Build, net: Path, function: str) -> None:
    args = {} if function == "anything" else {"width": 6}
    model = build(f"python:net:{function}", trust=True, args=args)
    assert model.fc.out_features == 10
    assert model.settings.width == (3 if function == "anything" else 6)


def test_without_trust_nothing_runs(build: Build, tmp_path: Path, net: Path) -> None:
    net.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{NET}")
    expected = r"runs code from .*net\.py; allow it with --trust or EDGECOMPRESS_TRUST=1"
    with pytest.raises(UsageError, match=expected) as caught:
        build("python:net:make")
    assert caught.value.exit_code == ExitCode.RECIPE
    assert python_source_file("python:net:make", tmp_path) == net
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("model", "args", "message"),
    [
        ("python:net:fails", {}, r"failed: OSError: no such thing \(.*net\.py:28\)"),
        ("python:net:mke", {}, "has no function `mke`; did you mean `make`"),
        ("python:net:NUMBER", {}, "has no function `NUMBER`"),
        ("python:net:returns_none", {}, "returned a NoneType; it must return a torch.nn.Module"),
        ("python:net:Tuple", {}, r"has several outputs: `0` \[1, 10\], `1` .*as in `output: 0`"),
        ("python:net:Features", {}, r"a tensor of \(1, 4, 30, 30\) for one sample of 3 x 32 x 32; expected \(1, 10\)"),
        ("python:net:Broken", {}, "cannot work on inputs of 3 x 32 x 32 .*RuntimeError.*net.py:[0-9]+"),
        ("python:net:make", {"wide": 3}, r"unexpected keyword argument 'wide'. Arguments it takes in `args`: width=4"),
        ("python:net:make", {"num_classes": 3}, "`num_classes` comes from the data"),
        ("python:nett:make", {}, r"no module nett. Looked for .*nett\.py"),
        ("python:sys:exit", {}, "sys is not a Python source file"),
    ],
)
@pytest.mark.usefixtures("net")
def test_what_goes_wrong_is_explained(build: Build, model: str, args: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(model, trust=True, args=args)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\ndef make(:\n", r"SyntaxError: .*net\.py:2\)"),
        ("import nowhere_to_be_found\n", r"ModuleNotFoundError: No module named 'nowhere_to_be_found' \(.*net\.py:1\)"),
        ("import sys\nsys.exit(3)\n", r"SystemExit: 3 \(.*net\.py:2\)"),
    ],
)
def test_a_module_that_cannot_be_loaded_is_blamed(build: Build, net: Path, content: str, message: str) -> None:
    net.write_text(content)
    with pytest.raises(ModelError, match=message):
        build("python:net:make", trust=True)


def test_two_recipes_may_each_have_a_net_and_its_siblings(tmp_path: Path) -> None:
    net = """
        from ec_sibling import VALUE

        def early():
            return VALUE

        def late():
            import ec_sibling
            return ec_sibling.VALUE
    """
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "ec_sibling.py").write_text(f"VALUE = {folder!r}\n")
        (tmp_path / folder / "net.py").write_text(textwrap.dedent(net))
    for folder in ("one", "two", "one"):
        place = tmp_path / folder
        for function in ("early", "late"):
            assert call_function(f"python:net:{function}", place, {}, trust=True, what="data source") == folder
        assert str(place) not in sys.path


def test_a_module_is_loaded_once_until_it_changes(tmp_path: Path, net: Path) -> None:
    def get() -> object:
        return load_function("python:net:Net", tmp_path, trust=True, what="model")

    first = get()
    assert get() is first
    net.write_text(NET + "\nMORE = 1\n")
    assert get() is not first


def test_objects_of_a_users_class_can_be_pickled(build: Build, net: Path) -> None:
    model = build("python:net:make", trust=True)
    assert isinstance(pickle.loads(pickle.dumps(model)), nn.Module)  # noqa: S301 - made here


@pytest.mark.parametrize("init", [True, False])
def test_packages_keep_their_relative_imports(build: Build, tmp_path: Path, init: bool) -> None:
    package = tmp_path / "ec_nets"
    package.mkdir()
    if init:
        (package / "__init__.py").write_text("from .small import make\n")
    (package / "blocks.py").write_text("from torch import nn\nclass Flat(nn.Flatten):\n    pass\n")
    (package / "small.py").write_text(
        "from torch import nn\nfrom .blocks import Flat\n"
        "def make(num_classes):\n    return nn.Sequential(Flat(), nn.LazyLinear(num_classes))\n"
    )
    model = build("python:ec_nets.small:make", (1, 4, 4), trust=True)
    assert type(next(iter(model.children()))).__name__ == "Flat"
    if init:
        build("python:ec_nets:make", (1, 4, 4), trust=True)


def test_modules_on_the_python_path_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere" / "ec_package"
    elsewhere.mkdir(parents=True)
    (elsewhere / "__init__.py").write_text("raise RuntimeError('finding a file must not run this')\n")
    (elsewhere / "net.py").write_text("def make(): ...\n")
    monkeypatch.syspath_prepend(str(elsewhere.parent))
    assert python_source_file("python:ec_package.net:make", tmp_path) == elsewhere / "net.py"
    with pytest.raises(ModelError, match=r"finding a file must not run this"):
        load_function("python:ec_package.net:make", tmp_path, trust=True, what="model")
    (elsewhere / "__init__.py").write_text("")
    assert load_function("python:ec_package.net:make", tmp_path, trust=True, what="model")() is None


def test_the_kind_of_error_is_the_callers_choice(tmp_path: Path, net: Path) -> None:
    with pytest.raises(DataError, match="data source `python:net:fails` failed: OSError"):
        call_function("python:net:fails", tmp_path, {}, trust=True, what="data source", error=DataError)
    with pytest.raises(DataError, match="no module"):
        python_source_file("python:nowhere_at_all:f", tmp_path, error=DataError)
    with pytest.raises(ModelError, match="must read python:module:function"):
        python_source_file("python:net", tmp_path)
