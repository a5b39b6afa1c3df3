"""What is told about text and other data whose preparation needs more than a mean and a spread."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgecompress.data.base import Dataset, Vocabulary
from edgecompress.tflite.format.metadata import AssociatedFile
from edgecompress.wording import in_digits

VOCABULARY_FILE = "vocab.txt"
TOKENIZER_FILE = "tokenizer.json"
FRONT_END_FILE = "front_end.json"
#: Names of token 0, which pads, and token 1, which stands for what is not in the vocabulary.
SPECIAL = ("[PAD]", "[UNK]")
#: Keys of a vocabulary's document that hold the tokens themselves.
CONTENTS = ("tokens", "tokenizer")


def vocabulary_summary(vocabulary: Vocabulary | None) -> dict[str, Any] | None:
    """Returns kind, size and rules of a vocabulary, without its tokens; None without one."""
    if vocabulary is None:
        return None
    rules = {key: value for key, value in vocabulary.document().items() if key not in CONTENTS}
    return {**rules, "size": vocabulary.size}


def target_names(dataset: Dataset) -> tuple[str, ...]:
    """Returns the names of a regression's numbers."""
    return dataset.target_names or tuple(f"target {number + 1}" for number in range(len(dataset.target_mean)))


def target_formulas(dataset: Dataset) -> list[str]:
    """Returns how each number of a regression follows from the output: `minutes = output * 12.5 + 40`."""
    numbers = zip(target_names(dataset), dataset.target_mean, dataset.target_std, strict=True)
    return [
        f"{name} = output * {std:.9g} {'-' if mean < 0 else '+'} {in_digits(abs(mean), std, 9)}"
        for name, mean, std in numbers
    ]


def input_files(dataset: Dataset) -> tuple[tuple[AssociatedFile, ...], dict[str, bytes]]:
    """Returns what belongs to the input, vocabulary or front end: the notes of the files, and the files."""
    files: dict[str, bytes] = {}
    listed: list[AssociatedFile] = []
    if dataset.vocabulary is not None:
        document = dataset.vocabulary.document()
        lines = vocabulary_lines(document)
        if lines is not None:
            files[VOCABULARY_FILE] = lines
            listed.append(AssociatedFile(VOCABULARY_FILE, "vocabulary", rules_of(document)))
        elif "tokenizer" in document:
            files[TOKENIZER_FILE] = json.dumps(document["tokenizer"], ensure_ascii=False).encode()
            listed.append(AssociatedFile(TOKENIZER_FILE, "vocabulary", rules_of(document)))
    if dataset.front_end is not None:
        files[FRONT_END_FILE] = json.dumps(dict(dataset.front_end), sort_keys=True).encode()
        listed.append(AssociatedFile(FRONT_END_FILE, "descriptions", "how frames are made of a waveform"))
    return tuple(listed), files


def vocabulary_lines(document: Mapping[str, Any]) -> bytes | None:
    """Returns vocab.txt, a token a line in the order of their numbers; None where lines alone would not do."""
    match document["kind"]:
        case "word":
            pieces = [*SPECIAL, *document["tokens"]]
        case "char":  # as in JSON's strings, since a character may be a line break
            pieces = [*SPECIAL, *(json.dumps(piece, ensure_ascii=False)[1:-1] for piece in document["tokens"])]
        case "wordpiece":
            numbers = document["tokenizer"]["model"]["vocab"]
            pieces = sorted(numbers, key=lambda piece: int(numbers[piece]))
        case _:
            return None
    return "".join(f"{piece}\n" for piece in pieces).encode("utf-8", "replace")


def rules_of(document: Mapping[str, Any]) -> str:
    """Returns in words how a text becomes tokens."""
    small = "in small letters, " if document.get("lowercase") else ""
    match document["kind"]:
        case "byte":
            return f"bytes of UTF-8; token = byte + {document['first']}"
        case "word":
            return f"{small}words and marks: matches of {document['pattern']}; 1 is unknown"
        case "char":
            return f"{small}one token a character, written as in JSON strings; 1 is unknown"
        case "wordpiece":
            return "WordPiece as in BERT; 1 is unknown"
        case _:
            return f"{document['kind']}, for the tokenizers library"
