"""Folders as people have them: what systems leave there, links, names in two forms, endings that are not read."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecompress.data.loading import fingerprint, load_dataset
from edgecompress.errors import DataError

NFC, NFD = (unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD"))


@pytest.fixture
def load(recipe_of):
    return lambda **data: load_dataset(recipe_of("image-folder", path=".", **data), trust=False)


@pytest.fixture
def fill(picture):
    def write(*folders: str, count: int = 4, ending: str = "png") -> None:
        for folder in folders:
            for number in range(count):
                picture(f"{folder}/{number}.{ending}", (4, 6, 3), seed=hash(folder) % 999 + number)

    return write


def total(data) -> int:
    return len(data.train) + len(data.validation) + len(data.test)


LEFT = (".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN", ".git/objects", "deep/er/.cache")


@pytest.mark.parametrize("place", ["", "cat"])
@pytest.mark.parametrize("hidden", LEFT)
def test_hidden_folders_are_left_out_and_counted_wherever_they_are(load, fill, place: str, hidden: str) -> None:
    if not place and "/" in hidden:
        hidden = hidden.partition("/")[0] if hidden.startswith(".") else ".cache"
    fill("cat", "dog", f"{place}/{hidden}".strip("/"))
    data = load()
    assert total(data) == 8
    assert data.class_names == ("cat", "dog")
    (note,) = [note for note in data.notes if "hidden folders" in note]
    assert "4 files in hidden folders were left out: " in note


def test_single_files_of_systems_are_hidden_too(load, fill, tmp_path: Path) -> None:
    fill("train/cat", "train/dog", "test/cat", "test/dog")
    for place in (".", "train", "train/cat"):
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png"):
            (tmp_path / place / name).write_bytes(b"x")
    data = load()
    assert (total(data), len(data.test)) == (16, 8)
    assert any("12 hidden or other files that are no pictures were skipped: 12 hidden." in note for note in data.notes)


def test_deeper_folders_belong_to_their_class(load, fill) -> None:
    fill("cat/black/small", "cat/white", "dog")
    assert total(load()) == 12


def test_links_are_followed_but_not_in_circles(load, fill, tmp_path: Path) -> None:
    fill("cat", "dog", "elsewhere")
    (tmp_path / "elsewhere").rename(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    (tmp_path / "owl").symlink_to(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    (tmp_path / "cat/round").symlink_to(tmp_path / "cat")
    (tmp_path / "cat/itself").symlink_to("itself")
    with pytest.raises(DataError, match="cat/itself: a link to nothing"):
        load()
    (tmp_path / "cat/itself").unlink()
    (tmp_path / "cat/.empty").mkdir()
    data = load()
    assert not any("hidden" in note for note in data.notes)
    assert (total(data), data.class_names) == (12, ("cat", "dog", "owl"))
    (note,) = [note for note in data.notes if "not followed" in note]
    assert note.endswith(f"1 link to folders that are read anyway was not followed: {tmp_path}/cat/round.")


def test_a_class_that_leads_nowhere_stops_the_run(load, fill, tmp_path: Path) -> None:
    fill("cat", "dog")
    (tmp_path / "owl").symlink_to("/not/mounted")
    with pytest.raises(DataError, match=f"{tmp_path}/owl: a link to nothing. Replace or remove it."):
        load()
    assert any("on_error: skip" in note and "owl" in note for note in load(on_error="skip").notes)


def test_two_classes_that_are_one_folder_are_refused(load, fill, tmp_path: Path) -> None:
    fill("cat", "dog")
    (tmp_path / "owl").symlink_to("dog")
    with pytest.raises(DataError, match=r"owl and .*dog are one folder, but two classes"):
        load()


def test_names_are_compared_in_one_form(load, fill, tmp_path: Path) -> None:
    fill(f"train/{NFC}", "train/dog", f"test/{NFD}", "test/dog")
    data = load()
    assert data.class_names == (NFC, "dog")
    assert np.bincount(data.test.labels).tolist() == [4, 4]
    (tmp_path / "classes.txt").write_text(f"dog\n{NFD}\n", encoding="utf-8")
    assert load().class_names == ("dog", NFC)


def test_one_class_in_two_forms_is_one_and_said(load, fill) -> None:
    fill(NFC, NFD, "dog")
    data = load()
    assert (total(data), data.class_names) == (12, (NFC, "dog"))
    assert any("1 class with two folders whose names differ in the form of accented letters" in n for n in data.notes)


@pytest.mark.parametrize(("train", "test"), [("1", "01"), ("1", "1.0"), ("Cat", "cat")])
def test_classes_spelt_differently_are_refused(load, fill, train: str, test: str) -> None:
    fill(f"train/{train}", "train/dog", f"test/{test}", "test/dog")
    with pytest.raises(DataError, match=r"labels are spelt differently: `.*` in t(rain|est), `.*` in t(rain|est)"):
        load()


def test_capitals_may_tell_classes_apart_in_one_split(load, fill) -> None:
    fill("train/a", "train/A", "test/a", "test/A")
    assert load().class_names == ("A", "a")


@pytest.mark.parametrize("ending", ["jfif", "JPE", "dib", "pnm"])
def test_more_endings_of_known_formats_are_read(load, fill, tmp_path: Path, ending: str) -> None:
    fill("cat", "dog")
    for number in range(4):
        kind = {"dib": "DIB", "pnm": "PPM"}.get(ending, "JPEG")
        (tmp_path / "owl").mkdir(exist_ok=True)
        Image.new("RGB", (6, 4), (9 * number, 0, 0)).save(tmp_path / f"owl/{number}.{ending}", kind)
    assert load().class_names == ("cat", "dog", "owl")


def test_a_class_without_a_picture_stops_the_run_and_says_what_lies_there(
    recipe_of, load, fill, tmp_path: Path
) -> None:
    fill("cat", "dog")
    (tmp_path / "owl").mkdir()
    for number in range(7):
        (tmp_path / f"owl/{number}.{'heic' if number else 'avif'}").touch()
    message = r"no picture in the class folder `owl`. Other files lie there \(6 .heic, 1 .avif\), but .apng, .bmp"
    for ask in (load, lambda: fingerprint(recipe_of("image-folder", path="."), trust=False)):
        with pytest.raises(DataError, match=message):
            ask()


def test_a_class_may_be_in_one_split_only(load, fill, tmp_path: Path) -> None:
    fill("train/cat", "train/dog", "train/owl", "test/cat", "test/emu")
    (tmp_path / "test/owl").mkdir()
    notes = " ".join(load().notes)
    assert "the test split has samples of class `emu`, the train split none" in notes
    assert "the train split has samples of 2 classes (`dog`, `owl`), the test split none" in notes


def test_no_test_sample_of_a_known_class_is_refused(load, fill) -> None:
    fill("train/cat", "train/dog", "test/emu", "test/owl")
    with pytest.raises(
        DataError, match=r"no test sample is of a class that train has: test has 2 classes .`emu`, `owl`"
    ):
        load()


def spoil(tmp_path: Path) -> None:
    (tmp_path / "cat/a.png").write_bytes(b"")
    (tmp_path / "cat/b.jpg").write_text("<html>not found</html>")
    whole = (tmp_path / "cat/0.png").read_bytes()
    (tmp_path / "dog/c.png").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "dog/d.png").symlink_to("nowhere.png")


def test_all_broken_pictures_are_named_or_left_out(load, fill, tmp_path: Path) -> None:
    fill("cat", "dog", count=6)
    spoil(tmp_path)
    with pytest.raises(DataError) as caught:
        load()
    lines = str(caught.value).splitlines()
    assert lines[0] == "4 pictures cannot be used:"
    assert all(
        any(f"/{name}: " in line for line in lines) for name in ("cat/a.png", "cat/b.jpg", "dog/c.png", "dog/d.png")
    )
    assert lines[-1] == "`data.on_error: skip` leaves them out."
    data = load(on_error="skip")
    assert total(data) == 12
    (note,) = [note for note in data.notes if "on_error" in note]
    assert note.startswith("4 pictures of 15 cannot be read and were left out (on_error: skip): ")
    assert "dog/c.png" in note


def test_a_class_of_broken_pictures_is_no_class(load, fill, tmp_path: Path) -> None:
    fill("cat", "dog")
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl/a.png").write_bytes(b"")
    with pytest.raises(DataError, match="all files of `owl` are broken: no sample of `owl` is left"):
        load(on_error="skip")
    for path in tmp_path.glob("*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="9 pictures cannot be used"):
        load(on_error="skip")


def test_what_cannot_be_read_at_all_is_left_out_too(recipe_of, fill, tmp_path: Path) -> None:
    import os

    fill("cat", "dog")
    os.mkfifo(tmp_path / "cat/pipe.png")
    recipe = recipe_of("image-folder", path=".", on_error="skip")
    assert len(fingerprint(recipe, trust=False)) == 64
    assert total(load_dataset(recipe, trust=False)) == 8


def test_the_first_frame_and_cmyk_are_said(load, fill, tmp_path: Path) -> None:
    fill("cat", "dog")
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "cat/x.gif", save_all=True, append_images=frames[1:])
    Image.new("CMYK", (6, 4), (0, 200, 200, 0)).save(tmp_path / "dog/x.jpg")
    notes = " ".join(load().notes)
    assert "1 picture with more than one frame was read by the first." in notes
    assert "1 picture in CMYK was turned into RGB, without a colour profile." in notes


def deep(tmp_path: Path, name: str, values: np.ndarray) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / name)


def test_16_bits_of_which_few_are_used_are_stretched(load, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for number, name in enumerate("ab"):
            deep(tmp_path, f"{part}/{name}/x.png", np.array([[500, 600], [700, 800 + 400 * (part == "test")]]))
            deep(tmp_path, f"{part}/{name}/y.tif", np.array([[500 + number, 600], [700, 800]]))
    data = load()
    assert data.test.inputs[0][..., 0].tolist() == [[0, 85], [170, 255]]
    (note,) = [note for note in data.notes if "16 bits" in note]
    assert "8 pictures of 16 bits were brought to 8 by the values in use: 500 to 800 became 0 to 255." in note
    assert "(value - 500) * 255 / 300" in note
    assert data.normalization.levels == (500, 800)


def test_a_hot_pixel_does_not_take_all_the_levels(load, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("test/a/x.png", "test/b/x.png"):
        deep(
            tmp_path,
            name,
            np.where(np.arange(40_000).reshape(200, 200) == 7, 65535, rng.integers(600, 700, (200, 200))),
        )
    data = load()
    assert len(np.unique(data.test.inputs)) == 100
    assert any("but for a few in ten thousand which are cut off: 600 to 699" in note for note in data.notes)


def test_colours_of_16_bits_are_told_of(load, fill, tmp_path: Path) -> None:
    import struct
    import zlib

    def png(values: np.ndarray) -> bytes:
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
        parts = (
            (b"IHDR", struct.pack(">IIBBBBB", *values.shape[1::-1], 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        )
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in parts
        )

    fill("cat", "dog")
    (tmp_path / "cat/x.png").write_bytes(png(np.full((4, 6, 3), 4095)))
    (tmp_path / "dog/x.png").write_bytes(png(np.full((4, 6, 3), 65535)))
    notes = " ".join(load().notes)
    assert "1 picture of 16 bits a channel was read by the upper 8 bits." in notes
    assert "1 picture of 16 bits a channel was read by the upper 8 bits, in which none is above 63 of 255" in notes
