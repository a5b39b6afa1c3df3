"""Splits."""
from __future__ import annotations
import numpy as np
from compress.data.base import Dataset
def calibration_inputs(dataset: Dataset, count: int, seed: int):
    p = np.random.default_rng(seed).permutation(len(dataset.train))[:count]
    return dataset.train.inputs[p]
