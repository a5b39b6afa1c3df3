"""Recordings of every kind, in every layout, and what is wrong with the rest."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile

from edgecompress.data.front_end import describe, features
from edgecompress.data.loading import fingerprint, load_dataset
from edgecompress.data.reading.wav_files import read_wav
from edgecompress.errors import DataError
from edgecompress.recipe.schema import AudioSpec

RATE = 16_000
NOISE = np.random.default_rng(0).uniform(-0.9, 0.9, (1600, 2))


@pytest.fixture
def record(tmp_path: Path):
    """Writes recordings below the test's folder."""

    def write(*names: str, seconds: float = 0.3, rate: int = RATE) -> None:
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            tone = np.sin(np.arange(round(seconds * rate)) * 2 * np.pi * 200 * (1 + number) / rate)
            scipy.io.wavfile.write(path, rate, (tone * 20_000).astype(np.int16))

    return write


@pytest.fixture
def load(recipe_of):
    def from_folder(task: str = "audio-classification", **data):
        audio = {"seconds": 0.25, "bands": 16, **data.pop("audio", {})}
        return load_dataset(recipe_of("wav-folder", task=task, path=".", audio=audio, **data), trust=False)

    return from_folder


def names(*folders: str, count: int = 5) -> list[str]:
    return [f"{folder}/s{number}_{'xy'[number % 2]}.wav" for folder in folders for number in range(count)]


@pytest.mark.parametrize("layout", [("train/yes", "train/no", "test/yes", "test/no"), ("yes", "no")])
def test_class_folders_are_read(load, record, layout) -> None:
    record(*names(*layout, count=10))
    data = load()
    assert (data.class_names, data.kind, data.input_shape) == (("no", "yes"), "series", (12, 16))
    assert len(data.test) == (20 if len(layout) == 4 else 4)
    assert data.train.inputs.dtype == np.float32
    assert data.front_end == describe(AudioSpec(seconds=0.25, bands=16))
    assert any("recordings were" not in note and "were cut" in note for note in data.notes)


def test_features_are_those_of_the_front_end(load, record, tmp_path: Path) -> None:
    record("test/a/x.wav", "test/b/x.wav")
    data = load()
    samples = read_wav(tmp_path / "test/b/x.wav").samples[:4000]
    assert (data.test.inputs[1] == features(samples[np.newaxis], data.front_end)[0]).all()


