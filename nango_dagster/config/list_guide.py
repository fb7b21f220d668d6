"""The part of `docs/config.md` that shows each field for lists with the answer that it is for."""

LISTS = r"""## Records: what the answer holds

At `response_path` there is a list of objects, `[]`, or null for an empty list. Everything else is an error that quotes
what is there: a text, `false`, `{}`, or an error object is never stored. `records` and two more fields describe other
shapes:

| the answer at `response_path` | fields |
| --- | --- |
| `[{"id": 1}, {"id": 2}]` | none |
| `{"id": 7, "name": "acme"}`: the object is the one record | `records: object` |
| `{"-Nx1": {"name": "a"}, "-Nx2": {"name": "b"}}`: Firebase, MediaWiki | `records: values` |
| the keys of such an object as a column `id` | `records: values`, `record_key_field: id` |
| `[null, {"name": "a"}, null, {"name": "b"}]`: a list with holes | `records: values` |
| `["red", "green"]`, or `[[1, 2], [3, 4]]`: plain values become the field `value` | `records: plain` |
| `{"resultSizeEstimate": 0}`: the key is left out where the list is empty (Gmail, X, QuickBooks) | `missing_is_empty: true` |
| `[{"ad": 1, "day": "2024-05-01"}, {"ad": 1, "day": "2024-05-02"}]`: two fields tell records apart | `unique_key: [ad, day]` |
| plain values that tell themselves apart | `records: plain`, `unique_key: value` |

## Answers: what they mean

Only the status 200 carries the list. 202 is asked for again; 201, 203, 204 and 206 fail with the rule that allows them.
429 and 5xx are tried again, a 401 gets new credentials once. An answer with status 200 fails as well when its body says
`"ok": false` or `"success": false`, has GraphQL's `errors`, or has an `error` beside an empty list.

`responses` is a list of rules; the first one whose conditions all fit decides:

| the answer | rule |
| --- | --- |
| `204 No Content` for an empty list | `{status: 204, action: empty}` |
| `404` after the last page | `{status: 404, action: end}` |
| `{"errors": [{"extensions": {"code": "THROTTLED"}}]}`: Shopify | `{path: "errors[0].extensions.code", equals: THROTTLED, action: retry}` |
| `{"error": "slow_down", "retry_in": 30}` | `{path: error, equals: slow_down, action: retry, wait_path: retry_in}` |
| `{"success": false, "errors": [{"code": "602"}]}`: Marketo, the token has expired | `{path: "errors[0].code", equals: [601, 602], action: refresh_credentials}` |
| `{"ok": false, "error": "token_revoked"}`: Slack | `{path: error, matches: "^token_", action: refresh_credentials}` |
| `{"status": "failed", "why": "no such report"}` | `{path: status, equals: failed, action: fail, message_path: why}` |
| `{"result": {"total": 0}}` without a list | `{path: result.total, equals: 0, action: empty}` |
| `X-Partial: shard 3 is down`: leave the page out | `{header: X-Partial, exists: true, action: skip}` |
| `206 Partial Content` that is a whole page | `{status: 206, action: list}` |

After `refresh_credentials` the request is sent once more. When that does not help, the execution fails as after a 401:
three in a row, and the connection needs others. An execution with a page that `skip` left out deletes nothing, and
replaces no rows. `dry-run` shows which rule applied.

## Paging: how a list goes on and ends

| the answer | fields |
| --- | --- |
| `{"paging": {"next": {"after": "c2"}}}` | `paging_cursor_metadata_response_path: paging.next.after`, `paging_cursor_request_path: after` |
| `x-ms-continuation: c2`, to be sent back as a header | `paging_header_cursor` and `paging_cursor_request_header: x-ms-continuation` |
| `Next-Range: ]id..; max=200`: 206 is a page, 200 the last one | `paging_header_cursor: Next-Range`, `paging_cursor_request_header: Range` |
| `{"next": "https://api.example.com/items?page=2"}` | `paging_url_path: next` |
| `Link: <...?page=2>; rel="next"`; `results="false"` ends it (Sentry) | `paging_header_link_rel: next` |
| `{"link": [{"relation": "next", "url": "..."}]}`: FHIR, PayPal | `paging_url_path: "$.link[?@.relation == 'next'].url"` |
| `?page=1`, `?page=2`, ... | `paging_page_request_path: page` |
| `?offset=0`, `?offset=100`, ... | `paging_offset_request_path: offset` |
| `{"has_more": false}` on the last page | `paging_has_more_response_path: has_more` |
| `{"end_of_stream": true}` on the last page: Zendesk | `paging_end_response_path: end_of_stream` |
| `{"total_count": 573}`, or `X-Total-Count: 573` | `paging_total_response_path: total_count`, or `paging_header_total: X-Total-Count` |
| `{"pages": 6}`, or `X-Pages: 6` | `paging_total_pages_response_path: pages`, or `paging_header_total_pages: X-Pages` |
| one cursor for all pages, as of a scroll; an empty page ends it | `paging_cursor_repeats: true` |
| each page begins with the record that its cursor names | `paging_inclusive: true` |

Numbered pages end with an empty page, and without any further field with Django REST framework's 404 after the last
page, with WordPress's 400 and its `X-WP-TotalPages`, and with an API that answers every further number with its last
page again. A total that has not been reached makes every other end doubtful: nothing is deleted then. An empty page does
not end a list whose API says that there is more.

With `paging_cursor_repeats` an answer that is lost on its way fails the execution: asking again would skip a page.

## Requests of the pages after the first

`query_params`, `headers` and `body` go along with every page, also with a next URL that the API gives, unless it has
them already. `next_request` says what differs after the first page. Dropbox continues at another URL, with the cursor
alone:

```yaml
url: https://api.dropboxapi.com/2/files/list_folder
method: POST
headers: {Authorization: "Bearer ${access_token}"}
body: {path: "", recursive: true}
next_request: {url: "https://api.dropboxapi.com/2/files/list_folder/continue", body: {}}
response_path: entries
unique_key: id
paging_cursor_metadata_response_path: cursor
paging_cursor_request_path: cursor
paging_has_more_response_path: has_more
integration: dropbox
```

Shopify's next URLs allow no other parameters, so that those of `query_params` are for the first page only:

```yaml
url: https://example.myshopify.com/admin/api/2024-01/orders.json
query_params: {status: any, limit: 250}
next_request: {query_params: {}}
headers: {X-Shopify-Access-Token: "${env.SHOPIFY_TOKEN}"}
response_path: orders
unique_key: id
paging_header_link_rel: next
```

## Queries

A path that begins with `$.` or `$[` is a JSONPath query (RFC 9535), for what keys joined by dots cannot say. It may
stand wherever an answer is read: `response_path`, the paths of paging, and those of `responses`. Fields of a record
(`unique_key`, `ignore_fields`, columns) have dotted paths only.

| what it finds | query |
| --- | --- |
| the link whose relation is `next` | `$.link[?@.relation == 'next'].url` |
| the first of two places that has a value | `$.paging.next \| $.next_url` |
| the values of an object, or of several lists | `$.query.pages.*`, `$.groups[*].items[*]` |

Where one value is needed, the first one found counts. At `response_path`, a query that can find several values (with
`*`, a filter or a slice) gives the records themselves, and one that leads to a single place gives the list.
"""
