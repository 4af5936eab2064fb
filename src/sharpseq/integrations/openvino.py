"""OpenVINO: one-pass models as one graph, from token ids to token ids, in an engine that needs no torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from sharpseq.data import end_token_id, load_tokenizer, unicode_normalization_of
from sharpseq.decoding import DECODERS
from sharpseq.decoding.token_choice import special_token_ids
from sharpseq.errors import UserError
from sharpseq.generation import load_model, read_tuned_decoding
from sharpseq.generation import model_folder as find_model
from sharpseq.models import Ctc, Dag
from sharpseq.runtime.exported_model import NETWORK_FILE, TOKENIZER_FILE
from sharpseq.runtime.manifest import Manifest, write_manifest
from sharpseq.whole_files import whole_folder

QUANTIZATIONS = ("int8",)
"""How weights may be stored; products with them are then computed in whole numbers."""

_FORBIDDEN = -1e9


def export_openvino(
    model: str | Path,
    output: str | Path,
    *,
    quantization: str | None = None,
    check: Callable[[Path], Mapping[str, Any]] | None = None,
) -> Path:
    """Convert a CTC or DAG model, from sources to its best path, with the settings that `sharpseq tune` chose for that.

    Args:
        model: A model folder, or a run folder with a finished model in it.
        output: The folder to make; it must not exist, or be empty.
        quantization: One of `QUANTIZATIONS`; float32 when None.
        check: Called with the folder before it has its name; what it returns is kept there, what it raises refuses the
            export.

    Returns:
        The folder, which `sharpseq.runtime.load` reads.

    Raises:
        UserError: If there is no model, it is of another family, or the folder is not empty.
        ValueError: If the quantization is unknown.
        ImportError: If a package is missing.

    Example:
        >>> export_openvino("runs/multi30k-ctc", "exported", quantization="int8")  # doctest: +SKIP
        PosixPath('exported')
    """
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise ValueError(f"`quantization` must be one of {', '.join(QUANTIZATIONS)}; got {quantization!r}")
    openvino = _openvino()
    source = Path(find_model(model))
    loaded, tokenizer = load_model(str(source)).eval(), load_tokenizer(source)
    _check_family(loaded, where=source)
    options = _tuned_options(source, loaded)
    graph = _graph_of(loaded, options)
    if not tokenizer.is_fast:
        raise UserError(f"{source}: the tokenizer has no `{TOKENIZER_FILE}`, which the runtime reads")
    ids = torch.zeros(2, 3, dtype=torch.long)
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with whole_folder(Path(output)) as folder, torch.no_grad():
        with warnings.catch_warnings():
            # Of tracing: it is deprecated in torch, and here the widths of layers may be constants of the graph.
            warnings.simplefilter("ignore")
            converted = openvino.convert_model(graph, example_input=example)
        for port, name in zip(converted.outputs, graph.names, strict=True):
            port.set_names({name})
        if quantization == "int8":
            converted = _compressed(converted)
        openvino.save_model(converted, str(folder / NETWORK_FILE), compress_to_fp16=False)
        tokenizer.save_pretrained(folder)
        manifest = _manifest(loaded, tokenizer, graph, options, quantization=quantization)
        write_manifest(folder, manifest)
        if check is not None:
            write_manifest(folder, replace(manifest, check=dict(check(folder))))
    return Path(output)


class _CtcGraph(nn.Module):
    """The best token or blank of every frame, with its log-probability."""

    names = ("tokens", "log_probs")
    reading = "ctc"

    def __init__(self, model: Ctc, *, blank_bias: float) -> None:
        super().__init__()
        self.model = model
        self.bias = _bias_of(model, allowed=model.blank)
        self.bias[model.blank] -= blank_bias

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        logits, _ = self.model.decode_frames(self.model.encode(input_ids, attention_mask))
        tokens = (logits + self.bias).argmax(-1)
        return tokens, logits.gather(2, tokens[:, :, None])[:, :, 0] - logits.logsumexp(-1)


class _DagGraph(nn.Module):
    """The best token of every vertex, the vertex that follows it, and the log-probability of that step."""

    names = ("tokens", "successors", "log_probs")
    reading = "dag"

    def __init__(self, model: Dag, *, emission_weight: float) -> None:
        super().__init__()
        self.model, self.emission_weight = model, emission_weight
        self.bias = _bias_of(model)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        graph = self.model.decode_graph(self.model.encode(input_ids, attention_mask))
        tokens = (graph.logits + self.bias).argmax(-1)
        written = graph.logits.gather(2, tokens[:, :, None])[:, :, 0] - graph.logits.logsumexp(-1)
        # The last vertex writes nothing: it is real, and the one after it is not.
        mask = graph.vertex_mask.long()
        is_last = mask - torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], 1) == 1
        written = written.masked_fill(is_last, 0)
        links = graph.links.clamp(min=_FORBIDDEN)
        successors = (links + self.emission_weight * written[:, None, :]).argmax(2)
        steps = (links + written[:, None, :]).gather(2, successors[:, :, None])[:, :, 0]
        return tokens, successors, steps


def _bias_of(model: Ctc | Dag, *, allowed: int | None = None) -> Tensor:
    """Return what is added to logits so that no special token is written, shape (V,)."""
    bias = torch.zeros(model.config.vocab_size)
    bias[list(special_token_ids(model.config, allowed=allowed))] = _FORBIDDEN
    return bias


def _graph_of(model: Any, options: Mapping[str, Any]) -> _CtcGraph | _DagGraph:
    return _CtcGraph(model, **options) if isinstance(model, Ctc) else _DagGraph(model, **options)


def _check_family(model: Any, *, where: Path) -> None:
    if not isinstance(model, Ctc | Dag):
        raise UserError(
            f"{where}: only models of type ctc and dag are exported to OpenVINO, and this is "
            f"{model.config.model_type}; autoregressive models go to CTranslate2 (--to ctranslate2)"
        )


def _tuned_options(source: Path, model: Ctc | Dag) -> dict[str, Any]:
    """Return the settings of the decoder that is exported, as far as tuning chose them."""
    tuned, decoder = read_tuned_decoding(source), model.default_decoder
    chosen = tuned.options if tuned is not None and tuned.decoder == decoder else {}
    return {**DECODERS[decoder].options, **chosen}


def _manifest(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    graph: _CtcGraph | _DagGraph,
    options: Mapping[str, Any],
    *,
    quantization: str | None,
) -> Manifest:
    config = model.config
    return Manifest(
        reading=graph.reading,
        engine="openvino",
        quantization=quantization or "none",
        max_source_length=config.max_source_positions,
        eos_token_id=end_token_id(tokenizer),
        blank_token_id=model.blank if isinstance(model, Ctc) else None,
        special_token_ids=tuple(tokenizer.all_special_ids),
        positions_per_token=model.split.out_features // config.d_model,
        unicode_normalization=unicode_normalization_of(tokenizer),
        source_lowercase=bool(tokenizer.init_kwargs.get("source_lowercase", False)),
        options=options,
    )


def _compressed(converted: Any) -> Any:
    try:
        import nncf
    except ImportError:
        raise ImportError("int8 needs the package `nncf`: pip install 'sharpseq[openvino]'") from None
    nncf.set_log_level(logging.ERROR)
    return nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_ASYM)


def _openvino() -> Any:
    try:
        import openvino
    except ImportError:
        raise ImportError("exports to OpenVINO need the package `openvino`: pip install 'sharpseq[openvino]'") from None
    return openvino
