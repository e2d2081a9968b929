"""Settings of a line whose artifacts lie in one folder."""

from __future__ import annotations

from pathlib import Path

FOLDER = "folder: {path: pictures, out: out.jsonl}"
KAFKA = "kafka: {bootstrap_servers: 'localhost:1'}"  # where nothing answers


def worker_yaml(folder: Path, more: str = "", transport: str = FOLDER) -> Path:
    """Write `folder`/worker.yaml, `more` at its end."""
    path = folder / "worker.yaml"
    path.write_text(
        f"""
line: line-1
engine: {{path: {folder}/engine}}
bank: {{file: {{path: {folder}/banks}}}}
transport: {{{transport}}}
{more}
"""
    )
    return path
