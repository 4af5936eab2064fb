"""Let ``python -m sharpseq`` and ``accelerate launch -m sharpseq`` run the command line."""

from __future__ import annotations

from sharpseq.cli import main

if __name__ == "__main__":
    main()
