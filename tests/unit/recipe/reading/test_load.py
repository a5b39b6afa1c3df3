"""Loading recipes: files, types, names, overrides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgecompress.errors import ExitCode, RecipeError
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.recipe.schema import Habits, Recipe

SMALL = "version: 1\nteacher: {model: resnet9}\n"
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        path = tmp_path / "my-run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    assert caught.value.exit_code == ExitCode.RECIPE
    return [str(problem).removeprefix(f"{path.parent}/") for problem in caught.value.problems]


def test_two_lines_make_a_recipe_with_defaults(write: Write) -> None:
    path = write(SMALL)
    recipe = load_recipe(path)
    assert recipe.name == "my-run"
    assert recipe.base_dir == str(path.parent)
    assert recipe.teacher is not None
    assert recipe.teacher.train is not None
    assert (recipe.teacher.train.epochs, recipe.teacher.train.schedule) == (None, "cosine")
    assert recipe.teacher.habits == Habits(epochs=15, steps=1000)
    assert (recipe.data.source, recipe.student, recipe.io) == ("digits", None, "float32")


def test_relative_file_gives_an_absolute_folder(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(SMALL)
    monkeypatch.chdir(path.parent)
    assert load_recipe(Path(path.name)).base_dir == str(path.parent)


@pytest.mark.parametrize(
    ("file", "name"), [("a.b.yaml", "a.b"), ("run (1).yaml", "run -1-"), ("..x.yaml", "x"), ("(.yaml", "recipe")]
)
def test_name_comes_from_the_file(tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / file).write_text(SMALL)
    assert load_recipe(tmp_path / file).name == name


def test_name_that_is_given_is_kept(write: Write) -> None:
    assert load_recipe(write(SMALL + "name: Mein Lauf 2\n")).name == "Mein Lauf 2"


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("1E+0", 1.0), (".5", 0.5), ("2", 2.0), ("+1.5e-2", 0.015)]
)
def test_numbers_of_yaml_1_2(write: Write, text: str, value: float) -> None:
    recipe = load_recipe(write(f"version: 1\nteacher: {{model: resnet9, train: {{learning_rate: {text}}}}}\n"))
    assert recipe.teacher is not None
    assert recipe.teacher.train is not None
    assert recipe.teacher.train.learning_rate == value


def test_scalars_of_yaml_1_2_in_free_arguments(write: Write) -> None:
    text = "{a: no, b: 0o17, c: 0x1F, d: 010, e: 2020-01-01, f: ~, g: True, h: 1_000, i: 1:30, j: '5'}"
    recipe = load_recipe(write(f"version: 1\nteacher: {{model: 'python:mine:net', args: {text}}}\n"))
    assert recipe.teacher is not None
    expected = {"a": "no", "b": 15, "c": 31, "d": 10, "e": "2020-01-01", "f": None, "g": True}
    assert recipe.teacher.args == expected | {"h": "1_000", "i": "1:30", "j": "5"}


def test_whole_floats_are_whole_numbers(write: Write) -> None:
    text = "version: 1\nteacher: {model: resnet9, train: {epochs: 1e1}}\ndata: {image_size: 28.0}\n"
    recipe = load_recipe(write(text))
    assert recipe.teacher is not None
    assert recipe.teacher.train is not None
    assert (recipe.teacher.train.epochs, recipe.data.image_size) == (10, 28)
    assert isinstance(recipe.teacher.train.epochs, int)


def test_whole_floats_in_a_list_are_whole_numbers(write: Write) -> None:
    assert load_recipe(write(SMALL + "data: {image_size: [28.0, 20]}\n")).data.image_size == (28, 20)


@pytest.mark.parametrize("value", ["true", '"5"', "2.5", "[5]", "five", "1.0e+300"])
def test_what_only_looks_like_a_number_is_refused(write: Write, value: str) -> None:
    (problem,) = problems(write(SMALL + f"seed: {value}\n"))
    assert problem.startswith("my-run.yaml:3: seed: expected a whole number")
    assert len(problem) < 200


def test_size_is_no_block(write: Write) -> None:
    (problem,) = problems(write(SMALL + "data: {image_size: {a: 1}}\n"))
    assert "data.image_size: expected a whole number or a list of 2 whole numbers" in problem
    assert problem.endswith("found a block of keys")


def test_anchors_and_merge_keys(write: Write) -> None:
    text = """\
version: 1
teacher:
  model: resnet9
  train: &long {epochs: 30, batch_size: 64}
student: {model: resnet8}
distill:
  train: {batch_size: 32, <<: *long}