def test_speech_commands_lists_are_its_splits(load, record, tmp_path: Path) -> None:
    record(*names("yes", "no", "_background_noise_"))
    (tmp_path / "testing_list.txt").write_text("yes/s0_x.wav\nno/s1_y.wav\n")
    (tmp_path / "validation_list.txt").write_text("yes/s1_y.wav\nno/s0_x.wav\n\n")
    data = load()
    assert data.class_names == ("no", "yes")
    assert (len(data.train), len(data.validation), len(data.test)) == (6, 2, 2)
    assert data.test.labels.tolist() == [0, 1]
    assert any("_background_noise_ is no class and is left out" in note for note in data.notes)
    assert not any("skipped" in note for note in data.notes)
    with pytest.raises(DataError, match=r"split_by: speaker: 2 groups of .*in both validation and test: s0, s1"):
        load(split_by="speaker")


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"testing": "yes/s0_x.wav\nyes/gone.wav\n"}, "testing_list.txt:2: yes/gone.wav is not in"),
        (
            {"testing": "no/s0_x.wav\n", "validation": "no/s0_x.wav\n"},
            "validation_list.txt:1: .* is in testing_list.txt",
        ),
    ],
)
def test_lists_that_do_not_fit_are_named_by_line(load, record, tmp_path: Path, lists, message: str) -> None:
    record(*names("yes", "no"))
    for name, text in lists.items():
        (tmp_path / f"{name}_list.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        load()


@pytest.mark.parametrize(("by", "group"), [("speaker", "s0"), ("name", "s0_x")])
def test_a_speaker_is_in_one_split_only(load, record, by: str, group: str) -> None:
    record(*names("yes", "no", count=10))
    data = load(split_by=by)
    groups = [set(split.groups) for split in (data.train, data.validation, data.test)]
    assert [len(one) for one in groups] == [7, 1, 2]
    assert len(groups[0] | groups[1] | groups[2]) == 10
    assert group in groups[0] | groups[1] | groups[2]
    assert all(np.bincount(split.labels).tolist() == [len(one)] * 2 for split, one in zip(
        (data.train, data.validation, data.test), groups, strict=True))  # fmt: skip
    with pytest.raises(DataError, match="split_by: room: source `wav-folder` knows speaker, name"):
        load(split_by="room")


@pytest.mark.slow
def test_what_was_changed_is_counted(load, record) -> None:
    record("a/1.wav", "a/2.wav", "b/1.wav", "b/2.wav", "b/3.wav", seconds=0.25)
    record("a/3.wav", "a/4.wav", rate=8000)
    record("a/5.wav", seconds=0.1)
    notes = " ".join(load().notes)
    for part in (
        "2 recordings at 8,000 Hz were resampled to 16,000 Hz",
        "2 recordings longer than 0.25 s were cut",
        "1 recording shorter than 0.25 s was padded with silence",
    ):
        assert part in notes


def test_a_class_without_recordings_is_refused(load, record, tmp_path: Path) -> None:
    record(*names("yes", "no"))
    (tmp_path / "no/readme.txt").write_text("x")
    assert any("1 hidden or other file that is no recording was skipped: 1 .txt." in note for note in load().notes)
    (tmp_path / "maybe").mkdir()
    with pytest.raises(DataError, match=r"no recording in the class folder `maybe`. Fill it, or remove it."):
        load()
    (tmp_path / "maybe/1.mp3").write_bytes(b"ID3")
    with pytest.raises(DataError, match=r"Other files lie there \(1 .mp3\), but .wav, .wave are read: convert them"):
        load()


def test_sounds_of_machines_are_normal_or_not(load, record) -> None:
    record(*names("normal", "worn", "loose", count=10))
    data = load("anomaly-detection")
    assert data.class_names == ("normal", "anomaly")
    assert (data.train.labels == 0).all()
    assert sorted(set(data.test.labels.tolist())) == [0, 1]


def pcm24(samples: np.ndarray) -> bytes:
    return b"".join(struct.pack("<i", round(value * (2**23 - 1)))[:3] for value in samples.ravel())


def riff(form: bytes, data: bytes, size: int | None = None) -> bytes:
    content = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form + b"LIST\x03\x00\x00\x00abc\x00"
    content += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", len(content)) + content


def header(tag: int, bits: int, channels: int = 1, rate: int = RATE) -> bytes:
    return struct.pack("<HHIIHH", tag, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)


GUID = b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
FORMS = {
    "8": (lambda x: (x * 128 + 128).round().astype(np.uint8), 8),
    "16": (lambda x: (x * 2**15).round().astype(np.int16), 16),
    "32": (lambda x: (x * 2**31).round().astype(np.int32), 32),
    "float": (lambda x: x.astype(np.float32), 24),
    "double": (lambda x: x, 24),
}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("form", "bits"), FORMS.values(), ids=FORMS)
def test_every_form_is_read(tmp_path: Path, form, bits: int, channels: int) -> None:
    given = NOISE[:, :channels]
    scipy.io.wavfile.write(tmp_path / "x.wav", 12_345, form(given) if channels > 1 else form(given[:, 0]))
    found = read_wav(tmp_path / "x.wav")
    assert (found.rate, found.channels, found.samples.dtype) == (12_345, channels, np.float32)
    assert found.samples == pytest.approx(given.mean(1), abs=0.51 / 2 ** (bits - 1) + 1e-7)


