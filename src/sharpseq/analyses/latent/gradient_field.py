"""A two-dimensional latent on paper: where each point of the plane leads, and what it would be read as."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpseq.analyses.latent.readable_pairs import latent_model, readable_pairs, sources_of_pairs, texts_of
from sharpseq.data import Example
from sharpseq.decoding import EncoderOutput, length_candidates
from sharpseq.decoding.inference import inference
from sharpseq.decoding.latent_steps import latent_step, refine
from sharpseq.decoding.token_choice import most_probable_ids, special_token_ids
from sharpseq.generation import SequenceGenerator
from sharpseq.models import LatentNat

# Grid points are decoded in chunks whose logits hold at most this many numbers, 64 MB in float32.
_MOST_LOGITS = 2**24
# Free space around what is drawn, as a share of the window, and the least half-width in prior standard deviations.
_MARGIN, _LEAST_DEVIATIONS = 0.25, 2.5

Point = tuple[float, float]


@dataclass(frozen=True)
class TokenField:
    """The plane of one target position, all other positions at their prior mean.

    Args:
        position: The position, from 1.
        horizontal: First coordinates of the grid, G of them, rising.
        vertical: Second coordinates of the grid, G of them, rising.
        directions: −∇E at each grid point, rows by ``vertical``, columns by ``horizontal``.
        grid_tokens: The token that each grid point is read as, in the same order.
        prior_mean: Where both refinements start.
        posterior_mean: Where q(z|x, y) of the reference has its mean; None without a reference.
        delta: Delta inference, step by step from the prior mean.
        learned: The learned refinement, step by step from the prior mean.
        tokens: What the position is read as: "reference", "posterior", "prior", "delta" and "learned", the last two
            after their last step; no "reference" and "posterior" without a reference.
    """

    position: int
    horizontal: tuple[float, ...]
    vertical: tuple[float, ...]
    directions: tuple[tuple[Point, ...], ...]
    grid_tokens: tuple[tuple[str, ...], ...]
    prior_mean: Point
    posterior_mean: Point | None
    delta: tuple[Point, ...]
    learned: tuple[Point, ...]
    tokens: dict[str, str]


@dataclass(frozen=True)
class GradientField:
    """A sentence, with the plane of each of its target positions.

    Args:
        source: The source text.
        parameterization: Of the refinement network, "score" or "energy".
        steps: Steps of both refinements.
        step_size: α of the learned one.
        texts: The translations, named as in `TokenField`, repetitions removed.
        fields: One a position.
    """

    source: str
    parameterization: str
    steps: int
    step_size: float
    texts: dict[str, str]
    fields: tuple[TokenField, ...]


def gradient_field(
    generator: SequenceGenerator,
    example: Example,
    *,
    steps: int = 4,
    step_size: float = 1.0,
    grid_size: int = 21,
) -> GradientField:
    """Draw up the planes in which the latent of a sentence moves, for a model with two numbers a position.

    The arrow at a point is −∇E for the latent that has this point at its position and the prior mean at all others. So
    the arrow at the prior mean is the first step of the learned refinement exactly; later steps move all positions at
    once, and need not follow the arrows. With a reference the target has its length, otherwise the most probable one.

    Args:
        generator: A model with ``latent_size`` 2 and a refinement network, with its tokenizer.
        example: The source; its target is the reference, and may be empty.
        steps: Steps of both refinements, at least 1. A trajectory stays where it last was finite.
        step_size: α of the learned refinement, greater than 0.
        grid_size: G, points along each side, at least 2.

    Returns:
        The planes, in plain numbers.

    Raises:
        ValueError: If the model has no latent, another latent size or no refinement network, the source cannot be read,
            or a number is out of its range.

    Note:
        G² passes of decoder and refinement network for each position.

    References:
        Lee, Shu and Cho 2020, figure 3.
    """
    model = check_plane(generator)
    for name, value, least in (("steps", steps, 1), ("grid_size", grid_size, 2)):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}; got {value}")
    has_reference = bool(example.target.strip())
    [pair] = readable_pairs(generator, [example], with_targets=has_reference).pairs
    with inference(model):
        encoded = model.encode(**sources_of_pairs(model, [pair]))
        reference = torch.tensor([pair.target_ids], device=model.device) if has_reference else None
        length = _length(model, encoded, reference)
        prior = model.prior(encoded, length)
        delta = _trajectory(model, encoded, prior.mean, length, kind="delta", steps=steps)
        learned = _trajectory(model, encoded, prior.mean, length, kind="learned", steps=steps, step_size=step_size)
        ends = {"prior": prior.mean, "delta": delta[-1], "learned": learned[-1]}
        posterior = None
        if reference is not None:
            posterior = model.posterior(encoded, reference, length).mean
            ends = {"posterior": posterior, **ends}
        ids = {name: _read(model, encoded, latent, length)[0].tolist() for name, latent in ends.items()}
        if reference is not None:
            ids = {"reference": pair.target_ids, **ids}
        fields = []
        for place in range(int(length)):
            shown = torch.cat([*delta, *learned, *([] if posterior is None else [posterior])])[:, place]
            window = _window(shown, std=float(prior.log_std[0, place].exp().max()), size=grid_size)
            directions, tokens = _plane(model, encoded, prior.mean, length, place=place, window=window)
            fields.append(
                TokenField(
                    position=place + 1,
                    horizontal=tuple(window[0].tolist()),
                    vertical=tuple(window[1].tolist()),
                    directions=tuple(tuple(map(_point, row)) for row in directions),
                    grid_tokens=tuple(tuple(_token(generator, token) for token in row) for row in tokens.tolist()),
                    prior_mean=_point(prior.mean[0, place]),
                    posterior_mean=None if posterior is None else _point(posterior[0, place]),
                    delta=tuple(_point(latent[0, place]) for latent in delta),
                    learned=tuple(_point(latent[0, place]) for latent in learned),
                    tokens={name: _token(generator, row[place]) for name, row in ids.items()},
                )
            )
    texts = dict(zip(ids, texts_of(generator.tokenizer, list(ids.values())), strict=True))
    if has_reference:
        texts["reference"] = example.target
    assert model.refiner is not None
    return GradientField(example.source, model.refiner.parameterization, steps, step_size, texts, tuple(fields))


def check_plane(generator: SequenceGenerator) -> LatentNat:
    """Return a generator's model, after checking that its latent can be drawn.

    Raises:
        ValueError: If the model has no latent, another latent size than 2, or no refinement network.
    """
    model = latent_model(generator, refined=True)
    if model.config.latent_size != 2:
        raise ValueError(
            f"`model` must have a latent of 2 dimensions (latent_size 2); it has {model.config.latent_size}"
        )
    return model


def _length(model: LatentNat, encoded: EncoderOutput, reference: Tensor | None) -> Tensor:
    if reference is not None:
        return torch.tensor([reference.shape[1]], device=reference.device)
    lengths, _ = length_candidates(
        *model.predict_length_log_probs(encoded), num_candidates=1, max_length=model.config.max_target_positions
    )
    return lengths[:, 0]


def _read(model: LatentNat, encoded: EncoderOutput, latent: Tensor, length: Tensor) -> Tensor:
    """Return the most probable tokens, (B, T)."""
    logits = model.decode_latent(encoded, latent, length)
    return most_probable_ids(logits, forbidden=special_token_ids(model.config))


def _trajectory(
    model: LatentNat,
    encoded: EncoderOutput,
    start: Tensor,
    length: Tensor,
    *,
    kind: str,
    steps: int,
    step_size: float = 1.0,
) -> tuple[Tensor, ...]:
    """Return the latents of a refinement, the first one and that after each step."""
    step, _ = latent_step(kind, model, encoded, length, step_size=step_size)
    return refine(start, step, lengths=length, steps=steps, keep=True).latents


def _gradient(model: LatentNat, encoded: EncoderOutput, latent: Tensor, length: Tensor) -> Tensor:
    assert model.refiner is not None
    gradient: Tensor = model.refiner(latent, length, encoded).gradient
    return gradient


def _window(points: Tensor, *, std: float, size: int) -> tuple[Tensor, Tensor]:
    """Return the coordinates of a square grid that holds all points (N, 2), with room around them."""
    low, high = points.min(0).values, points.max(0).values
    middle = (low + high) / 2
    half = max(float((high - low).max()) / 2 * (1 + 2 * _MARGIN), _LEAST_DEVIATIONS * std)
    offsets = torch.linspace(-half, half, size, device=points.device)
    return middle[0] + offsets, middle[1] + offsets


def _plane(
    model: LatentNat,
    encoded: EncoderOutput,
    start: Tensor,
    length: Tensor,
    *,
    place: int,
    window: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
    """Return −∇E (G, G, 2) and tokens (G, G) of one position over a grid, the others at ``start``."""
    size = len(window[0])
    vertical, horizontal = torch.meshgrid(window[1], window[0], indexing="ij")
    latents = start.repeat(size * size, 1, 1)
    latents[:, place] = torch.stack([horizontal.flatten(), vertical.flatten()], 1).to(latents.dtype)
    directions, tokens = [], []
    for chunk in latents.split(max(1, _MOST_LOGITS // (start.shape[1] * model.config.vocab_size))):
        repeated, lengths = encoded.repeat_interleave(len(chunk)), length.expand(len(chunk))
        directions.append(-_gradient(model, repeated, chunk, lengths)[:, place])
        tokens.append(_read(model, repeated, chunk, lengths)[:, place])
    return torch.cat(directions).view(size, size, 2), torch.cat(tokens).view(size, size)


def _point(values: Tensor) -> Point:
    first, second = values.tolist()
    return first, second


def _token(generator: SequenceGenerator, token: int) -> str:
    """Return a token as text; one that is nothing on its own, such as a joint, by its name in the vocabulary."""
    text = str(generator.tokenizer.decode([token])).strip()
    return text or str(generator.tokenizer.convert_ids_to_tokens(token))
