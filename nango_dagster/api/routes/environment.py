"""`GET /environment-variables`: what `${env.NAME}` stands for in syncs."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from ..docs.openapi import ERRORS
from ..input.models import no_body, only
from ..service import Nango

router = APIRouter(tags=["environment variables"], responses=ERRORS)


class Variable(BaseModel):
    """One of them; on the server it is called `NANGO_ENV_` and its name."""

    name: str = Field(examples=["OPENAI_API_KEY"])
    value: str


@router.get("/environment-variables", summary="List environment variables", dependencies=[only(), Depends(no_body)])
def environment_variables(nango: Nango) -> list[Variable]:
    """The variables that syncs may use, in the order of their names."""
    return [Variable(name=name, value=value) for name, value in sorted(nango.settings.env.items())]
