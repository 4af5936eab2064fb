"""From source text to target text with a saved model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerBase

from sharpseq.data import TokenBudgetBatchSampler, encode_sources, load_tokenizer
from sharpseq.decoding import DECODERS, Rescorer
from sharpseq.errors import UserError
from sharpseq.models import MODELS, OnePassModel


@dataclass(frozen=True)
class Generation:
    """One output.

    Args:
        text: The text; empty for an empty source, and where there is an ``error``.
        log_prob: Its log-probability under the model in nats; 0 for an empty source.
        num_tokens: Its length in tokens, as the log-probability counts them.
        num_passes: Target-side network passes of the batch that wrote it; 0 for an empty source.
        error: Why there is no text, in a few words; None for an ordinary output.
    """

    text: str
    log_prob: float = 0.0
    num_tokens: int = 0
    num_passes: int = 0
    error: str | None = None


class SequenceGenerator:
    """A model with its tokenizer and a way to decode.

    Args:
        model: One of our models or a Hugging Face seq2seq model.
        tokenizer: The tokenizer it was trained with.
        decoder: Name of a row of `sharpseq.decoding.DECODERS`; by default the one made for the model.
        options: Options of the decoder, such as ``num_beams``, ``length_beam`` or ``iterations``.
        rescorer: Chooses between the candidates of a one-pass decoder, such as `autoregressive_rescorer(teacher)`.
        max_tokens: Token budget of a batch, padding included.

    Raises:
        ValueError: If the decoder is unknown or does not fit the model, or takes no rescorer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        decoder: str | None = None,
        options: Mapping[str, Any] | None = None,
        rescorer: Rescorer | None = None,
        max_tokens: int = 4000,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.decoder = decoder or default_decoder(model)
        self.options = dict(options or {})
        self.max_tokens = max_tokens
        check_decoder(model, self.decoder, self.options)
        if rescorer is not None and not DECODERS[self.decoder].takes_rescorer:
            raise ValueError(f"`rescorer` has nothing to choose from: the decoder {self.decoder} has no candidates")
        self._objects = {"rescorer": rescorer} if rescorer is not None else {}

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **kwargs: Any) -> SequenceGenerator:
        """Load a model folder, a run folder, or a model of the hub.

        Args:
            name_or_path: What ``save_pretrained`` wrote, a run folder with a finished model in it, or a hub name.
            kwargs: See the class.

        Returns:
            The generator.

        Raises:
            UserError: If there is no model, or it is broken or of a kind that sharpseq cannot decode.
        """
        folder = Path(name_or_path)
        if not (folder / "config.json").exists() and (folder / "model" / "config.json").exists():
            folder = folder / "model"
        return cls(load_model(folder), load_tokenizer(folder), **kwargs)

    def generate(self, lines: Iterable[str], *, window: int = 1000) -> Iterator[Generation]:
        """Write one output for each line, in order.

        Args:
            lines: Source texts. Empty ones give empty outputs; ones that are longer than the model allows give an
                empty output with an ``error``, never a cut one.
            window: Lines that are read before the first output, to make batches of similar length.

        Yields:
            One output a line.

        Example:
            >>> from sharpseq import SequenceGenerator  # doctest: +SKIP
            >>> [output.text for output in SequenceGenerator.from_pretrained("runs/g2p").generate(["hello"])]
            ['HH AH L OW']  # doctest: +SKIP
        """
        gathered: list[str] = []
        for line in lines:
            gathered.append(line)
            if len(gathered) == window:
                yield from self.generate_batch(gathered)
                gathered = []
        if gathered:
            yield from self.generate_batch(gathered)

    @torch.inference_mode()
    def generate_batch(self, lines: Sequence[str]) -> list[Generation]:
        """Write one output for each line; see `generate`."""
        outputs: list[Generation] = [Generation("")] * len(lines)
        encoded = encode_sources(self.tokenizer, lines)
        longest = max_source_length(self.model)
        wanted = []
        for position, (line, ids) in enumerate(zip(lines, encoded, strict=True)):
            if len(ids) > longest:
                outputs[position] = Generation("", error=f"{len(ids)} tokens, the model reads at most {longest}")
            elif line.strip():
                wanted.append(position)
        lengths = [len(encoded[position]) for position in wanted]
        budget = max(self.max_tokens, *lengths, 1)
        for batch in TokenBudgetBatchSampler(lengths, lengths, max_tokens=budget, shuffle=False):
            positions = [wanted[index] for index in batch]
            for position, output in zip(
                positions, self._decode([encoded[position] for position in positions]), strict=True
            ):
                outputs[position] = output
        return outputs

    def _decode(self, sources: list[list[int]]) -> list[Generation]:
        decoded = DECODERS[self.decoder].decode(self.model, self._batch(sources), **self.options, **self._objects)
        texts = self.tokenizer.batch_decode(decoded.sequences, skip_special_tokens=True)
        return [
            Generation(text.strip(), log_prob, num_tokens, decoded.num_passes)
            for text, log_prob, num_tokens in zip(
                texts, decoded.log_prob.tolist(), decoded.num_tokens.tolist(), strict=True
            )
        ]

    def _batch(self, sources: list[list[int]]) -> dict[str, Tensor]:
        width = max(map(len, sources))
        pad = self.model.config.pad_token_id
        ids = torch.tensor([source + [pad] * (width - len(source)) for source in sources])
        mask = torch.tensor([[1] * len(source) + [0] * (width - len(source)) for source in sources])
        return {"input_ids": ids.to(self.model.device), "attention_mask": mask.to(self.model.device)}


