"""Score every picture of a folder: python score_folder.py ENGINE BANK PICTURES."""

import sys
from contextlib import closing
from pathlib import Path

from quarterturn import DeadLetter, EngineSettings, Frame, Inspector, Position, Verdict, open_engine, read_bank_file

engine, bank, pictures = map(Path, sys.argv[1:])
with closing(Inspector(open_engine(EngineSettings(path=engine)), "line-1", overkill=0.05)) as inspector:
    inspector.use(read_bank_file(bank))
    for number, path in enumerate(sorted(filter(Path.is_file, pictures.rglob("*")))):
        frame = Frame(Position("pictures", 0, number), None, {"camera": b"top-01"}, path.read_bytes())
        outcome = inspector.inspect([frame])[0]
        if isinstance(outcome, Verdict):
            print(f"{path}: {outcome.data.alert or 'good'}, score {outcome.data.score:.2f}")
        elif isinstance(outcome, DeadLetter):
            print(f"{path}: {outcome.data.message}")
