"""Adapters added to the weights of their model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from sharpseq.models.adapters import add_lora, merged

IDS = torch.arange(14).reshape(2, 7)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize(
    ("targets", "is_tied"), [(["q_proj"], True), (["lm_head", "q_proj"], False), (["embed_tokens"], False)], ids=str
)
def test_a_merged_model_computes_the_same_also_where_head_and_embeddings_are_one(
    targets: list[str], is_tied: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=20, tie_word_embeddings=True, **sizes)).eval()
    adapted = add_lora(model, r=2, target_modules=targets).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    with torch.no_grad():
        expected = adapted(input_ids=IDS).logits
        plain = merged(adapted)
        torch.testing.assert_close(plain(input_ids=IDS).logits, expected)
        assert (plain.lm_head.weight is plain.model.embed_tokens.weight) == is_tied
        plain.save_pretrained(tmp_path)
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
        torch.testing.assert_close(loaded(input_ids=IDS).logits, expected)
