"""The JSON Schema of the workflow file, made from the models.

`python -m swarmd.workflow.schema` writes the copy that is published with the package; a test fails when it is
stale.
"""

import json
from pathlib import Path
from typing import Any

from swarmd.workflow.model import WorkflowFile

SCHEMA_ID = "urn:swarmd:workflow-file:1"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_PATH = Path(__file__).with_name("workflow.schema.json")


def schema() -> dict[str, Any]:
    """The schema, for draft 2020-12."""
    made = WorkflowFile.model_json_schema(by_alias=True, mode="validation")
    _close(made)
    return {"$schema": DIALECT, "$id": SCHEMA_ID, **made}


def _close(node: object) -> None:
    """Refuse keys that fit none of a mapping's patterns; pydantic leaves them open."""
    if isinstance(node, dict):
        if "patternProperties" in node:
            node.setdefault("additionalProperties", False)
        for inside in node.values():
            _close(inside)
    elif isinstance(node, list):
        for inside in node:
            _close(inside)


def schema_text() -> str:
    """The schema as it is published."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the published copy."""
    SCHEMA_PATH.write_text(schema_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
