"""Exported models without torch: an engine, `tokenizers` and numpy; ready in under a second."""

from sharpseq.runtime.exported_model import ExportedModel, RuntimeOutput, load
from sharpseq.runtime.manifest import Manifest, read_manifest

__all__ = ["ExportedModel", "Manifest", "RuntimeOutput", "load", "read_manifest"]
