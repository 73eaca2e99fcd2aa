"""Enqueues one job of each kind: pip install redis && python3 enqueue.py redis://127.0.0.1:6379"""

import json
import sys
from datetime import datetime, timezone

import redis

client = redis.Redis.from_url(sys.argv[1] if len(sys.argv) > 1 else "redis://127.0.0.1:6379")


def enqueue(queue, kind, data, **envelope):
    job = {"kind": kind, "at": datetime.now(timezone.utc).isoformat(), "data": data, **envelope}
    entry = client.xadd(f"klaviyod:{{default}}:{queue}", {"job": json.dumps(job, allow_nan=False)})
    print(entry.decode())


profile = {"email": "ada@shop.io"}

enqueue(
    "event-tracking",
    "event.track",
    {"metric": "Viewed Product", "profile": profile, "properties": {"SKU": "MUG"}},
    id="view-py-1",
)

enqueue(
    "event-tracking",
    "order.placed",
    {
        "order_id": "py-1001",
        "profile": profile,
        "value": 19.98,
        "value_currency": "EUR",
        "items": [{"sku": "MUG", "name": "Mug", "quantity": 2, "price": 9.99}],
    },
    id="order-py-1001",
)

# None clears a field, an absent one stays as it was.
enqueue("profile-sync", "profile.upsert", {"profile": profile, "attributes": {"first_name": "Ada", "title": None}})
