"""Small servers that behave as the public documentation of real APIs says, errors included.

Each is a function from a request to a reply. It checks the credentials and the parameters as the API does, and gives
five records, two on a page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.fake_api import FakeApi, Received

Reply = tuple[int, dict[str, str], Any]
RECORDS = 5
SIZE = 2


def page(start: int, make: Callable[[int], Any]) -> list[Any]:
    return [make(number) for number in range(start, min(start + SIZE, RECORDS))]


def has_more(start: int) -> bool:
    return start + SIZE < RECORDS


def salesforce(api: FakeApi, request: Received) -> Reply:
    """https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/resources_query.htm"""
    if request.headers["Authorization"] != "Bearer secret":
        error = {"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}
        return 401, {}, [error]
    _, _, locator = request.path.partition("/query/")
    start = int(locator.partition("-")[2] or 0)
    if not locator and "SELECT" not in request.params.get("q", ""):
        return 400, {}, [{"message": "unexpected token: <EOF>", "errorCode": "MALFORMED_QUERY"}]
    records = page(start, lambda number: {"attributes": {"type": "Account"}, "Id": f"001{number}"})
    answer: dict[str, Any] = {"totalSize": RECORDS, "done": not has_more(start), "records": records}
    if has_more(start):
        answer["nextRecordsUrl"] = f"/services/data/v62.0/query/01g-{start + SIZE}"
    return 200, {}, answer


def graph(api: FakeApi, request: Received) -> Reply:
    """https://learn.microsoft.com/graph/delta-query-overview"""
    if request.headers["Authorization"] != "Bearer secret":
        error = {"code": "InvalidAuthenticationToken", "message": "Access token has expired or is not yet valid."}
        return 401, {}, {"error": error}
    start = int(request.params.get("$skiptoken", 0))
    url = f"{api.url}{request.path}?"
    link = (
        {"@odata.nextLink": f"{url}$skiptoken={start + SIZE}"}
        if has_more(start)
        else {"@odata.deltaLink": f"{url}$deltatoken=t"}
    )
    return 200, {}, {"value": page(start, lambda number: {"id": f"u{number}"}), **link}


def shopify(api: FakeApi, request: Received) -> Reply:
    """https://shopify.dev/docs/api/admin-rest/usage/pagination"""
    if request.headers["X-Shopify-Access-Token"] != "secret":
        return 401, {}, {"errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"}
    if "page_info" in request.params and "status" in request.params:
        return 400, {}, {"errors": {"status": "status cannot be passed. See https://shopify.dev for more information."}}
    start = int(request.params.get("page_info", 0))
    url = f"{api.url}{request.path}?limit=250&page_info="
    links = [f'<{url}{start - SIZE}>; rel="previous"'] if start else []
    links += [f'<{url}{start + SIZE}>; rel="next"'] if has_more(start) else []
    return 200, {"Link": ", ".join(links)}, {"orders": page(start, lambda number: {"id": number})}


def zendesk(api: FakeApi, request: Received) -> Reply:
    """https://developer.zendesk.com/documentation/ticketing/managing-tickets/using-the-incremental-export-api/"""
    if request.headers["Authorization"] != "Bearer secret":
        return 401, {}, {"error": "Couldn't authenticate you"}
    if not request.params.keys() & {"start_time", "cursor"}:
        return 400, {}, {"error": "InvalidValue", "description": "start_time is required"}
    start = int(request.params.get("cursor", 0))
    following = min(start + SIZE, RECORDS)
    return (
        200,
        {},
        {
            "tickets": page(start, lambda number: {"id": number}),
            "after_url": f"{api.url}{request.path}?cursor={following}",
            "after_cursor": str(following),
            "end_of_stream": not has_more(start),
        },
    )


def notion(api: FakeApi, request: Received) -> Reply:
    """https://developers.notion.com/reference/intro#pagination"""
    if request.headers["Authorization"] != "Bearer secret":
        return 401, {}, {"object": "error", "status": 401, "code": "unauthorized", "message": "API token is invalid."}
    if request.headers["Notion-Version"] is None:
        return 400, {}, {"object": "error", "status": 400, "code": "missing_version", "message": "Notion-Version"}
    start = int(request.json.get("start_cursor", 0))
    following = str(start + SIZE) if has_more(start) else None
    records = page(start, lambda number: {"object": "page", "id": f"n{number}"})
    return 200, {}, {"object": "list", "results": records, "next_cursor": following, "has_more": has_more(start)}


