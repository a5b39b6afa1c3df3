"""Folders of pictures in every layout, every kind of picture, and what is wrong with the rest."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecompress.data.loading import fingerprint, load_dataset
from edgecompress.errors import DataError


@pytest.fixture
def load(recipe_of):
    return lambda **data: load_dataset(recipe_of("image-folder", path=".", **data), trust=False)


def classes(picture, *folders: str, count: int = 4, shape: tuple[int, ...] = (4, 6, 3)) -> dict[str, np.ndarray]:
    names = [f"{folder}/{number}.png" for folder in folders for number in range(count)]
    return {name: picture(name, shape, seed) for seed, name in enumerate(names)}


def test_train_and_test_are_read(load, picture) -> None:
    values = classes(picture, "train/cat", "train/dog", "test/cat", "test/dog")
    data = load(validation=0.25)
    assert data.class_names == ("cat", "dog")
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 8)
    assert data.input_shape == (3, 4, 6)
    assert data.test.labels.tolist() == [0] * 4 + [1] * 4
    assert (data.test.inputs[0] == values["test/cat/0.png"]).all()
    assert (data.test.inputs[5] == values["test/dog/1.png"]).all()
    assert data.calibration is None
    assert data.notes == ()


def test_class_folders_alone_are_split_by_seed(load, recipe_of, picture) -> None:
    classes(picture, "cat", "dog", count=10)
    data = load()
    assert (len(data.train), len(data.validation), len(data.test)) == (14, 2, 4)
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    other = load_dataset(recipe_of("image-folder", path=".", seed=1), trust=False)
    assert data.test.inputs.tobytes() != other.test.inputs.tobytes()


@pytest.mark.parametrize("folder", ["calibration", "calibration/cat"])
def test_test_and_calibration_are_enough(load, picture, folder: str) -> None:
    classes(picture, "test/cat", "test/dog")
    values = classes(picture, folder, count=3)
    data = load()
    assert (len(data.train), len(data.validation), len(data.test)) == (0, 0, 8)
    assert data.calibration is not None
    assert (data.calibration == np.stack(list(values.values()))).all()


def test_classes_txt_gives_order_number_and_indexes(load, picture, tmp_path: Path) -> None:
    classes(picture, "test/zebra", "test/2")
    (tmp_path / "classes.txt").write_text("zebra\ncrane\nmaillot\ncrane\n")
    data = load()
    assert data.class_names == ("zebra", "crane", "maillot", "crane")
    assert data.test.labels.tolist() == [2] * 4 + [0] * 4
    assert "no samples of 2 classes (`crane`, `crane`)" in data.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [("a\nb\n", r"test/zebra: no class of classes.txt. Expected one of its 2 names \(a, b\), or an index from 0 to 1"),
     ("zebra\nzebra\n", "classes.txt has this name at 0 and 1"), ("", "classes.txt: empty"),
     ("a\n\nzebra", "classes.txt:2: an empty line"), (b"\xff\xfe\x00", "UTF-16 text"), (b"\xff", "not UTF-8")],
)  # fmt: skip
def test_a_classes_txt_that_does_not_fit_is_explained(load, picture, tmp_path: Path, text, message: str) -> None:
    classes(picture, "test/zebra")
    (tmp_path / "classes.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        load()


def test_other_files_and_folders_are_counted(load, picture, tmp_path: Path) -> None:
    classes(picture, "train/cat", "train/dog", "test/cat", "test/dog", "val/cat", ".cache/x")
    for name in ("train/cat/.hidden.png", "train/cat/Thumbs.db", "train/readme.txt", "README.md"):
        (tmp_path / name).write_text("x")
    data = load()
    assert data.notes == (
        f"{tmp_path}: only train, test and calibration are read, not val.",
        f"{tmp_path}: 4 files in hidden folders were left out: .cache (4).",
        f"{tmp_path}: 4 hidden or other files that are no pictures were skipped: 2 hidden, 1 .md, 1 .txt.",
    )


def test_different_sizes_need_an_image_size(load, picture, tmp_path: Path) -> None:
    classes(picture, "cat", "dog")
    picture("dog/wide.png", (4, 9, 3))
    with pytest.raises(DataError, match=r"cat/0.png is 4x6, .*dog/wide.png is 4x9 .*Set data.image_size"):
        load()
    data = load(image_size=[5, 7])
    assert data.input_shape == (3, 5, 7)


def test_pictures_are_scaled_as_pillow_does(load, picture, tmp_path: Path) -> None:
    values = classes(picture, "test/cat", "test/dog", shape=(20, 30, 3))
    expected = Image.fromarray(values["test/cat/0.png"]).resize((5, 8), Image.Resampling.BILINEAR)
    assert (load(image_size=[8, 5]).test.inputs[0] == np.asarray(expected)).all()


def test_grey_pictures_stay_grey_unless_there_are_colours(load, picture) -> None:
    grey = classes(picture, "test/cat", shape=(4, 6))
    classes(picture, "test/dog", shape=(4, 6))
    assert load().input_shape == (1, 4, 6)
    assert load(channels=3).input_shape == (3, 4, 6)
    picture("test/dog/colour.png", (4, 6, 3))
    data = load()
    assert data.input_shape == (3, 4, 6)
    assert (data.test.inputs[0] == grey["test/cat/0.png"][..., np.newaxis]).all()
    assert load(channels=1).input_shape == (1, 4, 6)


def one(
    load, tmp_path: Path, image: Image.Image, suffix: str = ".png", **options
) -> tuple[np.ndarray, tuple[str, ...]]:
    for name in ("test/a/x", "test/b/x"):
        path = (tmp_path / name).with_suffix(suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **options)
    data = load()
    return data.test.inputs[0], data.notes


def test_16_bits_become_8(load, tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 65534, 65535]], np.uint16)
    pixels, notes = one(load, tmp_path, Image.fromarray(values))
    assert pixels[..., 0].tolist() == [[0, 0, 1, 1, 255, 255]]
    assert notes == (f"{tmp_path}: 2 pictures of 16 bits were brought to 8.",)


def test_one_picture_is_one_picture(load, tmp_path: Path) -> None:
    for name, dtype in {"a": np.uint16, "b": np.uint8}.items():
        path = tmp_path / "test" / name / "x.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((2, 2), dtype)).save(path)
    (tmp_path / "test" / "a" / "note.txt").write_text("no picture")
    notes = load().notes
    assert f"{tmp_path}: 1 picture of 16 bits was brought to 8." in notes
    assert f"{tmp_path}: 1 hidden or other file that is no picture was skipped: 1 .txt." in notes
    assert f"{tmp_path}: 1 picture of 8 bits beside those of 16 stays as it is." in notes


def test_transparency_is_blended_over_white(load, tmp_path: Path) -> None:
    values = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], np.uint8)
    pixels, notes = one(load, tmp_path, Image.fromarray(values))
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255]]]
    assert notes == (f"{tmp_path}: 2 pictures with transparency were blended over white.",)
    values[..., 3] = 255
    assert one(load, tmp_path, Image.fromarray(values))[1] == ()


def test_grey_with_transparency_stays_grey(load, tmp_path: Path) -> None:
    pixels, _ = one(load, tmp_path, Image.fromarray(np.array([[[77, 255], [77, 0]]], np.uint8), "LA"))
    assert pixels[..., 0].tolist() == [[77, 255]]
    assert pixels.shape == (1, 2, 1)


def test_palettes_and_bitmaps_are_decoded(load, tmp_path: Path) -> None:
    colours = Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8))
    assert one(load, tmp_path, colours.convert("P", palette=Image.Palette.ADAPTIVE))[0].tolist() == [
        [[255, 0, 0], [0, 0, 255]]
    ]
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert one(load, tmp_path, bits)[0][..., 0].tolist() == [[0, 255]]


def test_the_camera_s_orientation_is_applied(load, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    pixels, _ = one(load, tmp_path, Image.fromarray(values), exif=exif)
    assert pixels[..., 0].tolist() == np.rot90(values, -1).tolist()


def test_jpegs_are_read(load, tmp_path: Path) -> None:
    pixels, _ = one(load, tmp_path, Image.new("RGB", (9, 8), (200, 100, 50)), ".JPG")
    assert np.abs(pixels.astype(int) - [200, 100, 50]).max() <= 2


def truncated(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def too_large(path: Path) -> None:
    Image.new("1", (20_000, 10_000)).save(path)


def a_program(path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")


BROKEN = {
    "a program for Ghostscript": (a_program, "not a picture"),
    "no picture": (lambda path: path.write_text("hello"), "not a picture Pillow can read, or broken"),
    "empty": (lambda path: path.write_bytes(b""), "not a picture"),
    "truncated": (truncated, "cannot be read|broken picture"),
    "bomb": (too_large, "too many pixels to be safe"),
}


@pytest.mark.parametrize(("spoil", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_pictures_are_named(load, picture, tmp_path: Path, spoil, message: str) -> None:
    classes(picture, "cat", "dog")
    spoil(tmp_path / "cat/broken.png")
    with pytest.raises(DataError, match=message) as caught:
        load(image_size=8)
    assert str(tmp_path / "cat/broken.png") in str(caught.value)


def test_floating_point_pictures_are_refused(load, picture, tmp_path: Path) -> None:
    classes(picture, "cat", "dog", shape=(4, 6))
    Image.fromarray(np.zeros((4, 6), np.float32)).save(tmp_path / "cat/float.tiff")
    with pytest.raises(DataError, match=r"float.tiff: a picture of floating-point values"):
        load()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ([], "no class folders. Expected a folder with train/CLASS"),
        (["x.png"], "no class folders"),
        (["cat/x.png"], r"one class only \(cat\)"),
        (["train/cat/x.png", "train/dog/x.png", "test/x.png"], "test: no class folders"),
        (["train/cat/x.png", "train/dog/x.png", "test/cat/x.txt"], "test: class folders without a picture"),
        (["cat/x.txt", "dog/x.txt"], "class folders without a picture"),
        (["test/cat/x.png", "test/dog/x.png", "calibration/x.txt"], "calibration: no pictures"),
    ],
)
def test_other_layouts_are_explained(load, tmp_path: Path, make: list[str], message: str) -> None:
    for name in make:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name) if name.endswith("png") else (tmp_path / name).touch()
    with pytest.raises(DataError, match=message) as caught:
        load()
    assert str(tmp_path) in str(caught.value)


def test_a_missing_folder_and_a_file_are_told_apart(recipe_of, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, message in (("nowhere", "No such file"), ("file", "is a file. Expected a folder")):
        with pytest.raises(DataError, match=message):
            load_dataset(recipe_of("image-folder", path=path), trust=False)


def test_the_fingerprint_follows_content_names_and_classes(recipe_of, picture, tmp_path: Path) -> None:
    recipe = recipe_of("image-folder", path=".")
    classes(picture, "train/cat", "train/dog", "test/cat", "test/dog")
    seen = [fingerprint(recipe, trust=False)]
    (tmp_path / "train/cat/notes.txt").write_text("not used")
    assert fingerprint(recipe, trust=False) == seen[0]

    def changed() -> None:
        seen.append(fingerprint(recipe, trust=False))
        assert len(set(seen)) == len(seen)

    picture("train/cat/0.png", seed=99)
    changed()
    (tmp_path / "train/cat/0.png").rename(tmp_path / "train/dog/9.png")
    changed()
    picture("train/emu/0.png")
    changed()
    (tmp_path / "classes.txt").write_text("dog\ncat\nemu\n")
    changed()
    classes(picture, "calibration")
    changed()


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_not_waited_for(recipe_of, picture, tmp_path: Path, kind: str) -> None:
    classes(picture, "cat", "dog")
    path = tmp_path / "cat/odd.png"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"odd\.png: a (pipe|device), not a regular file"):
        fingerprint(recipe_of("image-folder", path="."), trust=False)


def test_a_folder_named_in_another_encoding_is_told(load, picture, tmp_path: Path) -> None:
    classes(picture, "cat", "dog")
    (tmp_path / "dog").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    with pytest.raises(DataError, match=r"the class name 'caf\\udce9' is no text that UTF-8 can hold"):
        load(image_size=8)
