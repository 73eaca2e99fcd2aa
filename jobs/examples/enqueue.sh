#!/bin/sh
# Enqueues one job of each kind with redis-cli: ./enqueue.sh redis://127.0.0.1:6379
set -eu
url="${1:-redis://127.0.0.1:6379}"
now="$(date -u +%Y-%m-%dT%H:%M:%SZ)"

enqueue() { # queue, job
    redis-cli -u "$url" -e XADD "klaviyod:{default}:$1" '*' job "$2"
}

enqueue event-tracking '{"kind": "event.track", "id": "view-sh-1", "at": "'"$now"'", "data": {
    "metric": "Viewed Product", "profile": {"email": "ada@shop.io"}, "properties": {"SKU": "MUG"}}}'

enqueue event-tracking '{"kind": "order.placed", "id": "order-sh-1001", "at": "'"$now"'", "data": {
    "order_id": "sh-1001", "profile": {"email": "ada@shop.io"}, "value": 19.98, "value_currency": "EUR",
    "items": [{"sku": "MUG", "name": "Mug", "quantity": 2, "price": 9.99}]}}'

enqueue profile-sync '{"kind": "profile.upsert", "at": "'"$now"'", "data": {
    "profile": {"email": "ada@shop.io"}, "attributes": {"first_name": "Ada", "title": null}}}'
