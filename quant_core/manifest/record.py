"""What every record of the manifest has in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

__all__ = ["Record", "Score"]


class Record(BaseModel):
    """A part of the manifest.

    1. It never changes; a changed copy is another record.
    2. A key that was not given is not written: what an earlier release wrote is written again as it was.
    3. A key that this release does not know is left out.
    4. Dumped, a number that is not finite stays as it is; `manifest_json` makes it null.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    @model_serializer(mode="wrap")
    def _given_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if name in self.model_fields_set}


Score = float | None
"""A score, a bound or an error. JSON has no word for infinity and NaN: they are written as null, and read as None."""
