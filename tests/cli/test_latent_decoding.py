"""Decoding with a latent-variable model from the command line, and what it says when it cannot be done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_latent import SIZES, tiny_generator
from typer.testing import Result

from sharpseq.models import LatentNat, LatentRefiner, LatentRefinerConfig, autoregressive_config, autoregressive_model

Command = Callable[..., Result]
TEXT = "abc\nhgf\nbb\n"
SEARCH = ("--decoder", "latent_search", "--set", "length_beam=3", "--set", "num_samples=4")


@pytest.fixture
def model(here: Path) -> Path:
    return saved(here / "model")


def saved(folder: Path, *, parameterization: str | None = "score") -> Path:
    generator = tiny_generator(parameterization=parameterization)
    if parameterization is not None:
        generator.model.refiner.config.trained_for = generator.model.fingerprint()
        generator.model.attach_refiner(generator.model.refiner)
    generator.model.save_pretrained(folder)
    generator.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def teacher(here: Path) -> Path:
    torch.manual_seed(1)
    tokenizer = tiny_generator().tokenizer
    config = autoregressive_config(vocab_size=len(tokenizer), encoder_layers=1, decoder_layers=1, **SIZES)
    autoregressive_model(config).save_pretrained(here / "teacher")
    tokenizer.save_pretrained(here / "teacher")
    return here / "teacher"


@pytest.mark.parametrize("refinement", ["delta", "learned", "none"])
def test_a_search_is_rescored_and_replayed(refinement: str, model: Path, teacher: Path, command: Command) -> None:
    def run(*more: object) -> str:
        arguments = ("generate", model, *SEARCH, "--set", f"refinement={refinement}", "--rescore-with", teacher, *more)
        return command(*arguments, stdin=TEXT).stdout

    first = run()
    assert len(first.splitlines()) == 3
    assert run() == first
    assert run("--set", "seed=5") != first


def test_steps_change_what_is_written(model: Path, command: Command) -> None:
    for decoder in ("delta_inference", "latent_refinement"):
        written = {
            steps: command("generate", model, "--decoder", decoder, "--set", f"steps={steps}", stdin=TEXT).stdout
            for steps in (0, 2)
        }
        assert written[0] != written[2]


@pytest.mark.parametrize(
    ("arguments", "reported"),
    [
        (("--set", "steps=-1"), "model: `steps` must be at least 0; got -1"),
        (("--decoder", "latent_refinement", "--set", "steps=-2"), "model: `steps` must be at least 0; got -2"),
        ((*SEARCH[:2], "--set", "steps=-1", "--rescore-with", "teacher"), "`steps` must be at least 0; got -1"),
        (("--set", "steps=1.5"), "model: `steps` must be a whole number; got 1.5"),
        (("--set", "length_beam=0"), "model: `length_beam` must be at least 1; got 0"),
        (
            ("--decoder", "latent_refinement", "--set", "step_size=0"),
            "model: `step_size` must be greater than 0; got 0",
        ),
        (
            ("--decoder", "latent_refinement", "--set", "tolerance=-1"),
            "model: `tolerance` must be at least 0; got -1",
        ),
        (
            (*SEARCH, "--set", "num_samples=0", "--rescore-with", "teacher"),
            "`num_samples` must be at least 1; got 0",
        ),
        (SEARCH, "model: `rescorer` must choose between 12 candidates; give an autoregressive model (`--rescore-with`"),
        (
            (*SEARCH, "--set", "refinement=energy", "--rescore-with", "teacher"),
            "`refinement` must be one of delta, learned, none; got 'energy'",
        ),
        ((*SEARCH, "--rescore-with", "model"), "--rescore-with model: only an autoregressive model can rescore"),
        (
            ("--decoder", "argmax"),
            "the decoder argmax does not fit LatentNat; valid: delta_inference, lat",
        ),
    ],
)
def test_options_that_make_no_sense(
    arguments: tuple[str, ...], reported: str, model: Path, teacher: Path, mistake: Command
) -> None:
    assert reported in mistake("generate", "model", *arguments, stdin=TEXT).stderr
    Path("one.tsv").write_text("abc\tcba\n")
    assert reported in mistake("evaluate", "model", "one.tsv", *arguments).stderr


def test_a_model_without_a_refinement_network(here: Path, teacher: Path, command: Command, mistake: Command) -> None:
    saved(here / "bare", parameterization=None)
    for arguments in (
        ("--decoder", "latent_refinement"),
        (*SEARCH, "--set", "refinement=learned", "--rescore-with", "teacher"),
    ):
        reported = mistake("generate", "bare", *arguments, stdin=TEXT).stderr
        assert "bare: `model` has no refinement network; train one with a stage whose objective" in reported
    assert command("generate", "bare", stdin=TEXT).stdout


@pytest.mark.parametrize("decoder", ["delta_inference", "latent_refinement"])
def test_a_refinement_network_of_another_model(decoder: str, model: Path, mistake: Command) -> None:
    other = LatentNat.from_pretrained(model)
    with torch.no_grad():
        other.latent_input.weight.add_(0.1)
    other.save_pretrained(model)
    reported = mistake("generate", "model", "--decoder", decoder, stdin=TEXT).stderr
    assert reported == (
        "error: model: `refiner` was trained for another model: the weights it was trained with are not these; "
        "train a refinement network for it\n"
    )


@pytest.mark.parametrize("name", ["latent_size", "d_model"])
def test_a_refinement_network_of_another_size(name: str, model: Path, mistake: Command) -> None:
    """Configuration and weights of the network agree with each other, and not with the model."""
    whole = LatentNat.from_pretrained(model)
    changed = {**SIZES, "latent_size": 2, "num_layers": 1, name: 24}
    whole.refiner = LatentRefiner(LatentRefinerConfig(**changed))
    whole.save_pretrained(model)
    config = json.loads((model / "config.json").read_text())
    config["refiner"] |= changed
    (model / "config.json").write_text(json.dumps(config))
    reported = mistake("generate", "model", stdin=TEXT).stderr
    own = 2 if name == "latent_size" else 16
    assert f"`refiner` must have `{name}` {own}, as the model has; got 24" in reported


def test_weights_of_another_latent_size(model: Path, here: Path, mistake: Command) -> None:
    config = json.loads((model / "config.json").read_text())
    config["latent_size"] = config["refiner"]["latent_size"] = 5
    (model / "config.json").write_text(json.dumps(config))
    reported = mistake("generate", "model", stdin=TEXT).stderr
    assert (
        "model: the weights have another size of `latent_input.weight`; they are of another model than config"
        in reported
    )
