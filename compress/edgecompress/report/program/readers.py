"""Parts of the report's program that read one sample: a picture, a text, a recording, or an array."""

from __future__ import annotations

import pprint
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgecompress.report.schema import DataSummary, TensorSummary

VOCABULARY = "vocabulary.json"
PICTURE_AXES = 3
WHITE = 255
LINE_WIDTH = 100


@dataclass(frozen=True)
class Reader:
    """How a program reads a sample.

    Attributes:
        argument: What it is given, as an example.
        code: Constants and the function `load`, in lines.
        standard: Modules of Python it needs.
        imports: Other imports, in lines.
        packages: What they are installed as.
    """

    argument: str
    code: tuple[str, ...]
    standard: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


def reader(data: DataSummary, given: TensorSummary) -> Reader:
    """Returns what reads a sample as the data has it: pictures of a known range, text, recordings; else arrays."""
    shape = given.shape[1:]
    if data.vocabulary is not None:
        return _text(data.vocabulary, shape[0])
    if data.front_end is not None:
        return _recording(data.front_end, tuple(data.input_shape))
    if data.kind == "pictures" and len(shape) == PICTURE_AXES and 0 < data.value_scale < 1:
        return _picture(shape, data.value_scale, data.levels)
    if data.subtracted:  # before they become float32, whose steps they are too large for
        axes = " one for each value of the last axis" if len(data.subtracted) > 1 else ""
        lines: tuple[str, ...] = (
            f"SUBTRACTED = np.array({list(data.subtracted)!r})  # of the data's values,{axes or ' all of them'}",
            "",
            "",
            "def load(path):",
            f'    """Returns a sample of shape {tuple(shape)}, given as the training data has it."""',
            f"    return (np.load(path).reshape({tuple(shape)}) - SUBTRACTED).astype(np.float32)",
        )
        return Reader("sample.npy", lines)
    lines = (
        "def load(path):",
        f'    """Returns a sample of shape {tuple(shape)} with values as the training data has them."""',
        f"    return np.load(path).astype(np.float32).reshape({tuple(shape)})",
    )
    return Reader("sample.npy", lines)


def _picture(shape: tuple[int, ...], value_scale: float, levels: tuple[int, ...]) -> Reader:
    height, width, channels = shape
    top = round(1 / value_scale)
    values = "picture" if top == WHITE else f"picture * ({top} / 255)"
    mode = "L" if channels == 1 else "RGB"
    opened = "ImageOps.exif_transpose(Image.open(path))"
    first = [f'    picture = {opened}.convert("{mode}")']
    if levels:
        low, width_of = levels[0], levels[1] - levels[0]
        first = [
            f"    picture = {opened}",
            '    if picture.mode.startswith("I"):  # 16 bits, brought to 8 as those of the training data',
            f"        levels = np.clip(np.asarray(picture).astype(np.int64) - {low}, 0, {width_of})",
            f"        picture = Image.fromarray(((levels * 255 + {width_of // 2}) // {width_of}).astype(np.uint8))",
            f'    picture = picture.convert("{mode}")',
        ]
    lines = (
        "def load(path):",
        f'    """Returns a picture file as the model was trained on it: {tuple(shape)}, values 0 to {top}."""',
        *first,
        f"    picture = picture.resize(({width}, {height}), Image.Resampling.BILINEAR)",
        f"    picture = np.asarray(picture, np.float32).reshape({height}, {width}, {channels})",
        f"    return {values}",
    )
    return Reader("picture.png", lines, imports=("from PIL import Image, ImageOps",), packages=("pillow",))


