"""Write the JSON Schemas of the published data beside this file: `python docs/schemas/generate.py`."""

import json
from pathlib import Path

from quarterturn.worker.messages.schemas import json_schemas

for name, schema in json_schemas().items():
    (Path(__file__).parent / name).write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
