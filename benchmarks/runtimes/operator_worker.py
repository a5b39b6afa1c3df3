"""Runs flatbuffers of one operator on one runtime, each in a child of its own: kernels crash.

    python operator_worker.py RUNTIME FOLDER

A plain program without this project's modules: the older runtime has a Python path of its own. FOLDER holds, for each
case of `cases.json`, `NUMBER.npz` with the inputs and `NUMBER.vVERSION.tflite`. It writes `NUMBER.RUNTIME.npz`, or
`NUMBER.RUNTIME.txt` with what the interpreter said.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

#: Name of a runtime -> its module and its set of kernels.
INTERPRETERS = {
    "litert": ("ai_edge_litert.interpreter", "AUTO"),
    "litert-plain": ("ai_edge_litert.interpreter", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"),
    "litert-reference": ("ai_edge_litert.interpreter", "BUILTIN_REF"),
    "tensorflow": ("tensorflow.lite.python.interpreter", "BUILTIN_REF"),
    "tflite-runtime": ("tflite_runtime.interpreter", "AUTO"),
}
MICRO = "tflite-micro"
ARENA_BYTES = 64 * 1024**2
TIMEOUT_S = 60


def load(runtime: str) -> Any:
    """Returns the module of a runtime."""
    name = "tflite_micro.python.tflite_micro.runtime" if runtime == MICRO else INTERPRETERS[runtime][0]
    return importlib.import_module(name)


def outputs_of(module: Any, runtime: str, path: Path, inputs: list[Any]) -> list[Any]:
    """Returns what an interpreter gives for a file's inputs."""
    if runtime == MICRO:
        interpreter = module.Interpreter.from_file(str(path), arena_size=ARENA_BYTES)
        for number, values in enumerate(inputs):
            interpreter.set_input(values, number)
        interpreter.invoke()
        count = json.loads(path.with_name("cases.json").read_text())[path.name.split(".")[0]]
        return [np.array(interpreter.get_output(number)) for number in range(count)]
    kernels = getattr(module.OpResolverType, INTERPRETERS[runtime][1])
    interpreter = module.Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    for details, values in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(details["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()]


def attempt(module: Any, runtime: str, folder: Path, number: str) -> None:
    """Tries the versions of an operator in turn and writes what the first that runs gives, or why none does."""
    signal.alarm(TIMEOUT_S)
    said, inputs = folder / f"{number}.{runtime}.txt", list(np.load(folder / f"{number}.npz").values())
    with said.open("w") as noise:
        os.dup2(noise.fileno(), 1)
        os.dup2(noise.fileno(), 2)
    found = None
    for path in sorted(folder.glob(f"{number}.v*.tflite")):
        try:
            found = outputs_of(module, runtime, path, inputs)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the result
            os.write(1, f"\n{' '.join(str(error).split())}\n".encode())
        else:
            break
    if found is not None:
        np.savez(folder / f"{number}.{runtime}.npz", *found)


def main() -> None:
    """Runs all cases."""
    warnings.simplefilter("ignore")
    runtime, folder = sys.argv[1], Path(sys.argv[2])
    module = load(runtime)
    for number in json.loads((folder / "cases.json").read_text()):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                attempt(module, runtime, folder, number)
                code = 0
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        if status:
            (folder / f"{number}.{runtime}.txt").write_text(
                f"crashed: {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else "crashed"
            )


if __name__ == "__main__":
    main()
