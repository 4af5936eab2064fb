"""A GGUF file of the tiny Llama, written tensor by tensor as llama.cpp lays them out."""

from __future__ import annotations

import re
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray
from tiny_pretrained import CHARACTERS, CHAT_TEMPLATE, SPECIALS
from transformers import LlamaForCausalLM

# GPT-2's alphabet has signs of its own for space and line break, and its tokenizers need at least one merge.
TOKENS = [*SPECIALS, *({" ": "Ġ", "\n": "Ċ"}.get(sign, sign) for sign in CHARACTERS), "zz"]
OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
INSIDE = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(file: Path, model: LlamaForCausalLM) -> Path:
    """Write a Llama with as many rows in its embedding as `TOKENS` has, and return the file."""
    config = model.config
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] * len(SPECIALS) + [gguf.TokenType.NORMAL] * (len(CHARACTERS) + 1))
    writer.add_token_merges(["z z"])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_unk_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(*_as_stored(name, tensor.numpy(), config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _as_stored(name: str, array: NDArray[np.float32], config: object) -> tuple[str, NDArray[np.float32]]:
    if name in OUTSIDE:
        return OUTSIDE[name], array
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.*)\.weight", name)
    assert match
    part = INSIDE[match[2]]
    heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
    if part in heads:
        # llama.cpp rotates neighbouring rows, transformers the two halves of a head.
        count = getattr(config, heads[part])
        array = array.reshape(count, 2, array.shape[0] // count // 2, -1).swapaxes(1, 2).reshape(array.shape)
    return f"blk.{match[1]}.{part}.weight", np.ascontiguousarray(array)
