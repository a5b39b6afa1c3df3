"""Which test samples are in the training data too: a model need not have learnt anything to know them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.data.base import Dataset, Split

#: Bytes of a digest: by chance two of ten million samples share one once in 10^23 data sets.
DIGEST_BYTES = 16


def leaked(dataset: Dataset) -> NDArray[np.bool_]:
    """Returns for each test sample whether train or validation holds one of the same content, by hash: (N,)."""
    known = set(_digests(dataset.train.inputs)) | set(_digests(dataset.validation.inputs))
    return np.array([digest in known for digest in _digests(dataset.test.inputs)], np.bool_)


def split_digest(split: Split) -> str:
    """Returns what tells a split from every other: a hash of its samples and labels, in their order."""
    whole = hashlib.blake2b(np.ascontiguousarray(split.labels).tobytes(), digest_size=DIGEST_BYTES)
    for digest in _digests(split.inputs):
        whole.update(digest)
    return whole.hexdigest()


def _digests(inputs: NDArray[Any]) -> list[bytes]:
    return [hashlib.blake2b(_content(sample), digest_size=DIGEST_BYTES).digest() for sample in inputs]


def _content(sample: Any) -> bytes:
    """Returns the bytes of one sample: an array, or a text."""
    return (
        sample.encode("utf-8", "surrogatepass") if isinstance(sample, str) else np.ascontiguousarray(sample).tobytes()
    )
