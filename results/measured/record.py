"""What all typed records have in common."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of every typed record: immutable, and no unknown key passes."""

    # a destroyed model may well have infinite perplexity: recorded as such, in JSON too
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")
