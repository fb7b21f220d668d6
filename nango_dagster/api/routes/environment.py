"""`GET /environment-variables`: what `${env.NAME}` stands for in syncs."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from ..answers import Variable
from ..docs.openapi import ERRORS
from ..input.models import no_body, only
from ..service import Nango

router = APIRouter(tags=["environment variables"], responses=ERRORS)


@router.get("/environment-variables", summary="List environment variables", dependencies=[only(), Depends(no_body)])
def environment_variables(nango: Nango) -> list[Variable]:
    """The variables that syncs may use, in the order of their names."""
    return [Variable(name=name, value=value) for name, value in sorted(nango.settings.env.items())]
