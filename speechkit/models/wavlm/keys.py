"""What others call our tensors: one table to fairseq's names and one to transformers'.

Each row is (pattern of our name, name there). No shape changes: names are all that differs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

log = logging.getLogger(__name__)

Table = Sequence[tuple[str, str]]

_FAIRSEQ_ENCODER = (
    (r"mask_embedding", r"mask_emb"),
    (r"front_end\.convs\.(\d+)\.", r"feature_extractor.conv_layers.\1.0."),
    (r"feature_norm\.", r"layer_norm."),
    (r"feature_projection\.", r"post_extract_proj."),
    (r"transformer\.positions\.gain", r"encoder.pos_conv.0.weight_g"),
    (r"transformer\.positions\.direction", r"encoder.pos_conv.0.weight_v"),
    (r"transformer\.positions\.bias", r"encoder.pos_conv.0.bias"),
    (r"transformer\.norm\.", r"encoder.layer_norm."),
    (r"transformer\.relative_bias\.weight", r"encoder.layers.0.self_attn.relative_attention_bias.weight"),
    (r"transformer\.layers\.(\d+)\.attention\.query\.", r"encoder.layers.\1.self_attn.q_proj."),
    (r"transformer\.layers\.(\d+)\.attention\.key\.", r"encoder.layers.\1.self_attn.k_proj."),
    (r"transformer\.layers\.(\d+)\.attention\.value\.", r"encoder.layers.\1.self_attn.v_proj."),
    (r"transformer\.layers\.(\d+)\.attention\.output\.", r"encoder.layers.\1.self_attn.out_proj."),
    (r"transformer\.layers\.(\d+)\.attention\.gate\.", r"encoder.layers.\1.self_attn.grep_linear."),
    (r"transformer\.layers\.(\d+)\.attention\.gate_scale", r"encoder.layers.\1.self_attn.grep_a"),
    (r"transformer\.layers\.(\d+)\.attention_norm\.", r"encoder.layers.\1.self_attn_layer_norm."),
    (r"transformer\.layers\.(\d+)\.fc(\d)\.", r"encoder.layers.\1.fc\2."),
    (r"transformer\.layers\.(\d+)\.ffn_norm\.", r"encoder.layers.\1.final_layer_norm."),
)
_FAIRSEQ_NORMS = {  # the norms of the front end, by kind
    "group": ((r"front_end\.norms\.0\.", r"feature_extractor.conv_layers.0.2."),),
    "layer": ((r"front_end\.norms\.(\d+)\.", r"feature_extractor.conv_layers.\1.2.1."),),
}
_FAIRSEQ_CTC = ((r"encoder\.", r"w2v_encoder.w2v_model."), (r"head\.", r"w2v_encoder.proj."))
_FAIRSEQ_UNITS = (
    (r"encoder\.", r""),
    (r"projection\.", r"final_proj."),
    (r"class_weights", r"label_embs_concat"),
    (r"target_glu\.", r"target_glu.0."),
)

_TRANSFORMERS_ENCODER = (
    (r"mask_embedding", r"masked_spec_embed"),
    (r"front_end\.convs\.(\d+)\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"front_end\.norms\.(\d+)\.", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"feature_norm\.", r"feature_projection.layer_norm."),
    (r"feature_projection\.", r"feature_projection.projection."),
    (r"transformer\.positions\.gain", r"encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"transformer\.positions\.direction", r"encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"transformer\.positions\.bias", r"encoder.pos_conv_embed.conv.bias"),
    (r"transformer\.norm\.", r"encoder.layer_norm."),
    (r"transformer\.relative_bias\.weight", r"encoder.layers.0.attention.rel_attn_embed.weight"),
    (r"transformer\.layers\.(\d+)\.attention\.query\.", r"encoder.layers.\1.attention.q_proj."),
    (r"transformer\.layers\.(\d+)\.attention\.key\.", r"encoder.layers.\1.attention.k_proj."),
    (r"transformer\.layers\.(\d+)\.attention\.value\.", r"encoder.layers.\1.attention.v_proj."),
    (r"transformer\.layers\.(\d+)\.attention\.output\.", r"encoder.layers.\1.attention.out_proj."),
    (r"transformer\.layers\.(\d+)\.attention\.gate\.", r"encoder.layers.\1.attention.gru_rel_pos_linear."),
    (r"transformer\.layers\.(\d+)\.attention\.gate_scale", r"encoder.layers.\1.attention.gru_rel_pos_const"),
    (r"transformer\.layers\.(\d+)\.attention_norm\.", r"encoder.layers.\1.layer_norm."),
    (r"transformer\.layers\.(\d+)\.fc1\.", r"encoder.layers.\1.feed_forward.intermediate_dense."),
    (r"transformer\.layers\.(\d+)\.fc2\.", r"encoder.layers.\1.feed_forward.output_dense."),
    (r"transformer\.layers\.(\d+)\.ffn_norm\.", r"encoder.layers.\1.final_layer_norm."),
)


def fairseq_names(names: Iterable[str], conv_norm: str) -> dict[str, str]:
    """The names in fairseq's and Microsoft's files of the tensors of one of our networks, by ours."""
    names = list(names)
    encoder = (*_FAIRSEQ_ENCODER, *_FAIRSEQ_NORMS[conv_norm])
    if "head.weight" in names:
        return _translate(names, encoder, _FAIRSEQ_CTC)
    return _translate(names, encoder, _FAIRSEQ_UNITS if "class_weights" in names else ())


def transformers_names(names: Iterable[str], prefix: str) -> dict[str, str]:
    """The names in transformers' files of the tensors of one of our networks, by ours.

    Args:
        names: ours, of an encoder or of a network with a CTC head.
        prefix: of the encoder within a network with a head, as `wavlm.`; "" for a bare encoder.
    """
    names = list(names)
    if "head.weight" in names:
        return _translate(names, _TRANSFORMERS_ENCODER, ((r"encoder\.", prefix), (r"head\.", r"lm_head.")))
    return {n: prefix + there for n, there in _translate(names, _TRANSFORMERS_ENCODER, ()).items()}


def without_pretraining(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """Leave out what an encoder does not use, the tensors whose names begin so, and say which."""
    left_out = [n for n in tensors if n.startswith(prefixes)]
    if left_out:
        log.info("left out, as only pre-training uses them: %s", ", ".join(left_out))
    return {n: t for n, t in tensors.items() if not n.startswith(prefixes)}


def _translate(names: Iterable[str], encoder: Table, heads: Table) -> dict[str, str]:
    """Apply the tables; in a network with a head the encoder's names stand behind `encoder.`."""
    translated = {}
    for name in names:
        if not heads:
            translated[name] = _apply(name, encoder)
        elif name.startswith("encoder."):
            translated[name] = _apply("encoder.", heads) + _apply(name.removeprefix("encoder."), encoder)
        else:
            translated[name] = _apply(name, heads)
    return translated


def _apply(name: str, table: Table) -> str:
    for pattern, replacement in table:
        if match := re.match(pattern, name):
            return match.expand(replacement) + name[match.end() :]
    raise AssertionError(f"{name} is in no row of the table")
