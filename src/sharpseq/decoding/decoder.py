"""What a decoder declares about itself, in its own file."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

from sharpseq.declarations import Declaration, Parameter, build_methods, check_value, parameters_of
from sharpseq.decoding.output import DecodeOutput
from sharpseq.errors import SettingError, nearest


@dataclass(frozen=True)
class Decoder:
    """A row of the table of decoders.

    Args:
        decode: The function, called as ``decode(model, batch, **options)``; options are its `Setting` arguments.
        model: The protocol of the models that it decodes, or several, checked at runtime.
        declaration: Name, one-line description, reference.
        remember: Makes of a model one that runs its network once for a batch, however often that is decoded, such as
            `sharpseq.decoding.RememberedPass`; None where the options decide what the network reads.
    """

    decode: Callable[..., DecodeOutput]
    model: type[Any] | tuple[type[Any], ...]
    declaration: Declaration
    remember: Callable[[Any], Any] | None = None

    @property
    def options(self) -> Mapping[str, object]:
        """The settings and their defaults.

        Example:
            >>> from sharpseq.decoding import DECODERS
            >>> dict(DECODERS["mask_predict"].options)
            {'iterations': 1, 'length_beam': 5}
        """
        return MappingProxyType({name: each.default for name, each in parameters_of(self.decode).items()})

    @property
    def trials(self) -> Mapping[str, tuple[float, ...]]:
        """The options that `sharpseq tune` tries other values of, with these values.

        Example:
            >>> from sharpseq.decoding import DECODERS
            >>> list(DECODERS["ctc_best_path"].trials)
            ['blank_bias']
        """
        found = {name: each.setting.trials for name, each in parameters_of(self.decode).items() if each.setting.trials}
        return MappingProxyType(found)

    @property
    def takes_rescorer(self) -> bool:
        """Whether a rescorer can choose between its candidates."""
        return "rescorer" in inspect.signature(self.decode).parameters

    @property
    def takes_language_model(self) -> bool:
        """Whether a language model can steer its search."""
        return "language_model" in inspect.signature(self.decode).parameters

    @property
    def takes_drafter(self) -> bool:
        """Whether it verifies what another model drafts."""
        return "drafter" in inspect.signature(self.decode).parameters

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Check that options exist and have values of the right types, within their ranges.

        Raises:
            ValueError: If not; the message names what there is.
        """
        parameters, name = parameters_of(self.decode), self.declaration.name
        for option, value in options.items():
            if option not in parameters:
                advice = nearest(str(option), parameters) if parameters else "it has none"
                raise ValueError(f"`{option}` is not an option of the decoder {name}; {advice}")
            methods = parameters[option].setting.methods
            if methods is None:
                _check_type(option, value, parameters[option].hint)
                _check_value(parameters[option], value)
                continue
            try:
                build_methods(methods, value)
            except SettingError as error:
                raise ValueError(f"`{option}`: {error}") from error


def check_arguments(decode: Callable[..., DecodeOutput], **arguments: Any) -> None:
    """Check arguments of a decoder against the ranges that it declares.

    Raises:
        ValueError: If one is out of range.
    """
    parameters = parameters_of(decode)
    for name, value in arguments.items():
        _check_value(parameters[name], value)


def _check_value(parameter: Parameter, value: object) -> None:
    words = get_args(parameter.hint)
    if get_origin(parameter.hint) is Literal and value not in words:
        raise ValueError(f"`{parameter.name}` must be one of {', '.join(words)}; got {value!r}")
    check_value(parameter, value)


def _check_type(name: str, value: object, annotation: Any) -> None:
    if get_origin(annotation) is Literal:
        return  # its words are checked, whatever their type
    accepted = get_args(annotation) or (annotation,)
    # A boolean is no number, a whole number is one, and NaN is none.
    if type(value) in accepted and (not isinstance(value, float) or math.isfinite(value)):
        return
    if float in accepted and type(value) is int:
        return
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    raise ValueError(f"`{name}` must be {' or '.join(words[kind] for kind in accepted)}; got {value!r}")
