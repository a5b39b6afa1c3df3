"""Every layer of torch.nn but losses, containers and lazy ones, with the arguments people give them."""

from __future__ import annotations

#: What comes before -> layers that are called with it, one a line.
LAYERS: dict[str, str] = {
    "pictures": """
nn.Conv2d(8, 12, 3)
nn.Conv2d(8, 12, 3, stride=2, padding=1)
nn.Conv2d(8, 8, 3, groups=8, padding=1)
nn.Conv2d(8, 16, 3, groups=8, padding=1)
nn.Conv2d(8, 12, 3, groups=4)
nn.Conv2d(8, 12, 3, groups=2)
nn.Conv2d(8, 8, 3, dilation=2, padding=2)
nn.Conv2d(8, 8, 3, dilation=2, padding=2, groups=8)
nn.Conv2d(8, 8, (1, 7), padding=(0, 3))
nn.Conv2d(8, 8, 4, padding='same')
nn.Conv2d(8, 8, 3, padding='valid')
nn.Conv2d(8, 8, 3, padding=1, padding_mode='reflect')
nn.Conv2d(8, 8, 3, padding=1, padding_mode='replicate')
nn.Conv2d(8, 8, 3, padding=1, padding_mode='circular')
nn.Conv2d(8, 8, 3, stride=(1, 2), padding=(2, 0))
nn.Conv2d(8, 8, 1, bias=False)
nn.ConvTranspose2d(8, 4, 2, stride=2)
nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1)
nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1)
nn.ConvTranspose2d(8, 8, 3, groups=2)
nn.ConvTranspose2d(8, 8, 3, stride=2, groups=8)
nn.ConvTranspose2d(8, 4, 3, dilation=2)
nn.BatchNorm2d(8)
nn.BatchNorm2d(8, affine=False)
nn.SyncBatchNorm(8)
nn.InstanceNorm2d(8)
nn.InstanceNorm2d(8, affine=True, track_running_stats=True)
nn.GroupNorm(4, 8)
nn.GroupNorm(1, 8)
nn.GroupNorm(8, 8, affine=False)
nn.LayerNorm([8, 16, 16])
nn.LayerNorm(16)
nn.LayerNorm([16, 16], bias=False)
nn.RMSNorm(16)
nn.LocalResponseNorm(3)
nn.CrossMapLRN2d(3)
nn.MaxPool2d(2)
nn.MaxPool2d(3, stride=2, padding=1)
nn.MaxPool2d(3, stride=2, ceil_mode=True)
nn.MaxPool2d(3, stride=1, dilation=2)
nn.MaxPool2d((1, 3))
nn.AvgPool2d(2)
nn.AvgPool2d(3, 2, padding=1)
nn.AvgPool2d(3, 2, padding=1, count_include_pad=False)
nn.AvgPool2d(3, 2, ceil_mode=True)
nn.AvgPool2d(3, 2, padding=1, ceil_mode=True)
nn.AvgPool2d(2, divisor_override=3)
nn.LPPool2d(2, 2)
nn.LPPool2d(1, 3, stride=2)
nn.AdaptiveAvgPool2d(1)
nn.AdaptiveAvgPool2d((4, 8))
nn.AdaptiveAvgPool2d((5, 7))
nn.AdaptiveAvgPool2d((None, 3))
nn.AdaptiveMaxPool2d(1)
nn.AdaptiveMaxPool2d((5, 7))
nn.FractionalMaxPool2d(3, output_size=6)
nn.ZeroPad2d((1, 2, 3, 4))
nn.ZeroPad2d(-1)
nn.ConstantPad2d(2, 0.7)
nn.ReflectionPad2d((1, 2, 3, 0))
nn.ReplicationPad2d(2)
nn.CircularPad2d((1, 2, 0, 3))
nn.Upsample(scale_factor=2)
nn.Upsample(size=(24, 20), mode='bilinear')
nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True)
nn.Upsample(scale_factor=2, mode='bicubic')
nn.UpsamplingBilinear2d(scale_factor=2)
nn.UpsamplingNearest2d(size=24)
nn.PixelShuffle(2)
nn.PixelUnshuffle(2)
nn.ChannelShuffle(4)
nn.Unfold(3, padding=1, stride=2)
nn.Softmax2d()
nn.Dropout2d()
nn.FeatureAlphaDropout()
nn.Flatten()
nn.Flatten(2)
nn.Unflatten(1, (2, 4))
nn.PReLU()
nn.PReLU(8)
nn.RReLU()
nn.GLU(1)
nn.Softmax(1)
""",
    "lines": """
nn.Conv1d(8, 12, 3)
nn.Conv1d(8, 8, 5, padding=4, dilation=2)
nn.Conv1d(8, 8, 3, groups=8, stride=2)
nn.Conv1d(8, 8, 3, padding='same')
nn.Conv1d(8, 8, 3, padding=1, padding_mode='circular')
nn.ConvTranspose1d(8, 4, 4, stride=2, padding=1)
nn.ConvTranspose1d(8, 8, 3, groups=4)
nn.BatchNorm1d(8)
nn.InstanceNorm1d(8, affine=True)
nn.GroupNorm(2, 8)
nn.MaxPool1d(2)
nn.MaxPool1d(3, 2, padding=1, ceil_mode=True)
nn.AvgPool1d(3, 2, padding=1)
nn.AvgPool1d(3, 2, padding=1, count_include_pad=False, ceil_mode=True)
nn.LPPool1d(2, 2)
nn.AdaptiveAvgPool1d(1)
nn.AdaptiveAvgPool1d(5)
nn.AdaptiveMaxPool1d(4)
nn.AdaptiveMaxPool1d(5)
nn.ZeroPad1d((1, 2))
nn.ConstantPad1d((3, 0), -1.5)
nn.ReflectionPad1d(3)
nn.ReplicationPad1d((2, 1))
nn.CircularPad1d((2, 1))
nn.Upsample(scale_factor=2)
nn.Upsample(scale_factor=2, mode='linear')
nn.Dropout1d()
""",
    "volumes": """
nn.Conv3d(4, 6, 3, padding=1)
nn.Conv3d(4, 4, (1, 3, 3), groups=4)
nn.Conv3d(4, 6, 3, stride=2, padding=1)
nn.ConvTranspose3d(4, 3, 2, stride=2)
nn.BatchNorm3d(4)
nn.InstanceNorm3d(4, affine=True)
nn.GroupNorm(2, 4)
nn.MaxPool3d(2)
nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
nn.AvgPool3d(2)
nn.AvgPool3d(3, 1, padding=1)
nn.LPPool3d(2, 2)
nn.AdaptiveAvgPool3d(1)
nn.AdaptiveAvgPool3d((2, 4, 4))
nn.AdaptiveMaxPool3d((2, 3, 3))
nn.FractionalMaxPool3d(2, output_size=(2, 4, 4))
nn.ZeroPad3d(1)
nn.ConstantPad3d((1, 0, 2, 0, 1, 1), 0.4)
nn.ReflectionPad3d(1)
nn.ReplicationPad3d(1)
nn.CircularPad3d(1)
nn.Upsample(scale_factor=2)
nn.Upsample(scale_factor=2, mode='trilinear')
nn.Dropout3d()
nn.Flatten(1, 2)
""",
    "steps": """
nn.Linear(8, 12)
nn.Linear(8, 12, bias=False)
nn.Identity()
nn.Dropout()
nn.AlphaDropout()
nn.LayerNorm(8)
nn.LayerNorm([16, 8])
nn.LayerNorm(8, elementwise_affine=False)
nn.RMSNorm(8)
nn.RMSNorm(8, elementwise_affine=False)
nn.BatchNorm1d(16)
nn.ReLU()
nn.ReLU6()
nn.LeakyReLU(0.2)
nn.ELU()
nn.ELU(0.5)
nn.SELU()
nn.CELU(1.3)
nn.GELU()
nn.GELU(approximate='tanh')
nn.SiLU()
nn.Mish()
nn.Sigmoid()
nn.LogSigmoid()
nn.Hardsigmoid()
nn.Hardswish()
nn.Hardtanh()
nn.Hardtanh(-0.3, 0.8)
nn.Hardshrink()
nn.Softshrink()
nn.Tanhshrink()
nn.Tanh()
nn.Softplus()
nn.Softplus(beta=2, threshold=1)
nn.Softsign()
nn.Softmin(-1)
nn.Softmax(-1)
nn.Softmax(1)
nn.LogSoftmax(-1)
nn.Threshold(0.1, -0.2)
nn.GLU()
nn.RReLU(0.1, 0.3)
nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, activation='gelu')
nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
""",
    "vectors": """
nn.BatchNorm1d(16)
nn.LayerNorm(16)
nn.GroupNorm(4, 16)
nn.Softmax(1)
nn.PReLU(16)
""",
    "tokens": """
nn.Embedding(258, 8)
nn.Embedding(258, 8, padding_idx=0)
nn.Embedding(258, 8, max_norm=1.0)
nn.EmbeddingBag(258, 8)
nn.EmbeddingBag(258, 8, mode='max')
nn.EmbeddingBag(258, 8, mode='sum')
""",
}
#: Name -> what comes before, the layer, and how it is called.
CALLED: dict[str, tuple[str, str, str]] = {
    "nn.Bilinear": ("vectors", "nn.Bilinear(16, 16, 8)", "self.layer(y, y.flip(1))"),
    "nn.Fold": ("pictures", "nn.Fold((16, 16), 2, stride=2)", "self.layer(y.reshape(-1, 32, 64))"),
    "nn.Fold overlapping": (
        "pictures",
        "nn.Fold((16, 16), 3, padding=1)",
        "self.layer(F.unfold(y, 3, padding=1) * 0.3)",
    ),
    "nn.MaxUnpool1d": ("lines", "nn.MaxUnpool1d(2)", "self.layer(*F.max_pool1d(y, 2, return_indices=True))"),
    "nn.MaxUnpool2d": ("pictures", "nn.MaxUnpool2d(2)", "self.layer(*F.max_pool2d(y, 2, return_indices=True))"),
    "nn.MaxUnpool3d": ("volumes", "nn.MaxUnpool3d(2)", "self.layer(*F.max_pool3d(y, 2, return_indices=True))"),
    "nn.CosineSimilarity": ("steps", "nn.CosineSimilarity(dim=2)", "self.layer(y, y.roll(1, 1))"),
    "nn.PairwiseDistance": ("steps", "nn.PairwiseDistance()", "self.layer(y[:, 1:], y[:, :-1])"),
    "nn.AdaptiveLogSoftmaxWithLoss": (
        "vectors",
        "nn.AdaptiveLogSoftmaxWithLoss(16, 12, [4, 8])",
        "self.layer.log_prob(y)",
    ),
    "nn.RNN batch_first": ("steps", "nn.RNN(8, 12, batch_first=True)", "self.layer(y)[0][:, -1]"),
    "nn.RNN relu, time first": (
        "steps",
        "nn.RNN(8, 12, nonlinearity='relu')",
        "self.layer(y.transpose(0, 1))[0].transpose(0, 1)",
    ),
    "nn.GRU": ("steps", "nn.GRU(8, 12, batch_first=True)", "self.layer(y)[0]"),
    "nn.GRU last state": ("steps", "nn.GRU(8, 12, batch_first=True)", "self.layer(y)[1][-1]"),
    "nn.GRU bidirectional": ("steps", "nn.GRU(8, 6, batch_first=True, bidirectional=True)", "self.layer(y)[0]"),
    "nn.GRU two layers, time first": ("steps", "nn.GRU(8, 6, 2)", "self.layer(y.transpose(0, 1))[0][-1]"),
    "nn.LSTM": ("steps", "nn.LSTM(8, 12, batch_first=True)", "self.layer(y)[0][:, -1]"),
    "nn.LSTM states": ("steps", "nn.LSTM(8, 12, batch_first=True)", "torch.cat(self.layer(y)[1], 2).transpose(0, 1)"),
    "nn.LSTM bidirectional, two layers": (
        "steps",
        "nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True, dropout=0.1)",
        "self.layer(y)[0]",
    ),
    "nn.LSTM projected": ("steps", "nn.LSTM(8, 12, batch_first=True, proj_size=5)", "self.layer(y)[0]"),
    "nn.LSTM time first": ("steps", "nn.LSTM(8, 12)", "self.layer(y.permute(1, 0, 2))[0].permute(1, 0, 2)"),
    "nn.RNNCell": ("vectors", "nn.RNNCell(16, 8)", "self.layer(y)"),
    "nn.GRUCell loop": (
        "steps",
        "nn.GRUCell(8, 12)",
        "h = torch.zeros(y.shape[0], 12)\nfor step in range(4):\n    h = self.layer(y[:, step], h)\nh",
    ),
    "nn.LSTMCell loop": (
        "steps",
        "nn.LSTMCell(8, 12)",
        "h = c = y.new_zeros(y.shape[0], 12)\nfor step in y.unbind(1)[:4]:\n    h, c = self.layer(step, (h, c))\nh",
    ),
    "nn.MultiheadAttention": ("steps", "nn.MultiheadAttention(8, 2, batch_first=True)", "self.layer(y, y, y)[0]"),
    "nn.MultiheadAttention weights": (
        "steps",
        "nn.MultiheadAttention(8, 2, batch_first=True)",
        "self.layer(y, y, y, average_attn_weights=False)[1]",
    ),
    "nn.MultiheadAttention causal, time first": (
        "steps",
        "nn.MultiheadAttention(8, 2)",
        (
            "y = y.transpose(0, 1)\nmask = nn.Transformer.generate_square_subsequent_mask(16)\n"
            "self.layer(y, y, y, attn_mask=mask, is_causal=True, need_weights=False)[0].transpose(0, 1)"
        ),
    ),
    "nn.MultiheadAttention padding": (
        "steps",
        "nn.MultiheadAttention(8, 2, batch_first=True)",
        "self.layer(y, y, y, key_padding_mask=y[..., 0] > 1.0, need_weights=False)[0]",
    ),
    "nn.MultiheadAttention cross, widths": (
        "steps",
        "nn.MultiheadAttention(8, 2, batch_first=True, kdim=4, vdim=4, add_bias_kv=True)",
        "self.layer(y, x, x, need_weights=False)[0]",
    ),
    "nn.TransformerDecoderLayer": (
        "steps",
        "nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)",
        "self.layer(y, y.roll(2, 1))",
    ),
    "nn.TransformerDecoder": (
        "steps",
        "nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 2, nn.LayerNorm(8))",
        "self.layer(y, y)",
    ),
    "nn.Transformer": ("steps", "nn.Transformer(8, 2, 1, 1, 16, batch_first=True)", "self.layer(y, y[:, :4])"),
    "nn.TransformerEncoder causal": (
        "steps",
        "nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)",
        "self.layer(y, mask=nn.Transformer.generate_square_subsequent_mask(16), is_causal=True)",
    ),
}
