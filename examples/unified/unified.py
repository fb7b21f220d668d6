"""The models that several APIs share."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field


class Contact(BaseModel):
    """A person, whatever API they come from."""

    id: str = Field(description="The key in the API that the contact comes from.")
    name: str = Field(description="The whole name.")
    email: str | None = Field(None, description="The first email address.")
    phone: str | None = None
    updated_at: datetime | None = Field(None, description="The last change in the API.")
