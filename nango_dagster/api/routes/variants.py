"""`/sync/{name}/variant/{variant}`: create and delete variants of syncs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from ...config.source import quoted
from ...control import variants
from ...control.variants import TooManyVariants, VariantExists
from ...errors import ConfigError, NangoError, StoreUnavailable
from ...partition_keys import BASE
from ..answers import Variant, sync_id
from ..docs.openapi import ERRORS
from ..errors import HttpError
from ..input.models import Strict, body_of, described, only
from ..input.selection import Key, sync_of_connection, syncs_of_connection
from ..service import Nango

router = APIRouter(prefix="/sync", tags=["sync execution"], responses=ERRORS)
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]+$", max_length=255)]


class Account(Strict):
    """A connection."""

    provider_config_key: Key
    connection_id: Key


@router.post(
    "/{name}/variant/{variant}", summary="Create a variant", dependencies=[only()], openapi_extra=described(Account)
)
def create_variant(
    nango: Nango, name: Name, variant: Name, body: Annotated[Account, Depends(body_of(Account))]
) -> Variant:
    """Have a sync run once more for a connection, with records and a schedule of its own; its first run is due now."""
    if variant.lower() == BASE:
        raise HttpError(400, "invalid_variant", f'Variant name "{variant}" is protected.')
    row = sync_of_connection(nango.database, body.provider_config_key, body.connection_id, name)
    try:
        variants.create(nango.database, row, body.connection_id, variant)
    except VariantExists as error:
        raise HttpError(400, "sync_variant_already_exists", str(error)) from None
    except TooManyVariants as error:
        raise HttpError(400, "resource_capped", str(error)) from None
    except StoreUnavailable:
        raise
    except NangoError as error:
        raise HttpError(400, "failed_sync_variant_creation", str(error)) from None
    created = variants.get(nango.database, row, body.connection_id, variant)
    return Variant(id=sync_id(created), name=name, variant=variant)


@router.delete(
    "/{name}/variant/{variant}", summary="Delete a variant", dependencies=[only()], openapi_extra=described(Account)
)
def delete_variant(
    nango: Nango, name: Name, variant: Name, body: Annotated[Account, Depends(body_of(Account))]
) -> Response:
    """Delete a variant with all its records. Answers with an empty body."""
    if variant.lower() == BASE:
        raise HttpError(400, "invalid_variant", f'Cannot delete protected variant "{variant}".')
    rows = syncs_of_connection(nango.database, body.provider_config_key, body.connection_id)
    row = next((row for row in rows if row.name == name), None)
    unknown = HttpError(
        404, "not_found", f"{body.connection_id} has no variant {quoted(variant)} of a sync {quoted(name)}."
    )
    if row is None:
        raise unknown
    try:
        variants.delete(nango.database, row, body.connection_id, variant)
    except ConfigError:
        raise unknown from None
    return Response()
