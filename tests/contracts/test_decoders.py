"""What every decoder promises, whatever the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import M2M100Config, M2M100ForConditionalGeneration

from sharpseq.decoding import (
    DECODERS,
    AutoregressiveModel,
    CtcModel,
    DagModel,
    DecodeOutput,
    EncoderOutput,
    LatentModel,
    ParallelModel,
    SoftMaskModel,
)
from sharpseq.scoring import DagGraph, DiagonalGaussian

VOCAB_SIZE = 20
EOS, PAD, BOS, MASK = 0, 1, 3, 4
SPECIALS = (EOS, PAD, BOS, MASK)


def mean_id(batch: Mapping[str, Tensor], sequences: Tensor, num_tokens: Tensor) -> Tensor:
    """A rescorer that likes large ids."""
    real = torch.arange(sequences.shape[1]) < num_tokens[:, None]
    return (sequences * real).sum(1).double() / num_tokens


def source_backwards(batch: Mapping[str, Tensor]) -> DecodeOutput:
    """A drafter that writes the tokens of the source from the last to the first."""
    lengths = batch["attention_mask"].long().sum(1)
    places = (lengths[:, None] - 1 - torch.arange(batch["input_ids"].shape[1])).clamp(min=0)
    return DecodeOutput(batch["input_ids"].gather(1, places), torch.zeros(len(lengths)), lengths, num_passes=1)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("autoregressive", {}),
    ("autoregressive", {"num_beams": 3, "length_penalty": 0.6}),
    ("autoregressive", {"num_beams": 2, "min_new_tokens": 2, "max_new_tokens": 5, "no_repeat_ngram_size": 2}),
    ("autoregressive", {"num_beams": 3, "processors": ["em_inf", {"name": "bregman_top_k", "k": 3}]}),
    ("argmax", {}),
    ("argmax", {"length_beam": 3}),
    ("mask_predict", {}),
    ("mask_predict", {"iterations": 3, "length_beam": 2}),
    ("ordered_unmasking", {}),
    ("ordered_unmasking", {"steps": 3, "order": "entropy", "length_beam": 2}),
    ("ordered_unmasking", {"steps": None, "temperature": 0.7, "seed": 2}),
    ("ancestral", {"steps": 1}),
    ("ancestral", {"steps": 4, "seed": 1, "temperature": 0.5}),
    ("ancestral", {"steps": None, "length_beam": 2, "rescorer": mean_id}),
    ("soft_mask", {}),
    ("soft_mask", {"refine_steps": 2, "mix": 0.3, "stop_tolerance": 0.01, "length_beam": 2}),
    ("ctc_best_path", {}),
    ("ctc_best_path", {"blank_bias": 1.5}),
    ("ctc_prefix_beam", {}),
    ("ctc_prefix_beam", {"beam_size": 3, "top_k": 2}),
    ("dag_lookahead", {}),
    ("dag_lookahead", {"emission_weight": 0.0}),
    ("dag_viterbi", {}),
    ("dag_viterbi", {"length_penalty": 0.0, "token_bonus": 0.5}),
    ("dag_beam", {}),
    ("dag_beam", {"beam_size": 3, "top_k": 2, "length_penalty": 0.5, "token_bonus": 0.5}),
    ("dag_beam", {"beam_size": 3, "rescorer": mean_id}),
    ("dag_sampling", {}),
    ("dag_sampling", {"num_samples": 3, "seed": 1}),
    ("delta_inference", {}),
    ("delta_inference", {"steps": 0}),
    ("delta_inference", {"steps": 2, "length_beam": 3, "remove_repetitions": False}),
    ("latent_refinement", {}),
    ("latent_refinement", {"steps": 3, "step_size": 0.5, "length_beam": 2, "rescorer": mean_id}),
    ("latent_refinement", {"steps": 40, "tolerance": 1e-3}),
    ("latent_search", {"rescorer": mean_id}),
    ("latent_search", {"length_beam": 1, "num_samples": 1, "seed": 3}),
    ("latent_search", {"refinement": "learned", "steps": 2, "length_beam": 2, "num_samples": 3, "rescorer": mean_id}),
    ("latent_search", {"refinement": "none", "length_beam": 1, "num_samples": 4, "rescorer": mean_id}),
    ("verified_draft", {"drafter": source_backwards}),
    ("best_of_n", {"n": 4}),
    ("best_of_n", {"n": 3, "temperature": 2.0, "rescorer": mean_id}),
    ("lattice_mbr", {}),
    ("lattice_mbr", {"beam_size": 3, "precision": 0.3, "precision_ratio": 0.5}),
    ("sample_mbr", {"n": 4}),
    ("sample_mbr", {"n": 3, "temperature": 2.0}),
]


def spelled(name: str, options: dict[str, Any]) -> str:
    return "-".join([name, *(f"{key}={getattr(value, '__name__', value)}" for key, value in options.items())])


every_decoder = pytest.mark.parametrize(
    ("name", "options"), CASES, ids=[spelled(name, options) for name, options in CASES]
)


@dataclass
class FakeConfig:
    pad_token_id: int = PAD
    eos_token_id: int = EOS
    bos_token_id: int = BOS
    mask_token_id: int | None = MASK
    blank_token_id: int | None = PAD
    vocab_size: int = VOCAB_SIZE
    max_target_positions: int = 12
    latent_size: int = 3


class FakeModel(nn.Module):
    """Random weights, dropout, and the mean over real tokens as the only thing that positions know of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.config = FakeConfig()
        self.embedding = nn.Embedding(VOCAB_SIZE, 8)
        self.positions = nn.Embedding(64, 8)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(8, VOCAB_SIZE)
        self.num_passes = 0
        with torch.no_grad():
            self.output.weight.mul_(8)

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        hidden = self.embedding(input_ids) + self.positions(torch.arange(input_ids.shape[1]))
        hidden = hidden + masked_mean(hidden, attention_mask.bool())[:, None]
        return EncoderOutput(hidden=self.dropout(hidden), attention_mask=attention_mask, input_ids=input_ids)


