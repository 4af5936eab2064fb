import logging

import pytest
import torch
import transformers
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn import functional as F

from sharpseq.scoring import ScoreRequest, output_heads, score_model

V, D = 37, 16
SIZES = {"vocab_size": V, "pad_token_id": 1, "eos_token_id": 2, "bos_token_id": 0}
DECODER = {
    **SIZES,
    "hidden_size": D,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 32,
}
BART = {
    **SIZES,
    "d_model": D,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 32,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
T5 = {**SIZES, "d_model": D, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
CAUSAL = {
    "llama": transformers.LlamaConfig(**DECODER),
    "llama_tied": transformers.LlamaConfig(**DECODER, tie_word_embeddings=True),
    "gpt2": transformers.GPT2Config(**SIZES, n_embd=D, n_layer=1, n_head=2, n_positions=32),
    "qwen3": transformers.Qwen3Config(**DECODER),
    "gemma2": transformers.Gemma2Config(**DECODER, query_pre_attn_scalar=8, final_logit_softcapping=0.2),
    "cohere": transformers.CohereConfig(**DECODER, logit_scale=3.0),
    "granite": transformers.GraniteConfig(**DECODER, logits_scaling=0.5),
    "phi": transformers.PhiConfig(**{name: value for name, value in DECODER.items() if name != "head_dim"}),
}
SEQ2SEQ = {
    "t5_tied": transformers.T5Config(**T5),
    "t5_untied": transformers.T5Config(**T5, tie_word_embeddings=False, feed_forward_proj="gated-gelu"),
    "bart": transformers.BartConfig(**BART),
    "marian": transformers.MarianConfig(**BART, decoder_vocab_size=V),
    "m2m100": transformers.M2M100Config(**BART),
}


def build(name):
    torch.manual_seed(0)
    config = {**CAUSAL, **SEQ2SEQ}[name]
    auto = transformers.AutoModelForSeq2SeqLM if name in SEQ2SEQ else transformers.AutoModelForCausalLM
    model = auto.from_config(config).double().eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias += torch.randn_like(model.final_logits_bias)
    return model


def make_batch(model):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, V, (3, 6), generator=generator)
    labels = ids.clone()
    labels[0, 4:], labels[1, :2], labels[2, 3] = -100, -100, -100
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = torch.randint(3, V, (3, 6), generator=generator)
    return batch


def by_definition(model, batch):
    """Sum log-probabilities one sequence and one token at a time, from the model's own logits."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs).logits
    shift = 0 if model.config.is_encoder_decoder else 1
    sums, means = [], []
    for row, labels in enumerate(batch["labels"]):
        total, mean = 0.0, 0.0
        for place in range(shift, len(labels)):
            if labels[place] != -100:
                log_probs = F.log_softmax(logits[row, place - shift], -1)
                total, mean = total + log_probs[labels[place]], mean + log_probs.mean()
        sums.append(total)
        means.append(mean)
    return torch.stack(sums), torch.stack(means)


def gradients(model, value):
    model.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_scored_as_defined(model, batch):
    log_prob, mean = by_definition(model, batch)
    expected = gradients(model, (log_prob.exp() + 0.3 * mean).sum())
    scores = score_model(model, batch, request=ScoreRequest(vocab_mean=True))
    torch.testing.assert_close(scores.log_prob, log_prob.detach())
    torch.testing.assert_close(scores.vocab_mean_log_prob, mean.detach())
    found = gradients(model, (scores.log_prob.exp() + 0.3 * scores.vocab_mean_log_prob).sum())
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
def test_every_family_is_scored_as_defined_without_its_logits(name, monkeypatch, caplog):
    model = build(name)
    monkeypatch.setattr("sharpseq.scoring.model_scores.score_logits", None)
    with caplog.at_level(logging.WARNING):
        assert_scored_as_defined(model, make_batch(model))
    assert not caplog.records


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5_tied"])
def test_a_model_is_what_it_was_after_being_scored(name):
    model = build(name)
    batch = make_batch(model)
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    before = model(**inputs).logits
    score_model(model, batch)
    torch.testing.assert_close(model(**inputs).logits, before)
    assert "forward" not in vars(model) and "forward" not in vars(model.get_output_embeddings())


def test_unknown_changes_of_logits_are_seen_and_scored_from_the_logits(caplog):
    model = build("llama")
    forward = model.forward

    def squared(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = output.logits**2
        return output

    model.forward = squared
    with caplog.at_level(logging.WARNING):
        assert_scored_as_defined(model, make_batch(model))
    assert "scoring from full logits" in caplog.text
    assert len(caplog.records) == 1
    assert model.forward is squared


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["q_proj", "lm_head"]], ids=str)
def test_adapters_are_scored_as_defined_wherever_they_are(targets, monkeypatch):
    peft = pytest.importorskip("peft")
    monkeypatch.setattr(output_heads, "CHUNK_ELEMENTS", 4 * V)
    monkeypatch.setattr("sharpseq.scoring.model_scores.score_logits", None)
    config = peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
    model = peft.get_peft_model(build("llama"), config).double().eval()
    batch = make_batch(model)
    assert_scored_as_defined(model, batch)
    adapted = score_model(model, batch).log_prob
    torch.testing.assert_close(score_model(model.merge_and_unload(), batch).log_prob, adapted)


def test_packed_rows_are_scored_like_rows_of_their_own():
    model = build("llama")
    lengths, generator = [3, 1, 4], torch.Generator().manual_seed(2)
    sequences = [torch.randint(3, V, (1, length), generator=generator) for length in lengths]
    ids = torch.cat(sequences, 1)
    packed = {
        "input_ids": ids,
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "labels": ids,
    }
    numbers = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
    scores = score_model(model, packed, sequence_ids=numbers, request=ScoreRequest(vocab_mean=True, entropy=True))
    assert scores.num_tokens.tolist() == [2, 0, 3]
    for number, sequence in enumerate(sequences):
        alone = score_model(
            model, {"input_ids": sequence, "labels": sequence}, request=ScoreRequest(vocab_mean=True, entropy=True)
        )
        for name in ("log_prob", "vocab_mean_log_prob", "entropy"):
            torch.testing.assert_close(scores[name][number], alone[name][0])


def test_the_entropy_is_that_of_the_predictions():
    model = build("gemma2")
    batch = make_batch(model)
    log_probs = F.log_softmax(model(batch["input_ids"]).logits, -1)
    entropies = -(log_probs.exp() * log_probs).sum(-1)[:, :-1]
    expected = (entropies * (batch["labels"][:, 1:] != -100)).sum(1)
    torch.testing.assert_close(score_model(model, batch, request=ScoreRequest(entropy=True)).entropy, expected)


def test_a_sequence_of_one_token_has_nothing_to_score():
    model = build("gpt2")
    scores = score_model(model, {"input_ids": torch.tensor([[5]]), "labels": torch.tensor([[5]])})
    assert scores.log_prob.tolist() == [0] and scores.num_tokens.tolist() == [0]
    assert scores.normalized_log_prob().tolist() == [0]


def test_a_model_without_an_output_embedding_is_refused():
    model = transformers.AutoModel.from_config(CAUSAL["llama"])
    ids = torch.tensor([[5, 6]])
    with pytest.raises(ValueError, match=r"LlamaModel has no output embedding.*AutoModelForCausalLM"):
        score_model(model, {"input_ids": ids, "labels": ids})


def test_a_label_outside_the_vocabulary_is_refused():
    model = build("llama")
    with pytest.raises(ValueError, match=rf"`labels` must be -100 or in \[0, {V}\).*got {V}"):
        score_model(model, {"input_ids": torch.tensor([[5, 6]]), "labels": torch.tensor([[5, V]])})
    score_model(model, {"input_ids": torch.tensor([[5, 6]]), "labels": torch.tensor([[5, 6]])})


def test_bf16_autocast_is_followed():
    model = build("llama").float()
    batch = make_batch(model)
    with torch.autocast("cpu", torch.bfloat16):
        scores = score_model(model, batch)
    assert scores.log_prob.dtype == torch.float32
    torch.testing.assert_close(scores.log_prob, score_model(model, batch).log_prob, rtol=0.02, atol=0.05)


def test_an_output_embedding_that_is_split_over_devices_is_refused():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        model = build("llama")
        mesh = init_device_mesh("cpu", (1,))
        model.lm_head.weight = torch.nn.Parameter(distribute_tensor(model.lm_head.weight.detach(), mesh, [Shard(0)]))
        with pytest.raises(
            ValueError, match=r"split over devices \(tensor parallelism\).*use data parallelism or FSDP"
        ):
            score_model(model, make_batch(model))
    finally:
        torch.distributed.destroy_process_group()
