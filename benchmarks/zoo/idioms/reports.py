"""Networks of the kinds that public reports about other converters are of, written anew: layouts, arguments, habits."""

from __future__ import annotations

#: Name -> what comes before, lines of __init__, lines of forward.
REPORTS: dict[str, tuple[str, str, str]] = {
    "a constant that is a transposed view": (
        "steps",
        "self.register_buffer('table', torch.linspace(-1, 1, 128).view(8, 16).t())",
        "y * self.table",
    ),
    "a transposed constant kernel": (
        "pictures",
        "self.kernel = nn.Parameter(torch.randn(3, 3, 8, 6).permute(3, 2, 0, 1))",
        "F.conv2d(y, self.kernel)",
    ),
    "weights tied, one transposed": (
        "steps",
        "self.a = nn.Linear(8, 12, bias=False)",
        "F.linear(torch.relu(self.a(y)), self.a.weight.t())",
    ),
    "batch norm behind a grouped transposed convolution": (
        "pictures",
        "self.up = nn.ConvTranspose2d(8, 8, 3, 2, groups=2)\nself.norm = nn.BatchNorm2d(8)",
        "F.relu(self.norm(self.up(y)))",
    ),
    "batch norm behind a transposed convolution": (
        "pictures",
        "self.up = nn.ConvTranspose2d(8, 6, 2, 2)\nself.norm = nn.BatchNorm2d(6)",
        "F.relu(self.norm(self.up(y)))",
    ),
    "a transposed convolution with a stride of 1 and 3": (
        "pictures",
        "self.up = nn.ConvTranspose2d(8, 6, (2, 5), (1, 3), (0, 2))",
        "self.up(y)",
    ),
    "PReLU of 8 behind a cat": (
        "pictures",
        "self.conv = nn.Conv2d(11, 8, 1)\nself.act = nn.PReLU(8)",
        "self.act(self.conv(torch.cat([y, x], 1)))",
    ),
    "weight norm": (
        "pictures",
        "self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3))",
        "self.conv(y)",
    ),
    "spectral norm": (
        "pictures",
        "self.conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 3))",
        "self.conv(y)",
    ),
    "orthogonal weights": ("steps", "self.a = nn.utils.parametrizations.orthogonal(nn.Linear(8, 8))", "self.a(y)"),
    "LSTM with a state that is given": (
        "steps",
        "self.lstm = nn.LSTM(8, 12, batch_first=True)\nself.h = nn.Parameter(torch.randn(1, 1, 12))",
        "h = self.h.expand(1, y.shape[0], 12).contiguous()\nself.lstm(y, (h, torch.zeros_like(h)))[0]",
    ),
    "max over everything": ("pictures", "", "y / y.amax((1, 2, 3), keepdim=True).clamp(min=0.1)"),
    "a pool with ceil_mode that counts its padding": (
        "pictures",
        "",
        "F.avg_pool2d(y, 3, 2, 1, ceil_mode=True, count_include_pad=True)",
    ),
    "an odd map made larger": (
        "pictures",
        "self.down = nn.Conv2d(8, 8, 3, 2)",
        "F.interpolate(self.down(y), size=(15, 13), mode='bilinear')",
    ),
    "YOLO: focus and SPP": (
        "pictures",
        "self.conv = nn.Conv2d(12, 8, 3, padding=1)\nself.cut = nn.Conv2d(32, 8, 1)",
        (
            "x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)\n"
            "y = F.silu(self.conv(x))\nself.cut(torch.cat([y, *(F.max_pool2d(y, k, 1, k // 2) for k in (3, 5, 7))], 1))"
        ),
    ),
    "YOLO: DFL head": (
        "pictures",
        "self.conv = nn.Conv2d(8, 32, 1)\nself.register_buffer('bins', torch.arange(8.0))",
        (
            "b = self.conv(y).view(y.shape[0], 4, 8, -1).transpose(2, 1).softmax(1)\n"
            "F.conv2d(b, self.bins.view(1, 8, 1, 1))"
        ),
    ),
    "YOLO: boxes from a grid of anchors": (
        "pictures",
        (
            "self.register_buffer('grid', torch.stack(torch.meshgrid(torch.arange(16), torch.arange(16), "
            "indexing='xy'), -1).float())"
        ),
        (
            "p = y.permute(0, 2, 3, 1).sigmoid()\n"
            "torch.cat([(p[..., :2] * 2 - 0.5 + self.grid) / 16, (p[..., 2:4] * 2) ** 2, p[..., 4:]], -1)"
        ),
    ),
    "OSNet: gates summed over branches": (
        "pictures",
        (
            "self.a = nn.Conv2d(8, 8, 3, padding=1, groups=8)\n"
            "self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 2, 1), nn.ReLU(), nn.Conv2d(2, "
            "8, 1), nn.Sigmoid())"
        ),
        "a = self.a(y)\nb = self.a(a)\ny * self.gate(y) + a * self.gate(a) + b * self.gate(b)",
    ),
    "MobileNetV3: squeeze with hard sigmoid": (
        "pictures",
        "self.a = nn.Conv2d(8, 4, 1)\nself.b = nn.Conv2d(4, 8, 1)",
        "s = F.relu(self.a(F.adaptive_avg_pool2d(y, 1)))\nF.hardswish(y) * F.hardsigmoid(self.b(s))",
    ),
    "U-Net with a crop": (
        "pictures",
        "self.down = nn.Conv2d(8, 16, 3, 2)\nself.up = nn.ConvTranspose2d(16, 8, 2, 2)",
        "u = self.up(F.relu(self.down(y)))\nd = y.shape[2] - u.shape[2]\ntorch.cat([y, F.pad(u, (0, d, 0, d))], 1)",
    ),
    "a windowed attention": (
        "pictures",
        "self.qkv = nn.Linear(8, 24)\nself.bias = nn.Parameter(torch.randn(2, 16, 16))",
        (
            "w = y.permute(0, 2, 3, 1).reshape(-1, 4, 4, 4, 4, 8).transpose(2, 3).reshape(-1, 16, 8)\n"
            "q, k, v = self.qkv(w).view(-1, 16, 3, 2, 4).permute(2, 0, 3, 1, 4)\n"
            "a = ((q * 0.5) @ k.transpose(-2, -1) + self.bias).softmax(-1)\n"
            "(a @ v).transpose(1, 2).reshape(y.shape[0], 16 * 16 * 8)"
        ),
    ),
    "rotary positions": (
        "steps",
        (
            "angles = torch.arange(16.0)[:, None] * torch.tensor([1.0, 0.1, 0.01, 0.001])\n"
            "self.register_buffer('sin', angles.sin())\nself.register_buffer('cos', angles.cos())"
        ),
        (
            "a, b = y[..., ::2], y[..., 1::2]\n"
            "torch.stack([a * self.cos - b * self.sin, a * self.sin + b * self.cos], -1).flatten(2)"
        ),
    ),
    "attention with a mask made of the lengths": (
        "tokens",
        "self.table = nn.Embedding(258, 8)",
        (
            "hidden = (y == 99)[:, None, None, :]\ne = self.table(y)[:, None]\n"
            "s = (e @ e.transpose(2, 3) / math.sqrt(8)).masked_fill(hidden, float('-inf'))\ns.softmax(-1) @ e"
        ),
    ),
    "the mean over tokens that are no padding": (
        "tokens",
        "self.table = nn.Embedding(258, 8)",
        "m = (y != 99).float().unsqueeze(-1)\n(self.table(y) * m).sum(1) / m.sum(1).clamp(min=1e-9)",
    ),
    "positions from torch.arange": (
        "tokens",
        "self.table = nn.Embedding(258, 8)\nself.places = nn.Embedding(16, 8)",
        "self.table(y) + self.places(torch.arange(y.shape[1], device=y.device))",
    ),
    "a class token": (
        "steps",
        "self.token = nn.Parameter(torch.randn(1, 1, 8))\nself.places = nn.Parameter(torch.randn(1, 17, 8))",
        "torch.cat([self.token.expand(y.shape[0], -1, -1), y], 1) + self.places",
    ),
    "an L2 norm behind a global pool": ("pictures", "", "F.normalize(y.mean((2, 3)), p=2, dim=1)"),
    "GeM pool": (
        "pictures",
        "self.p = nn.Parameter(torch.ones(1) * 3)",
        "F.avg_pool2d(y.clamp(min=1e-6).pow(self.p), 16).pow(1.0 / self.p)",
    ),
    "GRN of ConvNeXt V2": (
        "pictures",
        "self.gamma = nn.Parameter(torch.ones(8) * 0.5)",
        (
            "y = y.permute(0, 2, 3, 1)\ng = torch.norm(y, p=2, dim=(1, 2), keepdim=True)\n"
            "y + self.gamma * (y * (g / (g.mean(-1, keepdim=True) + 1e-6)))"
        ),
    ),
    "layer norm of channels, by permutes": (
        "pictures",
        "self.norm = nn.LayerNorm(8)",
        "self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)",
    ),
    "TCN with a chomp": (
        "lines",
        "self.conv = nn.Conv1d(8, 8, 3, padding=4, dilation=2)",
        "F.relu(self.conv(y)[:, :, :-4].contiguous() + y)",
    ),
    "CRNN: a map read as a sequence": (
        "pictures",
        "self.gru = nn.GRU(8 * 4, 8, bidirectional=True)",
        "self.gru(F.max_pool2d(y, (4, 1)).permute(3, 0, 1, 2).flatten(2))[0].transpose(0, 1)",
    ),
    "a depthwise stack with a residual scale": (
        "pictures",
        "self.conv = nn.Conv2d(8, 8, 7, padding=3, groups=8)\nself.scale = nn.Parameter(torch.full((8, 1, 1), 0.1))",
        "y + self.scale * self.conv(y)",
    ),
    "two heads, added": (
        "steps",
        "self.a = nn.Linear(8, 4)\nself.b = nn.Linear(8, 4)",
        "self.a(y) + self.b(y).mean(1, keepdim=True)",
    ),
    "an input normalised inside": (
        "raw pictures",
        (
            "self.register_buffer('mean', torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))\n"
            "self.conv = nn.Conv2d(3, 8, 3)"
        ),
        "self.conv((x - self.mean) / 0.25)",
    ),
    "channels last inside": (
        "pictures",
        "self.conv = nn.Conv2d(8, 8, 3)",
        "self.conv(y.to(memory_format=torch.channels_last))",
    ),
    "a view in place of a flatten, in place ops": (
        "pictures",
        "self.a = nn.ReLU(inplace=True)",
        "z = self.a(y)\nz += 1\nz[:, 0] = 0.5\nz.view(z.size(0), -1)",
    ),
    "slices written one by one": (
        "steps",
        "",
        "out = torch.zeros_like(y)\nfor i in range(4):\n    out[:, i] = y[:, i] * (i + 1)\nout",
    ),
    "shapes that are computed": (
        "pictures",
        "",
        "b, c, h, w = y.shape\ny.reshape(b, c, int(h) // 2, 2, w // 2, 2).mean(dim=[3, 5]).view(b, -1)",
    ),
    "a ModuleList of stages, features kept": (
        "pictures",
        "self.stages = nn.ModuleList(nn.Conv2d(8, 8, 3, 2, 1) for _ in range(3))",
        (
            "kept = []\nfor stage in self.stages:\n    y = F.relu(stage(y))\n"
            "    kept.append(F.adaptive_avg_pool2d(y, 1))\ntorch.cat(kept, 1)"
        ),
    ),
    "a mixture of experts, dense": (
        "steps",
        "self.gate = nn.Linear(8, 3)\nself.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))",
        "g = self.gate(y).softmax(-1)\nsum(g[..., i : i + 1] * e(y) for i, e in enumerate(self.experts))",
    ),
    "NetVLAD": (
        "pictures",
        "self.conv = nn.Conv2d(8, 4, 1)\nself.centres = nn.Parameter(torch.randn(4, 8))",
        (
            "a = self.conv(y).flatten(2).softmax(1)\n"
            "v = a @ y.flatten(2).transpose(1, 2) - a.sum(2, keepdim=True) * self.centres\nF.normalize(v, dim=2)"
        ),
    ),
    "self-attention of a GAN": (
        "pictures",
        "self.q = nn.Conv2d(8, 2, 1)\nself.k = nn.Conv2d(8, 2, 1)\nself.gamma = nn.Parameter(torch.ones(1))",
        (
            "a = torch.bmm(self.q(y).flatten(2).transpose(1, 2), self.k(y).flatten(2)).softmax(-1)\n"
            "self.gamma * torch.bmm(y.flatten(2), a.transpose(1, 2)).view_as(y) + y"
        ),
    ),
    "modulated weights": (
        "pictures",
        "self.conv = nn.Conv2d(8, 8, 3, bias=False)",
        (
            "w = self.conv.weight * torch.rsqrt(self.conv.weight.square().sum((1, 2, 3), "
            "keepdim=True) + 1e-8)\nF.conv2d(y, w)"
        ),
    ),
    "standardised weights": (
        "pictures",
        "self.conv = nn.Conv2d(8, 8, 3)",
        (
            "w = self.conv.weight\nF.conv2d(y, (w - w.mean((1, 2, 3), True)) / (w.std((1, 2, 3), "
            "keepdim=True) + 1e-5), self.conv.bias)"
        ),
    ),
}
