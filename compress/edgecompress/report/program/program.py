"""A Python program that runs the flatbuffer on one sample, with this flatbuffer's own numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgecompress.report.program.readers import LINE_WIDTH, reader
from edgecompress.report.schema import REPORT, DataSummary, TensorSummary
from edgecompress.report.words.usage import RANGES, signed
from edgecompress.wording import MOST_DIGITS, printable

#: More class names, or channels, than this are read from report.json instead of standing in the program.
INLINE_CLASSES = 40
#: Task -> name of the program; classify.py for all others.
NAMES = {"regression": "predict.py", "anomaly-detection": "score.py", "language-modeling": "write.py"}
#: Tokens that the program of a language model writes.
WRITTEN = 200


def snippet(
    name: str,
    data: DataSummary,
    given: TensorSummary,
    answer: TensorSummary,
    file: str,
    task: str = "image-classification",
) -> str:
    """Returns the program: it reads a sample and prints its class, numbers, score, or what follows a text.

    Pictures with a known range of values (uint8) are read from picture files, text from text files, audio from
    recordings, everything else from .npy files.
    """
    reading = reader(data, given)
    needs = " ".join(["ai-edge-litert", "numpy", *reading.packages])
    program = NAMES.get(task, "classify.py")
    head = f'"""Runs {file} of run {_plain(name)} on one sample: python {program} {reading.argument}  '
    standard = {"sys", *reading.standard}
    constants = _constants(data, task)
    if any("json.load" in line for line in constants):
        standard.add("json")
    imports = ["import numpy as np", "from ai_edge_litert.interpreter import Interpreter", *reading.imports]
    parts = [
        f'{head}(pip install {needs})"""', "", *(f"import {module}" for module in sorted(standard)), "",
        *imports, "", *constants, *reading.code, "", "",
        "def run(interpreter, x):",
        '    """Returns the flatbuffer\'s output for its input, as real numbers."""',
        *_feed(given),
        '    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x[np.newaxis])',
        "    interpreter.invoke()",
        '    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]',
        *_scores(answer),
        "", "",
        *_answer(data, task),
        "", "",
        'if __name__ == "__main__":',
        f'    interpreter = Interpreter(model_path="{file}")',
        "    interpreter.allocate_tensors()",
        *_main(task, data),
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _constants(data: DataSummary, task: str) -> list[str]:
    """Returns classes, normalisation and scaling of targets, as far as the task and the samples have them."""
    lines = [_classes(data.classes)] if task.endswith("classification") else []
    if data.kind != "tokens":
        lines += [
            f"MEAN = {_floats(data.mean, 'mean')}  # {_plain(data.origin)}",
            f"STD = {_floats(data.std, 'std')}",
        ]
    if task == "regression":
        names = [str(target["name"]) for target in data.targets]
        mean, std = ([float(target[key]) for target in data.targets] for key in ("mean", "std"))
        lines += [f"TARGETS = {names!r}", f"TARGET_MEAN = np.array({mean!r})", f"TARGET_STD = np.array({std!r})"]
    # The reader's constants follow at once, its functions after two empty lines.
    return lines if data.kind == "tokens" or data.front_end is not None else [*lines, "", ""]


def _answer(data: DataSummary, task: str) -> list[str]:
    prepared = f"(values * {data.value_scale!r} - MEAN) / STD" if data.kind != "tokens" else "values"
    if data.clip is not None:
        prepared = f"np.clip({prepared}, {-data.clip!r}, {data.clip!r})"
    match task:
        case "regression":
            return [
                "def predict(interpreter, values):",
                '    """Returns the predicted numbers, in the units of the data."""',
                f"    return run(interpreter, {prepared}) * TARGET_STD + TARGET_MEAN",
            ]
        case "anomaly-detection":
            return [
                "def score(interpreter, values):",
                '    """Returns how badly the sample is given back: the larger, the less normal."""',
                f"    x = {prepared}",
                "    return float(np.square(run(interpreter, x) - x).mean())",
            ]
        case "language-modeling":
            return [
                "def write(interpreter, text, count):",
                '    """Returns the likeliest continuation of a text, token by token."""',
                "    tokens = encode(text)",
                "    for _ in range(count):",
                "        scores = run(interpreter, padded(tokens[-LENGTH:]))[-1]",
                "        tokens.append(2 + int(scores[2:].argmax()))",
                "    return decode(tokens)",
            ]
    return [
        "def classify(interpreter, values):",
        '    """Returns the name of the class and the score of every class."""',
        f"    scores = run(interpreter, {prepared})",
        "    return CLASSES[int(scores.argmax())], scores",
    ]


def _digits(data: DataSummary) -> int:
    """Returns how many digits tell a regression's numbers apart."""
    ratios = [abs(one["mean"]) / one["std"] for one in data.targets if one["std"] > 0]
    return min(6 + max(0, math.ceil(math.log10(max(ratios, default=1.0) or 1.0))), MOST_DIGITS)


def _main(task: str, data: DataSummary) -> list[str]:
    match task:
        case "regression":
            return [
                "    for name, value in zip(TARGETS, predict(interpreter, load(sys.argv[1]))):",
                f'        print(f"{{name}}: {{value:.{_digits(data)}g}}")',
            ]
        case "anomaly-detection":
            return ["    print(score(interpreter, load(sys.argv[1])))"]
        case "language-modeling":
            opened = 'open(sys.argv[1], encoding="utf-8").read()'
            return [f"    print(write(interpreter, {opened}, {WRITTEN}))"]
    return ["    name, scores = classify(interpreter, load(sys.argv[1]))", "    print(name)"]


def _plain(text: str) -> str:
    """Returns a text that can stand in a comment or a docstring."""
    return " ".join(printable(text).replace("\\", "/").replace('"', "'").split())


def _floats(values: Sequence[float], name: str) -> str:
    if len(values) > INLINE_CLASSES:
        where = f'["data"]["normalization"]["{name}"]'
        return f'np.array(json.load(open("{REPORT}", encoding="utf-8")){where}, np.float32)'
    return "np.array([" + ", ".join(repr(float(np.float32(value))) for value in values) + "], np.float32)"


def _classes(classes: tuple[str, ...]) -> str:
    if len(classes) > INLINE_CLASSES:
        return f'CLASSES = json.load(open("{REPORT}", encoding="utf-8"))["data"]["classes"]  # {len(classes)} names'
    lines = ["CLASSES = ["]
    for name in map(repr, classes):  # names may hold spaces, so lines are broken between names only
        if len(lines) == 1 or len(lines[-1]) + len(name) > LINE_WIDTH:
            lines.append("   ")
        lines[-1] += f" {name},"
    return "\n".join([*lines, "]"])


def _feed(given: TensorSummary) -> list[str]:
    if given.scale is None or given.zero_point is None:
        return [f"    x = x.astype(np.{given.dtype})"]
    low, high = RANGES[given.dtype]
    quantized = f"np.round(x / {given.scale!r}) {signed(given.zero_point)}"
    return [f"    x = np.clip({quantized}, {low}, {high}).astype(np.{given.dtype})"]


def _scores(answer: TensorSummary) -> list[str]:
    if answer.scale is None or answer.zero_point is None:
        return ["    return output"]
    return [f"    return (output.astype(np.float32) {signed(-answer.zero_point)}) * {answer.scale!r}"]
