"""Data."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np

from compress.data.base import Dataset, Normalization, Split
from compress.recipe import Recipe


def fingerprint(recipe: Recipe, *, trust: bool) -> str:
    return recipe.data.source


def load_dataset(recipe: Recipe, *, trust: bool, normalization: Any = None) -> Dataset:
    rng = np.random.default_rng(recipe.seed)
    if recipe.data.source == "digits":
        from sklearn.datasets import load_digits

        d = load_digits()
        x, y = d.images.astype(np.uint8)[..., None], d.target.astype(np.int64)
        p = rng.permutation(len(x))
        nt = int(len(x) * recipe.data.test)
        te, tr = p[:nt], p[nt:]
        xt, yt, x, y = x[te], y[te], x[tr], y[tr]
        scale = 1 / 16
    else:
        def im(n: str) -> Any:
            return np.frombuffer(gzip.open("/usr/share/datasets/fashion-mnist/" + n).read(), np.uint8, offset=16).reshape(-1, 28, 28, 1)

        def lb(n: str) -> Any:
            return np.frombuffer(gzip.open("/usr/share/datasets/fashion-mnist/" + n).read(), np.uint8, offset=8).astype(np.int64)

        x, y, xt, yt = im("train-images-idx3-ubyte.gz"), lb("train-labels-idx1-ubyte.gz"), im("t10k-images-idx3-ubyte.gz"), lb("t10k-labels-idx1-ubyte.gz")
        scale = 1 / 255
        p = rng.permutation(len(x))[: recipe.data.train_samples]
        x, y = x[p], y[p]
    nv = int(len(x) * recipe.data.validation)
    mean, std = float(x[nv:].mean() * scale), float(x[nv:].std() * scale)
    return Dataset(
        recipe.data.source, Split(x[nv:], y[nv:]), Split(x[:nv], y[:nv]), Split(xt, yt), tuple(str(i) for i in range(10)),
        (1, *x.shape[1:3]), Normalization(scale, (mean,), (std,), "train"),
    )
