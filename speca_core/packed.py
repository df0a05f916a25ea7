"""The report's JSON in columns: less than half the size, for the page, for saved workflows and for pictures.

    unpack(pack(report.to_json())) == report.to_json()

`pack` puts every list of objects under "calls" as {"columns": [...], "values": [[...], ...]}; `web/lib/report.js` has the other `unpack`.
"""

from collections.abc import Mapping
from typing import Any

Table = dict[str, list[Any]]


def pack(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report's JSON with its calls and their rows as tables."""
    calls = [{**call, "rows": _table(call["rows"])["values"]} for call in report["calls"]]
    columns = [*report["calls"][0]["rows"][0]] if report["calls"] and report["calls"][0]["rows"] else []
    return {**report, "calls": _table(calls), "row_columns": columns}


def unpack(packed: Mapping[str, Any]) -> dict[str, Any]:
    """The report's JSON that was packed."""
    columns = packed["row_columns"]
    calls = [dict(zip(packed["calls"]["columns"], values, strict=True)) for values in packed["calls"]["values"]]
    for call in calls:
        call["rows"] = [dict(zip(columns, values, strict=True)) for values in call["rows"]]
    return {**{key: value for key, value in packed.items() if key != "row_columns"}, "calls": calls}


def _table(objects: list[dict[str, Any]]) -> Table:
    return {"columns": [*objects[0]] if objects else [], "values": [[*entry.values()] for entry in objects]}
