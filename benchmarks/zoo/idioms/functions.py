"""What people call beside layers: functions of torch and torch.nn.functional, as expressions of `y`."""

from __future__ import annotations

#: What comes before -> expressions, one a line; an indented line belongs to the one above. Shapes of `y`: pictures
#: (N, 8, 16, 16), lines (N, 8, 16), steps (N, 16, 8), volumes (N, 4, 4, 8, 8), tokens (N, 16).
FUNCTIONS: dict[str, str] = {
    "pictures": """
F.interpolate(y, scale_factor=2)
F.interpolate(y, size=(20, 28))
F.interpolate(y, size=(7, 9))
F.interpolate(y, scale_factor=2, mode='nearest-exact')
F.interpolate(y, size=(24, 20), mode='bilinear')
F.interpolate(y, scale_factor=1.5, mode='bilinear', align_corners=True)
F.interpolate(y, scale_factor=0.5, mode='bilinear', align_corners=False)
F.interpolate(y, scale_factor=0.5, mode='bilinear', antialias=True)
F.interpolate(y, scale_factor=0.5, mode='area')
F.interpolate(y, size=(24, 24), mode='bicubic')
F.pad(y, (1, 2, 3, 4))
F.pad(y, (1, 2, 0, 3), value=0.5)
F.pad(y, (2, 1, 1, 2), mode='reflect')
F.pad(y, (2, 1, 0, 3), mode='reflect')
F.pad(y, (2, 1, 1, 2), mode='replicate')
F.pad(y, (2, 1, 1, 2), mode='circular')
F.pad(y, (-1, -2, -1, 0))
F.pad(y, (0, 0, 0, 0, 2, 2))
F.pixel_shuffle(y, 2)
F.pixel_unshuffle(y, 4)
F.channel_shuffle(y, 2)
F.grid_sample(y, F.affine_grid(torch.tensor([[[0.8, 0.2, 0.1], [-0.1, 0.9, 0.0]]]).expand(y.shape[0], 2, 3),
  [y.shape[0], 8, 16, 16], align_corners=False), align_corners=False)
F.grid_sample(y, torch.tanh(y[:, :2]).permute(0, 2, 3, 1), mode='nearest', align_corners=True)
F.unfold(y, 4, stride=4)
F.fold(F.unfold(y, 4, stride=4), (16, 16), 4, stride=4)
y.unfold(2, 4, 4).unfold(3, 4, 4)
F.max_pool2d(y, 3, 2, 1)
F.avg_pool2d(y, 3, 1, 1)
F.adaptive_avg_pool2d(y, (3, 5))
F.adaptive_max_pool2d(y, 2)
F.conv2d(y, torch.ones(8, 1, 3, 3) / 9, padding=1, groups=8)
F.conv_transpose2d(y, torch.ones(8, 1, 2, 2), stride=2, groups=8)
torch.einsum('nchw,ncij->nhwij', y[:, :, :4, :4], y[:, :, :4, :4])
torch.einsum('nchw->nc', y)
torch.einsum('nchw,dc->ndhw', y, torch.ones(5, 8).tril())
torch.roll(y, (2, -3), (2, 3))
torch.flip(y, (2, 3))
y.flip(1)
torch.rot90(y, 1, (2, 3))
y.transpose(2, 3)
y.permute(0, 2, 3, 1)
y.permute(0, 3, 1, 2)
y.movedim(1, -1)
y.mT
y.mean((2, 3))
y.mean(1, keepdim=True)
y.amax((2, 3))
y.sum(1)
y.std((2, 3))
y.var((2, 3), unbiased=False)
torch.std_mean(y, (2, 3))[0]
torch.norm(y, dim=1)
torch.linalg.vector_norm(y, 1, (2, 3))
F.normalize(y)
F.normalize(y.flatten(2), p=1, dim=2)
y.softmax(1)
y.flatten(2).softmax(2)
F.softmax(y, 2)
y.log_softmax(1)
torch.logsumexp(y, (2, 3))
y.prod(1)
y.cumsum(2)
y.cumprod(3)[..., :4]
y.max(1).values
y.max(2)[0]
y.min(3, keepdim=True).values
y.max().expand(y.shape[0], 1) + y.flatten(1)
y.aminmax(dim=1)[0]
y.median(1).values
y.quantile(0.5, 1)
torch.cat([c.flip(1) for c in y.chunk(2, 1)], 1)
torch.cat(y.split([3, 5], 1)[::-1], 1)
torch.stack(y.unbind(1), 2)
torch.stack([y, -y], 2).flatten(1, 2)
torch.cat((y, y.relu(), x), 1)
y[:, ::2, 1::2, ::3]
y[:, [3, 1, 1]]
y[..., 3]
y[:, None, :, -5:]
y.narrow(2, 3, 5)
y.index_select(1, torch.tensor([5, 0, 2]))
y.expand(-1, -1, 16, 16) + y.mean(1, True).expand_as(y)
y.repeat(1, 2, 1, 3)
y.repeat_interleave(2, 3)
torch.tile(y, (1, 1, 2))
y.tril()
torch.triu(y, 2)
y.diagonal(dim1=2, dim2=3)
y + torch.cat(torch.meshgrid(torch.arange(16.), torch.arange(16.), indexing='ij')) [None, :16] / 8
y * torch.linspace(-1, 1, 16)
y - torch.arange(8).view(8, 1, 1)
y.clamp(-0.5, 1)
y.clamp(min=0.1)
torch.clamp(y, max=y.mean(1, True))
y.clip(0, 1)
torch.where(y > 0, y, 0.1 * y)
y.masked_fill(y < 0, -1.0)
torch.maximum(y, y.flip(1))
y.sign() * y.abs().sqrt()
(y.abs() + 1).log()
y.exp()
torch.erf(y)
y.square()
y ** 3
torch.pow(y.abs() + 0.1, 0.7)
2 ** y
y.abs().rsqrt().clamp(max=3)
1 / (1 + y.abs())
y / (y.abs().sum(1, True) + 1)
y.sin() + y.cos()
torch.atan2(y, x[:, :1] + 3)
y.floor() + y.round()
y % 1.0
torch.remainder(y, 0.7)
y.frac()
y // 0.5
(y > 0).float()
(y > 0).to(y.dtype) * (y < 1)
torch.logical_and(y > 0, y < 1).float()
torch.addcmul(y, y, y, value=0.5)
torch.lerp(y, y.flip(1), 0.3)
F.relu(y) * y.sigmoid()
F.hardtanh(y, -1, 2)
F.gelu(y)
F.silu(y)
F.softplus(y)
F.leaky_relu(y, 0.3)
F.elu(y)
F.prelu(y, torch.tensor([0.3]))
F.glu(y, 1)
F.local_response_norm(y, 3)
F.layer_norm(y, y.shape[1:])
F.instance_norm(y)
F.group_norm(y, 2)
F.rms_norm(y, (16,))
F.dropout(y, 0.3, self.training)
torch.fft.fft2(y).abs()
torch.fft.rfft2(y).real
torch.fft.irfft2(torch.fft.rfft2(y) * 0.5)
y.to(torch.float16).float()
y.double().mean((2, 3)).float()
y.detach()
y.contiguous(memory_format=torch.channels_last).relu()
torch.nonzero(y > 100).sum() + y
torch.tensordot(y, torch.ones(8, 3).tril(), ([1], [0]))
torch.cdist(y.flatten(2), y.flatten(2))
torch.cross(y[:, :3], y[:, 3:6], dim=1)
torch.bincount(torch.ones(3).long()).sum() * y
""",
    "lines": """
F.interpolate(y, scale_factor=2, mode='linear')
F.interpolate(y, size=11)
F.pad(y, (3, 2), mode='reflect')
F.pad(y, (3, 2), mode='circular')
F.conv1d(y, torch.hann_window(5).expand(8, 1, 5), groups=8)
torch.fft.rfft(y).abs()
torch.fft.fft(y).real
torch.fft.irfft(torch.fft.rfft(y), n=16)
torch.stft(y.flatten(1), 16, window=torch.hann_window(16), return_complex=True).abs()
y.diff(dim=2)
F.avg_pool1d(y, 4)
y.unfold(2, 4, 2)
y.unfold(2, 4, 2).mean(-1)
torch.cummax(y, 2).values
y.cumsum(-1)
torch.kron(torch.ones(1, 2, 1), y)
y.logcumsumexp(2)
torch.trapezoid(y, dim=2)
torch.bucketize(y, torch.linspace(-1, 1, 5)).float()
""",
    "steps": """
torch.bmm(y, y.transpose(1, 2))
torch.baddbmm(y, y @ y.transpose(1, 2), y, beta=0.5)
y @ torch.eye(8).flip(0)
torch.matmul(y.unsqueeze(1), y.mT.unsqueeze(1))
F.scaled_dot_product_attention(y, y, y)
F.scaled_dot_product_attention(y, y, y, is_causal=True)
F.scaled_dot_product_attention(y, y, y, attn_mask=torch.ones(16, 16).tril().bool())
F.scaled_dot_product_attention(y, y, y, attn_mask=torch.randn(16, 16,
  generator=torch.Generator().manual_seed(0)), scale=0.7)
F.scaled_dot_product_attention(*(y.view(-1, 16, 2, 4).transpose(1, 2),) * 3).transpose(1, 2).flatten(2)
F.scaled_dot_product_attention(y.view(-1, 16, 4, 2).transpose(1, 2), *(y[..., :4].reshape(-1, 16, 2,
  2).transpose(1, 2),) * 2, enable_gqa=True)
torch.einsum('btd,bsd->bts', y, y).softmax(-1) @ y
torch.einsum('bthd,bshd->bhts', y.view(-1, 16, 2, 4), y.view(-1, 16, 2, 4))
torch.einsum('...td,de->...te', y, torch.eye(8))
y.softmax(1)
y.logsumexp(1)
y.topk(3, 1).values
y.topk(2, -1)[0]
y.sort(1).values
y.sort(-1, descending=True)[0]
y.gather(1, y.argsort(1))
torch.gather(y, 2, torch.tensor([3, 1, 0]).expand(y.shape[0], 16, 3))
torch.take_along_dim(y, y.argmax(2, keepdim=True), 2)
F.one_hot(y.argmax(-1), 8).float()
F.embedding(y.argmax(-1), torch.eye(8).cumsum(0))
torch.zeros_like(y).scatter(2, y.argmax(2, keepdim=True), 1.0)
y.scatter(1, torch.tensor([[[2], [5]]]).expand(y.shape[0], 2, 8), 0.3)
torch.zeros(y.shape[0], 4, 8).scatter_add(1, (torch.arange(16) % 4).view(1, 16, 1).expand(y.shape[0], 16, 8),
  y)
y.index_add(1, torch.tensor([0, 1]), y[:, :2])
torch.zeros(y.shape[0], 20, 8).index_copy(1, torch.arange(16) + 2, y)
y.masked_fill(torch.ones(16, 8).triu(1).bool(), 0.0)
y.masked_fill((y.sum(-1) > 0).unsqueeze(-1), -0.5)
y.argmax(1).float() / 16
y.argmin(-1).float()
(y > 0.3).any(1).float()
(y[..., :2] > 0).all(-1).float()
(y > 0).sum(1).float()
y.cumsum(1) / torch.arange(1, 17).view(16, 1)
torch.flip(y, [1])
y.roll(1, 1)
y[:, -1]
y[:, :-1] - y[:, 1:]
y.reshape(-1, 4, 4, 8).mean(2)
y.view(y.size(0), -1)
y.unflatten(2, (2, 4)).transpose(1, 2)
y.expand(3, -1, -1, -1).sum(0)
y.repeat(1, 2, 1)
torch.cat([y, torch.zeros(y.shape[0], 2, 8)], 1)
torch.cat([torch.ones(1, 1, 8).expand(y.shape[0], -1, -1), y], 1)
F.normalize(y, dim=-1)
y / y.norm(dim=-1, keepdim=True)
F.cosine_similarity(y[:, 1:], y[:, :-1], dim=-1)
y.mean(1)
y.max(1)[0]
y.std(1)
torch.var_mean(y, 1)[0]
y.prod(-1)
torch.cat(torch.tensor_split(y, 3, 1)[::-1], 1)
(y.relu() - 0.1).relu().bool().float()
y.int().float()
torch.stack(y.split(4, 1)).amax(0)
y + torch.sin(torch.arange(16).unsqueeze(1) * torch.exp(torch.arange(8) * -0.5))
F.linear(y, torch.ones(4, 8).tril())
torch.where(torch.isnan(y), torch.zeros_like(y), y)
torch.nan_to_num(y)
y.masked_select(torch.ones(16, 8).bool()).view(y.shape[0], -1)
torch.searchsorted(torch.linspace(-1, 1, 6), y).float()
torch.block_diag(torch.eye(4), torch.eye(4)) + y.mean(1, True)
torch.vmap(lambda v: v * v.sum())(y)
torch.func.vmap(torch.dot)(y[:, 0], y[:, 1]).unsqueeze(1)
F.multi_head_attention_forward(*(y.transpose(0, 1),) * 3, 8, 2, torch.eye(8).repeat(3, 1), None, None, None,
  False, 0.0, torch.eye(8), None)[0].transpose(0, 1)
""",
    "volumes": """
F.interpolate(y, scale_factor=2)
F.pad(y, (1, 1, 1, 1, 1, 1))
F.max_pool3d(y, 2)
F.avg_pool3d(y, 2)
y.mean((2, 3, 4))
y.mean(2)
y.permute(0, 2, 1, 3, 4)
y.softmax(1)
torch.roll(y, (1, 2), (3, 4))
y.transpose(1, 2).flatten(0, 1).unflatten(0, (-1, 4)).mean(1)
""",
    "tokens": """
F.one_hot(y.long(), 258).float().mean(1)
F.embedding(y, torch.linspace(-1, 1, 516).view(258, 2))
torch.linspace(-1, 1, 258)[y.long()]
y.float() / 258
(y > 110).float()
y.eq(110).float()
F.embedding(y.clamp(max=127), torch.linspace(-1, 1, 256).view(128, 2))
F.embedding(y % 32, torch.eye(32))
F.embedding((y != 0).cumsum(1), torch.eye(17)) + F.one_hot(y.long() % 17, 17)
""",
    "raw pictures": """
y
y.permute(0, 2, 3, 1)
y * torch.tensor([0.2, 0.5, 1.0]).view(1, 3, 1, 1) + 0.1
F.avg_pool2d(y, 2)
y.mean(1)
y[:, [2, 1, 0]]
F.interpolate(y, size=(8, 8), mode='bilinear')
y.flatten(1)
y.relu()
""",
    "raw steps": """
y.transpose(1, 2)
y[:, -4:]
y.cumsum(1)
F.layer_norm(y, (4,))
""",
}