class FakeLengthModel(FakeModel):
    def __init__(self) -> None:
        super().__init__()
        self.length = nn.Linear(8, 7)

    def predict_length_log_probs(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        lengths = encoded.attention_mask.sum(1, keepdim=True) + torch.arange(-3, 4)
        pooled = masked_mean(encoded.hidden, encoded.attention_mask.bool())
        return lengths.clamp(min=1), self.length(pooled).log_softmax(-1)

    def target_states(self, states: Tensor, lengths: Tensor, encoded: EncoderOutput) -> Tensor:
        real = torch.arange(states.shape[1]) < lengths[:, None]
        states = states + self.positions(torch.arange(real.shape[1]))
        states = states + masked_mean(states, real)[:, None]
        states = states + masked_mean(encoded.hidden, encoded.attention_mask.bool())[:, None]
        return self.dropout(torch.tanh(states))


class FakeParallelModel(FakeLengthModel):
    def decode_parallel(
        self, encoded: EncoderOutput, lengths: Tensor, *, decoder_input_ids: Tensor | None = None
    ) -> Tensor:
        if decoder_input_ids is None:
            decoder_input_ids = torch.full((len(lengths), int(lengths.max())), MASK)
        return self.decode_mixtures(encoded, lengths, nn.functional.one_hot(decoder_input_ids, VOCAB_SIZE))

    def decode_mixtures(self, encoded: EncoderOutput, lengths: Tensor, mixtures: Tensor) -> Tensor:
        self.num_passes += 1
        embedded = mixtures.to(self.embedding.weight.dtype) @ self.embedding.weight
        return self.output(self.target_states(embedded, lengths, encoded))


class FakeLatentModel(FakeLengthModel):
    """Prior, posterior and refinement network see what the decoder sees, and lead to different tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({"prior": nn.Linear(8, 6), "posterior": nn.Linear(8, 6), "refiner": nn.Linear(8, 3)})
        self.latent_input = nn.Linear(3, 8)
        with torch.no_grad():
            self.latent_input.weight.mul_(6)

    def prior(self, encoded: EncoderOutput, lengths: Tensor) -> DiagonalGaussian:
        nothing = encoded.hidden.new_zeros(len(lengths), int(lengths.max()), 8)
        return self.gaussian("prior", self.target_states(nothing, lengths, encoded))

    def posterior(self, encoded: EncoderOutput, target_ids: Tensor, lengths: Tensor) -> DiagonalGaussian:
        return self.gaussian("posterior", self.target_states(self.embedding(target_ids), lengths, encoded))

    def gaussian(self, head: str, states: Tensor) -> DiagonalGaussian:
        self.num_passes += 1
        output = self.heads[head](states)
        mean, log_std = output.to(torch.promote_types(output.dtype, torch.float32)).chunk(2, dim=-1)
        return DiagonalGaussian(mean, log_std)

    def decode_latent(self, encoded: EncoderOutput, latent: Tensor, lengths: Tensor) -> Tensor:
        self.num_passes += 1
        return self.output(self.latent_states(latent, lengths, encoded))

    def refiner(self, latent: Tensor, lengths: Tensor, encoded: EncoderOutput) -> SimpleNamespace:
        self.num_passes += 1
        target = self.heads["refiner"](self.latent_states(latent, lengths, encoded))
        return SimpleNamespace(gradient=latent - 0.2 * target.to(latent.dtype), energy=None)

    def latent_states(self, latent: Tensor, lengths: Tensor, encoded: EncoderOutput) -> Tensor:
        return self.target_states(self.latent_input(latent.to(self.latent_input.weight.dtype)), lengths, encoded)


class FakeCtcModel(FakeModel):
    def decode_frames(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        self.num_passes += 1
        frames = encoded.hidden.repeat_interleave(2, dim=1)
        frames = frames + self.positions(torch.arange(frames.shape[1]))
        mask = encoded.attention_mask.bool().repeat_interleave(2, dim=1)
        return self.output(self.dropout(torch.tanh(frames))), mask


class FakeDagModel(FakeModel):
    """Links are attention to later vertices; four vertices a source token."""

    def decode_graph(self, encoded: EncoderOutput) -> DagGraph:
        self.num_passes += 1
        states = encoded.hidden.repeat_interleave(4, dim=1)
        states = torch.tanh(self.dropout(states + self.positions(torch.arange(states.shape[1]))))
        mask = encoded.attention_mask.bool().repeat_interleave(4, dim=1)
        later = torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool).triu(1) & mask[:, None]
        scores = (states @ states.transpose(1, 2)).to(torch.promote_types(states.dtype, torch.float32))
        links = scores.masked_fill(~later, -1e9).log_softmax(2).masked_fill(~later, -torch.inf)
        return DagGraph(self.output(states), links, mask)


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    return states.masked_fill(~mask[:, :, None], 0).sum(1) / mask.sum(1, keepdim=True)


def m2m100() -> M2M100ForConditionalGeneration:
    config = M2M100Config(
        vocab_size=VOCAB_SIZE,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        dropout=0.3,
        init_std=0.5,
        max_position_embeddings=32,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=BOS,
        mask_token_id=MASK,
        decoder_start_token_id=EOS,
        # Untied and unscaled, or a random model repeats its last token for ever.
        tie_word_embeddings=False,
        scale_embedding=False,
    )
    return M2M100ForConditionalGeneration(config)


MODELS = {
    AutoregressiveModel: m2m100,
    ParallelModel: FakeParallelModel,
    SoftMaskModel: FakeParallelModel,
    CtcModel: FakeCtcModel,
    DagModel: FakeDagModel,
    LatentModel: FakeLatentModel,
}


def model_for(name: str) -> Any:
    # With this seed some autoregressive outputs end by themselves and others at their limit.
    torch.manual_seed(27)
    kinds = DECODERS[name].model
    return MODELS[kinds[0] if isinstance(kinds, tuple) else kinds]().double().eval()


def sources() -> dict[str, Tensor]:
    """Four sources; the second has nothing but EOS."""
    rows = [[7, 9, 5, EOS], [EOS], [11, 6, 13, 8, 19, EOS], [12, 5, EOS]]
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row + [PAD] * (width - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
    }


def outputs(output: DecodeOutput) -> list[list[int]]:
    return [row[:length].tolist() for row, length in zip(output.sequences, output.num_tokens, strict=True)]


def assert_same(output: DecodeOutput, expected: DecodeOutput) -> None:
    assert outputs(output) == outputs(expected)
    torch.testing.assert_close(output.log_prob, expected.log_prob)
    assert output.num_tokens.tolist() == expected.num_tokens.tolist()


def test_every_decoder_is_tested() -> None:
    assert {name for name, _ in CASES} == set(DECODERS)


@every_decoder
def test_shapes_and_types(name: str, options: dict[str, Any]) -> None:
    output = DECODERS[name].decode(model_for(name), sources(), **options)
    assert output.sequences.shape == (4, int(output.num_tokens.max()))
    assert output.sequences.dtype == output.num_tokens.dtype == torch.long
    assert output.num_tokens.shape == output.log_prob.shape == (4,)
    assert output.log_prob.dtype == torch.float64
    behind = torch.arange(output.sequences.shape[1]) >= output.num_tokens[:, None]
    assert (output.sequences[behind] == PAD).all()
    # What is decoded may be trained on, so it must not be an inference tensor.
    assert not output.sequences.is_inference()
    assert not output.log_prob.requires_grad


@every_decoder
def test_no_special_tokens(name: str, options: dict[str, Any]) -> None:
    output = DECODERS[name].decode(model_for(name), sources(), **options)
    assert not {token for row in outputs(output) for token in row} & set(SPECIALS)
    assert output.num_tokens.sum() > 0


@every_decoder
def test_log_prob_is_a_log_probability(name: str, options: dict[str, Any]) -> None:
    output = DECODERS[name].decode(model_for(name), sources(), **options)
    assert output.log_prob.isfinite().all()
    assert (output.log_prob <= 0).all()


@every_decoder
def test_padding_changes_nothing(name: str, options: dict[str, Any]) -> None:
    model, batch = model_for(name), sources()
    padded = {
        "input_ids": nn.functional.pad(batch["input_ids"], (0, 5), value=PAD),
        "attention_mask": nn.functional.pad(batch["attention_mask"], (0, 5)),
    }
    decode = DECODERS[name].decode
    assert_same(decode(model, padded, **options), decode(model, batch, **options))


@every_decoder
def test_order_of_the_batch_changes_nothing(name: str, options: dict[str, Any]) -> None:
    model, batch, decode = model_for(name), sources(), DECODERS[name].decode
    order = torch.tensor([2, 0, 3, 1])
    output = decode(model, {key: value[order] for key, value in batch.items()}, **options)
    back = order.argsort()
    restored = DecodeOutput(output.sequences[back], output.log_prob[back], output.num_tokens[back], output.num_passes)
    assert_same(restored, decode(model, batch, **options))


@every_decoder
def test_a_batch_is_its_sources_one_by_one(name: str, options: dict[str, Any]) -> None:
    model, batch, decode = model_for(name), sources(), DECODERS[name].decode
    together = decode(model, batch, **options)
    for row, mask in enumerate(batch["attention_mask"]):
        width = int(mask.sum())
        alone = decode(model, {key: value[row : row + 1, :width] for key, value in batch.items()}, **options)
        assert outputs(alone) == outputs(together)[row : row + 1]
        torch.testing.assert_close(alone.log_prob, together.log_prob[row : row + 1])


@every_decoder
def test_replay(name: str, options: dict[str, Any]) -> None:
    model, batch, decode = model_for(name), sources(), DECODERS[name].decode
    before = torch.get_rng_state()
    first = decode(model, batch, generator=torch.Generator().manual_seed(1), **options)
    second = decode(model, batch, generator=torch.Generator().manual_seed(1), **options)
    assert torch.equal(first.sequences, second.sequences)
    assert torch.equal(first.log_prob, second.log_prob)
    assert torch.equal(torch.get_rng_state(), before), "the global generator belongs to the caller"


@every_decoder
def test_decodes_without_dropout_and_leaves_the_model_as_it_was(name: str, options: dict[str, Any]) -> None:
    model, batch, decode = model_for(name), sources(), DECODERS[name].decode
    expected = decode(model, batch, **options)
    model.train()
    frozen = next(module for module in model.modules() if isinstance(module, nn.Embedding)).eval()
    assert_same(decode(model, batch, **options), expected)
    assert [module for module in model.modules() if not module.training] == [frozen]


@every_decoder
def test_inputs_are_not_modified(name: str, options: dict[str, Any]) -> None:
    model, batch = model_for(name), sources()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    DECODERS[name].decode(model, batch, **options)
    assert all(torch.equal(batch[key], value) for key, value in sources().items())
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())


def test_the_autoregressive_model_is_no_trivial_case() -> None:
    lengths = DECODERS["autoregressive"].decode(model_for("autoregressive"), sources()).num_tokens.tolist()
    limits = [2 * int(mask.sum()) + 10 for mask in sources()["attention_mask"]]
    assert [length < limit for length, limit in zip(lengths, limits, strict=True)] == [False, False, False, True]
    assert len(set(lengths)) == 4


@every_decoder
def test_only_the_end_mark_as_source(name: str, options: dict[str, Any]) -> None:
    batch = {"input_ids": torch.tensor([[EOS], [EOS]]), "attention_mask": torch.ones(2, 1, dtype=torch.long)}
    output = DECODERS[name].decode(model_for(name), batch, **options)
    assert output.log_prob.isfinite().all()
    assert outputs(output)[0] == outputs(output)[1]


@every_decoder
def test_bfloat16_models_get_float32_log_probs(name: str, options: dict[str, Any]) -> None:
    output = DECODERS[name].decode(model_for(name).bfloat16(), sources(), **options)
    assert output.log_prob.dtype == torch.float32
    assert output.log_prob.isfinite().all()


@every_decoder
def test_num_passes_counts_what_ran(name: str, options: dict[str, Any]) -> None:
    model = model_for(name)
    if name == "autoregressive":
        passes: list[int] = []
        model.model.decoder.register_forward_hook(lambda *_: passes.append(1))
        output = DECODERS[name].decode(model, sources(), **options)
        assert len(passes) == output.num_passes + 1, "the steps, and one pass that scores the result"
        assert output.num_passes > int(output.num_tokens.max())
    elif name == "verified_draft":
        output = DECODERS[name].decode(model, sources(), **options)
        assert output.num_passes == 1 + int(output.trace["verifying_passes"].max())
    elif options.get("tolerance"):
        output = DECODERS[name].decode(model, sources(), **options)
        assert 4 < model.num_passes == output.num_passes < 2 + options["steps"], "none after all have converged"
    elif name in ("ordered_unmasking", "ancestral", "soft_mask"):
        output = DECODERS[name].decode(model, sources(), **options)
        assert model.num_passes == output.num_passes == len(output.trace["passes"])
        assert output.num_passes >= int(output.trace["passes_of_output"].max()) >= 1
    else:
        output = DECODERS[name].decode(model, sources(), **options)
        assert model.num_passes == output.num_passes == expected_passes(name, options)


def expected_passes(name: str, options: dict[str, Any]) -> int:
    """One for each iteration; for a latent one for the prior, one for writing and those of the steps between them."""
    if DECODERS[name].model is not LatentModel:
        return int(options.get("iterations", 1))
    kind = options.get("refinement", "learned" if name == "latent_refinement" else "delta")
    return 2 + {"delta": 2, "learned": 1, "none": 0}[kind] * int(options.get("steps", 1))


def test_the_latent_model_is_no_trivial_case() -> None:
    model, batch = model_for("delta_inference"), sources()
    for name in ("delta_inference", "latent_refinement"):
        written = [outputs(DECODERS[name].decode(model, batch, steps=steps)) for steps in (0, 2)]
        assert all(before != after for before, after in zip(*written, strict=True))
    search = DECODERS["latent_search"].decode(model, batch, rescorer=mean_id)
    assert len(set(search.trace["candidate_scores"].argmax(1).tolist())) > 1
    assert search.trace["num_repetitions"].any()


def test_the_table_is_read_only_and_its_options_are_the_signatures() -> None:
    with pytest.raises(TypeError):
        DECODERS["mine"] = DECODERS["argmax"]  # type: ignore[index]
    assert dict(DECODERS["argmax"].options) == {"length_beam": 1}
    assert dict(DECODERS["dag_lookahead"].options) == {"emission_weight": 1.0}
    assert dict(DECODERS["dag_viterbi"].options) == {"length_penalty": 1.0, "token_bonus": 0.0}
    assert dict(DECODERS["dag_beam"].options) == {
        "beam_size": 5,
        "top_k": 5,
        "length_penalty": 0.0,
        "token_bonus": 0.0,
        "lm_weight": 0.0,
    }
    assert dict(DECODERS["dag_sampling"].options) == {"num_samples": 1, "seed": 0}
    assert dict(DECODERS["ctc_best_path"].options) == {"blank_bias": 0.0}
    assert dict(DECODERS["autoregressive"].options) == {
        "num_beams": 1,
        "length_penalty": 1.0,
        "min_new_tokens": 0,
        "max_new_tokens": None,
        "no_repeat_ngram_size": 0,
        "processors": (),
    }
    assert dict(DECODERS["delta_inference"].options) == {
        "steps": 1,
        "length_beam": 1,
        "remove_repetitions": True,
        "keep_steps": False,
    }
    assert dict(DECODERS["latent_refinement"].options) == {
        **DECODERS["delta_inference"].options,
        "step_size": 1.0,
        "tolerance": 0.0,
    }
    assert dict(DECODERS["latent_search"].options) == {
        **DECODERS["delta_inference"].options,
        "length_beam": 5,
        "num_samples": 5,
        "refinement": "delta",
        "step_size": 1.0,
        "seed": 0,
    }
    assert [name for name, spec in DECODERS.items() if spec.takes_rescorer] == [
        "argmax",
        "mask_predict",
        "ordered_unmasking",
        "ancestral",
        "soft_mask",
        "ctc_prefix_beam",
        "dag_beam",
        "delta_inference",
        "latent_refinement",
        "latent_search",
        "best_of_n",
    ]
    for spec in DECODERS.values():
        assert spec.declaration.summary and "\n" not in spec.declaration.summary
        kinds = spec.model if isinstance(spec.model, tuple) else (spec.model,)
        assert spec.declaration.reference and set(kinds) <= set(MODELS)