def _text(vocabulary: Mapping[str, Any], length: int) -> Reader:
    kind = vocabulary["kind"]
    small = ".lower()" if vocabulary.get("lowercase") else ""
    read = f'VOCABULARY = json.load(open("{VOCABULARY}", encoding="utf-8"))  # beside the report'
    numbers = 'NUMBERS = {piece: number for number, piece in enumerate(VOCABULARY["tokens"], start=2)}'
    shown = '"?" if token == 1 else VOCABULARY["tokens"][token - 2]'
    load = [
        "def load(path):",
        f'    """Returns the token numbers of a text file, ({length},): the end of a longer one is cut off."""',
        '    return padded(encode(open(path, encoding="utf-8").read()))',
        "", "",
        "def padded(tokens):",
        '    """Returns LENGTH tokens, 0 in front of fewer."""',
        "    kept = tokens[:LENGTH]",
        "    return np.array([0] * (LENGTH - len(kept)) + kept, np.int32)",
    ]  # fmt: skip
    match kind:
        case "byte":
            first = vocabulary["first"]
            ways = [
                "def encode(text):",
                f"    return [byte + {first} for byte in text.encode()]",
                "", "",
                "def decode(tokens):",
                f'    return bytes(token - {first} for token in tokens if token >= {first}).decode(errors="replace")',
            ]  # fmt: skip
            return Reader("text.txt", (f"LENGTH = {length}", "", "", *ways, "", "", *load))
        case "word" | "char":
            pieces = f"text{small}" if kind == "char" else f're.findall(VOCABULARY["pattern"], text{small})'
            between = "" if kind == "char" else " "
            ways = [
                "def encode(text):",
                f"    return [NUMBERS.get(piece, 1) for piece in {pieces}]",
                "", "",
                "def decode(tokens):",
                f'    return "{between}".join({shown} for token in tokens if token)',
            ]  # fmt: skip
            standard = ("json",) if kind == "char" else ("json", "re")
            code = (read, numbers, f"LENGTH = {length}", "", "", *ways, "", "", *load)
            return Reader("text.txt", code, standard)
        case _:
            made = 'TOKENIZER = Tokenizer.from_str(json.dumps(VOCABULARY["tokenizer"]))'
            ways = [
                "def encode(text):",
                "    return TOKENIZER.encode(text, add_special_tokens=False).ids",
                "", "",
                "def decode(tokens):",
                "    return TOKENIZER.decode([token for token in tokens if token], skip_special_tokens=False)",
            ]  # fmt: skip
            code = (read, made, f"LENGTH = {length}", "", "", *ways, "", "", *load)
            return Reader("text.txt", code, ("json",), ("from tokenizers import Tokenizer",), ("tokenizers",))


def _recording(front_end: Mapping[str, Any], shape: tuple[int, ...]) -> Reader:
    """Returns what reads 16-bit recordings; the steps are those of `edgecompress.data.front_end`."""
    figures = pprint.pformat(dict(front_end), width=LINE_WIDTH, sort_dicts=False).splitlines()
    mfcc = front_end.get("features") == "mfcc"
    code = [
        f"FRONT_END = {figures[0]}", *(f"            {line}" for line in figures[1:]),
        "", "",
        "def load(path):",
        f'    """Returns the frames of a recording of 16 bits a sample, {shape}."""',
        '    with wave.open(path, "rb") as recording:',
        '        if recording.getsampwidth() != 2 or recording.getframerate() != FRONT_END["sample_rate"]:',
        '            raise SystemExit(f"{path}: give 16 bits a sample, {FRONT_END[\'sample_rate\']} of them a second")',
        "        channels, content = recording.getnchannels(), recording.readframes(recording.getnframes())",
        '    x = np.frombuffer(content, "<i2").reshape(-1, channels).mean(1) / 32768',
        '    x = x[: FRONT_END["samples"]]',
        '    return frames(np.pad(x, (0, FRONT_END["samples"] - len(x))))',
        "", "",
        "def frames(x):",
        '    """Returns frames of features of a waveform with values from -1 to 1."""',
        '    window, hop, size = (FRONT_END[key] for key in ("window_samples", "hop_samples", "fft_size"))',
        '    cut = np.lib.stride_tricks.sliding_window_view(x, window)[::hop][: FRONT_END["frames"]]',
        "    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)",
        "    power = np.square(np.abs(np.fft.rfft(cut * hann, size)))",
        '    low, high = (2595 * np.log10(1 + FRONT_END[key] / 700) for key in ("low_hz", "high_hz"))',
        '    corners = 700 * (10 ** (np.linspace(low, high, FRONT_END["bands"] + 2) / 2595) - 1)',
        '    hertz = np.arange(size // 2 + 1)[:, np.newaxis] * FRONT_END["sample_rate"] / size',
        "    rising = (hertz - corners[:-2]) / (corners[1:-1] - corners[:-2])",
        "    falling = (corners[2:] - hertz) / (corners[2:] - corners[1:-1])",
        "    bands = np.maximum(0.0, np.minimum(rising, falling))",
        '    logs = np.log(power @ bands + FRONT_END["log_offset"])',
    ]  # fmt: skip
    if mfcc:
        code += [
            '    count, kept = FRONT_END["bands"], FRONT_END["coefficients"]',
            "    dct = np.cos(np.pi / count * np.outer(np.arange(count) + 0.5, np.arange(kept))) * np.sqrt(2 / count)",
            "    dct[:, 0] /= np.sqrt(2)",
            "    return (logs @ dct).astype(np.float32)",
        ]
    else:
        code.append("    return logs.astype(np.float32)")
    return Reader("recording.wav", tuple(code), ("wave",))