def airtable(api: FakeApi, request: Received) -> Reply:
    """https://airtable.com/developers/web/api/list-records"""
    if request.headers["Authorization"] != "Bearer secret":
        return 401, {}, {"error": {"type": "AUTHENTICATION_REQUIRED", "message": "Authentication required"}}
    start = int(request.params.get("offset", "itr/0").removeprefix("itr/"))
    records = page(start, lambda number: {"id": f"rec{number}", "fields": {"Name": f"task {number}"}})
    return 200, {}, {"records": records, **({"offset": f"itr/{start + SIZE}"} if has_more(start) else {})}


def jira(api: FakeApi, request: Received) -> Reply:
    """https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-search/"""
    if request.headers["Authorization"] != "Basic secret":
        return 401, {}, {"message": "Client must be authenticated to access this resource.", "status-code": 401}
    if "created" not in request.params.get("jql", ""):
        return 400, {}, {"errorMessages": ["Unbounded JQL queries are not allowed here."], "errors": {}}
    start = int(request.params.get("nextPageToken", 0))
    following = {"nextPageToken": str(start + SIZE)} if has_more(start) else {}
    issues = page(start, lambda number: {"id": str(number), "key": f"A-{number}"})
    return 200, {}, {"issues": issues, **following, "isLast": not has_more(start)}


def stripe(api: FakeApi, request: Received) -> Reply:
    """https://docs.stripe.com/api/pagination"""
    if request.headers["Authorization"] != "Bearer secret":
        return 401, {}, {"error": {"message": "Invalid API Key provided", "type": "invalid_request_error"}}
    start = int(request.params.get("starting_after", "cus_-1").removeprefix("cus_")) + 1
    customers = page(start, lambda number: {"id": f"cus_{number}", "object": "customer"})
    return 200, {}, {"object": "list", "url": "/v1/customers", "has_more": has_more(start), "data": customers}


def intercom(api: FakeApi, request: Received) -> Reply:
    """https://developers.intercom.com/docs/references/rest-api/api.intercom.io/companies/scrolloverallcompanies"""
    if request.headers["Authorization"] != "Bearer secret":
        error = {"code": "unauthorized", "message": "Access Token Invalid"}
        return 401, {}, {"type": "error.list", "errors": [error]}
    if "scroll_param" not in request.params:
        start = 0
    elif request.params["scroll_param"] == "same":
        start = SIZE * sum("scroll_param" in earlier.params for earlier in api.requests)
    else:
        return (
            404,
            {},
            {"type": "error.list", "errors": [{"code": "not_found", "message": "scroll parameter not found"}]},
        )
    companies = page(start, lambda number: {"type": "company", "id": f"c{number}"})
    return 200, {}, {"type": "list", "data": companies, "pages": None, "scroll_param": "same"}


def bigcommerce(api: FakeApi, request: Received) -> Reply:
    """https://developer.bigcommerce.com/docs/rest-catalog/products"""
    if request.headers["X-Auth-Token"] != "secret":
        return 401, {}, {"status": 401, "title": "You are not authorized to access this resource"}
    number = int(request.params.get("page", 1))
    start = (number - 1) * SIZE
    links = {"current": f"?page={number}&limit=250"}
    links |= {"next": f"?page={number + 1}&limit=250"} if has_more(start) else {}
    pagination = {
        "total": RECORDS,
        "per_page": SIZE,
        "current_page": number,
        "total_pages": -(-RECORDS // SIZE),
        "links": links,
    }
    return 200, {}, {"data": page(start, lambda each: {"id": each}), "meta": {"pagination": pagination}}


def dropbox(api: FakeApi, request: Received) -> Reply:
    """https://www.dropbox.com/developers/documentation/http/documentation#files-list_folder-continue"""
    if request.headers["Authorization"] != "Bearer secret":
        return 401, {}, {"error_summary": "expired_access_token/..", "error": {".tag": "expired_access_token"}}
    fields: Mapping[str, Any] = request.json
    if request.path.endswith("/continue"):
        if set(fields) != {"cursor"}:
            return 400, {}, "Error in call to API function: request body: unknown field"
        start = int(fields["cursor"])
    else:
        if "cursor" in fields or "path" not in fields:
            return 400, {}, "Error in call to API function: request body: unknown field 'cursor'"
        start = 0
    entries = page(start, lambda number: {".tag": "file", "id": f"id:{number}", "name": f"{number}.txt"})
    return 200, {}, {"entries": entries, "cursor": str(start + SIZE), "has_more": has_more(start)}
