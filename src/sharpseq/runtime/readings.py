"""From what a one-pass network gives to outputs: what does not fit into its graph, in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from sharpseq.runtime.manifest import Manifest

Ids = NDArray[np.int64]
Numbers = NDArray[np.float32]
Given = Mapping[str, NDArray[np.generic]]
Reading = Callable[[Manifest, Given, Ids], list[tuple[Ids, float]]]
"""(manifest, outputs of the network, positions (B,)) → token ids and log-probability of the path, for each source."""


def read_ctc(manifest: Manifest, given: Given, num_positions: Ids) -> list[tuple[Ids, float]]:
    """Merge repeats and drop blanks of the best tokens (B, F) with log-probabilities (B, F).

    Example:
        >>> manifest = Manifest("ctc", "openvino", "none", 9, 0, 1, (0, 1), 2, "nfc", False)
        >>> given = {"tokens": np.array([[5, 5, 1, 5, 6]]), "log_probs": np.zeros((1, 5), np.float32)}
        >>> read_ctc(manifest, given, np.array([4]))[0][0].tolist()
        [5, 5]
    """
    read = []
    for tokens, log_probs, length in zip(given["tokens"], given["log_probs"], num_positions, strict=True):
        row = tokens[:length].astype(np.int64)
        kept = row != manifest.blank_token_id
        kept[1:] &= row[1:] != row[:-1]
        read.append((row[kept], float(log_probs[:length].astype(np.float64).sum())))
    return read


def read_dag(manifest: Manifest, given: Given, num_positions: Ids) -> list[tuple[Ids, float]]:
    """Walk from vertex to vertex along ``successors`` (B, M), and write their best ``tokens`` (B, M).

    ``log_probs`` (B, M) has of each vertex the log-probability of the link that leaves it and of the token that is
    written where it leads.

    Example:
        >>> manifest = Manifest("dag", "openvino", "none", 9, 0, None, (0, 1), 2, "nfc", False)
        >>> given = {"tokens": np.array([[0, 7, 8, 0]]), "successors": np.array([[2, 3, 3, 3]])}
        >>> read_dag(manifest, {**given, "log_probs": np.zeros((1, 4), np.float32)}, np.array([4]))[0][0].tolist()
        [8]
    """
    read = []
    for tokens, successors, log_probs, length in zip(
        given["tokens"], given["successors"], given["log_probs"], num_positions, strict=True
    ):
        written, total, vertex, last = [], 0.0, 0, int(length) - 1
        while vertex != last:
            total += float(log_probs[vertex])
            vertex = int(successors[vertex])
            if vertex != last:
                written.append(int(tokens[vertex]))
        read.append((np.array(written, dtype=np.int64), total))
    return read


READINGS: Mapping[str, Reading] = {"ctc": read_ctc, "dag": read_dag}
"""How outputs are read, by the name in the manifest."""