def load_model(name_or_path: str | Path) -> PreTrainedModel:
    """Load one of our models or a Hugging Face seq2seq model, in evaluation mode.

    Raises:
        UserError: If there is no model, or it is broken or of a kind that sharpseq cannot decode.
    """
    folder = Path(name_or_path)
    looks_local = folder.exists() or folder.is_absolute() or len(folder.parts) > 2
    if looks_local and not (folder / "config.json").is_file():
        raise UserError(f"{name_or_path} holds no model (no config.json in it); give a run folder or a model folder")
    try:
        config = AutoConfig.from_pretrained(str(name_or_path))
        auto = AutoModel if config.model_type.startswith("sharpseq-") else AutoModelForSeq2SeqLM
        model, report = auto.from_pretrained(str(name_or_path), output_loading_info=True)
    except Exception as error:
        # A broken folder fails with whatever the parser of the day raises.
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{name_or_path}: no model can be loaded from there ({reason})") from error
    if report["missing_keys"]:
        raise UserError(f"{name_or_path}: the weights lack {sorted(report['missing_keys'])[0]}; it is of another model")
    loaded: PreTrainedModel = model.eval()
    return loaded


def family_of(model: PreTrainedModel) -> str:
    """Return the name of the row of `sharpseq.models.MODELS` that a model belongs to; HF seq2seq is autoregressive."""
    for name, spec in MODELS.items():
        if isinstance(model, OnePassModel) and isinstance(spec.model, type) and isinstance(model, spec.model):
            return name
    return "autoregressive"


def default_decoder(model: PreTrainedModel) -> str:
    """Return the name of the decoder that is made for a model."""
    return MODELS[family_of(model)].default_decoder


def check_decoder(model: PreTrainedModel, decoder: str, options: Mapping[str, Any]) -> None:
    """Check that a decoder exists, fits the model and has the options.

    Raises:
        ValueError: If not; the message names what there is.
    """
    kind = MODELS[family_of(model)].kind
    fitting = [name for name, spec in DECODERS.items() if kind in spec.model_kinds]
    if decoder not in fitting:
        raise ValueError(f"`decoder` must be one of {', '.join(fitting)} for this model; got {decoder!r}")
    for name in options:
        if name not in DECODERS[decoder].options:
            known = ", ".join(DECODERS[decoder].options) or "none"
            raise ValueError(f"`{name}` is not an option of the decoder {decoder}; it has: {known}")


def max_source_length(model: PreTrainedModel) -> int:
    """Return how many source tokens a model reads at most."""
    config = model.config
    for name in ("max_source_positions", "max_position_embeddings", "n_positions"):
        if getattr(config, name, None) is not None:
            return int(getattr(config, name))
    return 10**9