def test_24_bits_and_the_extensible_format_are_read(tmp_path: Path) -> None:
    mono = NOISE[:, 0]
    with wave.open(str(tmp_path / "plain.wav"), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(3)
        writer.setframerate(RATE)
        writer.writeframes(pcm24(mono))
    form = header(0xFFFE, 24) + struct.pack("<HHI", 22, 24, 4) + struct.pack("<H", 1) + GUID
    (tmp_path / "extensible.wav").write_bytes(riff(form, pcm24(mono)))
    (tmp_path / "streamed.wav").write_bytes(riff(form, pcm24(mono), 0xFFFFFFFF))
    for name in ("plain", "extensible", "streamed"):
        assert read_wav(tmp_path / f"{name}.wav").samples == pytest.approx(mono, abs=2**-22)
    for name in ("plain", "extensible"):
        _, values = scipy.io.wavfile.read(tmp_path / f"{name}.wav")
        assert read_wav(tmp_path / f"{name}.wav").samples == pytest.approx(values / 2**31, abs=1e-7)


GOOD = riff(header(1, 16), NOISE[:100, 0].astype(np.int16).tobytes())
BROKEN = {
    "text": (b"hello, this is no audio", "not a WAV file. Convert it, for example: ffmpeg -i x.wav"),
    "empty file": (b"", "an empty file. Replace or remove it"),
    "compressed": (riff(header(7, 8), b"\0" * 99), "mu-law. Expected uncompressed .*ffmpeg -i x.wav -c:a pcm_s16le"),
    "unknown": (riff(header(0x1234, 16), b"\0" * 99), "of format 4660"),
    "12 bits": (riff(header(1, 12), b"\0" * 99), "of 12 bits"),
    "no samples": (riff(header(1, 16), b""), r"holds no samples \(length 0\). Remove it"),
    "truncated": (GOOD[:-50], "truncated: its header says 200 bytes of samples, 150 are there"),
    "no data": (GOOD[:44], "a WAV file without samples"),
    "no format": (b"RIFF\0\0\0\0WAVEdata\x04\0\0\0abcd", "a WAV file whose format is missing"),
    "no rate": (riff(header(1, 16, rate=0), b"\0" * 100), "its header says 0 Hz"),
    "no channels": (riff(header(1, 16, channels=0), b"\0" * 100), "0 channels"),
    "not finite": (riff(header(3, 32), np.full(9, np.nan, np.float32).tobytes()), "values that are not finite"),
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_recordings_are_named(load, record, tmp_path: Path, content: bytes, message: str) -> None:
    record(*names("yes", "no"))
    (tmp_path / "no/x.wav").write_bytes(content)
    with pytest.raises(DataError, match=f"no/x.wav: .*{message}|no/x.wav: {message}"):
        load()


def test_all_broken_recordings_are_counted(load, record, tmp_path: Path) -> None:
    record(*names("yes", "no"))
    for number in range(107):
        (tmp_path / f"no/x{number}.wav").write_bytes(b"" if number else b"ID3\4")
    with pytest.raises(DataError) as caught:
        load()
    shown = str(caught.value).splitlines()
    assert shown[0] == "107 recordings cannot be used:"
    convert = "Convert it, for example: ffmpeg -i x0.wav -c:a pcm_s16le out.wav, and put out.wav in its place."
    assert shown[1].endswith(f"x0.wav: not a WAV file but MP3. {convert}")
    assert shown[100].endswith(".wav: an empty file. Replace or remove it.")
    assert shown[101:] == ["  and 7 more", "`data.on_error: skip` leaves them out."]
    (note,) = [note for note in load(on_error="skip").notes if "on_error" in note]
    assert note.startswith("107 recordings of 117 cannot be read and were left out (on_error: skip): ")


#: What writers put where the lengths belong that do not know them: of the file, of the samples.
UNKNOWN = {
    "zeros": (0, 0), "signed": (0x7FFFFFFF, 0x7FFFFFFF - 36), "sox": (0x7FFFF024, 0x7FFFF000),
    "unsigned": (0xFFFFFFFF, 0xFFFFFFFF), "arecord": (0x80000024, 0x80000000), "of a header": (36, 0),
}  # fmt: skip


@pytest.mark.parametrize(("whole", "samples"), UNKNOWN.values(), ids=UNKNOWN)
def test_recordings_of_unknown_length_are_read_to_their_end(tmp_path: Path, whole: int, samples: int) -> None:
    content = bytearray(GOOD)
    content[4:8] = struct.pack("<I", whole)
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", samples)
    (tmp_path / "x.wav").write_bytes(content)
    found = read_wav(tmp_path / "x.wav")
    assert (len(found.samples), found.open_end) == (100, True)


def test_an_honest_zero_is_no_unknown_length(tmp_path: Path) -> None:
    content = riff(header(1, 16), b"") + b"LIST\x04\x00\x00\x00abcd"
    (tmp_path / "x.wav").write_bytes(b"RIFF" + struct.pack("<I", len(content) - 8) + content[8:])
    with pytest.raises(DataError, match="holds no samples"):
        read_wav(tmp_path / "x.wav")


def test_long_files_and_unpadded_chunks_are_read(tmp_path: Path) -> None:
    samples = NOISE[:100, 0].astype(np.int16).tobytes()
    form = b"fmt " + struct.pack("<I", 16) + header(1, 16)
    lengths = b"ds64" + struct.pack("<IQQQI", 28, 300, len(samples), 100, 0)
    rest = b"LIST\x04\x00\x00\x00abcd"
    start = b"\xff\xff\xff\xffWAVE"
    long = b"RF64" + start + lengths + form + b"data\xff\xff\xff\xff" + samples + rest
    odd = b"RIFF" + start + form + b"LIST\x03\x00\x00\x00abc" + b"data" + struct.pack("<I", len(samples)) + samples
    for name, content in {"long": long, "odd": odd}.items():
        (tmp_path / f"{name}.wav").write_bytes(content)
        found = read_wav(tmp_path / f"{name}.wav")
        assert (len(found.samples), found.open_end) == (100, False)


def test_recordings_of_unknown_length_are_counted(load, record, tmp_path: Path) -> None:
    record(*names("yes", "no"))
    (tmp_path / "no/x.wav").write_bytes(riff(header(1, 16), NOISE[:, 0].astype(np.int16).tobytes(), 0xFFFFFFFF))
    assert f"{tmp_path}: 1 recording without a length in the header was read to the end of the file." in load().notes


def test_the_fingerprint_follows_recordings_and_lists(recipe_of, record, tmp_path: Path) -> None:
    record(*names("yes", "no"))
    recipe = recipe_of("wav-folder", task="audio-classification", path=".")
    prints = [fingerprint(recipe, trust=False)]
    (tmp_path / "testing_list.txt").write_text("yes/s0_x.wav\n")
    prints.append(fingerprint(recipe, trust=False))
    record("yes/s1_y.wav", seconds=0.4)
    prints.append(fingerprint(recipe, trust=False))
    assert len(set(prints)) == 3
