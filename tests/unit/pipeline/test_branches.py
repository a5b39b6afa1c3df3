"""Which edits of the program make which stages again: on the real program, for recipes of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.robustness.code_edits import EDITS, FOLLOWING, Edit, copied_program, edited, fingerprints, made_again
from edgecompress.pipeline.branches import FAMILIES, reach_of
from edgecompress.recipe.names import MODELS, SOURCES
from edgecompress.recipe.reading.load import load_recipe
from edgecompress.recipe.schema import TASKS, Recipe
from edgecompress.recipe.steps import STAGE_ORDER, has_stage
from edgecompress.store.code import reached

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def recipe(**blocks: Any) -> Recipe:
    return Recipe.model_validate({"version": 1, **blocks})


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the package, in the place of the real one."""
    with copied_program(tmp_path_factory.mktemp("program")) as root:
        yield root


@pytest.fixture(scope="module")
def demo(program: Path) -> tuple[Recipe, dict[str, str]]:
    """The demo's recipe, and what its stages depend on."""
    del program
    found = load_recipe(ROOT / "recipes" / "digits.yaml")
    return found, fingerprints(found)


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit.kind}-{edit.file}")
def test_an_edit_makes_again_what_it_can_change_and_no_more(
    edit: Edit, program: Path, demo: tuple[Recipe, dict[str, str]]
) -> None:
    asked, before = demo
    with edited(program, edit):
        assert made_again(before, fingerprints(asked)) == FOLLOWING[edit.again]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_name_that_is_cut_is_one_of_the_program(path: Path) -> None:
    asked = load_recipe(path)
    for stage in (stage for stage in STAGE_ORDER if has_stage(asked, stage)):
        assert f"edgecompress.stages.{stage}.run" in reached(reach_of(asked, stage))


@pytest.mark.slow
def test_the_tables_have_the_keys_by_which_recipes_choose() -> None:
    from edgecompress.data.loading import SOURCES as SOURCE_TABLE
    from edgecompress.models.building import BUILT_IN, NORMALIZATIONS
    from edgecompress.models.building import FAMILIES as FAMILY_TABLE
    from edgecompress.tasks.making import TASKS as TASK_TABLE

    assert set(SOURCE_TABLE) == set(SOURCES)
    assert set(BUILT_IN) == set(MODELS)
    assert set(FAMILY_TABLE) == set(FAMILIES)
    assert set(NORMALIZATIONS) < set(FAMILIES)
    assert set(TASK_TABLE) == set(TASKS)


def rooms(asked: Recipe, stage: str) -> set[str]:
    """Returns the modules that a stage reaches."""
    return {name for name in reached(reach_of(asked, stage)) if not name.endswith("]")}


def reaches(asked: Recipe, stage: str, start: str) -> bool:
    return any(name.startswith(f"edgecompress.{start}.") for name in rooms(asked, stage))


@pytest.mark.parametrize(
    ("model", "room", "reached_by"),
    [
        ("keras/net.keras", "models.libraries.keras_loading", True),
        ("resnet8", "models.libraries.keras_loading", False),
        ("hf/folder", "models.libraries.hf_models", True),
        ("timm/mobilenetv3_small_050", "models.libraries.timm_models", True),
        ("timm/mobilenetv3_small_050", "models.built_in.resnet", False),
        ("torchvision/resnet18", "models.libraries.torchvision_models", True),
        ("python:net:Net", "models.libraries.python_models", True),
        ("resnet9", "models.built_in.resnet", True),
    ],
)
def test_a_teacher_depends_on_the_code_of_its_own_family(model: str, room: str, reached_by: bool) -> None:
    assert reaches(recipe(teacher={"model": model}), "teacher", room) == reached_by


@pytest.mark.parametrize(
    ("model", "converts"), [("keras/net.keras", True), ("resnet8", False), ("python:net:Net", False)]
)
def test_only_a_keras_teacher_is_converted_when_it_is_taken(model: str, converts: bool) -> None:
    assert reaches(recipe(teacher={"model": model}), "teacher", "tflite.format") == converts


@pytest.mark.parametrize(
    ("prune", "reached_rooms"),
    [
        ({"of": "macs"}, {"pruning.structured"}),
        ({"of": "latency"}, {"pruning.structured", "tflite.runtime", "quantization.structure"}),
        (
            {"of": "size"},
            {"pruning.structured", "tflite.runtime", "quantization.structure", "tflite.format.metadata"},
        ),
        ({"method": "unstructured"}, {"pruning.unstructured"}),
    ],
)
def test_pruning_depends_on_how_it_is_measured_only_where_that_decides(
    prune: dict[str, Any], reached_rooms: set[str]
) -> None:
    asked = recipe(student={"model": "resnet8"}, prune=prune, quantize={})
    looked_for = {
        "pruning.structured", "pruning.unstructured", "tflite.runtime", "quantization.structure",
        "tflite.format.metadata",
    }  # fmt: skip
    assert {room for room in looked_for if reaches(asked, "prune", room)} == reached_rooms


@pytest.mark.parametrize(
    ("quantize", "room", "reached_by"),
    [
        ({"mode": "ptq"}, "training.fit", False),
        ({"mode": "qat"}, "training.fit", True),
        ({"mode": "ptq"}, "quantization.repairs.ladder", False),
        ({"mode": "ptq", "max_drop_points": 0.5}, "quantization.repairs.ladder", True),
        ({"mode": "ptq", "max_drop_points": 0.5, "escalate": "qat"}, "training.fit", True),
        ({"mode": "qat", "clusters": 16}, "quantization.repairs.clustering", True),
        ({"mode": "qat"}, "quantization.repairs.clustering", False),
        ({"mode": "ptq", "portable": True}, "quantization.repairs.settling", True),
        ({"mode": "ptq", "portable": False}, "quantization.repairs.settling", False),
    ],
)
def test_quantization_depends_on_the_repairs_that_it_may_make(
    quantize: dict[str, Any], room: str, reached_by: bool
) -> None:
    assert reaches(recipe(student={"model": "resnet8"}, quantize=quantize), "quantize", room) == reached_by


def test_data_of_users_own_code_depend_on_no_source_of_ours() -> None:
    asked = recipe(data={"source": "python:mine:load"}, teacher={"model": "resnet8"})
    found = {name.split(".")[3] for name in rooms(asked, "teacher") if name.startswith("edgecompress.data.sources.")}
    assert found == {"python_function"}
    listed = recipe(data={"source": "csv", "path": "a.csv"}, task="text-classification", teacher={"model": "text-cnn"})
    found = {name.split(".")[3] for name in rooms(listed, "teacher") if name.startswith("edgecompress.data.sources.")}
    assert found == {"tables"}
