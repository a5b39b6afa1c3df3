"""Hugging Face's architectures with random weights, small, each with a head for ten classes: as users wrap them."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.zoo.entry import Entry, Takes

PROGRAM = """import torch
from torch import nn
from transformers import {names}


class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.body = {model}(
            {config}({arguments})
        )
        {head}

    def forward(self, x):
        {answer}
"""
TEXT = (
    "vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, "
    "max_position_embeddings=64"
)
DECODER = f"{TEXT}, num_key_value_heads=1"
LABELS = "num_labels=num_classes"
PICTURE = (
    "image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, "
    f"{LABELS}"
)
#: Ways to an answer: logits of a classifier, a head on the first token, the last one, or the mean over all.
LOGITS = ("", "return self.body({call}).logits")
FIRST, LAST, MEAN = (
    ("self.head = nn.Linear({width}, num_classes)", f"return self.head(self.body({{call}}).last_hidden_state{taken})")
    for taken in ("[:, 0]", "[:, -1]", ".mean(1)")
)
#: Maps of features, channels first.
POOLED = (
    "self.head = nn.Linear({width}, num_classes)",
    "return self.head(self.body({call}).last_hidden_state.mean((2, 3)))",
)


@dataclass(frozen=True)
class Architecture:
    """One of them.

    Attributes:
        names: Class of the model, then that of its configuration.
        arguments: Of the configuration.
        way: How its outputs become an answer.
        call: What the model is called with.
        takes: What samples are.
        shape: Of a sample.
        width: What the head reads.
    """

    names: tuple[str, str]
    arguments: str
    way: tuple[str, str]
    call: str = "input_ids=x"
    takes: Takes = "tokens"
    shape: tuple[int, ...] = (16,)
    width: int = 32

    def entry(self, name: str) -> Entry:
        """Returns its entry in the zoo."""
        model, config = self.names
        head, answer = self.way
        program = PROGRAM.format(
            names=", ".join(sorted(self.names)),
            model=model,
            config=config,
            arguments=self.arguments,
            head=head.format(width=self.width) or "self.body.config.return_dict = True",
            answer=answer.format(call=self.call),
        )
        return Entry("hf", name, takes=self.takes, shapes=(self.shape,), program=program)


def _text(
    name: str, arguments: str = TEXT, way: tuple[str, str] = FIRST, width: int = 32, kind: str = "Model"
) -> Architecture:
    return Architecture((f"{name}{kind}", f"{name}Config"), arguments, way, width=width)


def _classifier(name: str, arguments: str = TEXT) -> Architecture:
    return Architecture((f"{name}ForSequenceClassification", f"{name}Config"), f"{arguments}, {LABELS}", LOGITS)


def _decoder(name: str, arguments: str = DECODER) -> Architecture:
    return Architecture((f"{name}Model", f"{name}Config"), arguments, LAST, call="input_ids=x, use_cache=False")


def _picture(name: str, arguments: str = PICTURE, side: int = 32) -> Architecture:
    return Architecture(
        (f"{name}ForImageClassification", f"{name}Config"),
        arguments,
        LOGITS,
        "pixel_values=x",
        "pictures",
        (3, side, side),
    )


def _maps(name: str, arguments: str, width: int, side: int = 64) -> Architecture:
    return Architecture(
        (f"{name}Model", f"{name}Config"), arguments, POOLED, "pixel_values=x", "pictures", (3, side, side), width
    )


STAGES = "hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 2, 1]"
WAVES = (
    "hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, conv_dim=(16, 16, 16), "
    "conv_kernel=(10, 3, 3), conv_stride=(5, 2, 2), num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4"
)
#: Sizes by the names that some configurations have for them.
SIZED = "vocab_size=300, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=64"
SPREAD = "depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 4], hidden_sizes=[8, 16, 24, 32]"
WINDOWS = "image_size=64, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4"
MASKED = f"{TEXT}, pad_token_id=1"
RELATIVE = "relative_attention=True, position_buckets=8, pos_att_type=['p2c', 'c2p'], position_biased_input=False"
DISTILLED = "vocab_size=300, dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=64"
NEO = "vocab_size=300, hidden_size=32, num_layers=2, num_heads=2, max_position_embeddings=64"
SEEN = "image_size=64, hidden_sizes=[24, 32, 40], neck_hidden_sizes=[8, 16, 24, 24, 32, 40, 80], num_attention_heads=2"
LEVIT = "image_size=64, hidden_sizes=[32, 48, 64], num_attention_heads=[2, 3, 4], depths=[1, 1, 1], key_dim=[8, 8, 8]"
SPECTROGRAM = "frequency_stride=8, time_stride=8, max_length=32, num_mel_bins=32"
WHISPER = (
    "vocab_size=60, d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, num_mel_bins=16, "
    "decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, max_source_positions=20, pad_token_id=0, "
    "bos_token_id=1, eos_token_id=2, decoder_start_token_id=1"
)
PATCHES = (
    "num_input_channels=4, context_length=32, patch_length=8, patch_stride=8, d_model=32, num_hidden_layers=2, "
    "num_attention_heads=2, ffn_dim=64, num_targets=num_classes, use_cls_token=True"
)
#: The encoder alone of what has a decoder too.
ENCODER = ("self.body = self.body.get_encoder()\n        " + MEAN[0], MEAN[1])
ARCHITECTURES: dict[str, Architecture] = {
    "bert": _classifier("Bert"),
    "bert, mean over tokens": _text("Bert", way=MEAN),
    "distilbert": _classifier("DistilBert", DISTILLED),
    "albert": _classifier("Albert", f"{TEXT}, embedding_size=16"),
    "roberta": _classifier("Roberta", MASKED),
    "electra": _classifier("Electra", f"{TEXT}, embedding_size=16"),
    "deberta-v2": _text("DebertaV2", f"{TEXT}, {RELATIVE}"),
    "mobilebert": _text("MobileBert", f"{TEXT}, embedding_size=32, true_hidden_size=16, intra_bottleneck_size=16"),
    "squeezebert": _text("SqueezeBert", f"{TEXT}, embedding_size=32"),
    "mpnet": _text("MPNet"),
    "xlm-roberta": _classifier("XLMRoberta", MASKED),
    "modernbert": _text("ModernBert", f"{TEXT}, pad_token_id=0, local_attention=8"),
    "camembert": _text("Camembert", MASKED),
    "convbert": _text("ConvBert", f"{TEXT}, embedding_size=32, conv_kernel_size=5"),
    "fnet": _text("FNet", f"{SIZED.replace('num_attention_heads=2, ', '')}, intermediate_size=64"),
    "gpt2": _decoder("GPT2", "vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=64"),
    "gpt-neo": _decoder("GPTNeo", f"{NEO}, attention_types=[[['global', 'local'], 1]]"),
    "gpt-neox": _decoder("GPTNeoX", TEXT),
    "llama": _decoder("Llama"),
    "mistral": _decoder("Mistral", f"{DECODER}, sliding_window=8"),
    "qwen2": _decoder("Qwen2"),
    "qwen3": _decoder("Qwen3", f"{DECODER}, head_dim=16"),
    "gemma": _decoder("Gemma", f"{DECODER}, head_dim=16"),
    "phi": _decoder("Phi", TEXT),
    "opt": _decoder("OPT", f"{SIZED}, ffn_dim=64, word_embed_proj_dim=32"),
    "bloom": _decoder("Bloom", "vocab_size=300, hidden_size=32, n_layer=2, n_head=2"),
    "t5 encoder": _text(
        "T5",
        "vocab_size=300, d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2",
        MEAN,
        kind="EncoderModel",
    ),
    "vit": _picture("ViT"),
    "deit": _picture("DeiT"),
    "beit": _picture("Beit", f"{PICTURE}, use_relative_position_bias=True"),
    "dinov2": _picture("Dinov2", f"{PICTURE}, mlp_ratio=2"),
    "swin": _picture("Swin", f"{WINDOWS}, {LABELS}", 64),
    "swinv2": _picture("Swinv2", f"{WINDOWS}, {LABELS}", 64),
    "convnext": _picture("ConvNext", f"{STAGES}, {LABELS}", 64),
    "convnextv2": _picture("ConvNextV2", f"{STAGES}, {LABELS}", 64),
    "mobilevit": _picture("MobileViT", f"{SEEN}, {LABELS}", 64),
    "mobilevitv2": _picture("MobileViTV2", f"image_size=64, width_multiplier=0.5, {LABELS}", 64),
    "mobilenet_v1": _picture("MobileNetV1", f"image_size=64, depth_multiplier=0.25, {LABELS}", 64),
    "mobilenet_v2": _picture("MobileNetV2", f"image_size=64, depth_multiplier=0.35, {LABELS}", 64),
    "segformer": _picture("Segformer", f"{SPREAD}, {LABELS}", 64),
    "pvt": _picture("Pvt", f"image_size=64, {SPREAD}, {LABELS}", 64),
    "resnet": _picture("ResNet", f"embedding_size=16, {STAGES}, layer_type='basic', {LABELS}", 64),
    "regnet": _picture("RegNet", f"embedding_size=16, {STAGES}, groups_width=8, {LABELS}", 64),
    "poolformer": _picture("PoolFormer", f"{STAGES}, {LABELS}", 64),
    "levit": _picture("Levit", f"{LEVIT}, {LABELS}", 64),
    "efficientnet": _maps(
        "EfficientNet", "image_size=64, width_coefficient=0.5, depth_coefficient=0.5, hidden_dim=640", 640
    ),
    "clip vision": Architecture(
        ("CLIPVisionModel", "CLIPVisionConfig"),
        PICTURE.replace(f", {LABELS}", ""),
        FIRST,
        "pixel_values=x",
        "pictures",
        (3, 32, 32),
    ),
    "wav2vec2": Architecture(("Wav2Vec2Model", "Wav2Vec2Config"), WAVES, MEAN, "x[..., 0]", "series", (1000, 1)),
    "hubert": Architecture(("HubertModel", "HubertConfig"), WAVES, MEAN, "x[..., 0]", "series", (1000, 1)),
    "audio-spectrogram": Architecture(
        ("ASTForAudioClassification", "ASTConfig"),
        f"{PICTURE.partition('image_size=32, ')[2]}, {SPECTROGRAM}",
        LOGITS,
        "input_values=x",
        "series",
        (32, 32),
    ),
    "whisper encoder": Architecture(
        ("WhisperModel", "WhisperConfig"), WHISPER, ENCODER, "x.transpose(1, 2)", "series", (40, 16)
    ),
    "patchtst": Architecture(
        ("PatchTSTForClassification", "PatchTSTConfig"),
        PATCHES,
        ("", "return self.body(past_values=x).prediction_logits"),
        "",
        "series",
        (32, 4),
    ),
}


def hugging_face() -> list[Entry]:
    """Returns all of them."""
    return [architecture.entry(name) for name, architecture in ARCHITECTURES.items()]