"""
    recipe = load_recipe(write(text))
    assert recipe.distill is not None
    assert (recipe.distill.train.epochs, recipe.distill.train.batch_size) == (30, 32)


def test_merge_of_something_else_is_refused(write: Write) -> None:
    assert "`<<` merges blocks only" in problems(write(SMALL + "data: {<<: 5}\n"))[0]


def test_a_block_that_contains_itself_is_refused(write: Write) -> None:
    assert "expand to more than" in problems(write(SMALL + "data: &d {args: *d}\n"))[0]


def test_lines_are_those_of_key_value_or_block(write: Write) -> None:
    text = "version: 1\nteacher:\n  args:\n    width: 8\n  weights:\n    5\n  widht: 3\n"
    found = problems(write(text))
    assert [problem.split(": ")[0:2] for problem in found] == [
        ["my-run.yaml:2", "teacher.model"],
        ["my-run.yaml:6", "teacher.weights"],
        ["my-run.yaml:7", "teacher.widht"],
    ]


def test_all_kinds_of_problems_come_at_once(write: Write) -> None:
    text = "version: 1\nseed: x\nseed: 1\ndistill: {alpha: 2, beta: 1}\nexport: {io: uint8}\nbudget: {size_kib: .inf}\n"
    found = "\n".join(problems(write(text)))
    for part in (
        "seed: this key stands here twice",
        "distill.alpha",
        "distill.beta",
        "export.io",
        "size_kib",
        "needs a",
    ):
        assert part in found


def test_base_dir_cannot_be_written(write: Write) -> None:
    (problem,) = problems(write(SMALL + "base_dir: /\n"))
    assert problem.startswith("my-run.yaml:3: base_dir: no such key at the top level")


def test_null_leaves_an_optional_block_out(write: Write) -> None:
    assert load_recipe(write(SMALL + "prune: null\n")).prune is None


def test_keys_must_be_text(write: Write) -> None:
    found = problems(write(SMALL + "5: x\n? [a]\n: y\n"))
    assert "my-run.yaml:3: a key must be text, found `5`" in found[0]
    assert "found `a list or block`" in found[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00v", "not UTF-8 text"),
        (b"version: 1\nname: \xe9\n", ":2: not UTF-8 text"),
        (b"version: 1\x00", "holds control characters"),
        (b"#" * 400_001, "larger than 400,000 bytes"),
        (b"[" * 500, "nested at most 20 deep"),
        (b"a: [" + b"1," * 10_001 + b"]", "at most 10,000 values"),
        (b"just text", "found a single value"),
        (b"a: !!int abc", "`abc` is not a number"),
        (b'name: "\\0"', "control characters"),
        (b"seed: " + b"9" * 5000, "is not a finite number"),
        (b"a: &x [1]\nb: &x [1]\n", ":2: this anchor exists already"),
        (b"a: 1\nb: 'x\nc: 1\n", ":2: a quote is opened and never closed"),
        (b"a: >x\n", "not valid YAML"),
        (b"a: %x\n", "cannot begin a value"),
        (b"a: *x\n", "an alias (`*name`) without its anchor"),
        (b"a: 1\nb\n", "a key without `:`"),
        (b"a: ]\n", "not closed, or lacks a value"),
        (b"a: b: c\n", "a `:` stands where none can"),
        (b"a: - 1\n", "a list item (`-`) stands where none can"),
        (b'a: 1\nb: "\\UFFFFFFFF"\n', ":2: not valid YAML"),
        (b"%YAML 1." + b"9" * 5000 + b"\n--- {}\n", "not valid YAML"),
        (b'version: 1\nstudent: {model: resnet8, args: {"\\uD800": 1}}\n', ":2: student.args: the key '\\ud800' holds"),
        (b"".join(b"k%d: 1\n" % number for number in range(4900)), "4,852 more problems after these"),
        (b"version: 1\ndata: {features: [a, null, 3]}\nstudent: {model: mlp}\n", "data.features[1]: expected"),
        (b"version: 1\nstudent: {model: resnet8, weights: ~nobody-here/x.pt}\n", "`~nobody-here` names a user"),
    ],
)
def test_text_that_is_no_recipe(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    assert message in "\n".join(problems(path))


def test_byte_order_mark_and_windows_lines_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load_recipe(path).name == "r"


def test_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "digits.yaml").write_text(SMALL)
    assert problems(tmp_path / "digit.yaml") == ["digit.yaml: no such file (in that folder: digits.yaml)"]
    assert "check the path" in problems(tmp_path / "nowhere" / "r.yaml")[0]


def test_folder_is_no_recipe(tmp_path: Path) -> None:
    assert "this is a folder" in problems(tmp_path)[0]


def test_name_that_no_file_system_takes(tmp_path: Path) -> None:
    assert "cannot be read" in problems(tmp_path / ("x" * 300))[0]
    assert "cannot be read" in problems(tmp_path / "a\0b")[0]


def test_override_of_a_key(write: Write) -> None:
    recipe = load_recipe(write(SMALL + "prune: {ratio: 0.5, steps: 3}\n"), ["prune.ratio=0.7"])
    assert recipe.prune is not None
    assert (recipe.prune.ratio, recipe.prune.steps) == (0.7, 3)


def test_override_creates_missing_blocks(write: Write) -> None:
    recipe = load_recipe(write(SMALL), ["student.model=resnet8", "distill.train.epochs=2"])
    assert recipe.student is not None
    assert recipe.distill is not None
    assert (recipe.student.model, recipe.distill.train.epochs) == ("resnet8", 2)


def test_override_mends_what_the_file_has_wrong(write: Write) -> None:
    path = write(SMALL + "prune: {ratio: 5}\nquantize:\nseed: x\n")
    recipe = load_recipe(path, ["prune=null", "quantize.mode=qat", "seed=3"])
    assert recipe.prune is None
    assert recipe.quantize is not None
    assert (recipe.quantize.mode, recipe.seed) == ("qat", 3)


def test_null_in_an_override_removes_blocks_or_sets_null(write: Write) -> None:
    text = SMALL + "quantize: {mode: ptq, train: {epochs: 3}}\ndata: {image_size: 8}\n"
    recipe = load_recipe(write(text), ["quantize.train=null", "data.image_size=null", "teacher.train=null"])
    assert recipe.quantize is not None
    assert recipe.data.image_size is None
    assert recipe.teacher is not None
    assert recipe.teacher.train is None


def test_value_of_an_override_is_yaml(write: Write) -> None:
    model = ["teacher.model=python:mine:net", "teacher.args.name=a=b"]
    recipe = load_recipe(write(SMALL), ["data={augment: [crop, flip], test: 1e-1}", *model])
    assert (recipe.data.augment, recipe.data.test) == (("crop", "flip"), 0.1)
    assert recipe.teacher is not None
    assert recipe.teacher.args == {"name": "a=b"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prune.rato=0.7", "--set: prune.rato: no such key in the block `prune` (did you mean `ratio`?)"),
        ("prune.ratio=7", "--set: prune.ratio: expected a number above 0 and below 1, found `7`"),
        ("prune={ratio: 7}", "--set: prune.ratio: expected a number above 0"),
        ("prune", "--set: prune: expected key=value (found `prune`"),
        ("=1", "--set: expected key=value"),
        ("a..b=1", "--set: a..b: expected key=value"),
        ("teacher.model.x=1", "--set: teacher.model.x: `teacher.model` is not a block"),
        ("data.augment=[crop", "--set: data.augment: its value `[crop` is not YAML"),
        ("seed=.nan", "--set: seed: `.nan` is not a finite number"),
        ("x.y=1", "--set: x: no such key at the top level"),
        ("base_dir=/", "--set: base_dir: no such key"),
        ("a." * 2000 + "a=1", "--set: a.a: too deep for a recipe"),
        ("data.args." + "a." * 2000 + "a=1", "--set: data.args: too deep for a recipe"),
        ("\udcff=1", r"--set: \udcff: the key holds control characters"),
        ("data.args.\udcff=1", "--set: data.args: the key holds control characters"),
        ("se\x1b[31med=1", r"--set: se\x1b[31med: the key holds control characters"),
    ],
)
def test_override_that_cannot_be(write: Write, override: str, message: str) -> None:
    (problem,) = problems(write(SMALL), override)
    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("text", "value"), [("0" * 60 + "5", 5), ("-0", 0), ("0x" + "0" * 60 + "1f", 31), ("0o" + "0" * 60 + "17", 15)]
)
def test_zeros_in_front_of_a_number_change_nothing(write: Write, text: str, value: int) -> None:
    assert load_recipe(write(f"{SMALL}seed: {text}\n")).seed == value


def test_merging_twice_is_said(write: Write) -> None:
    path = write("version: 1\nteacher: &a {model: resnet9}\nstudent:\n  <<: *a\n  <<: {model: resnet8}\n")
    (problem,) = problems(path)
    assert problem.startswith("my-run.yaml:5: student: `<<` stands here twice, first on line 4")


def test_problems_of_overrides_come_after_those_of_the_file(write: Write) -> None:
    first, second = problems(write(SMALL + "sed: 1\n"), "seed=-1")
    assert first.startswith("my-run.yaml:3: sed: ")
    assert second.startswith("--set: seed: ")


@given(st.binary(max_size=200) | st.text("version: 1{}[]&*!-#'\"\n\t tea", max_size=60).map(str.encode))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_gives_a_recipe_or_a_recipe_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fuzz.yaml"
    path.write_bytes(content)
    try:
        assert isinstance(load_recipe(path), Recipe)
    except RecipeError as error:
        assert all(problem.message for problem in error.problems)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("model", ["ds-cnn", "torchvision/resnet18", "timm/any.thing", "python:my.nets:build"])
def test_names_of_models(write: Write, model: str) -> None:
    recipe = load_recipe(write(f"version: 1\nteacher: {{model: resnet9}}\nstudent: {{model: '{model}'}}\n"))
    assert recipe.compressed.model == model


def test_without_a_student_the_teacher_is_compressed(write: Write) -> None:
    assert load_recipe(write(SMALL)).compressed.model == "resnet9"


@pytest.mark.parametrize("weights", ["", "weights: int8, ", "weights: int4, "])
def test_the_type_of_quantized_weights_leaves_the_learning_rate_as_it_is(write: Write, weights: str) -> None:
    """A model's `weights` are a file to start from, at a tenth of the rate; those of `quantize` are a type."""
    recipe = load_recipe(write(f"{SMALL}quantize: {{{weights}mode: qat}}\n"))
    assert recipe.quantize is not None
    assert recipe.quantize.train.learning_rate is None
    assert recipe.quantize.habits.rate_share == 0.05
    recipe = load_recipe(write("version: 1\nteacher: {model: resnet9, weights: a.safetensors, train: {epochs: 3}}\n"))
    assert recipe.teacher is not None
    assert recipe.teacher.train is not None
    assert recipe.teacher.train.learning_rate is None
    assert recipe.teacher.habits.rate_share == 0.1


