"""Tasks."""
from __future__ import annotations
import numpy as np, torch
import torch.nn.functional as F
class T:
    name = "image-classification"
    def __init__(self, recipe, dataset):
        self.recipe, self.dataset = recipe, dataset
    def inputs(self, batch):
        n = self.dataset.normalization
        x = torch.from_numpy(np.ascontiguousarray(batch)).float() * n.value_scale
        return ((x - n.mean[0]) / n.std[0]).permute(0, 3, 1, 2)
    def augmented(self, batch, index, view):
        x = self.inputs(batch); a = self.recipe.data.augment
        g = np.random.default_rng(view); N = int(index.max()) + 1
        pad = 2
        dx, dy, fl = (np.random.default_rng([view, k]).integers(0, 5 if k < 2 else 2, 70000)[index] for k in range(3))
        if "crop" in a:
            n, h = len(x), x.shape[2]
            xp = F.pad(x, (pad,) * 4, value=float(x.min())); r = torch.arange(h)
            ii = (torch.from_numpy(dy)[:, None] + r)[:, :, None]; jj = torch.from_numpy(dx)[:, None] + r
            jj = torch.where(torch.from_numpy(fl).bool()[:, None], jj.flip(1), jj)[:, None, :]
            x = xp[torch.arange(n)[:, None, None], 0, ii, jj][:, None]
        return x.contiguous(memory_format=torch.channels_last)
    def loss(self, o, l, label_smoothing=0.0):
        return F.cross_entropy(o, l, label_smoothing=label_smoothing)
    def distillation_loss(self, o, t, l, T, a):
        return (1 - a) * F.cross_entropy(o, l) + a * T * T * F.kl_div(F.log_softmax(o / T, 1), F.softmax(t / T, 1), reduction="batchmean")
    def metrics(self, o, l):
        return {"accuracy": 100.0 * float((o.argmax(1) == l).mean())}
    def agreement(self, o, r):
        return 100.0 * float((o.argmax(1) == r.argmax(1)).mean())
    def input_range(self):
        n = self.dataset.normalization; m = 16 if self.dataset.name == "digits" else 255
        return ((0 - n.mean[0]) / n.std[0], (m * n.value_scale - n.mean[0]) / n.std[0])
    def to_flatbuffer(self, x):
        return x.permute(0, 2, 3, 1).contiguous().numpy()
    def plots(self, o, l):
        return {}
def make_task(recipe, dataset):
    return T(recipe, dataset)
