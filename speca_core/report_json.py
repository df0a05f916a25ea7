"""The report as JSON: public API, in two forms.

    read(write(report))            every field by name
    unpack(pack(write(report)))    calls and rows as tables, less than half the size: what the page
                                   gets, and what workflows and pictures hold. web/lib/report.js has
                                   the other `unpack`

Schema 2 is written; 1, of release 0.1.0, is read as well.
"""

import math
from collections.abc import Mapping
from typing import Any

from .report import CallRecord, RowRecord, RunReport

SCHEMA = 2
# What a word of schema 1 is called since.
VERDICTS = {"drafted": "accepted"}
REASONS = {"resting": "backoff", "joint": "coupled"}
SWITCHES = {"budget": ("protect_last", "deferred"), "forecaster": ("channels",)}  # were 0 and 1


def write(report: RunReport, whole: bool = True) -> dict[str, Any]:
    """Plain JSON values. Numbers that JSON cannot hold become null.

    Args:
        whole: with its calls; otherwise what is counted of them alone.
    """
    accepted, rejected = report.count("accepted"), report.count("rejected")
    return {
        "schema": SCHEMA,
        "model": report.model,
        "settings": _finite(report.settings),
        "level": report.level,
        "steps": report.steps,
        "finished": report.finished,
        "schedule": {"sigmas": report.sigmas, "flow": report.flow},
        "totals": {
            "calls": len(report.calls),
            "rows": report.rows,
            "drafted": accepted + rejected,
            "accepted": accepted,
            "rejected": rejected,
            "computed": report.rows - accepted,
            "acceptance_rate": _rounded(report.acceptance_rate),
            "mean_draft_length": _rounded(report.mean_draft_length),
        },
        "seconds": {
            "sampling": round(report.seconds, 4),
            "per_computed_call": _rounded(report.seconds_per_call(accepted=False)),
            "per_accepted_call": _rounded(report.seconds_per_call(accepted=True)),
            "spent": round(report.spent, 4),
            "plain_estimate": _rounded(report.plain_seconds),
        },
        "cache_bytes": report.cache_bytes,
        "placement": report.placement,
        "out_of_memory": report.out_of_memory,
        "coupled": report.coupled,
        "watched": report.watched,
        "trust": report.trust,
        "repaired": report.repaired,
        "mask": report.mask,
        "profile": report.profile,
        "calls": [_call(call) for call in report.calls if whole],
    }


def _call(call: CallRecord) -> dict[str, Any]:
    rows = [
        {
            **vars(row),
            "error": _rounded(row.error),
            "tolerance": _rounded(row.tolerance),
            "hindcast": _rounded(row.hindcast),
            "surprise": _rounded(row.surprise),
        }
        for row in call.rows
    ]
    return {
        "index": call.index,
        "sigma": round(call.sigma, 6),
        "position": round(call.position, 4),
        "seconds": round(call.seconds, 5),
        "prediction": call.prediction,
        "rows": rows,
    }


def read(data: Mapping[str, Any]) -> RunReport:
    """The report that `write` wrote, as exactly as it was written there. What is counted from other
    fields is counted again.

    Raises:
        KeyError, TypeError, ValueError: it is no such JSON.
    """
    if data["schema"] not in (1, SCHEMA):
        raise ValueError(f"the report has schema {data['schema']!r}; expected 1 to {SCHEMA}")
    data = _upgraded(data) if data["schema"] == 1 else data
    calls = [
        CallRecord(
            int(call["index"]),
            float(call["sigma"]),
            float(call["position"]),
            float(call["seconds"]),
            [RowRecord(**row) for row in call["rows"]],
            int(call["prediction"]),
        )
        for call in data["calls"]
    ]
    return RunReport(
        model=str(data["model"]),
        settings=dict(data["settings"]),
        level=str(data["level"]),
        steps=int(data["steps"]),
        calls=calls,
        seconds=float(data["seconds"]["sampling"]),
        cache_bytes=int(data["cache_bytes"]),
        placement=data["placement"],
        out_of_memory=data["out_of_memory"],
        coupled=bool(data["coupled"]),
        watched=int(data.get("watched", 0)),
        trust=min(1.0, max(0.0, float(data.get("trust", 1.0)))),  # in this order: NaN is 0
        repaired=int(data["repaired"]),
        finished=bool(data["finished"]),
        sigmas=[float(sigma) for sigma in data["schedule"]["sigmas"]],
        flow=bool(data["schedule"]["flow"]),
        profile=data.get("profile"),
    )


def _upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Schema 1 in the words of schema 2. Fields that its first writers did not have are filled."""
    settings = {**data["settings"]}
    for part, switches in SWITCHES.items():
        choice = settings[part]
        settings[part] = {k: bool(v) if k in switches else v for k, v in choice.items()}
    runs_block = settings["verifier"]["name"] in ("first_block", "last_block")
    auto = settings.setdefault("level", "features") == "auto"
    calls = [
        {
            "prediction": call["index"] + 1,
            **call,
            "rows": [
                {
                    **row,
                    "verdict": VERDICTS.get(row["verdict"], row["verdict"]),
                    "reason": REASONS.get(row["reason"], row["reason"]),
                }
                for row in call["rows"]
            ],
        }
        for call in data["calls"]
    ]
    return {
        "placement": "device",
        "out_of_memory": None,
        "coupled": data.get("joint", False),
        "repaired": 0,
        **data,
        "settings": settings,
        "level": settings["level"] if not auto else "features" if runs_block else "prediction",
        "calls": calls,
    }


def pack(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report's JSON with its calls and their rows as tables: every list of objects under "calls"
    becomes {"columns": [...], "values": [[...], ...]}."""
    calls = [{**call, "rows": _table(call["rows"])["values"]} for call in report["calls"]]
    first = report["calls"][0]["rows"] if report["calls"] else []
    return {**report, "calls": _table(calls), "row_columns": [*first[0]] if first else []}


def unpack(packed: Mapping[str, Any]) -> dict[str, Any]:
    """The report's JSON that was packed."""
    columns, table = packed["row_columns"], packed["calls"]
    calls = [dict(zip(table["columns"], values, strict=True)) for values in table["values"]]
    for call in calls:
        call["rows"] = [dict(zip(columns, values, strict=True)) for values in call["rows"]]
    rest = {key: value for key, value in packed.items() if key != "row_columns"}
    return {**rest, "calls": calls}


def _table(objects: list[dict[str, Any]]) -> dict[str, list[Any]]:
    columns = [*objects[0]] if objects else []
    return {"columns": columns, "values": [[*entry.values()] for entry in objects]}


def _rounded(value: float | None) -> float | None:
    return round(value, 6) if value is not None and math.isfinite(value) else None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
