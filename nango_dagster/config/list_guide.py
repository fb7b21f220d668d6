"""The part of `docs/reference/config.md` that shows each field for lists with the answer that it is for."""

LISTS = r"""## Records: what the answer holds

The value at `response_path` is a list of objects, `[]`, or null for an empty list. Every other value (a text, `false`,
`{}`, an error object) is an error that quotes the value, and is never stored. `records` and two more fields describe
other shapes:

| the answer at `response_path` | fields |
| --- | --- |
| `[{"id": 1}, {"id": 2}]` | none |
| `{"id": 7, "name": "acme"}`: the object is the one record | `records: object` |
| `{"item": [{"id": 1}, {"id": 2}]}`, and `{"item": {"id": 1}}` for a list of one: JSON made from XML | `response_path: item`, `records: object` |
| `{"-Nx1": {"name": "a"}, "-Nx2": {"name": "b"}}`: Firebase, MediaWiki | `records: values` |
| the keys of such an object as a column `id` | `records: values`, `record_key_field: id` |
| `[null, {"name": "a"}, null, {"name": "b"}]`: a list with holes | `records: values` |
| `["red", "green"]`, or `[[1, 2], [3, 4]]`: plain values become the field `value` | `records: plain` |
| `{"resultSizeEstimate": 0}`: the key is missing if the list is empty (Gmail, X, QuickBooks) | `missing_is_empty: true` |
| `[{"ad": 1, "day": "2024-05-01"}, {"ad": 1, "day": "2024-05-02"}]`: two fields identify a record | `unique_key: [ad, day]` |
| plain values that identify themselves | `records: plain`, `unique_key: value` |

## Answers: what they mean

The status of an answer decides first:

- 200: the answer contains the list.
- 202: the request is sent again.
- 201, 203, 204 and 206: the execution fails, and the error names the rule that would accept the answer.
- 401: the request is sent once more, with new credentials.
- 429 and 5xx: the request is tried again.

An answer with status 200 fails, too, if its body shows an error:

- `"ok": false`, `"success": false`, or GraphQL's `errors`;
- beside an empty list, also in capitals or in an object such as `meta`: an `error`, an `error_code`, `"hasErrors": true`, a
  failed `status`, or a message about a rate limit or a session;
- `"incomplete_results": true`, `"timed_out": true`, `"partial": true`, or failed `_shards`;
- a list that contains only an error object, or ends with one, as an export does that broke off.

A rule with `action: list` accepts such an answer.

`responses` is a list of rules. The first rule whose conditions all fit applies:

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
| `X-Partial: shard 3 is down`: skip the page | `{header: X-Partial, exists: true, action: skip}` |
| `{"messages": ""}` or `false` in place of an empty list: PHP, JSON made from XML | `{path: messages, equals: ["", false], action: empty}` |
| `206 Partial Content` that is a whole page | `{status: 206, action: list}` |
| an empty body for an empty list | `{header: Content-Length, equals: "0", action: empty}` |

After `refresh_credentials` the request is sent once more. If the rule applies again, the execution fails as after a
401; after three such failures in a row, the connection waits for new credentials. An execution with a skipped page
deletes nothing and replaces no rows. `dry-run` shows which rule applied.

## Paging: how a list goes on and ends

| the answer | fields |
| --- | --- |
| `{"paging": {"next": {"after": "c2"}}}` | `paging_cursor_metadata_response_path: paging.next.after`, `paging_cursor_request_path: after` |
| `x-ms-continuation: c2`, to be sent back as a header | `paging_header_cursor` and `paging_cursor_request_header: x-ms-continuation` |
| `Next-Range: ]id..; max=200`: 206 is a page, 200 the last one | `paging_header_cursor: Next-Range`, `paging_cursor_request_header: Range` |
| `{"next": "https://api.example.com/items?page=2"}`; null, `""`, false or `"null"` ends it | `paging_url_path: next` |
| `Link: <...?page=2>; rel="next"`; `results="false"` ends it (Sentry) | `paging_header_link_rel: next` |
| `{"link": [{"relation": "next", "url": "..."}]}`: FHIR, PayPal | `paging_url_path: "$.link[?@.relation == 'next'].url"` |
| `?page=1`, `?page=2`, ... | `paging_page_request_path: page` |
| `?offset=0`, `?offset=100`, ... | `paging_offset_request_path: offset` |
| `{"has_more": false}` on the last page; `"off"`, `"N"`, 0 and -1 also mean no | `paging_has_more_response_path: has_more` |
| `{"next_cursor": 0}` or -1 on the last page: Twitter | as well `paging_has_more_response_path: next_cursor` |
| `{"end_of_stream": true}` on the last page: Zendesk | `paging_end_response_path: end_of_stream` |
| `{"total_count": 573}`, or `X-Total-Count: 573` | `paging_total_response_path: total_count`, or `paging_header_total: X-Total-Count` |
| `{"pages": 6}`, or `X-Pages: 6` | `paging_total_pages_response_path: pages`, or `paging_header_total_pages: X-Pages` |
| one cursor for all pages, as of a scroll; an empty page ends it | `paging_cursor_repeats: true` |
| each page begins with the record that its cursor names | `paging_inclusive: true` |

Numbered pages end with an empty page. They also end, without a further field, with Django REST framework's 404 after
the last page, with WordPress's 400 and its `X-WP-TotalPages`, and with an API that repeats its last records for every
higher number or offset; these records count once. An API that begins again with its first page is an error. If a list
ends before the configured total is reached, nothing is deleted. An empty page does not end a list if the API says that
there are more pages.

With `paging_cursor_repeats`, a lost answer fails the execution, because a second request would skip a page.

## Requests of the pages after the first

`query_params`, `headers` and `body` are sent with the request of every page. A next URL from the API gets those parameters
that it does not have yet. `next_request` replaces parts of the requests after the first page. Dropbox continues at another
URL, with the cursor alone:

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

Shopify's next URLs allow no other parameters, so `query_params` are sent with the first request only:

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

A path that begins with `$.` or `$[` is a JSONPath query (RFC 9535). It selects values that a dotted path cannot select.
Queries are allowed in paths of an answer: `response_path`, the paths of paging, and those of `responses`. Paths of a
record (`unique_key`, `ignore_fields`, columns) are dotted paths.

| selected value | query |
| --- | --- |
| the link whose relation is `next` | `$.link[?@.relation == 'next'].url` |
| the first of two places that has a value | <code>$.paging.next &#124; $.next_url</code> |
| the values of an object, or of several lists | `$.query.pages.*`, `$.groups[*].items[*]` |

If one value is needed, it is the first one found. At `response_path`, a query that can find several values (with `*`, a
filter or a slice) selects the records themselves; a query for a single place selects the list.
"""