TOP = """\
version: 1
train: {epochs: 7, batch_size: 32, learning_rate: 0.05}
teacher: {model: resnet9, train: {batch_size: 64, label_smoothing: 0.1}}
student: {model: resnet8}
distill: {train: {learning_rate: 0.2}}
prune: {ratio: 0.5}
quantize: {mode: qat}
"""


def test_train_at_the_top_is_for_all_blocks_and_what_they_say_goes_before(write: Write) -> None:
    recipe = load_recipe(write(TOP))
    trains = {name: getattr(recipe, name).train for name in ("teacher", "student", "distill", "prune", "quantize")}
    assert {name: train.epochs for name, train in trains.items()} == dict.fromkeys(trains, 7)
    assert {name: train.batch_size for name, train in trains.items()} == {**dict.fromkeys(trains, 32), "teacher": 64}
    rates = {name: train.learning_rate for name, train in trains.items()}
    assert rates["prune"] == pytest.approx(0.01)
    assert {**rates, "prune": 0} == {"teacher": 0.05, "student": 0.05, "distill": 0.2, "prune": 0, "quantize": None}
    assert trains["teacher"].label_smoothing == 0.1
    assert (trains["quantize"].optimizer, trains["quantize"].clip_norm) == ("adam", 1.0)


def test_a_rate_at_the_top_is_for_qat_too_where_its_optimizer_is_given(write: Write) -> None:
    recipe = load_recipe(write(TOP.replace("epochs: 7", "optimizer: adamw")))
    assert recipe.quantize is not None
    assert recipe.quantize.train.optimizer == "adamw"
    assert recipe.quantize.train.learning_rate == pytest.approx(0.05 * 0.05)


@pytest.mark.parametrize(
    ("model", "trained"),
    [("resnet9", True), ("resnet9, weights: a.pt", False), ("hf/a", False), ("resnet9, train: null", False)],
)
def test_train_at_the_top_trains_nothing_that_would_not_be(write: Write, model: str, trained: bool) -> None:
    recipe = load_recipe(write(f"version: 1\ntrain: {{epochs: 2}}\nteacher: {{model: {model}}}\n"))
    assert recipe.teacher is not None
    assert (recipe.teacher.train is not None) is trained


def test_what_is_wrong_at_the_top_is_told_once_where_it_stands(write: Write) -> None:
    assert problems(write(TOP.replace("epochs: 7", "epochs: 0, epoch: 1"))) == [
        "my-run.yaml:2: train.epochs: expected a whole number from 1 to 10,000 (or `null`), found `0`",
        "my-run.yaml:2: train.epoch: no such key in the block `train` (did you mean `epochs`?)",
    ]


def test_a_resolved_recipe_resolves_to_itself(write: Write) -> None:
    recipe = load_recipe(write(TOP))
    assert Recipe.model_validate(recipe.model_dump(mode="json")).model_dump() == recipe.model_dump()
